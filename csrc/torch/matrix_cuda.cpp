// CUDA kernels of the operators on matrix streams. Headers are read and tables made on the host; all chunks of all streams that can be decoded at the same time are one launch.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/matrix_cuda.h"
#include "torch/matrix_upload_cuda.h"
#include "torch/parallel.h"

namespace ans::ops {
namespace {

// A stream on the host as well as on the device, taken apart.
struct OpenedMatrix {
  std::unique_ptr<MatrixStream> parts;
  std::unique_ptr<core::MatrixTables> tables;
  core::ContextDecodeTables contexts;
  Tensor bytes;  // on the device
  int64_t first_level = 0;

  int64_t levels() const { return int64_t(parts->order.level_begin.size()) - 1; }
};

// Several at a time: a header holds the coefficients of its predictors, and tables are made from it.
std::vector<OpenedMatrix> open_matrices(const char* op, const std::vector<MatrixSource>& sources, const Tensor& like, cudaStream_t stream) {
  std::vector<OpenedMatrix> opened;
  std::vector<std::vector<uint8_t>> fetched(sources.size());
  auto is_there = [](const MatrixSource& source) { return !source.stream.is_cpu() || on_gpu(source.stream); };
  for (size_t i = 0; i < sources.size(); ++i) {
    opened.push_back({nullptr, nullptr, {}, sources[i].stream});
    if (!is_there(sources[i])) continue;
    check_same_device(op, like, sources[i].stream, "a stream");
    fetched[i] = fetch_now(op, sources[i].stream, stream);
  }
  std::vector<std::exception_ptr> errors(sources.size());
  (void)parallel_ranges(int64_t(sources.size()), 1, [&](int64_t begin, int64_t end) {
    for (size_t i = size_t(begin); i < size_t(end); ++i) {
      try {
        const MatrixSource& source = sources[i];
        const uint8_t* const host = is_there(source) ? fetched[i].data() : static_cast<const uint8_t*>(source.stream.const_data_ptr());
        OpenedMatrix& m = opened[i];
        m.parts = std::make_unique<MatrixStream>(op, source.which, host, source.stream.numel(), source.numel, source.type, source.predictors, source.reference() != nullptr);
        m.tables = std::make_unique<core::MatrixTables>(m.parts->model, source.type);
        m.contexts = core::make_context_decode_tables(m.parts->model);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
    return core::Status::kOk;
  });
  for (const std::exception_ptr& error : errors)
    if (error != nullptr) std::rethrow_exception(error);
  for (size_t i = 0; i < sources.size(); ++i) {
    if (is_there(sources[i])) continue;
    const Tensor& host = sources[i].stream;
    opened[i].bytes = device_bytes(like, host.numel());
    check_cuda(op, cudaMemcpyAsync(opened[i].bytes.mutable_data_ptr(), host.const_data_ptr(), size_t(host.numel()), cudaMemcpyHostToDevice, stream));
  }
  return opened;
}

}  // namespace

void decode_matrices(const char* op, const std::vector<MatrixSource>& sources, const Tensor& like, cudaStream_t stream) {
  std::vector<OpenedMatrix> opened = open_matrices(op, sources, like, stream);
  std::vector<PlacedMatrix> placed;
  std::vector<PlacedArray<uint32_t>> steps;
  std::vector<PlacedArray<uint8_t>> dividers;
  PlacedCoefficients coefficients;
  Upload arrays, launch_arrays;
  int64_t levels = 0, max_pairs = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    OpenedMatrix& m = opened[i];
    if (sources[i].reference_source >= 0 && m.parts->model.has_given_reference) {
      const OpenedMatrix& other = opened[size_t(sources[i].reference_source)];
      m.first_level = other.first_level + other.levels();
    }
    levels = std::max(levels, m.first_level + m.levels());
    max_pairs = std::max(max_pairs, m.tables->max_pairs());
    placed.emplace_back(m.parts->model, m.parts->order, *m.tables, &coefficients, &arrays);
    steps.push_back(place(&arrays, m.contexts.step));
    dividers.push_back(place(&arrays, m.contexts.divider));
  }
  arrays.send(op, like, stream);

  std::vector<core::WarpMatrix> matrices;
  std::vector<core::MatrixRows> rows;
  std::vector<std::vector<core::MatrixJob>> jobs(static_cast<size_t>(levels));
  for (size_t i = 0; i < sources.size(); ++i) {
    const OpenedMatrix& m = opened[i];
    const core::LineOrder& order = m.parts->order;
    core::WarpMatrix matrix = placed[i].matrix(arrays, sources[i].out, sources[i].reference(), sources[i].type);
    matrix.tables = m.contexts.slots();
    matrix.tables.divider = dividers[i].in(arrays), matrix.tables.step = steps[i].in(arrays);
    matrices.push_back(matrix);
    const size_t first_rows = rows.size();
    placed[i].append_rows(arrays, &rows);
    const uint8_t* const device = static_cast<const uint8_t*>(m.bytes.const_data_ptr());
    for (int64_t level = 0; level < m.levels(); ++level)
      for (int64_t c = order.level_begin[size_t(level)]; c < order.level_begin[size_t(level) + 1]; ++c) {
        const core::ChunkEntry& entry = m.parts->entries[size_t(c)];
        const uint8_t* const begin = device + m.parts->begin[size_t(c)];
        jobs[size_t(m.first_level + level)].push_back({begin, begin + 2 * int64_t(entry.words), order.chunk_begin[size_t(c)], order.chunk_lines(c), entry.tail, int32_t(i),
                                                       int32_t(first_rows) + order.chunk_part[size_t(c)]});
      }
  }
  std::vector<core::MatrixJob> all;
  std::vector<int64_t> level_begin{0};
  int64_t widest = 0;
  for (const auto& of_level : jobs) {
    all.insert(all.end(), of_level.begin(), of_level.end());
    level_begin.push_back(int64_t(all.size()));
    widest = std::max(widest, int64_t(of_level.size()));
  }
  const size_t jobs_at = launch_arrays.add(all), matrices_at = launch_arrays.add(matrices), rows_at = launch_arrays.add(rows);
  launch_arrays.send(op, like, stream);

  const MatrixWarps warps(like, widest, max_pairs);
  Statuses statuses(like, sources.size());
  const cuda::MatrixLaunch launch{launch_arrays.at<core::MatrixJob>(jobs_at), launch_arrays.at<core::WarpMatrix>(matrices_at), launch_arrays.at<core::MatrixRows>(rows_at),
                                  device_pointer<uint8_t>(warps.memory),      warps.bytes_of_one,                              warps.count,
                                  statuses.pointer()};
  check_cuda(op, cuda::decode_matrices(launch, level_begin.data(), levels, stream));
  statuses.wait(op, stream);
  for (size_t i = 0; i < sources.size(); ++i) check_status(op, statuses.found(i), (sources[i].which + "the payload is damaged").c_str());
}

namespace {

Tensor decode_matrix_cuda(const Tensor& stream, int64_t numel, ScalarType symbol_dtype, std::vector<Tensor> predictors, std::optional<Tensor> reference) {
  constexpr const char* kOp = "decode_matrix";
  ANS_CHECK_ARGUMENT(on_gpu(stream), kOp, "the stream is not on the GPU of the reference");
  const OnDevice here(stream);
  ANS_CHECK_ARGUMENT(numel >= 0, kOp, "numel is negative");
  check_bytes(kOp, "stream", stream);
  // The header, before anything is allocated that it does not warrant: each chunk has a word at least.
  const std::vector<uint8_t> bytes = fetch_now(kOp, stream, here.stream);
  (void)MatrixStream(kOp, "", bytes.data(), int64_t(bytes.size()), numel, symbol_type(kOp, symbol_dtype), parse_predictors(kOp, predictors), reference.has_value());
  Tensor symbols = torch::stable::new_empty(stream, {numel}, symbol_dtype);
  std::vector<Tensor> given;
  if (reference.has_value()) given.push_back(*reference);
  decode_matrices(kOp, matrix_sources(kOp, {stream}, predictors, {int64_t(predictors.size())}, given, {reference.has_value() ? 1 : -1}, {symbols}), symbols, here.stream);
  return symbols;
}

void decode_matrices_out_cuda(std::vector<Tensor> streams, std::vector<Tensor> predictors, std::vector<int64_t> predictor_counts, std::vector<Tensor> given,
                              std::vector<int64_t> reference_of, std::vector<Tensor> outs) {
  constexpr const char* kOp = "decode_matrices_out";
  const std::vector<MatrixSource> sources = matrix_sources(kOp, streams, predictors, predictor_counts, given, reference_of, outs);
  ANS_CHECK_ARGUMENT(on_gpu(outs[0]), kOp, "out is not on a GPU");
  const OnDevice here(outs[0]);
  decode_matrices(kOp, sources, outs[0], here.stream);
}

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) {
  m.impl("decode_matrix", TORCH_BOX(&ans::ops::decode_matrix_cuda));
  m.impl("decode_matrices_out", TORCH_BOX(&ans::ops::decode_matrices_out_cuda));
}
