// QueryRunner: SQL over tables, streams and system tables, read-only, bounded, beside the writer.
//
// Place: floor 6. Used by server/ (POST /v1/query, GET /v1/tables) and cli/ (`query` without a server).
// Tables are read by snapshot. `_streams.NAME` gives a stream's events as rows, with bounds on `_partition`,
// `_offset`, `_ingested_at` pushed down to the log. System tables:
// `_pipelines`, `_filters`, `_dead_letters`, `_segments`.
// A query takes one of `query.concurrent` places when it begins to read; while it waits for one's own writes
// it has none. Threads: a QueryRunner is thread-safe; a RunningQuery belongs to one thread, and must not
// outlive its QueryRunner. Bounds: the places, for one of which a query waits a second at most (then
// kExhausted: 429), a deadline for each, DuckDB's memory limit.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
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
  std::string as_of;             // a time, a duration ago, or a position: answers from the past; empty: now
  bool as_now = false;           // with as_of: by the pipelines of today
  int64_t timeout_us = 0;        // all of it, the wait too; 0 = the server's deadline
  std::stop_token stop{};        // cancels it, the wait too
};

/// What went wrong with a query beside its Status.
struct QueryFault {
  SqlFault sql;         // kind, message and position in the user's text
  std::string reached;  // of a wait that ran out of time: how far the writers came, as a position
};

/// The position that a wait that ran out of time (Engine::Wait) came to; "" if none.
std::string PositionReached(const Status& status);

class RunningQuery {
 public:
  ~RunningQuery();
  /// Of the answer.
  const std::vector<ColumnInfo>& columns() const;
  /// Where they stand in a chunk, if it has other columns too; empty: it has these.
  const std::vector<uint32_t>& picked() const;
  JsonWriter MakeJsonWriter() const;
  /// For each table of the query: how far its writers were when the query began, e.g. {"revenue",
  /// "orders/0:17,1:9"}.
  const std::map<std::string, std::string>& positions() const;
  /// What an answer about the past stands on, as JSON (query/past_tables.h); empty: it is of now.
  const std::string& ground() const;
  /// The next rows; nothing at the end. kDeadline when out of time, kCancelled after a stop.
  Result<std::optional<Chunk>> Next();

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

/// A TableRequest as a query.
struct TableQuery {
  QueryRequest rows;
  QueryRequest count;  // SELECT count(*) under the same filters
  uint64_t offset = 0;
  std::optional<uint64_t> limit;
  /// Not empty: the filters are equality on the whole key, whose row is looked up without reading the table.
  std::vector<std::string> key;
  /// Values of `rows.parameters` that are to be of a column's type.
  struct Value {
    std::string parameter, column, type, text;
  };
  std::vector<Value> values;
  /// With `key`: columns of the table and their names in the answer, in its order; none = all.
  std::vector<std::pair<std::string, std::string>> key_select;
};

class QueryRunner {
 public:
  explicit QueryRunner(Engine& engine);
  ~QueryRunner();
  /// kInvalid carries what CheckQuery or DuckDB said; `fault` may be null.
  Result<std::unique_ptr<RunningQuery>> Start(const QueryRequest& request, QueryFault* fault = nullptr);
  /// A table's rows by PostgREST-like parameters: select, order, limit, offset, COLUMN=op.value, or=(…),
  /// wait, timeout. kInvalid for a column or operator that is not known.
  Result<TableQuery> MakeTableQuery(const TableRequest& request) const;
  Result<std::unique_ptr<RunningQuery>> StartTable(const TableRequest& request, const TableQuery& query,
                                                   QueryFault* fault = nullptr);
  /// Why a TableQuery was refused, in words of the request: the first value that is not of its column's type,
  /// else `refusal`.
  Status WhyRefused(const TableQuery& query, const Status& refusal);

 private:
  friend class RunningQuery;
  std::optional<TableInfo> FindTable(const std::string& name) const;
  Status NoTable(const std::string& name) const;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace millstream
