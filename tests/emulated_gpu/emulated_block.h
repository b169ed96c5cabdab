// A block of threads of a GPU, on the host: every thread has a stack of its own and runs until it meets others, as a warp (ballot, shuffle, sync) or as a block.
// What a GPU leaves undefined is an error here: a thread that is missing from a meeting, or at another one. Between meetings the threads of a warp run one after
// another, and the warps too, in an order that changes every time, so that code which needs a missing sync() fails.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ans::testing {

class EmulatedBlock {
 public:
  static constexpr int kWarpLanes = 32;

  // Runs `body` in all of `threads` threads (whole warps) of block `number`. Raises what a thread raises (the first of them).
  static void run(int threads, int64_t number, const std::function<void()>& body, unsigned seed = 1) {
    EmulatedBlock block(threads, number, body, seed);
    block.schedule();
  }

  static int thread() { return current().running_; }
  static int64_t number() { return current().number_; }
  static void sync() { current().meet(Kind::kBlock, 0); }

  // The calls of a warp.
  static uint32_t ballot(bool flag) { return current().meet(Kind::kBallot, flag).ballot; }
  static uint32_t shuffle(uint32_t value, unsigned source) { return current().meet(Kind::kShuffle, value).value[source % kWarpLanes]; }
  static void sync_warp() { current().meet(Kind::kWarp, 0); }

 private:
  enum class Kind { kBallot, kShuffle, kWarp, kBlock };
  enum class At { kRunning, kMeeting, kEnd };
  struct Thread {
    ucontext_t context;
    At at = At::kRunning;
    Kind kind = Kind::kWarp;
    void* sanitizer_stack = nullptr;
  };
  struct Meeting {
    uint32_t value[kWarpLanes];
    uint32_t ballot;
  };
  struct Warp {
    Meeting arriving, meeting;
    bool waits = false;  // for the block
    bool ended = false;
  };
  static constexpr size_t kStackBytes = 128 << 10;

  // Stacks are kept: a launch has many blocks.
  static char* stack(size_t i) {
    static thread_local std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= i) stacks.emplace_back(new char[kStackBytes]);
    return stacks[i].get();
  }

  EmulatedBlock(int threads, int64_t number, const std::function<void()>& body, unsigned seed)
      : body_(body), number_(number), order_rng_(seed), threads_(size_t(threads)), warps_(size_t(threads / kWarpLanes)) {
    if (threads <= 0 || threads % kWarpLanes != 0) throw std::logic_error("a block has whole warps");
    for (size_t i = 0; i < threads_.size(); ++i) prepare(threads_[i].context, stack(i));
  }
  static void prepare(ucontext_t& context, char* stack) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, &EmulatedBlock::enter, 0);
  }
  static EmulatedBlock*& instance() {
    static thread_local EmulatedBlock* block = nullptr;
    return block;
  }
  static EmulatedBlock& current() { return *instance(); }

  static void enter() {
    EmulatedBlock& block = current();
    block.arrived_from(nullptr);
    Thread& own = block.threads_[size_t(block.running_)];
    try {
      block.body_();
    } catch (...) {
      if (!block.error_) block.error_ = std::current_exception();
    }
    own.at = At::kEnd;
    block.leave(true);
  }

  void fail(const char* what) { error_ = std::make_exception_ptr(std::logic_error(what)); }

  // Runs a warp up to its next meeting.
  void run_warp(int w) {
    int order[kWarpLanes];
    for (int i = 0; i < kWarpLanes; ++i) order[i] = w * kWarpLanes + i;
    std::shuffle(order, order + kWarpLanes, order_rng_);
    for (int i : order) {
      running_ = i;
      threads_[size_t(i)].at = At::kRunning;
      start_switch(&scheduler_stack_, stack(size_t(i)), kStackBytes);
      swapcontext(&scheduler_, &threads_[size_t(i)].context);
      finish_switch(scheduler_stack_);
      if (error_) return;
    }
    const Thread* lanes = &threads_[size_t(w * kWarpLanes)];
    for (int i = 1; i < kWarpLanes; ++i)
      if (lanes[i].at != lanes[0].at || (lanes[0].at == At::kMeeting && lanes[i].kind != lanes[0].kind)) return fail("the lanes of a warp do not meet at the same place");
    Warp& warp = warps_[size_t(w)];
    warp.ended = lanes[0].at == At::kEnd;
    warp.waits = !warp.ended && lanes[0].kind == Kind::kBlock;
    warp.meeting = warp.arriving;
    warp.meeting.ballot = 0;
    for (int i = 0; i < kWarpLanes; ++i) warp.meeting.ballot |= uint32_t(warp.meeting.value[i] != 0) << i;
  }

  void schedule() {
    instance() = this;
    std::vector<int> order(warps_.size());
    for (size_t w = 0; w < order.size(); ++w) order[w] = int(w);
    auto all = [&](bool Warp::*flag) { return std::all_of(warps_.begin(), warps_.end(), [&](const Warp& w) { return w.*flag; }); };
    while (!error_ && !all(&Warp::ended)) {
      std::shuffle(order.begin(), order.end(), order_rng_);
      bool ran = false;
      for (int w : order) {
        // Up to its next meeting, or on and on while the others stand still: what a warp must not do before others have done their part shows only so.
        const bool far = order_rng_() % 2 == 0;
        do {
          if (error_ || warps_[size_t(w)].ended || warps_[size_t(w)].waits) break;
          run_warp(w);
          ran = true;
        } while (far);
      }
      if (error_ || ran) continue;
      if (!all(&Warp::waits)) fail("a warp has ended while others wait for the block");
      for (Warp& w : warps_) w.waits = false;
    }
    instance() = nullptr;
    if (error_) std::rethrow_exception(error_);  // threads that wait are forgotten: their stacks hold nothing that must be destroyed
  }

  const Meeting& meet(Kind kind, uint32_t value) {
    const size_t number = size_t(running_);
    Warp& warp = warps_[number / kWarpLanes];
    threads_[number].at = At::kMeeting;
    threads_[number].kind = kind;
    warp.arriving.value[number % kWarpLanes] = value;
    leave(false);
    return warp.meeting;
  }
  void leave(bool for_good) {
    Thread& own = threads_[size_t(running_)];
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

  const std::function<void()>& body_;
  const int64_t number_;
  std::mt19937 order_rng_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  int running_ = 0;
  std::exception_ptr error_;
  ucontext_t scheduler_;
  void* scheduler_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
};

// What csrc/core's templates call (core/vector_warp.h).
struct EmulatedWarp {
  static void run(const std::function<void()>& body, unsigned seed = 1) { EmulatedBlock::run(EmulatedBlock::kWarpLanes, 0, body, seed); }
  static unsigned lane() { return unsigned(EmulatedBlock::thread() % EmulatedBlock::kWarpLanes); }
  static uint32_t ballot(bool flag) { return EmulatedBlock::ballot(flag); }
  static uint32_t shuffle(uint32_t value, unsigned source) { return EmulatedBlock::shuffle(value, source); }
  static void sync() { EmulatedBlock::sync_warp(); }
  static uint32_t opaque(uint32_t v) { return v; }
  static void set_bits(uint32_t* p, uint32_t bits) { *p |= bits; }
};

}  // namespace ans::testing
