// FilterChain: consecutive SQL filters, checked on DuckDB's parse tree, rewritten and fused into one prepared
// statement.
//
// Place: floor 2. A filter is row-local over `input` (SEMANTICS, 1); the checker refuses what is not, with a
// sentence on what to use instead. Reserved columns pass through unasked: the tree is rewritten
// (docs/decisions/0005-fused-filters.md). Each filter's output is tallied inside the statement. Threads:
// CheckFilters uses a connection of the calling thread. A FilterChain belongs to one thread; make one a
// delivery loop. Failure: kInvalid with SqlFilterFault for the filter that is at fault, its position in the
// user's own text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sql/row_batch.h"
#include "sql/scan.h"

namespace millstream {

struct SqlFilter {
  std::string name;
  std::string sql;  // the user's text
};

/// What a chain does that a replay cannot repeat, or that its batches must know.
struct FilterFlags {
  bool is_volatile = false;         // now(), random(), uuid(): `check` warns
  bool lookup = false;              // joins a table
  bool fans_out = false;            // UNNEST, a join, UNION ALL: one event may give several rows
  std::vector<std::string> tables;  // tables that it reads
  std::vector<std::string> volatile_functions;
};

struct SqlFilterFault {
  int filter = -1;  // index
  SqlFault fault;
  std::string expected;  // what to use instead; may be empty
};

struct ChainInput {
  std::string stream;
  Contract contract;  // of the stream; used for the first chain of a pipeline
  AttributeDefaults defaults;
  std::vector<ColumnInfo> rows;  // not empty: the chain reads rows of a filter before it (visible and
                                 // reserved ones) instead of a stream
};

struct ChainOptions {
  std::vector<std::string> reserved =
      {};  // which of kReservedColumns the sink asks for beside _partition, _offset, _ordinal; those that a
           // filter names or computes itself (`'x' AS ce_type`) are given unasked, as ColumnInfo::selected
  /// Upsert from change data: an event that a WHERE drops, or an `_op` of 'd', passes as a row with `_op` 'd'
  /// (SEMANTICS, "Tables"), where `_op` is not NULL.
  bool keep_deletes = false;
};

/// What is known of a chain without running it.
struct ChainDescription {
  std::vector<ColumnInfo> columns;             // visible ones of the last filter
  std::vector<std::vector<ColumnInfo>> after;  // visible ones after each filter
  std::vector<FilterFlags> flags;              // of each filter
  std::vector<SqlFilterFault> faults;          // empty: the chain is sound
};

/// Parses, checks and binds each filter over the one before. Never runs it. An empty list describes the input
/// itself. `step` is called with each filter's index before it is looked at.
ChainDescription DescribeChain(Database& database, const ChainInput& input,
                               const std::vector<SqlFilter>& filters,
                               const std::function<void(size_t)>& step = {});

class FilterChain {
 public:
  static Result<std::unique_ptr<FilterChain>> Make(Database& database, const ChainInput& input,
                                                   const std::vector<SqlFilter>& filters,
                                                   const ChainOptions& options);
  ~FilterChain();
  /// Columns of what Run gives: visible ones, then the reserved ones that were asked for.
  const std::vector<ColumnInfo>& columns() const;
  uint32_t visible() const;
  /// Runs over events of one partition, consecutive ranges. Fills columns, visible and chunks; the caller
  /// fills the offsets. kInvalid: data at fault (bisect); kExhausted, kDeadline: retry. `counts[i]` is raised
  /// by the rows that filter i gave, on success.
  Result<RowBatch> Run(std::span<const BatchRange> ranges, std::vector<uint64_t>& counts);
  /// The same over rows of a filter before it.
  Result<RowBatch> Run(const RowBatch& rows, std::vector<uint64_t>& counts);
  /// From another thread: ends what runs (deadline, stop).
  void Interrupt();
  const SqlFault& fault() const;
  /// Which filter a data error came from is not known of a fused statement: runs the first one, the first
  /// two, … over one event to tell; -1 if none fails, or the event itself cannot be read. Only for a chain
  /// over a stream.
  int FilterAtFault(const BatchRange& event);

 private:
  struct State;
  explicit FilterChain(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Checks a user's query: one SELECT, only functions and tables allowed (SURFACE, "Queries"); `tables` may be
/// named. kInvalid says what is not allowed.
Status CheckQuery(Connection& connection, const std::string& sql, SqlFault* fault);

/// What a filter may not do, told from its text alone: what is the same whatever it reads.
std::vector<SqlFilterFault> CheckFilter(Connection& connection, const std::string& sql);

/// What a condition over one row (a contract's check, `delete_when`) may not do, told from its text alone: it
/// calls functions of that row which give the same whenever they are asked. Positions count in `condition`.
std::vector<SqlFilterFault> CheckCondition(Connection& connection, const std::string& condition);

}  // namespace millstream
