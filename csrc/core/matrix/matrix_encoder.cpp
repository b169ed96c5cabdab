#include "core/matrix/matrix_encoder.h"

#include <algorithm>
#include <cstring>

#include "core/log2_table.h"
#include "core/raw_values.h"

namespace ans::core {

// Contexts and indices, raw values, and what each lane's symbols cost.
Status MatrixEncoder::find_symbols(int part, int64_t position, const ChunkShape& shape) {
  symbols_.resize(size_t(shape.rows() * format::kLanes));
  raw_.clear();
  std::fill_n(cost_, format::kLanes, uint16_t(0));
  if (!coder_.find_places(lines_, rows_.rows(part), position, shape.lines, &band_, symbols_.data())) return Status::kNoTrellisPath;
  const bool halved = rows_.rows(part).odd != 0;
  bool fits = true;
  uint32_t* row = symbols_.data();
  for (int64_t b = 0; b < shape.bands(); ++b) {
    const int width = shape.band_width(b);
    for (int64_t j = 0; j < shape.columns; ++j, row += format::kLanes) {
      for (int lane = 0; lane < width; ++lane) {
        const uint32_t context = row[lane] >> 8, index = tables_.index_of[row[lane]];
        const EncodeTable& table = tables_.table[context];
        row[lane] = context << 8 | index;
        cost_[lane] = uint16_t(cost_[lane] + table.cost[index]);
        if (int(index) != table.escape_index) continue;
        const int64_t line = lines_.line_at(position + b * format::kLanes + lane);
        const int32_t symbol = MatrixLines::value(lines_.type, lines_.line(line), j);
        const uint32_t raw = uint32_t((halved ? symbol >> 1 : symbol) - raw_min_);
        fits &= raw >> raw_bits_ == 0;
        raw_.push_back(uint16_t(raw));
      }
      std::fill(row + width, row + format::kLanes, row[0]);  // idle lanes look up what is there
    }
  }
  return fits ? Status::kOk : Status::kSymbolNotInTable;
}

Status MatrixEncoder::encode(int part, int64_t position, int64_t count, EncodedChunk* chunk) {
  const ChunkShape shape{count, lines_.columns};
  if (const Status s = find_symbols(part, position, shape); s != Status::kOk) return s;
  const int64_t n = shape.symbols();
  const PlacedSymbols symbols{tables_.table.get(), symbols_.data(), raw_.data() + raw_.size(), shape};
  if (n <= format::kMaxTail) {
    uint16_t* const end = narrow_words_ + kNarrowWords;
    const int words = encode_narrow_chunk(symbols, end);
    chunk->buffer = ByteBuffer();
    chunk->buffer.reserve(2 * words);
    std::memcpy(chunk->buffer.data() + chunk->buffer.capacity() - 2 * words, end - words, size_t(2 * words));  // little-endian, as all hosts here
    chunk->entry = {words, int32_t(n)};
    return Status::kOk;
  }
  const Seeds seeds = choose_matrix_seeds(symbols, cost_, {mantissa_logs().data()}, tail_words_);

  // A symbol takes a word at most, and so does an escape's raw value.
  constexpr int64_t kSlack = 64;
  const int64_t main = n - seeds.tail, escapes = int64_t(raw_.size()) - seeds.tail_escapes;
  ByteBuffer buffer;
  buffer.reserve(2 * format::kStateWords + 2 * main + 2 * raw_words(escapes, raw_bits_) + kSlack);
  uint8_t* const end = buffer.data() + buffer.capacity();
  uint8_t* next = write_raw_values(raw_.data(), escapes, raw_bits_, end);
  alignas(64) uint32_t state[format::kLanes];
  std::copy(seeds.states, seeds.states + format::kLanes, state);
  for_rows_backwards(shape, main, [&](int64_t first, int64_t last, int width) {
    coder_.push_rows(tables_.table.get(), symbols_.data() + first * format::kLanes, last - first, width, state, &next);
  });
  next -= sizeof state;
  std::memcpy(next, state, sizeof state);
  chunk->entry = {int32_t((end - next) / 2), seeds.tail};
  chunk->buffer = std::move(buffer);
  return Status::kOk;
}

}  // namespace ans::core
