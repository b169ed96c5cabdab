// The table of a stream: which symbols have a slot, and how many (BITSTREAM.md, section 3).
#pragma once
#include <array>
#include <cstdint>

#include "format/bitstream.h"

namespace ans::core {

struct FrequencyTable {
  int32_t first_value = 0;
  int core_size = 0;
  bool has_escape = false;
  int raw_bits = 0;      // only with escape
  int32_t raw_min = 0;   // only with escape
  std::array<uint16_t, format::kMaxAlphabet> freq{};  // index core_size is the escape's

  int alphabet_size() const { return core_size + (has_escape ? 1 : 0); }
  int escape_index() const { return has_escape ? core_size : -1; }
};

}  // namespace ans::core
