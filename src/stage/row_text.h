// RowText: rows as lines of NDJSON or CSV, as sinks write them and as an `exec` filter hands them to its
// program.
//
// Place: floor 3. Threads: one. Failure: none; what JSON cannot hold (NaN) is null.
// A lone column `data` gives its value as it is: `SELECT *` over a stream without a contract gives the events
// as they came. Raw line breaks inside a JSON value become blanks, so that a row is one line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sql/chunk_builder.h"
#include "sql/row_batch.h"

namespace millstream {

class RowText {
 public:
  enum class Format : uint8_t { kNdjson, kCsv };

  explicit RowText(Format format) : format_(format) {}

  /// The columns to write, by their indexes in the batches that follow.
  void SetColumns(const std::vector<ColumnInfo>& columns, std::vector<uint32_t> written);
  /// CSV: the line of column names; NDJSON: nothing.
  std::string Header() const;
  /// Appends one row, without the line's end. `writer` is of the chunk's batch (MakeJsonWriter).
  void AppendRow(std::string& out, const JsonWriter& writer, const Chunk& chunk, uint32_t row) const;
  /// Appends all rows of the batch whose event lies at or above `from_offset`, a line each. Answers how many;
  /// `first_offset` (may be null) gets the offset of the first.
  uint64_t AppendLines(std::string& out, const RowBatch& rows, uint64_t from_offset,
                       uint64_t* first_offset) const;

 private:
  void AppendCsvField(std::string& out, const JsonWriter& writer, const Chunk& chunk, uint32_t column,
                      uint32_t row) const;

  Format format_;
  std::vector<uint32_t> written_;
  std::vector<std::string> names_;
  std::vector<std::string> prefixes_;  // NDJSON: `{"id":`, `,"name":`
  bool lone_data_ = false;
};

/// Indexes 0 to `visible` - 1: the columns that a sink writes.
std::vector<uint32_t> VisibleColumns(uint32_t visible);
/// `_offset` of a row, given that column's index.
inline uint64_t OffsetOf(const Chunk& chunk, uint32_t offset_column, uint32_t row) {
  return static_cast<uint64_t>(chunk.Int64(offset_column, row));
}

}  // namespace millstream
