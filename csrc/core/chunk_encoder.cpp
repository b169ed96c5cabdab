#include "core/chunk_encoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/log2_table.h"

namespace ans::core {
namespace {

constexpr int64_t kStoreSlack = 64;  // a backend may overwrite this much below the last word

}  // namespace

// Room for `bytes` more below slot->next, slack included.
void ChunkEncoder::make_room(Slot* slot, int64_t bytes) {
  const int64_t capacity = slot->words.capacity(), free = capacity == 0 ? 0 : slot->next - slot->words.data();
  if (free >= bytes + kStoreSlack) return;
  const int64_t used = capacity - free;
  slot->words.reserve(std::max(capacity + capacity / 4, used + bytes + kStoreSlack));
  uint8_t* end = slot->words.data() + slot->words.capacity();
  if (used > 0) std::memmove(end - used, slot->words.data() + free, size_t(used));
  slot->next = end - used;
}

void ChunkEncoder::encode_narrow(int64_t n, Slot* slot) {
  TailEncoder tail;
  uint16_t* const end = narrow_words_ + kNarrowWords;
  tail.reset(end);
  Indexed symbols = indexed(*slot);
  push_backwards(tail, symbols, n);
  const int words = tail.finish();
  make_room(slot, 2 * words);
  slot->next -= 2 * words;
  std::memcpy(slot->next, end - words, size_t(2 * words));  // little-endian, as all hosts here
  slot->entry = {words, int32_t(n)};
}

// Indices and costs, and room for the words.
Status ChunkEncoder::index_symbols(const void* symbols, int64_t n, Slot* slot) {
  const int64_t padded = (n + format::kLanes - 1) / format::kLanes * format::kLanes;
  slot->index.reserve(padded + 64);
  if (table_.escape_index >= 0) slot->raw.reserve(2 * (n + 64));
  std::fill_n(slot->cost, format::kLanes, uint16_t(0));
  const IndexResult found = coder_.index_symbols(table_, symbols, n, slot->index.data(), reinterpret_cast<uint16_t*>(slot->raw.data()), slot->cost);
  if (found.invalid) return Status::kSymbolNotInTable;
  slot->symbols = n;
  slot->escapes = found.escapes;
  if (!spare_.empty()) {
    slot->words = std::move(spare_.back());
    spare_.pop_back();
  }
  slot->next = slot->words.data() + slot->words.capacity();
  if (n > format::kMaxTail) make_room(slot, 4096 + table_.expected_bytes(n));
  return Status::kOk;
}

// The states, the raw values of the lanes' escapes, and the partial row.
void ChunkEncoder::begin_rows(const Seeds& seeds, Slot* slot) {
  std::copy(seeds.states, seeds.states + format::kLanes, slot->state);
  const int64_t main = slot->symbols - seeds.tail;
  slot->entry = {0, seeds.tail};
  slot->rows = main / format::kLanes;
  if (const int64_t escapes = slot->escapes - seeds.tail_escapes; escapes > 0) {
    make_room(slot, 2 * raw_words(escapes, table_.raw_bits) + kRowBytes);
    slot->next = write_raw_values(raw_of(*slot), escapes, table_.raw_bits, slot->next);
  }
  if (const int active = int(main % format::kLanes); active > 0) {
    const int64_t at = slot->rows * format::kLanes;
    EncodeStream stream{slot->state, slot->next, slot->index.data() + at};
    coder_.encode_partial_row(table_, &stream, active);
    slot->next = stream.words;
  }
}

void ChunkEncoder::encode_full_rows(Slot** slots, int count) {
  while (count > 0) {
    EncodeStream streams[kMaxStreams];
    int64_t rows = slots[0]->rows;
    for (int s = 0; s < count; ++s) {
      // A row rarely takes more than half of what it could: grow only when little room is left.
      if (slots[s]->next - slots[s]->words.data() < 16 * kRowBytes + kStoreSlack) make_room(slots[s], 32 * kRowBytes);
      rows = std::min({rows, slots[s]->rows, (slots[s]->next - slots[s]->words.data() - kStoreSlack) / kRowBytes});
    }
    for (int s = 0; s < count; ++s) {
      const int64_t at = (slots[s]->rows - rows) * format::kLanes;
      streams[s] = {slots[s]->state, slots[s]->next, slots[s]->index.data() + at};
    }
    coder_.encode_rows(table_, streams, count, rows);
    int active = 0;
    for (int s = 0; s < count; ++s) {
      slots[s]->next = streams[s].words;
      slots[s]->rows -= rows;
      if (slots[s]->rows > 0) slots[active++] = slots[s];
    }
    count = active;
  }
}

Status ChunkEncoder::encode(const void* symbols, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end, std::vector<EncodedChunk>* chunks) {
  const int64_t streams = std::min(kMaxStreams, coder_.encode_streams(table_.buckets)), groups = (end - begin + streams - 1) / streams;
  for (int64_t g = 0; g < groups; ++g) {  // of nearly equal size: a single stream is slow
    const int64_t group = begin + (end - begin) * g / groups;
    const int count = int(begin + (end - begin) * (g + 1) / groups - group);
    Slot* wide[kMaxStreams];
    SeedChooser<Indexed>* choosers[kMaxStreams];
    int wides = 0;
    for (int s = 0; s < count; ++s) {
      Slot& slot = slots_[s];
      const int64_t chunk = group + s, n = symbols_in_chunk(numel, chunk_symbols, chunk);
      const uint8_t* first = static_cast<const uint8_t*>(symbols) + chunk * chunk_symbols * table_.symbol_bytes;
      if (const Status status = index_symbols(first, n, &slot); status != Status::kOk) return status;
      if (n <= format::kMaxTail) {
        encode_narrow(n, &slot);
      } else {
        choosers_[wides].begin(indexed(slot), n, n / format::kLanes, slot.cost, {mantissa_logs().data()}, tail_words_[wides]);
        choosers[wides] = &choosers_[wides];
        wide[wides++] = &slot;
      }
    }
    Seeds seeds[kMaxStreams];
    choose_seeds(choosers, wides, seeds);
    Slot* busy[kMaxStreams];
    int with_rows = 0;
    for (int s = 0; s < wides; ++s) {
      begin_rows(seeds[s], wide[s]);
      if (wide[s]->rows > 0) busy[with_rows++] = wide[s];
    }
    encode_full_rows(busy, with_rows);
    for (int s = 0; s < wides; ++s) {
      Slot& slot = *wide[s];
      make_room(&slot, 4 * format::kLanes);
      slot.next -= 4 * format::kLanes;
      std::memcpy(slot.next, slot.state, 4 * format::kLanes);  // little-endian, as all hosts here
      slot.entry.words = int32_t((slot.words.data() + slot.words.capacity() - slot.next) / 2);
    }
    for (int s = 0; s < count; ++s) chunks->push_back({std::move(slots_[s].words), slots_[s].entry});
  }
  return Status::kOk;
}

}  // namespace ans::core
