// Rows of matrices by warps: their statistics, and what is done to every element with its row's scale. The arithmetic is quantize_arithmetic.h's.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/quantize_arithmetic.h"
#include "core/vector_warp.h"

namespace ans::core {
namespace ANS_TARGET {

template <class W>
ANS_INLINE double shuffle_double(double v, unsigned source) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  bits = shuffle_wide<W>(bits, source);
  memcpy(&v, &bits, sizeof v);
  return v;
}

// Statistics of a row, right in lane 0.
template <class W, class T>
ANS_INLINE RowStatistics row_statistics(const T* row, int64_t columns) {
  RowStatistics own{};
  for (int64_t j = W::lane(); j < columns; j += kRowLanes) accumulate(own.sum, own.sum_sq, own.max_abs_bits, to_float(row[j]));
  for (unsigned off = kRowLanes / 2; off > 0; off /= 2) {
    const unsigned source = W::lane() + off;
    const double sum = shuffle_double<W>(own.sum, source), sum_sq = shuffle_double<W>(own.sum_sq, source);
    own = fold(own, {sum, sum_sq, W::shuffle(own.max_abs_bits, source)});  // lanes >= off fold what nobody reads
  }
  return own;
}

template <class W>
ANS_INLINE uint32_t max_of_lanes(uint32_t v) {
  for (unsigned off = 16; off > 0; off /= 2) {
    const uint32_t other = W::shuffle(v, W::lane() ^ off);
    v = v > other ? v : other;
  }
  return v;
}

// A warp's share of a matrix, in row-major order.
constexpr int64_t kTile = 2048;

// Calls visit(i, scale) for this lane's elements of a tile, kGroup at a time: elements i … i + kGroup - 1, which are of one row if kGroup divides `columns` (or is 1),
// and `scale` is that row's.
template <class W, int kGroup, class Visit>
ANS_INLINE void for_each_scaled(int64_t tile, int64_t numel, int64_t columns, const Float16* scale, int32_t exponent, const Visit& visit) {
  int64_t row_end = 0;
  float row_scale = 0;
  for (int k = 0; k < int(kTile / (32 * kGroup)); ++k) {
    const int64_t i = tile * kTile + (int64_t(k) * 32 + W::lane()) * kGroup;
    if (i >= numel) return;
    if (i >= row_end) {
      const int64_t row = i / columns;
      row_end = (row + 1) * columns;
      row_scale = unpack_scale(scale[row], exponent);
    }
    visit(i, row_scale);
  }
}

// So many elements at once are loaded and stored as one where everything is aligned to it.
template <class T, int kGroup>
struct alignas(sizeof(T) * kGroup <= 16 ? sizeof(T) * kGroup : 16) Group {
  T of[kGroup];
};
constexpr int kGroup = 8;
template <class A, class B>
ANS_INLINE bool fits_groups(const A* a, const B* b, int64_t columns) {
  return columns % kGroup == 0 && reinterpret_cast<uintptr_t>(a) % alignof(Group<A, kGroup>) == 0 && reinterpret_cast<uintptr_t>(b) % alignof(Group<B, kGroup>) == 0;
}

// to[i] = convert(from[i], scale of its row) for the elements of a tile.
template <class W, class From, class To, class Convert>
ANS_INLINE void convert_tile(int64_t tile, const From* from, To* to, int64_t numel, int64_t columns, const Float16* scale, int32_t exponent, const Convert& convert) {
  if (fits_groups(from, to, columns)) {
    for_each_scaled<W, kGroup>(tile, numel, columns, scale, exponent, [&](int64_t i, float row_scale) {
      const auto in = *reinterpret_cast<const Group<From, kGroup>*>(from + i);
      Group<To, kGroup> out;
      ANS_UNROLL
      for (int k = 0; k < kGroup; ++k) out.of[k] = convert(in.of[k], row_scale);
      *reinterpret_cast<Group<To, kGroup>*>(to + i) = out;
    });
  } else {
    for_each_scaled<W, 1>(tile, numel, columns, scale, exponent, [&](int64_t i, float row_scale) { to[i] = convert(from[i], row_scale); });
  }
}

}  // namespace ANS_TARGET
}  // namespace ans::core
