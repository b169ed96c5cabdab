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
    if (const Status s = decode_slice(active, &busy, idle, &unused); s != Status::kOk) return s;
  }
}

Status ChunkDecoder::decode_weights(const uint8_t* payload, const uint8_t* payload_end, const ChunkEntry* entries, int64_t numel, int64_t chunk_symbols, int64_t begin,
                                    int64_t end, const WeightTarget& target) {
  const int streams = std::min(kMaxStreams, coder_.decode_streams(table_.buckets));
  symbols_.reserve(std::min(numel, std::min<int64_t>(streams, end - begin) * chunk_symbols) * table_.symbol_bytes);
  const bool rows_in_chunks = target.columns % format::kLanes == 0 && chunk_symbols % target.columns == 0;
  const bool fused = coder_.decode_weight_rows != nullptr && table_.buckets == 64 && table_.symbol_bytes == 1 && target.type != FloatType::kFloat32 && rows_in_chunks;
  for (int64_t chunk = begin; chunk < end; chunk += streams) {
    const int64_t last = std::min(end, chunk + streams);
    const int64_t first_element = chunk * chunk_symbols, end_element = std::min(numel, last * chunk_symbols);
    if (!fused) {  // symbols first; they are still in the cache when they become weights
      if (const Status s = decode(payload, payload_end, entries, numel, chunk_symbols, chunk, last, symbols_.data()); s != Status::kOk) return s;
      target.write(symbols_.data(), first_element, end_element);
    } else {
      payload_end_ = payload_end;
      pending_ = 0;
      Slot* active[kMaxStreams];
      int busy = 0;
      const uint8_t* bytes = payload;
      for (int64_t c = chunk; c < last; ++c) {
        Slot* slot = &slots_[c - chunk];
        const int64_t symbols = symbols_in_chunk(numel, chunk_symbols, c);
        uint8_t* out = symbols_.data() + (c - chunk) * chunk_symbols;
        if (const Status s = start(bytes, entries[c], symbols, out, slot); s != Status::kOk) return s;
        bytes += 2 * int64_t(entries[c].words);
        if (slot->rows < 0) target.write(out, c * chunk_symbols, c * chunk_symbols + symbols);
        else active[busy++] = slot;
      }
      if (const Status s = decode_group_of_weights(active, busy, chunk, chunk_symbols, target); s != Status::kOk) return s;
    }
    for (int64_t c = chunk; c < last; ++c) payload += 2 * int64_t(entries[c].words);
  }
  return Status::kOk;
}

// As many rows of the matrix as all chunks have go straight to weights; what is left of each chunk (less than a row, or the difference to the shortest, and
// the tail) becomes symbols first.
Status ChunkDecoder::decode_group_of_weights(Slot** slots, int count, int64_t first_chunk, int64_t chunk_symbols, const WeightTarget& target) {
  if (count == 0) return Status::kOk;
  const int64_t lane_rows = target.columns / format::kLanes;
  int64_t matrix_rows = slots[0]->rows / lane_rows;
  for (int s = 0; s < count; ++s) matrix_rows = std::min({matrix_rows, slots[s]->rows / lane_rows, safe_rows(*slots[s]) / lane_rows});
  matrix_rows = std::max<int64_t>(0, matrix_rows);

  DecodeStream cursors[kMaxStreams];
  const float* scales[kMaxStreams];
  int64_t chunk_of[kMaxStreams];
  scales_.resize(size_t(count * matrix_rows));
  bool finite = true;
  for (int s = 0; s < count; ++s) {
    chunk_of[s] = first_chunk + (slots[s] - slots_);
    const int64_t element = chunk_of[s] * chunk_symbols;
    float* scale = scales_.data() + s * matrix_rows;
    for (int64_t m = 0; m < matrix_rows; ++m) {
      scale[m] = target.row_scale(element / target.columns + m);
      finite &= float_bits(scale[m]) < 0x7f800000u;
    }
    scales[s] = scale;
    cursors[s] = {slots[s]->state, slots[s]->next, target.at(element)};
  }
  if (!finite) matrix_rows = 0;  // a damaged scale, or a negative one: the fused kernels do not know NaN
  if (matrix_rows > 0) coder_.decode_weight_rows(table_, cursors, scales, count, matrix_rows, target.columns, target.type);

  const int64_t done = matrix_rows * target.columns;  // symbols of each chunk that are weights by now
  Slot* active[kMaxStreams];
  Slot* idle[kMaxStreams];
  int busy = 0, unused = 0;
  int64_t symbols[kMaxStreams];
  for (int s = 0; s < count; ++s) {
    Slot* slot = slots[s];
    symbols[s] = slot->symbols;
    slot->next = cursors[s].words;
    slot->rows -= matrix_rows * lane_rows;
    slot->out += done;
    if (slot->next > slot->end) return Status::kWordsExhausted;
    if (slot->rows > 0) {
      active[busy++] = slot;
    } else if (const Status status = finish(slot); status != Status::kOk) {
      return status;
    }
  }
  while (busy > 0)
    if (const Status s = decode_slice(active, &busy, idle, &unused); s != Status::kOk) return s;
  if (const Status s = decode_pending_tails(); s != Status::kOk) return s;
  for (int s = 0; s < count; ++s) {
    const int64_t element = chunk_of[s] * chunk_symbols;
    target.write(symbols_.data() + (slots[s] - slots_) * chunk_symbols + done, element + done, element + symbols[s]);
  }
  return Status::kOk;
}

// Full rows of all active slots, as many as can be decoded without another look at the bounds. Slots whose rows are done are finished and move to `idle`.
Status ChunkDecoder::decode_slice(Slot** active, int* busy, Slot** idle, int* unused) {
  int64_t rows = active[0]->rows;
  for (int s = 0; s < *busy; ++s) {
    Slot* slot = active[s];
    // Rows that can not run past what may be read, whatever the words say. A damaged chunk may take words of the next one: that is found out below.
    int64_t safe = slot->padded ? kSliceRows : safe_rows(*slot);
    if (safe < kSliceRows && safe < slot->rows && !slot->padded) {
      pad(slot);
      safe = kSliceRows;
    }
    rows = std::min({rows, slot->rows, safe});
  }
  DecodeStream cursors[kMaxStreams];
  for (int s = 0; s < *busy; ++s) cursors[s] = {active[s]->state, active[s]->next, active[s]->out};
  coder_.decode_rows(table_, cursors, *busy, rows);
  int still = 0;
  for (int s = 0; s < *busy; ++s) {
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
    idle[(*unused)++] = slot;
  }
  *busy = still;
  return Status::kOk;
}

}  // namespace ans::core
