// Trellis-coded quantization: a warp for 32 rows, a row in every thread.
#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/report.cuh"

#include "core/trellis/feedback_search.h"
#include "core/trellis/trellis_search.h"
#include "core/vector_warp.h"

namespace ans::cuda {
namespace {

namespace warp = core::ANS_TARGET;

template <class T, class Target>
ANS_INLINE core::Status find_row_targets(const TrellisLaunch& d, int64_t row, float step, Target* targets) {
  core::Status status = step >= 0.0f && step - step == 0.0f ? core::Status::kOk : core::Status::kNotFinite;
  for (int64_t j = 0; j < d.columns; ++j) {
    const float w = core::to_float(static_cast<const T*>(d.weights)[row * d.columns + j]);
    const bool fits = core::trellis_target(w, d.column_step == nullptr ? step : core::multiply(step, d.column_step[j]), &targets[j * 32]);
    if (!fits && status == core::Status::kOk) status = w - w == 0 ? core::Status::kSymbolOutOfRange : core::Status::kNotFinite;
  }
  return status;
}
// Targets of this thread's row (0 beyond the last row), every 32nd number from `targets` on; reports what cannot be quantized.
template <class Target>
ANS_INLINE void find_targets(const TrellisLaunch& d, int64_t row, Target* targets) {
  if (row >= d.rows) {
    for (int64_t j = 0; j < d.columns; ++j) targets[j * 32] = 0;
    return;
  }
  const float step = d.row_step[row];
  const core::Status status = d.type == FloatType::kFloat32    ? find_row_targets<float>(d, row, step, targets)
                              : d.type == FloatType::kBFloat16 ? find_row_targets<core::BFloat16>(d, row, step, targets)
                                                               : find_row_targets<Float16>(d, row, step, targets);
  if (status != core::Status::kOk) report(d.status, 0, status);
}
// The integer of a row and column, counted.
ANS_INLINE void put_value(const TrellisLaunch& d, int64_t row, int64_t j, int32_t v) {
  d.symbols[row * d.columns + j] = int16_t(v);
  atomic_add(&d.counts[(d.column_class == nullptr ? 0 : d.column_class[j]) * core::kColumnCosts + core::trellis_place(v)], Counter{1});
}

template <class Machine>
struct QuantizeTrellis {
  static constexpr int kThreads = 32, kBlocks = 8;
  struct Shared {};
  TrellisLaunch d;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t size = d.columns * 32;
    uint32_t* const memory = d.scratch + Block::number() * 4 * size;  // targets, decisions, points, values
    const int lane = int(Warp::lane());
    for (int64_t group = Block::number(); group * 32 < d.rows; group += d.warps) {
      const int64_t row = group * 32 + lane;
      find_targets(d, row, reinterpret_cast<int32_t*>(memory) + lane);
      const core::TrellisJob job{reinterpret_cast<const int32_t*>(memory), d.columns, d.costs, d.column_class, d.ways, memory + size, memory + 2 * size,
                                 reinterpret_cast<int32_t*>(memory + 3 * size)};
      warp::search_trellis<core::ANS_TARGET::VectorWarp<Warp>, Machine>(job);
      Counter error = 0;
      for (int64_t j = 0; j < d.columns && row < d.rows; ++j) {
        const int32_t v = job.values[j * 32 + lane];
        const int64_t distance = int64_t(v) * core::kTargetOne - job.targets[j * 32 + lane];
        error += Counter(distance * distance);
        put_value(d, row, j, v);
      }
      atomic_add(d.error, error);
    }
  }
};

template <int kStates, int kMost>
struct QuantizeFeedback {
  static constexpr int kThreads = 32, kBlocks = 8;
  struct Shared {
    uint32_t lane_numbers[32];
  };
  FeedbackLaunch d;

  ANS_INLINE void operator()(Shared& shared) const {
    const TrellisLaunch& r = d.rows;
    uint8_t* const scratch = reinterpret_cast<uint8_t*>(r.scratch) + Block::number() * core::FeedbackScratch::bytes(r.columns, kStates, d.survivors);
    const core::FeedbackScratch memory(scratch, r.columns, kStates, d.survivors);
    const int lane = int(Warp::lane());
    shared.lane_numbers[lane] = uint32_t(lane);
    Warp::sync();
    for (int64_t group = Block::number(); group * 32 < r.rows; group += r.warps) {
      const int64_t row = group * 32 + lane;
      find_targets(r, row, memory.targets + lane);
      warp::search_with_feedback<warp::VectorWarp<Warp>, kStates, kMost>(
          {memory, d.survivors, r.columns, d.stride, d.feedback, d.weight, r.costs, r.column_class, r.ways, shared.lane_numbers});
      double error = 0;
      for (int64_t j = 0; j < r.columns && row < r.rows; ++j) {
        const int32_t v = memory.values[j * 32 + lane];
        error = core::add_feedback_error(error, memory.decided[j * 32 + lane], d.weight[j]);
        put_value(r, row, j, v);
      }
      if (row < r.rows) d.row_error[row] = error;
      Warp::sync();
    }
  }
};

template <int kStates>
cudaError_t launch_feedback(const FeedbackLaunch& d, cudaStream_t stream) {
  return d.survivors == 1 ? launch(QuantizeFeedback<kStates, 1>{d}, d.rows.warps, stream) : launch(QuantizeFeedback<kStates, core::kMaxSurvivors>{d}, d.rows.warps, stream);
}

}  // namespace

cudaError_t quantize_trellis(const TrellisLaunch& d, int states, cudaStream_t stream) {
  if (states == 4) return launch(QuantizeTrellis<core::Trellis4>{d}, d.warps, stream);
  if (states == 8) return launch(QuantizeTrellis<core::Trellis8>{d}, d.warps, stream);
  return states == 32 ? launch(QuantizeTrellis<core::Trellis32>{d}, d.warps, stream) : cudaErrorInvalidValue;
}

cudaError_t quantize_feedback(const FeedbackLaunch& d, int states, cudaStream_t stream) {
  if (states == 0) return launch_feedback<1>(d, stream);
  if (states == 4) return launch_feedback<4>(d, stream);
  if (states == 8) return launch_feedback<8>(d, stream);
  return states == 32 ? launch_feedback<32>(d, stream) : cudaErrorInvalidValue;
}

}  // namespace ans::cuda
