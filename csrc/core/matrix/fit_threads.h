// How the fits of this folder use threads: whoever calls them brings these.
#pragma once
#include <cstdint>
#include <functional>

namespace ans::core {

// Calls work(begin, end) on ranges that cover [0, n), maybe several at a time.
using Parallel = std::function<void(int64_t n, const std::function<void(int64_t, int64_t)>& work)>;

inline void one_thread(int64_t n, const std::function<void(int64_t, int64_t)>& work) { work(0, n); }

// The i-th of n whose work grows with their number, so that ranges of i are equal work.
inline int64_t balanced(int64_t i, int64_t n) { return i % 2 == 0 ? i / 2 : n - 1 - i / 2; }

}  // namespace ans::core
