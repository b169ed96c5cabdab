// A warp on the host: 32 threads of the same code, each with a stack of its own, that meet wherever the GPU's would have to. What a GPU leaves undefined is an error
// here: a lane that is missing, or at another meeting point. Between meetings the lanes run one after another, in an order that changes every time, so that
// code which needs a missing sync() fails.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ans::testing {

class EmulatedWarp {
 public:
  static constexpr int kLanes = 32;

  // Runs `thread` in all lanes. Raises what a lane raises (the first of them).
  static void run(const std::function<void()>& thread, unsigned seed = 1) {
    EmulatedWarp warp(thread, seed);
    warp.schedule();
  }

  static unsigned lane() { return unsigned(current().lane_); }
  static uint32_t ballot(bool flag) { return current().meet(Kind::kBallot, flag).ballot; }
  static uint32_t shuffle(uint32_t value, unsigned source) { return current().meet(Kind::kShuffle, value).value[source % kLanes]; }
  static void sync() { current().meet(Kind::kSync, 0); }

 private:
  enum class Kind { kBallot, kShuffle, kSync };
  struct Meeting {
    uint32_t value[kLanes];
    uint32_t ballot;
  };
  enum class At { kRunning, kMeeting, kEnd };
  struct Lane {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    At at = At::kRunning;
    Kind kind = Kind::kSync;
    void* sanitizer_stack = nullptr;
  };
  static constexpr size_t kStackBytes = 256 << 10;

  EmulatedWarp(const std::function<void()>& thread, unsigned seed) : thread_(thread), order_rng_(seed) {
    for (Lane& lane : lanes_) {
      lane.stack = std::make_unique<char[]>(kStackBytes);
      getcontext(&lane.context);
      lane.context.uc_stack.ss_sp = lane.stack.get();
      lane.context.uc_stack.ss_size = kStackBytes;
      lane.context.uc_link = nullptr;
      makecontext(&lane.context, &EmulatedWarp::enter, 0);
    }
  }
  static EmulatedWarp*& instance() {
    static thread_local EmulatedWarp* warp = nullptr;
    return warp;
  }
  static EmulatedWarp& current() { return *instance(); }

  static void enter() {
    EmulatedWarp& warp = current();
    warp.arrived_from(nullptr);
    Lane& own = warp.lanes_[warp.lane_];
    try {
      warp.thread_();
    } catch (...) {
      if (!warp.error_) warp.error_ = std::current_exception();
    }
    own.at = At::kEnd;
    warp.leave(true);
  }

  void schedule() {
    instance() = this;
    int order[kLanes];
    for (int i = 0; i < kLanes; ++i) order[i] = i;
    for (;;) {
      std::shuffle(order, order + kLanes, order_rng_);
      for (int i : order) {
        lane_ = i;
        lanes_[i].at = At::kRunning;
        start_switch(&scheduler_stack_, lanes_[i].stack.get(), kStackBytes);
        swapcontext(&scheduler_, &lanes_[i].context);
        finish_switch(scheduler_stack_);
        if (error_) break;
      }
      const Lane& first = lanes_[0];
      for (const Lane& lane : lanes_)
        if (!error_ && (lane.at != first.at || lane.kind != first.kind)) error_ = std::make_exception_ptr(std::logic_error("the lanes of a warp do not meet at the same place"));
      if (error_ || first.at == At::kEnd) break;
      meeting_ = arriving_;
      meeting_.ballot = 0;
      for (int i = 0; i < kLanes; ++i) meeting_.ballot |= uint32_t(meeting_.value[i] != 0) << i;
    }
    instance() = nullptr;
    if (error_) std::rethrow_exception(error_);  // lanes that wait are forgotten: their stacks hold nothing that must be destroyed
  }

  const Meeting& meet(Kind kind, uint32_t value) {
    Lane& own = lanes_[lane_];
    own.at = At::kMeeting;
    own.kind = kind;
    arriving_.value[lane_] = value;
    leave(false);
    return meeting_;
  }
  void leave(bool for_good) {
    Lane& own = lanes_[lane_];
    start_switch(for_good ? nullptr : &own.sanitizer_stack, scheduler_bottom_, scheduler_size_);
    swapcontext(&own.context, &scheduler_);
    arrived_from(own.sanitizer_stack);
  }

  // AddressSanitizer wants to know about stacks.
#if defined(__SANITIZE_ADDRESS__)
  static void start_switch(void** save, const void* bottom, size_t size) { __sanitizer_start_switch_fiber(save, bottom, size); }
  static void finish_switch(void* saved) { __sanitizer_finish_switch_fiber(saved, nullptr, nullptr); }
  void arrived_from(void* saved) { __sanitizer_finish_switch_fiber(saved, &scheduler_bottom_, &scheduler_size_); }
#else
  static void start_switch(void**, const void*, size_t) {}
  static void finish_switch(void*) {}
  void arrived_from(void*) {}
#endif

  const std::function<void()>& thread_;
  std::mt19937 order_rng_;
  Lane lanes_[kLanes];
  int lane_ = 0;
  Meeting arriving_{}, meeting_{};
  std::exception_ptr error_;
  ucontext_t scheduler_;
  void* scheduler_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
};

}  // namespace ans::testing
