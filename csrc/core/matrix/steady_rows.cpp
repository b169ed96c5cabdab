#include "core/matrix/steady_rows.h"

#include <algorithm>

#include "core/alias_table.h"

namespace ans::core {

SteadyTables make_steady_tables(const MatrixModel& m, const MatrixTables& tables) {
  SteadyTables t;
  if (m.phases() > 2 || m.adaptation[0].rate != 0 || m.adaptation[1].rate != 0 || m.buckets > kSteadyBuckets) return t;
  t.buckets = m.buckets;
  const size_t buckets = size_t(m.buckets), parities = size_t(m.phases());
  const int position_shift = m.buckets == 64 ? 10 : 9;  // 16 - bits of a position
  t.of_class.resize(m.classes.size());
  for (size_t k = 0; k < m.classes.size(); ++k) {
    SteadyTable& to = t.of_class[k];
    to = {};
    for (size_t p = 0; p < parities; ++p) {
      const FrequencyTable table = context_table(m, int(k * parities + p));
      const AliasTable alias = make_alias_table(table, m.buckets);
      for (size_t b = 0; b < buckets; ++b) {
        const size_t at = p * buckets + b;
        const bool own = alias.divider[b] == alias.width;
        to.divider_alias[at] = uint16_t((own ? 0 : alias.divider[b] << position_shift) | int(p * buckets + (own ? b : alias.alias[b])));
        to.alias_offset[at] = own ? 0 : alias.alias_offset[b];
        to.freq16[at] = uint16_t(alias.freq[b] << 4);
        const uint32_t from = p != 0 ? tables.rows(0).odd : 0;
        if (int(b) >= table.core_size) {
          to.step[at] = uint8_t(kSteadyEscape | from);
          continue;
        }
        const int32_t residual = table.first_value + int32_t(b), k_coded = residual - int32_t(p);
        to.value[at] = uint8_t(m.trellis != 0 ? 2 * k_coded + int32_t(p) : residual);
        to.step[at] = uint8_t(from ^ ((k_coded & 1) != 0 ? tables.rows(0).parity : 0));
      }
    }
  }
  for (size_t part = 0; part < m.parts.size(); ++part) {
    const MatrixRows& rows = tables.rows(int(part));
    std::vector<uint8_t> class_of;
    for (int64_t j = 0; j < m.columns; ++j) class_of.push_back(uint8_t(std::max(0, std::min(rows.classes - 1, rows.scale[j] >> rows.class_shift))));
    t.class_of.push_back(std::move(class_of));
  }
  return t;
}

SteadyRows steady_rows_of(const MatrixModel& m, const MatrixTables& tables, const SteadyTables& steady, int part, format::SymbolType type) {
  const MatrixRows& rows = tables.rows(part);
  return {steady.of_class.data(), steady.class_of[size_t(part)].data(), steady.buckets, m.columns, type, m.raw_min, rows.parity, rows.odd != 0};
}

}  // namespace ans::core
