// Matrix streams encoded on a GPU. The header is read and tables are made on the host; symbols stay on the device.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <algorithm>
#include <optional>
#include <vector>

#include "core/log2_table.h"
#include "core/matrix/matrix_coder.h"
#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/matrix_stream.h"
#include "torch/matrix_upload_cuda.h"

namespace ans::ops {
namespace {

Tensor encode_matrix_cuda(const Tensor& symbols, const Tensor& header, std::vector<Tensor> predictors, std::optional<Tensor> reference) {
  constexpr const char* kOp = "encode_matrix";
  ANS_CHECK_ARGUMENT(on_gpu(symbols), kOp, "symbols are not on the GPU of the reference");
  const OnDevice here(symbols);
  const MatrixHeader head(kOp, symbols, header, predictors, reference);
  const Tensor source = torch::stable::contiguous(symbols);
  const core::MatrixModel& model = head.model;
  const core::MatrixTables tables(model, head.type);
  const core::ContextEncodeTables contexts = core::make_context_encode_tables(model, head.type);

  Upload arrays;
  PlacedCoefficients coefficients;
  const PlacedMatrix placed(model, head.order, tables, &coefficients, &arrays);
  const auto entries_of = place(&arrays, contexts.entries());
  const auto encode_tables = place(&arrays, contexts.table.get(), size_t(contexts.contexts));
  const auto logs = place(&arrays, core::mantissa_logs().data(), core::mantissa_logs().size());
  const int64_t chunks = head.order.chunks();
  std::vector<core::MatrixEncodeJob> jobs;
  std::vector<int64_t> room_end;
  int64_t rows_of_all = 0, symbols_of_all = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    const core::ChunkShape shape{head.order.chunk_lines(c), model.columns};
    jobs.push_back({head.order.chunk_begin[size_t(c)], shape.lines, rows_of_all, symbols_of_all, head.order.chunk_part[size_t(c)]});
    rows_of_all += shape.rows();
    symbols_of_all += shape.symbols();
    room_end.push_back(core::matrix_room_end(c, symbols_of_all));
  }
  const auto placed_jobs = place(&arrays, jobs);
  arrays.send(kOp, source, here.stream);
  std::vector<core::MatrixRows> rows;
  placed.append_rows(arrays, &rows);
  Upload structs;
  const auto placed_rows = place(&structs, rows);
  structs.send(kOp, source, here.stream);

  const MatrixWarps warps(source, chunks, tables.max_pairs());
  const Tensor places = device_bytes(source, 4 * format::kLanes * rows_of_all), raw = device_bytes(source, 2 * symbols_of_all), escapes = device_bytes(source, 8 * chunks);
  const Tensor costs = device_bytes(source, 2 * format::kLanes * chunks), states = device_bytes(source, 4 * format::kLanes * chunks), words = device_bytes(source, 2 * room_end.back());
  const Tensor entries = device_bytes(source, 8 * chunks);
  Statuses status(source, 1);
  const uint8_t* const given = head.reference.has_value() ? static_cast<const uint8_t*>(head.reference->const_data_ptr()) : nullptr;
  cuda::MatrixEncodeLaunch launch{};
  launch.matrix = placed.matrix(arrays, static_cast<uint8_t*>(const_cast<void*>(source.const_data_ptr())), given, head.type);  // only read
  launch.jobs = placed_jobs.in(arrays), launch.job_count = chunks, launch.rows = placed_rows.in(structs);
  launch.entries_of = entries_of.in(arrays), launch.tables = encode_tables.in(arrays), launch.mantissa_logs = logs.in(arrays);
  launch.scratch = device_pointer<uint8_t>(warps.memory), launch.scratch_bytes = warps.bytes_of_one, launch.warps = warps.count;
  launch.symbols = device_pointer<uint32_t>(places), launch.raw = device_pointer<uint16_t>(raw), launch.escapes = device_pointer<int64_t>(escapes);
  launch.costs = device_pointer<uint16_t>(costs), launch.states = device_pointer<uint32_t>(states);
  launch.words = device_pointer<uint16_t>(words), launch.entries = device_pointer<int32_t>(entries), launch.status = status.pointer();
  check_cuda(kOp, cuda::encode_matrix(launch, here.stream));
  status.fetch(kOp, here.stream);
  const std::vector<uint8_t> fetched = fetch_now(kOp, entries, here.stream);
  status.check(kOp, kForeignSymbols);

  std::vector<core::ChunkEntry> directory;
  for (int64_t c = 0; c < chunks; ++c) {
    int32_t entry[2];
    std::memcpy(entry, fetched.data() + 8 * c, sizeof entry);
    directory.push_back({entry[0], entry[1]});
  }
  std::vector<uint8_t> front{uint8_t(format::Model::kMatrix)};
  front.insert(front.end(), head.bytes.begin(), head.bytes.end());
  const std::vector<uint8_t> directory_bytes = core::write_directory(directory.data(), chunks);
  front.insert(front.end(), directory_bytes.begin(), directory_bytes.end());
  int64_t payload = 0;
  for (const core::ChunkEntry& e : directory) payload += 2 * int64_t(e.words);
  Tensor out = torch::stable::new_empty(source, {int64_t(front.size()) + payload}, ScalarType::Byte);
  uint8_t* to = device_pointer<uint8_t>(out);
  check_cuda(kOp, cudaMemcpyAsync(to, front.data(), front.size(), cudaMemcpyHostToDevice, here.stream));
  to += front.size();
  std::vector<core::CopyJob> copies;
  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t bytes = 2 * int64_t(directory[size_t(c)].words);
    copies.push_back({device_pointer<uint16_t>(words) + room_end[size_t(c)] - directory[size_t(c)].words, to, bytes});
    to += bytes;
  }
  Upload copy_jobs;
  const auto placed_copies = place(&copy_jobs, copies);
  copy_jobs.send(kOp, source, here.stream);
  check_cuda(kOp, cuda::copy_all(placed_copies.in(copy_jobs), chunks, here.stream));
  return out;
}

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) { m.impl("encode_matrix", TORCH_BOX(&ans::ops::encode_matrix_cuda)); }
