// Schemas of torch.ops.ans. torch_ans/ops.py documents them; kernels are in *_cpu.cpp and *_cuda.cpp, fake kernels in torch_ans/fake.py.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <torch/csrc/stable/library.h>

ANS_PYTHON_MODULE(_C)

STABLE_TORCH_LIBRARY(ans, m) {
  // Quantizer: a row is the last dimension.
  m.def("row_scale(Tensor weight, int bits, float? clip_sigmas=None) -> Tensor");
  m.def("pack_scale(Tensor row_scale) -> (Tensor scale, Tensor exponent)");
  m.def("quantize_rows(Tensor weight, Tensor scale, Tensor exponent, int bits) -> Tensor");
  m.def("quantize(Tensor weight, int bits=6, float? clip_sigmas=None) -> (Tensor symbols, Tensor scale, Tensor exponent)");
  m.def("dequantize(Tensor symbols, Tensor scale, Tensor exponent, ScalarType dtype, Tensor? column_factor=None) -> Tensor");
  // Many tensors in one call: on a GPU as many launches as for one.
  m.def("row_scale_many(Tensor[] weight, int bits, float? clip_sigmas=None) -> Tensor[]");
  m.def("pack_scale_many(Tensor[] row_scale) -> (Tensor[] scale, Tensor[] exponent)");
  m.def("quantize_rows_many(Tensor[] weight, Tensor[] scale, Tensor[] exponent, int bits) -> Tensor[]");
  m.def("quantize_many(Tensor[] weight, int bits=6, float? clip_sigmas=None) -> (Tensor[] symbols, Tensor[] scale, Tensor[] exponent)");
  // Trellis-coded quantization: int16 symbols k, which stand for 2 * k + (state & 1) steps; error is squared, in 1 / 4096 of a squared step.
  m.def("quantize_trellis(Tensor weight, Tensor row_step, Tensor costs, int states=8, Tensor? column_step=None, Tensor? column_class=None) -> (Tensor symbols, Tensor counts, Tensor error)");
  m.def(
      "quantize_feedback(Tensor weight, Tensor row_step, Tensor costs, int states, Tensor feedback, Tensor column_weight, Tensor? column_step=None, Tensor? column_class=None, int survivors=1) -> "
      "(Tensor symbols, Tensor counts, Tensor error)");
  m.def("trellis_costs(Tensor counts, float lagrange, bool halves=True) -> (Tensor costs, Tensor bits)");
  // Statistics and tables.
  m.def("histogram(Tensor symbols, Tensor? contexts=None, int num_contexts=1) -> Tensor");
  m.def("histogram_many(Tensor[] symbols) -> Tensor");
  m.def("build_table(Tensor counts, ScalarType symbol_dtype) -> Tensor");
  m.def("table_frequencies(Tensor table, ScalarType symbol_dtype) -> (Tensor frequencies, Tensor info)");
  // Coder.
  m.def("encode(Tensor symbols, Tensor table, int chunk_symbols=81920) -> (Tensor payload, Tensor directory)");
  m.def("encode_many(Tensor[] symbols, Tensor[] table, int[] chunk_symbols) -> (Tensor[] payload, Tensor[] directory)");
  m.def("decode(Tensor payload, Tensor directory, Tensor table, int numel, int chunk_symbols, ScalarType symbol_dtype) -> Tensor");
  m.def(
      "decode_dequantize(Tensor payload, Tensor directory, Tensor table, Tensor scale, Tensor exponent, int[] shape, int chunk_symbols, "
      "ScalarType symbol_dtype, ScalarType dtype) -> Tensor");
  // The same into memory that exists, such as a model's parameters.
  m.def("decode_out(Tensor payload, Tensor directory, Tensor table, int chunk_symbols, Tensor(a!) out) -> ()");
  m.def(
      "decode_dequantize_out(Tensor payload, Tensor directory, Tensor table, Tensor scale, Tensor exponent, int chunk_symbols, ScalarType symbol_dtype, "
      "Tensor(a!) out) -> ()");
  // Streams of BITSTREAM.md.
  m.def("stream_prefix(Tensor counts, ScalarType symbol_dtype, int chunk_symbols=81920) -> Tensor");
  m.def("pack_directory(Tensor directory) -> Tensor");
  m.def("stream_layout(Tensor stream, int numel, ScalarType symbol_dtype) -> (Tensor layout, Tensor directory)");
  m.def("encode_stream(Tensor symbols, int chunk_symbols=81920) -> Tensor");
  m.def("encode_streams(Tensor[] symbols, int[] chunk_symbols) -> Tensor[]");
  m.def("decode_stream(Tensor stream, int numel, ScalarType symbol_dtype) -> Tensor");
  m.def("decode_stream_out(Tensor stream, Tensor(a!) out) -> ()");
  // Matrices: prediction models. Symbols are int8, uint8 or int16, of any shape; `columns` and `transposed` say how they are cut into lines.
  m.def(
      "fit_matrix(Tensor symbols, int columns, bool transposed, Tensor[] predictors, bool own_predictors=False, Tensor? reference=None, bool reference_transposed=False, "
      "bool means=True, int levels=0, int chunk_symbols=81920, int sample_symbols=1048576, int adaptations=6, int trellis=0) -> (Tensor header, Tensor bits)");
  m.def("encode_matrix(Tensor symbols, Tensor header, Tensor[] predictors, Tensor? reference=None) -> Tensor");
  m.def("decode_matrix(Tensor stream, int numel, ScalarType symbol_dtype, Tensor[] predictors, Tensor? reference=None) -> Tensor");
  // Many streams, each of which may refer to the symbols of an earlier one (its number) or of a given matrix (their number behind those of the streams); -1: to none.
  m.def("decode_matrices_out(Tensor[] streams, Tensor[] predictors, int[] predictor_counts, Tensor[] given, int[] reference_of, Tensor(a!)[] out) -> ()");
  m.def("matrix_directory(Tensor stream, int numel, ScalarType symbol_dtype, Tensor[] predictors) -> Tensor");
  m.def("matrix_needs(Tensor stream, int numel, ScalarType symbol_dtype) -> Tensor");
  m.def("stream_predictors(Tensor stream, int numel, ScalarType symbol_dtype) -> Tensor[]");
  m.def("matrix_gram(Tensor symbols, int columns, bool transposed) -> Tensor");
  m.def("fit_predictor(Tensor[] grams) -> (Tensor predictor, Tensor bits)");
  m.def("predictor_gains(Tensor[] grams, Tensor[] predictors, int stride=1) -> Tensor");
  m.def("reference_gain(Tensor symbols, int columns, bool transposed, Tensor reference, bool reference_transposed) -> Tensor");
  m.def("fit_predictors(Tensor[] symbols, int columns, int[] transposed, int most) -> Tensor[]");
  // Many tensors in one call: the chunks of all of them are decoded side by side.
  m.def("decode_streams_out(Tensor[] streams, Tensor(a!)[] out) -> ()");
  m.def("decode_streams_dequantize_out(Tensor[] streams, Tensor[] scale, Tensor[] exponent, ScalarType symbol_dtype, Tensor(a!)[] out, Tensor[] column_factor) -> ()");
  // The same in two steps: a plan, and its run, which can be captured in a CUDA graph and says in `status` what went wrong. Without scales: symbols.
  m.def("plan_decode(Tensor[] streams, Tensor[] scale, Tensor[] exponent, ScalarType symbol_dtype, Tensor[] out) -> (Tensor plan, Tensor device_plan)");
  m.def("run_decode(Tensor plan, Tensor device_plan, Tensor[] streams, Tensor[] scale, Tensor[] exponent, Tensor(a!)[] out) -> Tensor status");
  m.def("check_decoded(Tensor status) -> ()");
  // For tests and benchmarks: the CPU backend in use. A name selects one, "" leaves it, "best" takes the best again.
  m.def("cpu_backend(str name='') -> str");
}
