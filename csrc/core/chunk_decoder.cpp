#include "core/chunk_decoder.h"

#include <algorithm>
#include <cstring>

namespace ans::core {
namespace {

// Whether the backends can take rows of both in one call.
bool together(const ChunkJob& a, const ChunkJob& b) {
  return a.table == b.table || (a.table->buckets == b.table->buckets && a.table->symbol_bytes == b.table->symbol_bytes);
}

// A chunk begins at its first byte, its raw values at its last: nothing before them leads a processor there.
void prefetch(const ChunkJob& job) {
  __builtin_prefetch(job.bytes);
  __builtin_prefetch(job.bytes + 64);
  __builtin_prefetch(job.bytes + 128);
  __builtin_prefetch(job.bytes + 2 * int64_t(job.entry.words) - 4);
}

}  // namespace

// Moves the words that are left to a copy behind which there are zeros, so that some rows may run past the end before that is noticed.
void ChunkDecoder::Slot::pad() {
  const int64_t left = end - next;
  const size_t size = size_t(left + kSliceRows * kRowBytes + kRowBytes + kLoadSlack);
  if (copy.size() < size) copy.resize(size);
  std::memcpy(copy.data(), next, size_t(left));
  std::memset(copy.data() + left, 0, size - size_t(left));
  next = copy.data();
  end = next + left;
  padded = true;
}

Status ChunkDecoder::decode(const ChunkJob* jobs, int64_t count) {
  pending_ = busy_ = unused_ = 0;
  for (Slot& slot : slots_) idle_[unused_++] = &slot;
  for (int64_t next = 0;;) {
    // Whenever a chunk ends, the next one takes its place: the lanes of the others need not wait. Unless it is of another kind: then they finish first. And those
    // that go straight to weights finish a row of their matrix, so that such rows begin and end together.
    bool waiting = false;
    while (next < count) {
      const ChunkJob& job = jobs[next];
      if (busy_ > 0 && (!together(job, *active_[0]->job) || busy_ == std::min(kMaxStreams, coder_.decode_streams(job.table->buckets)))) break;
      waiting = busy_ > 0 && !active_[0]->scales.empty() && active_[0]->element % active_[0]->job->weights->columns != 0;
      if (waiting) break;
      if (pending_ > 0 && !together(job, *tails_[0].job))
        if (const Status s = decode_pending_tails(); s != Status::kOk) return s;
      ++next;
      if (next + kMaxStreams < count) prefetch(jobs[next + kMaxStreams]);
      if (job.entry.tail == job.symbols) {
        if (const Status s = start_narrow(job); s != Status::kOk) return s;
        continue;
      }
      Slot* slot = idle_[--unused_];
      start(job, slot);
      for (uint32_t x : slot->state)
        if (x < format::kStateLowerBound) return Status::kStateOutOfRange;
      if (slot->rows > 0) {
        active_[busy_++] = slot;
      } else {
        if (const Status s = finish(slot); s != Status::kOk) return s;
        idle_[unused_++] = slot;
      }
    }
    if (busy_ == 0) {
      if (const Status s = decode_pending_tails(); s != Status::kOk || next == count) return s;
    } else if (const Status s = decode_slice(waiting); s != Status::kOk) {
      return s;
    }
  }
}

void ChunkDecoder::start(const ChunkJob& job, Slot* slot) {
  std::memcpy(slot->state, job.bytes, sizeof slot->state);
  slot->job = &job;
  slot->next = job.bytes + sizeof slot->state;
  slot->end = job.bytes + 2 * int64_t(job.entry.words);
  slot->raws = RawReader(slot->next, slot->end, job.table->raw_bits);
  slot->padded = false;
  slot->rows = (job.symbols - job.entry.tail) / format::kLanes;
  slot->out = job.out;
  slot->element = job.first_element;
  slot->scales.clear();
  if (job.weights != nullptr) prepare_scales(slot);
}

void ChunkDecoder::prepare_scales(Slot* slot) {
  const ChunkJob& job = *slot->job;
  const WeightTarget& weights = *job.weights;
  const bool known = coder_.decode_weight_rows != nullptr && job.table->buckets == 64 && job.table->symbol_bytes == 1 && weights.type != FloatType::kFloat32;
  if (!known || weights.columns % format::kLanes != 0 || job.first_element % format::kLanes != 0) return;
  const int64_t first_row = job.first_element / weights.columns, end_row = (job.first_element + job.symbols - 1) / weights.columns + 1;
  slot->scales.resize(size_t(end_row - first_row));
  uint32_t largest = 0;
  for (int64_t row = first_row; row < end_row; ++row) {
    const float scale = weights.row_scale(row);
    slot->scales[size_t(row - first_row)] = scale;
    largest = std::max(largest, float_bits(scale) & 0x7fffffffu);
  }
  if (largest >= 0x7f800000u || weights.column_factor != nullptr) slot->scales.clear();  // products with such a scale are not always numbers; columns have no look-up
}

Status ChunkDecoder::start_narrow(const ChunkJob& job) {
  PendingTail& tail = tails_[pending_];
  tail.job = &job;
  tail.table = job.table;
  tail.row_symbols = 0;
  tail.out = job.weights == nullptr ? job.out : tail.symbols;
  tail.count = job.entry.tail;
  if (const Status s = tail.start(WordPieces{job.bytes, job.entry.words}); s != Status::kOk) return s;
  return ++pending_ == kMaxStreams ? decode_pending_tails() : Status::kOk;
}

// The partial row and the checks of a chunk's end; its tail is put on the list.
Status ChunkDecoder::finish(Slot* slot) {
  const ChunkJob& job = *slot->job;
  PendingTail& tail = tails_[pending_];
  const bool to_weights = job.weights != nullptr;
  uint8_t* out = to_weights ? tail.symbols : slot->out;
  tail.row_symbols = int((job.symbols - job.entry.tail) % format::kLanes);
  if (tail.row_symbols > 0) {
    if (!slot->padded && job.readable_end - slot->next < kRowBytes + kLoadSlack) slot->pad();
    alignas(64) uint8_t row[2 * format::kLanes];
    DecodeStream stream{job.table, slot->state, slot->next, row, &slot->raws};
    coder_.decode_partial_row(&stream, tail.row_symbols);
    slot->next = stream.words;
    const size_t bytes = size_t(tail.row_symbols * job.table->symbol_bytes);
    std::memcpy(out, row, bytes);
    out += bytes;
  }
  const int64_t left = slot->end - slot->next - slot->raws.bytes();
  if (left != 0) return left < 0 ? Status::kWordsExhausted : Status::kWordsLeft;
  if (!slot->raws.zero_padding()) return Status::kNonzeroPadding;
  tail.job = &job;
  tail.table = job.table;
  tail.out = out;
  tail.count = job.entry.tail;
  if (const Status s = tail.start(StatePieces{slot->state}); s != Status::kOk) return s;
  return ++pending_ == kMaxStreams ? decode_pending_tails() : Status::kOk;
}

Status ChunkDecoder::decode_pending_tails() {
  Tail* tails[kMaxStreams];
  for (int t = 0; t < pending_; ++t) tails[t] = &tails_[t];
  const Status status = decode_tails(tails, pending_);
  for (int t = 0; t < pending_ && status == Status::kOk; ++t) {
    const ChunkJob& job = *tails_[t].job;
    if (job.weights == nullptr) continue;
    const int64_t end = job.first_element + job.symbols;
    job.weights->write(tails_[t].symbols, end - tails_[t].row_symbols - tails_[t].count, end);
  }
  pending_ = 0;
  return status;
}

// Full rows of all active slots, as many as can be decoded without another look at the bounds, or until a row of the first one's matrix ends. Slots whose rows are
// done are finished and become idle.
Status ChunkDecoder::decode_slice(bool to_row_end) {
  int64_t rows = active_[0]->rows;
  for (int s = 0; s < busy_; ++s) {
    Slot* slot = active_[s];
    // A damaged chunk may take words of the next one: that is found out below.
    int64_t safe = slot->safe_rows();
    if (safe < kSliceRows && safe < slot->rows && !slot->padded) {
      slot->pad();
      safe = kSliceRows;
    }
    rows = std::min({rows, slot->rows, safe});
  }
  bool straight = true;
  for (int s = 0; s < busy_ && straight; ++s) straight = !active_[s]->scales.empty() && active_[s]->job->weights->type == active_[0]->job->weights->type;
  DecodeStream cursors[kMaxStreams];
  WeightRow places[kMaxStreams];
  for (int s = 0; s < busy_; ++s) {
    Slot* slot = active_[s];
    const WeightTarget* weights = slot->job->weights;
    cursors[s] = {slot->job->table, slot->state, slot->next, slot->out, &slot->raws};
    if (straight && s == 0 && to_row_end) rows = std::min(rows, (weights->columns - slot->element % weights->columns) / format::kLanes);
    if (straight) {
      const int64_t columns = weights->columns, row = slot->element / columns - slot->job->first_element / columns;
      cursors[s].out = weights->at(slot->element);
      places[s] = {slot->scales.data() + row, (columns - slot->element % columns) / format::kLanes, columns / format::kLanes};
    } else if (weights != nullptr) {
      cursors[s].out = slot->symbols;
      rows = std::min<int64_t>(rows, kWeightRows);
    }
  }
  if (straight) coder_.decode_weight_rows(cursors, places, busy_, rows, active_[0]->job->weights->type);
  else coder_.decode_rows(cursors, busy_, rows);
  int still = 0;
  for (int s = 0; s < busy_; ++s) {
    Slot* slot = active_[s];
    slot->next = cursors[s].words;
    slot->rows -= rows;
    if (const WeightTarget* weights = slot->job->weights; weights == nullptr) {
      slot->out = static_cast<uint8_t*>(cursors[s].out);
    } else {
      const int64_t end = slot->element + rows * format::kLanes;
      if (!straight) weights->write(slot->symbols, slot->element, end);
      slot->element = end;
    }
    if (slot->next > slot->end) return Status::kWordsExhausted;
    if (slot->rows > 0) {
      active_[still++] = slot;
      continue;
    }
    if (const Status status = finish(slot); status != Status::kOk) return status;
    idle_[unused_++] = slot;
  }
  busy_ = still;
  return Status::kOk;
}

}  // namespace ans::core
