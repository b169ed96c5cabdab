// Lane operations of the SIMD backends against plain loops, on random values and masks. A failure prints mask, input, expected and actual.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "core/coder_tables.h"
#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/row_coder.h"
#include "cpu/backends.h"

namespace ans {
namespace {

using core::DecodeStream;
using core::EncodeStream;

std::string print(const uint32_t* x, int n) {
  std::string s;
  for (int i = 0; i < n; ++i) s += std::to_string(x[i]) + " ";
  return s;
}

struct Fixture {
  explicit Fixture(std::mt19937& rng, int alphabet, bool escape) {
    std::vector<uint64_t> counts(256, 0);
    for (int i = 0; i < alphabet; ++i) counts[size_t(i)] = 1 + (rng() % 4 == 0 ? rng() % 100000 : rng() % 300);
    core::FrequencyTable table;
    table.core_size = alphabet - escape;
    table.has_escape = escape;
    table.raw_bits = escape ? 1 + int(rng() % 8) : 0;
    core::normalize(counts.data(), alphabet, table.freq.data());
    core::make_encode_table(table, format::SymbolType::kU8, &encode);
    core::make_decode_table(table, format::SymbolType::kU8, true, &decode);
  }
  core::EncodeTable encode;
  core::DecodeTable decode;
};

// One row pushed and popped from random states in every backend: states, words and symbols must agree with the scalar one.
TEST(Lanes, ARowOfAnyStatesIsTheSameOnEveryBackend) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 600; ++trial) {
    const int alphabet = trial % 5 == 0 ? 2 : 2 + int(rng() % 255);
    const bool escape = trial % 2 == 1 && alphabet > 2;
    const Fixture f(rng, alphabet, escape);
    uint32_t states[32];
    uint8_t index[64] = {};
    uint16_t raw[64] = {};
    for (int i = 0; i < 32; ++i) {
      states[i] = (65536u << rng() % 16) | (rng() & ((65536u << rng() % 16) - 1));
      index[i] = uint8_t(rng() % unsigned(alphabet));
      raw[i] = uint16_t(rng() & ((1u << f.encode.raw_bits) - 1));
    }
    const int active = trial % 3 == 0 ? 1 + int(rng() % 31) : 32;
    uint32_t expected[32];
    std::vector<uint8_t> expected_words;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      SCOPED_TRACE(std::string(backend->name) + ", alphabet " + std::to_string(alphabet) + ", active " + std::to_string(active) + ", states " + print(states, 32));
      uint32_t x[32];
      std::copy(states, states + 32, x);
      uint8_t buffer[512] = {};
      uint8_t* const end = buffer + 256;
      core::RawReader raws;
      uint8_t* words_end = end;
      if (escape) {
        uint16_t values[32];
        int escapes = 0;
        for (int i = 0; i < active; ++i)
          if (int(index[i]) == f.encode.escape_index) values[escapes++] = raw[i];
        words_end = core::write_raw_values(values, escapes, f.encode.raw_bits, end);
        raws = core::RawReader(words_end, end, f.encode.raw_bits);
      }
      EncodeStream stream{x, words_end, index};
      if (active == 32) backend->coder.encode_rows(f.encode, &stream, 1, 1);
      else backend->coder.encode_partial_row(f.encode, &stream, active);
      const std::vector<uint8_t> words(stream.words, words_end);
      if (backend == cpu::available_backends().front()) {
        std::copy(x, x + 32, expected);
        expected_words = words;
      }
      ASSERT_EQ(print(expected, 32), print(x, 32));
      ASSERT_EQ(expected_words, words);
      for (int i = 0; i < 32; ++i) ASSERT_GE(x[i], 65536u);

      uint8_t out[128] = {};
      DecodeStream back{&f.decode, x, stream.words, out, &raws};
      if (active == 32) backend->coder.decode_rows(&back, 1, 1);
      else backend->coder.decode_partial_row(&back, active);
      ASSERT_EQ(print(states, 32), print(x, 32));
      ASSERT_EQ(back.words, words_end);
      ASSERT_EQ(raws.bytes(), end - words_end);
      for (int i = 0; i < active; ++i) {
        const int symbol = int(index[i]) == f.encode.escape_index ? raw[i] : index[i];
        ASSERT_EQ(int(out[i]), symbol) << "lane " << i;
      }
    }
  }
}

TEST(Lanes, SymbolsBecomeTheSameIndicesAndCosts) {
  std::mt19937 rng(6);
  for (int trial = 0; trial < 200; ++trial) {
    const Fixture f(rng, 2 + int(rng() % 255), trial % 2 == 1);
    const int n = int(rng() % 400);
    std::vector<uint8_t> symbols(size_t(n) + 64);
    for (auto& s : symbols) s = uint8_t(trial % 4 == 0 ? rng() : rng() % unsigned(f.encode.core_size));
    std::vector<uint8_t> expected_index;
    std::vector<uint16_t> expected_cost;
    std::vector<uint16_t> expected_raw;
    bool expected_invalid = false;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      std::vector<uint8_t> index(size_t(n) + 96);
      std::vector<uint16_t> raw(size_t(n) + 96), cost(32, 7);
      const core::IndexResult r = backend->coder.index_symbols(f.encode, symbols.data(), n, index.data(), raw.data(), cost.data());
      index.resize(size_t(n));
      raw.resize(size_t(r.escapes));
      if (backend == cpu::available_backends().front()) {
        expected_index = index, expected_cost = cost, expected_invalid = r.invalid, expected_raw = raw;
      }
      ASSERT_EQ(expected_invalid, r.invalid) << backend->name << " trial " << trial;
      if (r.invalid) continue;
      ASSERT_EQ(expected_index, index) << backend->name << " trial " << trial;
      ASSERT_EQ(expected_cost, cost) << backend->name << " trial " << trial;
      ASSERT_EQ(expected_raw, raw) << backend->name << " trial " << trial;
      size_t escapes = 0;
      for (int i = 0; i < n; ++i)
        if (int(index[size_t(i)]) == f.encode.escape_index) {
          ASSERT_EQ(int(raw[escapes++]), int(symbols[size_t(i)]));
        }
      ASSERT_EQ(escapes, raw.size());
    }
  }
}

}  // namespace
}  // namespace ans
