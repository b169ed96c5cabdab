#include "core/matrix/fit.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "core/matrix/class_fit.h"
#include "core/matrix/int_array.h"
#include "core/matrix/line_costs.h"
#include "core/matrix/reference_fit.h"

namespace ans::core {
namespace {

// While classes are not known, all that there can be: around the scales of the columns. What an average adds beyond is for the classes at the ends.
void open_classes(MatrixModel* m) {
  int32_t low = kMaxLogScale, high = kMinLogScale;
  for (const MatrixPart& part : m->parts)
    for (int32_t s : part.scale) low = std::min(low, kScaleStep * s), high = std::max(high, kScaleStep * s);
  constexpr int kAround = 2 * kOctave;
  low = std::max(kMinLogScale, low - kAround);
  high = std::min(kMaxLogScale, high + kAround);
  m->class_origin = low;
  m->classes.assign(size_t(std::max(1, std::min(kMaxClasses, (high - low) >> m->class_shift))), ClassShape{});
}

struct Candidate {
  Adaptation adaptation[2];
};
// Averages over some tens of symbols where scales drift along a line; over most of a line where lines differ; both; none.
constexpr Candidate kCandidates[] = {{{{6, 7}, {}}}, {{{}, {}}}, {{{4, 5}, {}}}, {{{3, 2}, {6, 4}}}, {{{7, 7}, {}}}, {{{4, 2}, {7, 5}}}};

int32_t scale_of(double mean_square_eighths) {  // in eighths of an octave
  const double octaves = 0.5 * std::log2(std::max(mean_square_eighths, 1e-9)) - 3;
  return std::max(kMinScale, std::min(kMaxScale, int32_t(std::lround(8 * octaves))));
}

// What the chunks of a stream take beside the code of their symbols: what lanes and seeds lose (more in longer lanes, see seed_margin()), or a single coder's last word; and the
// directory. As measured on four networks: single streams come out within 20 bits for a chunk of what is said here. Chunks of few bits lose more, for their states take 1024
// bits whatever they hold: less by 2/9 of the symbols' bits, on matrices of rare ones.
uint64_t chunk_bits_of(const LineOrder& order, int64_t columns, uint64_t symbol_bits) {
  constexpr int64_t kWide = 58, kSymbolsPerBit = 3200, kNarrow = 9, kEmpty = 1020;
  constexpr int64_t kOneEntry = 16, kDirectory = 24, kEntry = 11;
  const int64_t chunks = order.chunks();
  const double bits_of_one = double(symbol_bits) / double(order.chunk_begin.back() * columns);
  int64_t bits = chunks == 1 ? kOneEntry : kDirectory + kEntry * chunks;
  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t symbols = order.chunk_lines(c) * columns;
    const int64_t of_few = kEmpty - int64_t(bits_of_one * double(symbols)) * 2 / 9;
    bits += symbols <= format::kMaxTail ? kNarrow : std::max(kWide + symbols / kSymbolsPerBit, of_few);
  }
  return uint64_t(bits);
}

// The working copy of the fit.
class Fit {
 public:
  Fit(const MatrixCoder& coder, const Parallel& parallel, const FitInput& input, const FitOptions& options)
      : coder_(coder), parallel_(parallel), in_(input), set_(input.lines), options_(options) {
    MatrixModel& m = model_;
    m.lines = set_.lines;
    m.columns = set_.columns;
    m.transposed = in_.transposed;
    m.chunk_lines = std::max<int64_t>(1, std::min({options.chunk_lines, set_.lines, format::kMaxChunkSymbols / set_.columns}));
    m.trellis = in_.trellis;
    const int halved = m.trellis != 0;
    const int32_t low = in_.lowest >> halved, high = in_.highest >> halved;
    m.raw_bits = 1;
    while (high - low >= 1 << m.raw_bits) ++m.raw_bits;
    m.raw_min = std::min(low, coded_max(in_.type, m.trellis) + 1 - (1 << m.raw_bits));
    (in_.own ? m.own : m.given) = in_.predictors;
  }

  FitResult run() {
    if (options_.by_size) deal_by_size();
    else choose_parts();
    choose_references();
    (void)make_line_order(model_, &order_);  // no cycles: a forest
    fit_means();
    fit_scales();
    choose_classes();
    const uint64_t chunk_bits = chunk_bits_of(order_, set_.columns, symbol_bits_);
    return {std::move(model_), symbol_bits_, chunk_bits};
  }

 private:
  // Which predictor each line uses. Leaves the residuals under all of those that are used.
  void choose_parts() {
    std::vector<std::shared_ptr<const Predictor>> predictors(in_.predictors.begin(), in_.predictors.end());
    if (predictors.empty()) predictors.push_back(nullptr);
    for (const auto& p : predictors) residuals_.push_back(residuals_of(coder_, parallel_, set_, p));
    part_.assign(size_t(set_.lines), 0);
    if (predictors.size() > 1) part_ = deal_lines(parallel_, residuals_, std::min<int64_t>(set_.lines, 2 * format::kLanes), 4, {}, nullptr);
    // Those that no line uses are left out.
    std::vector<int32_t> number(predictors.size(), -1);
    for (int32_t k : part_) number[size_t(k)] = 0;
    model_.parts.clear();
    std::vector<Residuals> used;
    for (size_t k = 0; k < predictors.size(); ++k) {
      if (number[k] < 0) continue;
      number[k] = int32_t(model_.parts.size());
      model_.parts.push_back({predictors[k], std::vector<int32_t>(size_t(set_.columns), 0), {}});
      used.push_back(std::move(residuals_[k]));
    }
    residuals_ = std::move(used);
    for (Residuals& r : residuals_)
      if (options_.means) take_means(parallel_, &r);
    for (int32_t& k : part_) k = number[size_t(k)];
    if (model_.parts.size() > 1) model_.part = part_;
  }

  // A part for every half octave in which there are lines.
  void deal_by_size() {
    std::vector<int32_t> size(size_t(set_.lines), 0);
    parallel_(set_.lines, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t squares = 0;
        for (int64_t j = 0; j < set_.columns; ++j) squares += int64_t(set_.value(i * set_.columns + j)) * set_.value(i * set_.columns + j);
        size[size_t(i)] = int32_t(std::lround(std::log2(double(squares) / double(set_.columns) + 0.01)));
      }
    });
    const int32_t largest = *std::max_element(size.begin(), size.end());
    std::vector<int32_t> number(size_t(kMaxParts), -1);  // by how much smaller
    auto place = [&](int32_t s) -> int32_t& { return number[size_t(std::min(kMaxParts - 1, largest - s))]; };
    for (int32_t s : size) place(s) = 0;
    model_.parts.clear();
    for (int32_t& n : number) {
      if (n < 0) continue;
      n = int32_t(model_.parts.size());
      model_.parts.push_back({nullptr, std::vector<int32_t>(size_t(set_.columns), 0), {}});
    }
    for (int32_t s : size) part_.push_back(place(s));
    if (model_.parts.size() > 1) model_.part = part_;
  }

  // Of another matrix, what the predictors of each part leave.
  std::vector<Residuals> residuals_under_parts(const LineSet& set) const {
    std::vector<Residuals> left;
    for (const MatrixPart& part : model_.parts) {
      left.push_back(residuals_of(coder_, parallel_, set, part.predictor));
      if (options_.means) take_means(parallel_, &left.back());
    }
    return left;
  }

  // The symbols with other signs in odd columns, as far as their type has them.
  std::vector<uint8_t> alternated() const {
    std::vector<uint8_t> symbols(set_.symbols, set_.symbols + model_.numel());
    for (int64_t i = 0; i < model_.numel(); ++i)
      if (i % set_.columns % 2 == 1) symbols[size_t(i)] = uint8_t(std::max(format::symbol_min(set_.type), std::min(format::symbol_max(set_.type), -set_.value(i))));
    return symbols;
  }

  void choose_references() {
    if (in_.given == nullptr && !options_.nearest) return;
    std::vector<Residuals> given;
    if (in_.given != nullptr) {
      LineSet other = set_;
      other.symbols = in_.given;
      given = residuals_under_parts(other);
    }
    ReferenceOptions how;
    how.nearest = options_.nearest;
    how.depth = options_.depth;
    const std::vector<Residuals>* const other = in_.given != nullptr ? &given : nullptr;
    References found = fit_references(coder_, parallel_, {&residuals_, nullptr, other, &part_}, how);
    // Sines and cosines are each other with alternating signs. Such matrices are small.
    constexpr int64_t kAlternatingSymbols = int64_t{1} << 18;
    if (how.nearest && set_.type == format::SymbolType::kI8 && model_.numel() <= kAlternatingSymbols) {
      const std::vector<uint8_t> flipped = alternated();
      LineSet set = set_;
      set.symbols = flipped.data();
      const std::vector<Residuals> seen = residuals_under_parts(set);
      References alternating = fit_references(coder_, parallel_, {&residuals_, &seen, other, &part_}, how);
      model_.alternating = alternating.gain_bits > found.gain_bits;
      if (model_.alternating) found = std::move(alternating);
    }
    auto any = [](const std::vector<int32_t>& v) { return std::any_of(v.begin(), v.end(), [](int32_t x) { return x != 0; }); };
    if (any(found.given_factor)) {
      model_.has_given_reference = true;
      model_.given_transposed = in_.given_transposed;
      model_.given_factor = std::move(found.given_factor);
    }
    if (any(found.factor)) {
      model_.factor = std::move(found.factor);
      model_.reference = std::move(found.reference);
    }
  }

  MatrixLines lines_of(const MatrixTables& tables) const {
    return make_matrix_lines(model_, tables, order_, set_.type, const_cast<uint8_t*>(set_.symbols), in_.given);  // only read
  }

  // Cuts the lines into bands of one part each, of which every stride-th counts; calls visit(begin, end, band, pieces) for ranges of these pieces.
  template <class Visit>
  void for_bands(const MatrixTables& tables, int64_t stride, const Visit& visit) const {
    struct Piece {
      int part;
      int64_t position, count;
    };
    std::vector<Piece> pieces;
    int64_t number = 0;
    for (int64_t c = 0; c < order_.chunks(); ++c)
      for (int64_t at = order_.chunk_begin[size_t(c)]; at < order_.chunk_begin[size_t(c) + 1]; at += format::kLanes)
        if (number++ % stride == 0) pieces.push_back({order_.chunk_part[size_t(c)], at, std::min<int64_t>(format::kLanes, order_.chunk_begin[size_t(c) + 1] - at)});
    parallel_(int64_t(pieces.size()), [&](int64_t begin, int64_t end) {
      MatrixBand band(tables, set_.type);
      visit(begin, end, &band, pieces);
    });
  }

  // What the model as it stands leaves.
  Residuals predicted_residuals() const {
    MatrixModel now = model_;
    open_classes(&now);
    Residuals r{set_.lines, set_.columns, std::vector<int16_t>(size_t(model_.numel()))};
    const MatrixTables tables(now, set_.type);
    const MatrixLines lines = lines_of(tables);
    for_bands(tables, 1, [&](int64_t begin, int64_t end, MatrixBand* band, const auto& pieces) {
      std::vector<int16_t> predictions(size_t(format::kLanes * set_.columns), 0);
      for (int64_t b = begin; b < end; ++b) {
        const auto& piece = pieces[size_t(b)];
        if (now.predicts()) coder_.find_predictions(lines, tables.rows(piece.part), piece.position, piece.count, band, predictions.data());
        for (int64_t l = 0; l < piece.count; ++l) {
          const int64_t i = lines.line_at(piece.position + l);
          for (int64_t j = 0; j < set_.columns; ++j) r.line(i)[j] = int16_t(kPhases * set_.value(i * set_.columns + j) - predictions[size_t(l * set_.columns + j)]);
        }
      }
    });
    return r;
  }

  // Means of what is left, of each part. The mean counts as `rest` eighths in a line with references: least squares over lines.
  void fit_means() {
    if (!options_.means) return;
    const Residuals left = predicted_residuals();
    std::vector<int32_t> rest(size_t(set_.lines), kFactorOne);
    for (size_t i = 0; i < rest.size(); ++i) rest[i] -= (model_.has_given_reference ? model_.given_factor[i] : 0) + (model_.factor.empty() ? 0 : model_.factor[i]);
    auto means_of = [&](int part) {
      int64_t squares = 0, lines = 0;
      for (size_t i = 0; i < rest.size(); ++i)
        if (part_[i] == part) squares += int64_t(rest[i]) * rest[i], ++lines;
      const std::vector<int64_t> sums = column_sums(parallel_, set_.lines, set_.columns, [&](int64_t i, int64_t j) {
        return part_[size_t(i)] == part ? int64_t(rest[size_t(i)]) * left.line(i)[j] : 0;
      });
      std::vector<int32_t> means;
      for (int64_t s : sums) {
        const int32_t v = squares == 0 ? 0 : int32_t(std::lround(double(s) * kFactorOne / double(squares)));
        means.push_back(std::max(kPhases * format::symbol_min(set_.type), std::min(kPhases * format::symbol_max(set_.type), v)));
      }
      // What they save, of residuals as large as they are on average in a column, against what they take.
      const std::vector<int64_t> energy = column_sums(parallel_, set_.lines, set_.columns, [&](int64_t i, int64_t j) {
        return part_[size_t(i)] == part ? int64_t(left.line(i)[j]) * left.line(i)[j] : 0;
      });
      double gain = 0;
      for (size_t j = 0; j < means.size(); ++j) {
        const double before = double(energy[j]) / double(lines) + 1, m = double(means[j]) / kFactorOne;
        const double after = before - (2 * m * double(sums[j]) - m * m * double(squares)) / double(lines);
        gain += 0.5 * double(lines) * std::log2(before / std::max(after, 1.0));
      }
      if (gain <= 8.0 * double(write_array(means.data(), int64_t(means.size())).size())) means.clear();
      return means;
    };
    for (size_t k = 0; k < model_.parts.size(); ++k) model_.parts[k].mean = means_of(int(k));
  }

  void fit_scales() {
    const Residuals left = predicted_residuals();
    auto squares_of = [&](int part) {
      return column_sums(parallel_, set_.lines, set_.columns, [&](int64_t i, int64_t j) { return part_[size_t(i)] == part ? int64_t(left.line(i)[j]) * left.line(i)[j] : 0; });
    };
    std::vector<int64_t> lines(model_.parts.size(), 0);
    for (int32_t k : part_) ++lines[size_t(k)];
    std::vector<std::vector<int64_t>> squares;
    for (size_t k = 0; k < lines.size(); ++k) squares.push_back(squares_of(int(k)));
    // Parts of few lines have the scales of all lines, but for a factor.
    std::vector<double> all(size_t(set_.columns), 0);
    double total = 0;
    for (size_t k = 0; k < lines.size(); ++k)
      for (size_t j = 0; j < all.size(); ++j) all[j] += double(squares[k][j]), total += double(squares[k][j]);
    for (size_t k = 0; k < lines.size(); ++k) {
      double own = 0;
      for (int64_t s : squares[k]) own += double(s);
      const double factor = own / double(std::max<int64_t>(1, lines[k])) / std::max(total / double(set_.lines), 1e-9);
      double gain = 0;  // bits, of scales of its own
      for (size_t j = 0; j < all.size(); ++j) {
        const double v = double(squares[k][j]) / double(lines[k]) + 1, w = all[j] / double(set_.lines) * factor + 1;
        gain += 0.5 * double(lines[k]) * (std::log2(w / v) + (v / w - 1) / std::log(2.0));
      }
      constexpr double kBitsOfAScale = 2.5;
      const bool own_scales = lines.size() == 1 || gain > kBitsOfAScale * double(set_.columns);
      for (size_t j = 0; j < all.size(); ++j)
        model_.parts[k].scale[j] = scale_of(own_scales ? double(squares[k][j]) / double(lines[k]) : all[j] / double(set_.lines) * factor);
    }
  }

  // Counts of places, of every `stride`-th band.
  PlaceCounts count_places(const MatrixModel& m, int64_t stride) const {
    const MatrixTables tables(m, set_.type);
    const MatrixLines lines = lines_of(tables);
    PlaceCounts counts(size_t(m.contexts()) * kPlacesPerContext, 0);
    std::mutex merging;
    for_bands(tables, stride, [&](int64_t begin, int64_t end, MatrixBand* band, const auto& pieces) {
      std::vector<Place> places(size_t(set_.columns * format::kLanes));
      std::vector<uint32_t> own(counts.size(), 0);
      for (int64_t b = begin; b < end; ++b) {
        const auto& piece = pieces[size_t(b)];
        (void)coder_.find_places(lines, tables.rows(piece.part), piece.position, piece.count, band, places.data());
        for (int64_t j = 0; j < set_.columns; ++j)
          for (int64_t lane = 0; lane < piece.count; ++lane) ++own[places[size_t(j * format::kLanes + lane)]];
      }
      const std::lock_guard<std::mutex> lock(merging);
      for (size_t i = 0; i < own.size(); ++i) counts[i] += own[i];
    });
    return counts;
  }

  // Where the averages of lines start if each is told, in steps of half an octave: at what they will be on average.
  std::vector<int32_t> line_starts() const {
    constexpr int32_t kStep = 4;
    const Residuals left = predicted_residuals();
    MatrixModel now = model_;
    open_classes(&now);
    const MatrixTables tables(now, set_.type);
    std::vector<int32_t> starts(size_t(set_.lines), 0);
    parallel_(set_.lines, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const uint32_t* const inverse = tables.rows(part_[size_t(i)]).inverse;
        int64_t sum = 0;
        for (int64_t j = 0; j < set_.columns; ++j) sum += std::min<int64_t>(int64_t(std::abs(left.line(i)[j])) * inverse[j] >> 3, kMaxAverage);
        const double average = double(std::max<int64_t>(sum / set_.columns, kMinAverage)) / double(1 << kAverageBits);
        starts[size_t(i)] = std::max(kMinStart, std::min(kMaxStart, kStep * int32_t(std::lround(8 / kStep * std::log2(average)))));
      }
    });
    return starts;
  }

  uint64_t bits_of(MatrixModel* m, int64_t stride) const {
    open_classes(m);
    return fit_classes(count_places(*m, stride), m);
  }

  void choose_classes() {
    const int64_t stride = std::max<int64_t>(1, model_.numel() / std::max<int64_t>(1, options_.sample_symbols));
    MatrixModel best;
    uint64_t best_bits = 0;
    auto consider = [&](MatrixModel m) {
      const uint64_t bits = bits_of(&m, stride) * uint64_t(stride) + 8 * uint64_t(m.line_start.empty() ? 0 : write_array(m.line_start.data(), m.lines).size());
      if (!best.classes.empty() && bits >= best_bits) return;
      best = std::move(m);
      best_bits = bits;
    };
    int tried = 0;
    if (options_.adaptations == 0) consider(model_);
    for (const Candidate& c : kCandidates) {
      if (tried++ == options_.adaptations) break;
      MatrixModel m = model_;
      std::copy(c.adaptation, c.adaptation + 2, m.adaptation);
      consider(std::move(m));
    }
    if (best.adaptation[0].rate != 0 || best.adaptation[1].rate != 0) {
      MatrixModel started = best;
      started.line_start = line_starts();
      consider(std::move(started));
    }
    MatrixModel finer = best;
    finer.class_shift = 1;
    consider(std::move(finer));
    symbol_bits_ = bits_of(&best, 1);
    model_ = std::move(best);
  }

  const MatrixCoder& coder_;
  const Parallel& parallel_;
  const FitInput& in_;
  const LineSet& set_;
  const FitOptions& options_;
  MatrixModel model_;
  LineOrder order_;
  std::vector<Residuals> residuals_;  // [parts]
  std::vector<int32_t> part_;         // [lines]
  uint64_t symbol_bits_ = 0;
};

}  // namespace

FitResult fit_matrix(const MatrixCoder& coder, const Parallel& parallel, const FitInput& input, const FitOptions& options) {
  FitResult plain = Fit(coder, parallel, input, options).run();
  // What stands for averages that would tell lines apart.
  if (options.adaptations > 0 || !input.predictors.empty() || options.nearest || input.given != nullptr || options.means) return plain;
  FitOptions other = options;
  other.by_size = true;
  FitResult dealt = Fit(coder, parallel, input, other).run();
  auto bits = [](const FitResult& fit) { return fit.symbol_bits + fit.chunk_bits + 8 * write_matrix_model(fit.model).size(); };
  return bits(dealt) < bits(plain) ? std::move(dealt) : std::move(plain);
}

}  // namespace ans::core
