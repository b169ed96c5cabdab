#include "core/directory.h"

#include <algorithm>

#include "core/bit_io.h"

namespace ans::core {
namespace {

constexpr int kMaxWordsOrder = 31, kMaxTailOrder = 15;

template <class Get>
int best_order(int64_t count, int max_order, Get get) {
  int best = 0;
  int64_t best_bits = -1;
  for (int order = 0; order <= max_order; ++order) {
    int64_t bits = 0, before = 0;
    for (int64_t i = 0; i < count; ++i) {
      bits += exp_golomb_bits(fold_sign(int32_t(get(i) - before)), order);
      before = get(i);
    }
    if (best_bits < 0 || bits < best_bits) {
      best_bits = bits;
      best = order;
    }
  }
  return best;
}

}  // namespace

Status check_chunk(const ChunkEntry& e, int64_t symbols) {
  if (e.tail < 0 || e.tail > format::kMaxTail || e.tail > symbols) return Status::kTailOutOfRange;
  const bool wide = e.tail < symbols;
  if (e.words <= 0 || (wide && e.words < format::kStateWords) || e.words > format::max_chunk_words(symbols)) return Status::kChunkWordsOutOfRange;
  return Status::kOk;
}

std::vector<uint8_t> write_directory(const ChunkEntry* entries, int64_t chunks) {
  auto words = [&](int64_t i) { return int64_t(entries[i].words); };
  auto tail = [&](int64_t i) { return int64_t(entries[i].tail); };
  const int words_order = best_order(chunks - 1, kMaxWordsOrder, words), tail_order = best_order(chunks, kMaxTailOrder, tail);
  BitWriter out;
  if (chunks == 1) {
    out.put(uint32_t(entries[0].tail), format::kTailBits);
    return out.bytes();
  }
  out.put(uint32_t(words_order), 5);
  out.put(uint32_t(tail_order), 4);
  int64_t words_before = 0, tail_before = 0;
  for (int64_t i = 0; i < chunks; ++i) {
    if (i + 1 < chunks) out.signed_exp_golomb(int32_t(words(i) - words_before), words_order);
    out.signed_exp_golomb(int32_t(tail(i) - tail_before), tail_order);
    words_before = words(i);
    tail_before = tail(i);
  }
  return out.bytes();
}

Status read_directory(const uint8_t* data, int64_t size, int64_t numel, int64_t chunk_symbols, std::vector<ChunkEntry>* entries, int64_t* consumed) {
  const auto symbols_in = [&](int64_t chunk) { return symbols_in_chunk(numel, chunk_symbols, chunk); };
  return read_directory(data, size, chunk_count(numel, chunk_symbols), symbols_in, entries, consumed);
}

Status read_directory(const uint8_t* data, int64_t size, int64_t chunks, const std::function<int64_t(int64_t)>& symbols_in, std::vector<ChunkEntry>* entries, int64_t* consumed) {
  BitReader in(data, size, Status::kDirectoryTruncated);
  int words_order = 0, tail_order = 0;
  if (chunks > 1) {
    words_order = int(in.get(5));
    tail_order = int(in.get(4));
  }
  entries->clear();
  if (chunks > 8 * size) return Status::kDirectoryTruncated;  // an entry takes a bit or more
  entries->reserve(size_t(chunks));
  int64_t words = 0, tail = 0, sum = 0;
  for (int64_t i = 0; i < chunks; ++i) {
    const bool last = i + 1 == chunks;
    if (!last) words += in.signed_exp_golomb(words_order);
    tail += chunks == 1 ? int64_t(in.get(format::kTailBits)) : in.signed_exp_golomb(tail_order);
    if (in.status() != Status::kOk) return in.status();
    const int64_t symbols = symbols_in(i);
    if (tail < 0 || tail > format::kMaxTail) return Status::kTailOutOfRange;
    if (last) {  // the last chunk takes what is left
      *consumed = in.align();
      if (in.status() != Status::kOk) return in.status();
      const int64_t left = size - *consumed - 2 * sum;
      if (left < 0) return Status::kPayloadTruncated;
      if (left % 2 != 0) return Status::kPayloadTrailing;
      words = left / 2;
    }
    if (words <= 0 || words > format::max_chunk_words(symbols)) return Status::kChunkWordsOutOfRange;
    const ChunkEntry entry{int32_t(words), int32_t(tail)};
    if (const Status s = check_chunk(entry, symbols); s != Status::kOk) return s;
    entries->push_back(entry);
    sum += words;
  }
  return Status::kOk;
}

}  // namespace ans::core
