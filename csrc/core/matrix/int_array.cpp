#include "core/matrix/int_array.h"

#include <algorithm>
#include <array>
#include <memory>

#include "core/bit_io.h"
#include "core/coder_tables.h"
#include "core/normalize.h"
#include "core/table_code.h"
#include "core/tail_decoder.h"
#include "core/tail_encoder.h"

namespace ans::core {
namespace {

enum Mode : uint32_t { kConstant, kPlain, kDifferences, kCoded };
constexpr int kModeBits = 2, kOrderBits = 4, kMaxOrder = 15, kConstantOrder = 4, kWordsOrder = 8;

struct Choice {
  int order;
  int64_t bits;
};

// The best order for SEG codes of the values, or of their differences.
Choice best_order(const int32_t* values, int64_t count, bool differences) {
  // Most are small, and there may be many: equal ones are taken together.
  constexpr size_t kSmall = 512;
  std::array<int64_t, kSmall> small{};
  std::vector<uint32_t> others;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t folded = fold_sign(values[i] - (differences && i > 0 ? values[i - 1] : 0));
    if (folded < kSmall) ++small[folded];
    else others.push_back(folded);
  }
  Choice best{0, -1};
  for (int order = 0; order <= kMaxOrder; ++order) {
    int64_t bits = 0;
    for (uint32_t v = 0; v < kSmall; ++v) bits += small[v] * exp_golomb_bits(v, order);
    for (uint32_t v : others) bits += exp_golomb_bits(v, order);
    if (best.bits < 0 || bits < best.bits) best = {order, bits};
  }
  return best;
}

// Table and words of the single coder; empty if the values are no bytes, or all the same.
std::vector<uint8_t> write_coded(const int32_t* values, int64_t count) {
  std::vector<uint64_t> counts(256);
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] < -128 || values[i] > 127) return {};
    ++counts[size_t(values[i] + 128)];
  }
  if (std::count(counts.begin(), counts.end(), 0u) >= 255) return {};
  const FrequencyTable table = build_table(counts.data(), format::SymbolType::kI8);
  const auto prepared = std::make_unique<EncodeTable>();
  make_encode_table(table, format::SymbolType::kI8, prepared.get());
  std::vector<uint16_t> words(size_t(2 * count + 3));
  TailEncoder tail;
  tail.reset(words.data() + words.size());
  for (int64_t i = count; i-- > 0;) {
    const uint8_t index = prepared->index_of[uint8_t(values[i] - table.first_value)];
    tail.push(*prepared, index, uint16_t(values[i] - table.raw_min));
  }
  const size_t used = size_t(tail.finish());
  BitWriter head;
  head.put(kCoded, kModeBits);
  head.exp_golomb(uint32_t(used), kWordsOrder);
  std::vector<uint8_t> bytes = head.bytes();
  const std::vector<uint8_t> coded = write_table(table, format::SymbolType::kI8);
  bytes.insert(bytes.end(), coded.begin(), coded.end());
  for (size_t i = words.size() - used; i < words.size(); ++i) {
    bytes.push_back(uint8_t(words[i]));
    bytes.push_back(uint8_t(words[i] >> 8));
  }
  return bytes;
}

Status read_coded(const uint8_t** data, const uint8_t* end, int64_t count, int64_t words, std::vector<int32_t>* values) {
  FrequencyTable table;
  int64_t consumed = 0;
  if (const Status s = read_table(*data, end - *data, format::SymbolType::kI8, &table, &consumed); s != Status::kOk) return s;
  *data += consumed;
  constexpr int64_t kMaxWords = int64_t{1} << 26;  // their bits are counted in 31 bits
  if (words > (end - *data) / 2 || words > kMaxWords) return Status::kStreamTruncated;
  const auto prepared = std::make_unique<DecodeTable>();
  make_decode_table(table, format::SymbolType::kI8, false, prepared.get());
  const WordPieces pieces{*data, int(words)};
  *data += 2 * words;
  const auto sink = [&](int64_t i, uint32_t symbol) { (*values)[size_t(i)] = int8_t(symbol); };
  switch (prepared->buckets) {
    case 64: return decode_tail<64>(*prepared, pieces, int(count), sink);
    case 128: return decode_tail<128>(*prepared, pieces, int(count), sink);
    default: return decode_tail<256>(*prepared, pieces, int(count), sink);
  }
}

}  // namespace

std::vector<uint8_t> write_array(const int32_t* values, int64_t count) {
  BitWriter out;
  if (std::all_of(values, values + count, [&](int32_t v) { return v == values[0]; })) {
    out.put(kConstant, kModeBits);
    out.signed_exp_golomb(count > 0 ? values[0] : 0, kConstantOrder);
    return out.bytes();
  }
  const Choice plain = best_order(values, count, false), differences = best_order(values, count, true);
  const bool by_difference = differences.bits < plain.bits;
  const Choice& best = by_difference ? differences : plain;
  if (std::vector<uint8_t> coded = write_coded(values, count); !coded.empty() && int64_t(coded.size()) < (kModeBits + kOrderBits + best.bits + 7) / 8) return coded;
  out.put(by_difference ? kDifferences : kPlain, kModeBits);
  out.put(uint32_t(best.order), kOrderBits);
  for (int64_t i = 0; i < count; ++i) out.signed_exp_golomb(values[i] - (by_difference && i > 0 ? values[i - 1] : 0), best.order);
  return out.bytes();
}

Status read_array(const uint8_t** data, const uint8_t* end, int64_t count, int32_t lowest, int32_t highest, std::vector<int32_t>* values) {
  BitReader in(*data, end - *data, Status::kStreamTruncated);
  const Mode mode = Mode(in.get(kModeBits));
  if (mode == kConstant) {
    const int64_t v = in.signed_exp_golomb(kConstantOrder);
    *data += in.align();
    if (in.status() != Status::kOk) return in.status();
    if (v < lowest || v > highest) return Status::kParameterOutOfRange;
    values->assign(size_t(count), int32_t(v));
    return Status::kOk;
  }
  if (mode == kCoded) {
    const uint64_t words = in.exp_golomb(kWordsOrder);
    *data += in.align();
    if (in.status() != Status::kOk) return in.status();
    if (words > uint64_t(end - *data)) return Status::kStreamTruncated;
    values->resize(size_t(count));
    if (const Status s = read_coded(data, end, count, int64_t(words), values); s != Status::kOk) return s;
  } else {
    const int order = int(in.get(kOrderBits));
    if (count > 8 * (end - *data)) return Status::kStreamTruncated;  // a value takes a bit or more
    values->resize(size_t(count));
    int64_t before = 0;
    for (int32_t& value : *values) {
      const int64_t v = in.signed_exp_golomb(order) + (mode == kDifferences ? before : 0);
      if (in.status() != Status::kOk) return in.status();
      if (v < lowest || v > highest) return Status::kParameterOutOfRange;
      before = value = int32_t(v);
    }
    *data += in.align();
    if (in.status() != Status::kOk) return in.status();
  }
  const bool in_range = std::all_of(values->begin(), values->end(), [&](int32_t v) { return v >= lowest && v <= highest; });
  return in_range ? Status::kOk : Status::kParameterOutOfRange;
}

}  // namespace ans::core
