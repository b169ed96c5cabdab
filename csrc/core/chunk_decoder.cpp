#include "core/chunk_decoder.h"

#include <algorithm>
#include <cstring>

namespace ans::core {

void ChunkDecoder::put_symbol(int32_t symbol, uint8_t* out, int i) const {
  if (table_.symbol_bytes == 1) {
    out[i] = uint8_t(symbol);
  } else {  // `out` need not be aligned
    const uint16_t v = uint16_t(symbol);
    std::memcpy(out + 2 * i, &v, 2);
  }
}

Status ChunkDecoder::decode_pending_tails() {
  int last = 0, common = pending_ > 0 ? tails_[0].count : 0;
  for (int t = 0; t < pending_; ++t) {
    if (const Status s = tails_[t].decoder.start(); s != Status::kOk) return s;
    last = std::max(last, tails_[t].count);
    common = std::min(common, tails_[t].count);
  }
  for (int i = 0; i < common; ++i)
    for (int t = 0; t < pending_; ++t) put_symbol(tails_[t].decoder.step(table_), tails_[t].out, i);
  for (int i = common; i < last; ++i)
    for (int t = 0; t < pending_; ++t)
      if (i < tails_[t].count) put_symbol(tails_[t].decoder.step(table_), tails_[t].out, i);
  for (int t = 0; t < pending_; ++t)
    if (const Status s = tails_[t].decoder.finish(); s != Status::kOk) return s;
  pending_ = 0;
  return Status::kOk;
}

// Moves the words that are left to a copy behind which there are zeros, so that some rows may run past the end before that is noticed.
void ChunkDecoder::pad(Slot* slot) {
  const int64_t left = slot->end - slot->next;
  const size_t size = size_t(left + kSliceRows * kMaxRowBytes + kMaxRowBytes + kLoadSlack);
  if (slot->copy.size() < size) slot->copy.resize(size);
  std::memcpy(slot->copy.data(), slot->next, size_t(left));
  std::memset(slot->copy.data() + left, 0, size - size_t(left));
  slot->next = slot->copy.data();
  slot->end = slot->next + left;
  slot->padded = true;
}

Status ChunkDecoder::start(const uint8_t* bytes, const ChunkEntry& entry, int64_t symbols, uint8_t* out, Slot* slot) {
  if (entry.tail == symbols) {  // narrow
    slot->rows = -1;
    TailDecoder<NarrowBits> tail;
    for (int32_t i = 0; i < entry.words; ++i) tail.bits.append(uint32_t(bytes[2 * i] | bytes[2 * i + 1] << 8), format::kWordBits);
    if (const Status s = tail.start(); s != Status::kOk) return s;
    for (int i = 0; i < entry.tail; ++i) put_symbol(tail.step(table_), out, i);
    return tail.finish();
  }
  std::memcpy(slot->state, bytes, sizeof slot->state);
  for (uint32_t x : slot->state)
    if (x < format::kStateLowerBound) return Status::kStateOutOfRange;
  slot->next = bytes + sizeof slot->state;
  slot->end = bytes + 2 * int64_t(entry.words);
  slot->padded = false;
  slot->out = out;
  slot->symbols = symbols;
  slot->tail = entry.tail;
  slot->rows = (symbols - entry.tail) / format::kLanes;
  return Status::kOk;
}

// The partial row and the checks of a chunk's end; its tail is put on the list.
Status ChunkDecoder::finish(Slot* slot) {
  if (const int active = int((slot->symbols - slot->tail) % format::kLanes); active > 0) {
    if (!slot->padded && payload_end_ - slot->next < kMaxRowBytes + kLoadSlack) pad(slot);
    alignas(64) uint8_t row[2 * format::kLanes];
    DecodeStream stream{slot->state, slot->next, row};
    coder_.decode_partial_row(table_, &stream, active);
    slot->next = stream.words;
    const size_t bytes = size_t(active * table_.symbol_bytes);
    std::memcpy(slot->out, row, bytes);
    slot->out += bytes;
  }
  if (slot->next > slot->end) return Status::kWordsExhausted;
  if (slot->next < slot->end) return Status::kWordsLeft;
  PendingTail& tail = tails_[pending_++];
  tail.decoder.bits.clear();
  for (uint32_t x : slot->state) {
    const int e = bit_length(x) - 1;
    tail.decoder.bits.append(x - (1u << e), e);
  }
  tail.out = slot->out;
  tail.count = slot->tail;
  return pending_ == kMaxStreams ? decode_pending_tails() : Status::kOk;
}

Status ChunkDecoder::decode(const uint8_t* payload, const uint8_t* payload_end, const ChunkEntry* entries, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end,
                            void* out) {
  payload_end_ = payload_end;
  pending_ = 0;
  const int streams = std::min(kMaxStreams, coder_.decode_streams(table_.buckets));
  Slot* active[kMaxStreams];
  Slot* idle[kMaxStreams];
  int busy = 0, unused = 0;
  for (int s = 0; s < streams; ++s) idle[unused++] = &slots_[s];
  int64_t chunk = begin;
  for (;;) {
    // Whenever a chunk ends, the next one takes its place: the lanes of the others need not wait.
    while (unused > 0 && chunk < end) {
      Slot* slot = idle[unused - 1];
      uint8_t* first = static_cast<uint8_t*>(out) + (chunk - begin) * chunk_symbols * table_.symbol_bytes;
      if (const Status s = start(payload, entries[chunk], symbols_in_chunk(numel, chunk_symbols, chunk), first, slot); s != Status::kOk) return s;
      payload += 2 * int64_t(entries[chunk].words);
      ++chunk;
      if (slot->rows < 0) continue;
      if (slot->rows == 0) {
        if (const Status s = finish(slot); s != Status::kOk) return s;
        continue;
      }
      active[busy++] = slot;
      --unused;
    }
    if (busy == 0) return decode_pending_tails();

    int64_t rows = active[0]->rows;
    for (int s = 0; s < busy; ++s) {
      Slot* slot = active[s];
      // Rows that can not run past what may be read, whatever the words say. A damaged chunk may take words of the next one: that is found out below.
      int64_t safe = slot->padded ? kSliceRows : (payload_end_ - slot->next - kLoadSlack) / row_bytes();
      if (safe < kSliceRows && safe < slot->rows && !slot->padded) {
        pad(slot);
        safe = kSliceRows;
      }
      rows = std::min({rows, slot->rows, safe});
    }
    DecodeStream cursors[kMaxStreams];
    for (int s = 0; s < busy; ++s) cursors[s] = {active[s]->state, active[s]->next, active[s]->out};
    coder_.decode_rows(table_, cursors, busy, rows);
    int still = 0;
    for (int s = 0; s < busy; ++s) {
      Slot* slot = active[s];
      slot->next = cursors[s].words;
      slot->out = static_cast<uint8_t*>(cursors[s].out);
      slot->rows -= rows;
      if (slot->next > slot->end) return Status::kWordsExhausted;
      if (slot->rows > 0) {
        active[still++] = slot;
        continue;
      }
      if (const Status status = finish(slot); status != Status::kOk) return status;
      idle[unused++] = slot;
    }
    busy = still;
  }
}

}  // namespace ans::core
