#include "core/matrix/class_tables.h"

#include <algorithm>
#include <array>

namespace ans::core {
namespace {

// The density at z = (i + 1/2) / 128 for i below kGrid, summed up.
constexpr int kGridBits = 7, kGrid = 16 << kGridBits;
constexpr int kMassBits = 20;  // the masses of a half are in units of 2^-20
using HalfMass = std::array<uint32_t, kGrid + 1>;

HalfMass half_mass(int exponent) {
  const uint64_t nu = uint64_t(2 * exponent - 1) << (2 * (kGridBits + 1));
  std::array<uint64_t, kGrid + 1> sum{};
  for (uint64_t i = 0; i < uint64_t(kGrid); ++i) {
    const uint64_t z = 2 * i + 1, base = (nu << 30) / (nu + z * z);
    uint64_t density = base;
    for (int k = 1; k < exponent; ++k) density = density * base >> 30;
    sum[i + 1] = sum[i] + density;
  }
  HalfMass mass{};
  for (size_t i = 0; i <= size_t(kGrid); ++i) mass[i] = uint32_t((sum[i] << kMassBits) / sum[kGrid]);
  return mass;
}

const HalfMass& half_mass_of(int shape) {
  static const std::array<HalfMass, kShapes> all = [] {
    std::array<HalfMass, kShapes> t{};
    for (size_t s = 0; s < t.size(); ++s) t[s] = half_mass(kShapeExponents[s]);
    return t;
  }();
  return all[size_t(shape)];
}

// round(2^15 * 2^(i / 16))
constexpr uint32_t kPowers[kOctave] = {32768, 34219, 35734, 37316, 38968, 40693, 42495, 44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757};

// Slots below `edge`, which is in sixteenths of a symbol.
int slots_below(const HalfMass& mass, int log_scale, int edge) {
  const int n = -log_scale >= 0 ? -log_scale / kOctave : -((log_scale + kOctave - 1) / kOctave);  // floor(-log_scale / 16)
  const uint64_t distance = uint64_t(edge < 0 ? -edge : edge) * kPowers[size_t(-log_scale - n * kOctave)];
  const uint64_t position = n <= 4 ? distance >> (4 - n) : distance << (n - 4);  // in 1/256 of a step of the grid
  const size_t i = size_t(position >> 8);
  const uint32_t fraction = uint32_t(position & 255);
  const uint32_t part = i >= size_t(kGrid) ? 1u << kMassBits : mass[i] + ((mass[i + 1] - mass[i]) * fraction >> 8);
  const uint32_t below = edge < 0 ? (1u << kMassBits) - part : (1u << kMassBits) + part;
  return int((uint64_t(below) * format::kSlots + (1u << kMassBits)) >> (kMassBits + 1));
}

}  // namespace

FrequencyTable class_table(int log_scale, int shape, int phase, int buckets) {
  const HalfMass& mass = half_mass_of(shape);
  const ResidualRange range = residual_range(buckets);
  std::array<uint16_t, format::kMaxAlphabet> freq{};
  int before = slots_below(mass, log_scale, 16 * range.first - 8 - 2 * phase), sum = 0;
  int32_t first = range.last, last = range.first;
  for (int32_t r = range.first; r <= range.last; ++r) {
    const int after = slots_below(mass, log_scale, 16 * r + 8 - 2 * phase);
    freq[size_t(r - range.first)] = uint16_t(after - before);
    sum += after - before;
    if (after > before) {
      first = std::min(first, r);
      last = std::max(last, r);
    }
    before = after;
  }
  FrequencyTable table;
  table.first_value = first;
  table.core_size = last - first + 1;
  table.has_escape = true;
  std::copy_n(freq.begin() + (first - range.first), table.core_size, table.freq.begin());
  if (sum == format::kSlots) {  // the escape needs a slot
    --*std::max_element(table.freq.begin(), table.freq.begin() + table.core_size);
    --sum;
  }
  table.freq[size_t(table.core_size)] = uint16_t(format::kSlots - sum);
  return table;
}

}  // namespace ans::core
