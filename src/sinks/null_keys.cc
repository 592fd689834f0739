#include "sinks/null_keys.h"

#include <algorithm>

#include "sql/sql_tree.h"

namespace millstream {

std::vector<RefusedEvent> RefuseNullKeys(const RowBatch& rows, const std::string& table,
                                         const std::vector<std::string>& key) {
  std::vector<RefusedEvent> refused;
  int offset = rows.Find("_offset");
  for (const std::string& name : key) {
    int found = -1;
    for (uint32_t i = 0; i < rows.visible; ++i)
      if (Lower(rows.columns[i].name) == Lower(name)) found = static_cast<int>(i);
    if (found < 0 || offset < 0) continue;
    auto column = static_cast<uint32_t>(found);
    for (const Chunk& chunk : rows.chunks) {
      if (chunk.AllValid(column)) continue;
      for (uint32_t row = 0; row < chunk.rows(); ++row)
        if (chunk.IsNull(column, row))
          refused.push_back({static_cast<uint64_t>(chunk.Int64(static_cast<uint32_t>(offset), row)),
                             fmt::format("table {}: the key column {} is NULL", table, name)});
    }
  }
  std::stable_sort(refused.begin(), refused.end(), [](auto& a, auto& b) { return a.offset < b.offset; });
  return refused;
}

}  // namespace millstream
