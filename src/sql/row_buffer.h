// RowBuffer: rows that a table has taken and not yet written, as a table that SQL can read.
//
// Place: floor 2. Kept by tables/, one a table; read through `_recent(ID, FIRST, END)`, which stands in
// their views: rows are numbered as they come, so that a view that says FIRST and the rows that the file has
// change in one transaction of DuckDB's. Chunks are shared, not copied; small ones are put together. A
// statement sees the rows that are there when its scan begins; under a ScanHold, those that were there when
// that was made, for every scan of the statement. Threads: thread-safe; one appends at a time. Failure: a
// scan that asks for rows which were dropped fails.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sql/database.h"

namespace millstream {

class RowBuffer {
 public:
  static constexpr uint64_t kOpenEnd = std::numeric_limits<int64_t>::max();
  static constexpr uint64_t kMemoryFraction = 4;  // of a database's memory: all of them, at most
  static constexpr const char* kRow = "_row";
  /// How a scan of rows that were dropped fails.
  static constexpr const char* kGone = "the rows have gone into the file meanwhile";

  /// `columns` as SQL sees them. One that the chunks lack reads as NULL; `_pipeline` reads as the number that
  /// Append names, and `_row` (BIGINT) as the row's own.
  static Result<std::unique_ptr<RowBuffer>> Make(Database& database, std::vector<ColumnInfo> columns);
  ~RowBuffer();
  /// For statements that are bound from here on.
  Status SetColumns(Database& database, std::vector<ColumnInfo> columns);

  /// Takes rows whose columns of the same name have the same types; nobody may change the chunks any more.
  void Append(const std::vector<ColumnInfo>& columns, std::span<const Chunk> chunks, uint32_t pipeline);
  /// Forgets rows below; a scan under way keeps its own.
  void DropBefore(uint64_t row);
  uint64_t end() const;    // number of the next row
  uint64_t bytes() const;  // of memory, about
  /// The `_offset` of a row.
  uint64_t OffsetOf(uint64_t row) const;
  /// Rows [first, end), to stand after FROM.
  std::string Sql(uint64_t first, uint64_t end = kOpenEnd) const;
  /// Of such rows those with one `_hash` (an expression without columns), found by an index.
  static std::string OfHash(const std::string& sql, const std::string& hash) {
    return Narrow(sql, "of", hash);
  }

 private:
  friend class KeySet;
  static std::string Narrow(const std::string& sql, std::string_view how, const std::string& argument);
  struct Piece;
  struct Scan;
  struct State;
  explicit RowBuffer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with the statements that bound it
};

/// While it lives, statements of a connection see in every RowBuffer the rows that it has now, and no later
/// ones. Make it before the statement begins.
class ScanHold {
 public:
  ScanHold(Database& database, Connection& connection);
  ~ScanHold();
  ScanHold(const ScanHold&) = delete;
  ScanHold& operator=(const ScanHold&) = delete;

 private:
  Database& database_;
  uint64_t connection_ = 0;
};

}  // namespace millstream
