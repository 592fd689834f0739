// QueryRunner: SQL over tables, streams and system tables, read-only, bounded, beside the writer.
//
// Place: floor 6. Used by server/ (POST /v1/query, GET /v1/tables) and cli/ (`query` without a server).
// Tables are read by snapshot. `_streams.NAME` gives a stream's events as rows, with bounds on `_partition`,
// `_offset`, `_ingested_at` pushed down to the log. System tables:
// `_pipelines`, `_filters`, `_dead_letters`, `_segments`.
// Threads: a QueryRunner is thread-safe; a RunningQuery belongs to one thread, Cancel excepted.
// Bounds: at most `query.concurrent` at once (kExhausted: 429), a deadline for each, DuckDB's memory limit.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "pipeline/engine.h"
#include "sql/database.h"

namespace millstream {

struct QueryRequest {
  std::string sql;
  std::map<std::string, SqlValue> parameters;
  std::optional<Position> wait;  // read one's own writes
  int64_t timeout_us = 0;        // all of it, the wait too; 0 = the server's deadline
};

class RunningQuery {
 public:
  ~RunningQuery();
  const std::vector<ColumnInfo>& columns() const;
  JsonWriter MakeJsonWriter() const;
  /// For each pipeline that writes a table of the query: how far it was when the query began.
  const std::map<std::string, std::string>& positions() const;
  /// The next rows; nothing at the end. kDeadline when out of time, kCancelled after Cancel.
  Result<std::optional<Chunk>> Next();
  void Cancel();

 private:
  friend class QueryRunner;
  struct State;
  explicit RunningQuery(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Filters of GET /v1/tables/{t} (SURFACE), made into SQL with parameters.
struct TableRequest {
  std::string table;
  std::vector<std::pair<std::string, std::string>> query;  // as in the URL, decoded
};

class QueryRunner {
 public:
  explicit QueryRunner(Engine& engine);
  ~QueryRunner();
  /// kInvalid carries what CheckQuery or DuckDB said; `fault` (may be null) gets kind, message and position
  /// in the user's text.
  Result<std::unique_ptr<RunningQuery>> Start(const QueryRequest& request, SqlFault* fault = nullptr);
  /// A table's rows by PostgREST-like parameters: select, order, limit, offset, COLUMN=op.value, or=(…),
  /// wait.
  Result<QueryRequest> TableQuery(const TableRequest& request, QueryRequest* count_query);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millstream
