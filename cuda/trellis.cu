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

// Targets of this thread's row (0 beyond the last row), every 32nd number from `targets` on; reports what cannot be quantized.
template <class T, class Target>
ANS_INLINE void find_targets(const TrellisLaunch& d, int64_t row, Target* targets) {
  const bool is_there = row < d.rows;
  const float step = is_there ? d.row_step[row] : 0.0f;
  core::Status status = step >= 0.0f && step - step == 0.0f ? core::Status::kOk : core::Status::kNotFinite;
  for (int64_t j = 0; j < d.columns; ++j) {
    Target target = 0;
    if (is_there) {
      const float w = core::to_float(static_cast<const T*>(d.weights)[row * d.columns + j]);
      const bool fits = core::trellis_target(w, d.column_step == nullptr ? step : core::multiply(step, d.column_step[j]), &target);
      if (!fits && status == core::Status::kOk) status = w - w == 0 ? core::Status::kSymbolOutOfRange : core::Status::kNotFinite;
    }
    targets[j * 32] = target;
  }
  if (status != core::Status::kOk) report(d.status, 0, status);
}
// The integer of a row and column, counted.
ANS_INLINE void put_value(const TrellisLaunch& d, int64_t row, int64_t j, int32_t v) {
  d.symbols[row * d.columns + j] = int16_t(v);
  atomic_add(&d.counts[(d.column_class == nullptr ? 0 : d.column_class[j]) * core::kColumnCosts + core::trellis_place(v)], Counter{1});
}

template <class Machine, class T>
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
      find_targets<T>(d, row, reinterpret_cast<int32_t*>(memory) + lane);
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

template <class Machine, class T>
struct QuantizeFeedback {
  static constexpr int kThreads = 32, kBlocks = 8;
  struct Shared {
    uint32_t lane_numbers[32];
  };
  FeedbackLaunch d;

  ANS_INLINE void operator()(Shared& shared) const {
    constexpr int kStates = Machine::kStates;
    const TrellisLaunch& r = d.rows;
    const core::FeedbackScratch memory(reinterpret_cast<uint8_t*>(r.scratch) + Block::number() * core::FeedbackScratch::bytes(r.columns, kStates), r.columns, kStates);
    const int lane = int(Warp::lane());
    shared.lane_numbers[lane] = uint32_t(lane);
    Warp::sync();
    for (int64_t group = Block::number(); group * 32 < r.rows; group += r.warps) {
      const int64_t row = group * 32 + lane;
      find_targets<T>(r, row, memory.targets + lane);
      const core::FeedbackJob job{memory.targets, r.columns, d.stride, d.feedback, d.weight, r.costs, r.column_class, r.ways, shared.lane_numbers, memory.paths_at,
                                  memory.history, memory.decided, memory.decisions, memory.chosen, memory.values};
      warp::search_with_feedback<warp::VectorWarp<Warp>, Machine>(job);
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

template <template <class, class> class Kernel, class Machine, class Launch>
cudaError_t launch_typed(const Launch& d, int64_t warps, FloatType type, cudaStream_t stream) {
  switch (type) {
    case FloatType::kFloat32: return launch(Kernel<Machine, float>{d}, warps, stream);
    case FloatType::kBFloat16: return launch(Kernel<Machine, core::BFloat16>{d}, warps, stream);
    case FloatType::kFloat16: return launch(Kernel<Machine, Float16>{d}, warps, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t quantize_trellis(const TrellisLaunch& d, int states, FloatType type, cudaStream_t stream) {
  if (states == 4) return launch_typed<QuantizeTrellis, core::Trellis4>(d, d.warps, type, stream);
  if (states == 8) return launch_typed<QuantizeTrellis, core::Trellis8>(d, d.warps, type, stream);
  return states == 32 ? launch_typed<QuantizeTrellis, core::Trellis32>(d, d.warps, type, stream) : cudaErrorInvalidValue;
}

cudaError_t quantize_feedback(const FeedbackLaunch& d, int states, FloatType type, cudaStream_t stream) {
  if (states == 0) return launch_typed<QuantizeFeedback, warp::NoTrellis>(d, d.rows.warps, type, stream);
  if (states == 4) return launch_typed<QuantizeFeedback, core::Trellis4>(d, d.rows.warps, type, stream);
  if (states == 8) return launch_typed<QuantizeFeedback, core::Trellis8>(d, d.rows.warps, type, stream);
  return states == 32 ? launch_typed<QuantizeFeedback, core::Trellis32>(d, d.rows.warps, type, stream) : cudaErrorInvalidValue;
}

}  // namespace ans::cuda
