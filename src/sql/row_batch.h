// RowBatch: what filters give a sink: DuckDB chunks, their columns, and the offset range that they came from.
//
// Place: floor 2. Made by a FilterChain (or an `exec` filter), taken by sinks. Moved; belongs to one thread.
// The visible columns come first, then the reserved ones that pass through every filter unasked; `_ordinal`
// numbers the rows of one event.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sql/database.h"

namespace millstream {

/// Reserved columns at the end of every RowBatch, in this order: data (JSON), ce_id, ce_source, ce_type,
/// ce_subject (VARCHAR), ce_time (TIMESTAMPTZ), _op, _key (VARCHAR), _ingested_at (TIMESTAMPTZ), _partition
/// (INTEGER), _offset (BIGINT, logically unsigned), _ordinal (INTEGER). A chain may leave out those before
/// `_partition` that its sink does not ask for.
inline constexpr const char* kReservedColumns[] = {"data",         "ce_id",      "ce_source", "ce_type",
                                                   "ce_subject",   "ce_time",    "_op",       "_key",
                                                   "_ingested_at", "_partition", "_offset",   "_ordinal"};
inline bool IsReserved(std::string_view name) {
  return std::find(std::begin(kReservedColumns), std::end(kReservedColumns), name) !=
         std::end(kReservedColumns);
}

struct RowBatch {
  std::string stream;
  uint32_t partition = 0;  // under which the sink stores next_offset; of a replay of dead letters: a number
                           // beside the partitions. Where a row comes from says its `_partition`
  uint32_t epoch = 0;
  uint64_t first_offset = 0;        // of the events that were read
  uint64_t next_offset = 0;         // the offset to store
  uint64_t events = 0;              // how many were read
  std::vector<ColumnInfo> columns;  // visible ones, then reserved ones
  uint32_t visible = 0;             // how many are visible
  std::vector<Chunk> chunks;

  uint64_t rows() const {
    uint64_t sum = 0;
    for (const Chunk& chunk : chunks) sum += chunk.rows();
    return sum;
  }
  /// Index of a column by name, or -1.
  int Find(std::string_view name) const {
    for (size_t i = 0; i < columns.size(); ++i)
      if (columns[i].name == name) return static_cast<int>(i);
    return -1;
  }
};

/// Copies of the rows whose event's offset `keep` wants, in their order.
std::vector<Chunk> SelectRows(const RowBatch& rows, const std::function<bool(uint64_t offset)>& keep);

}  // namespace millstream
