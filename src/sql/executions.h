// Executions: what runs on one connection, one after another: what it may take, and whether it was cut short.
//
// Place: floor 2, inside sql/; shared by a Connection, its statements and their rows. Where memory is refused
// (allowance.h), DuckDB's C API may answer as if there were no more rows: duckdb_fetch_chunk gives null and
// no error. Whoever believes it loses rows. So the one who executes asks WasCut() at the end: what was cut
// short failed, whatever DuckDB says. What we allocate ourselves is never refused, since nothing catches
// that: only Call is bounded. Threads: of the connection, Interrupt excepted.
#pragma once

#include <exception>
#include <memory>
#include <mutex>

#include "sql/allowance.h"
#include "sql/duckdb_face.h"

namespace millstream {

class Executions {
 public:
  explicit Executions(duckdb_connection connection) : connection_(connection) {}
  /// Before the first one: each may take so much.
  void Bound(uint64_t memory_bytes) { allowance_ = std::make_unique<Allowance>(memory_bytes); }
  Allowance* allowance() const { return allowance_.get(); }  // null: nothing bounds them
  /// From any thread: cuts what runs. Nothing happens to the next one.
  void Interrupt();
  /// Whether the last one that began was interrupted or refused memory since.
  bool WasCut() const;
  /// What was wrong with the last one: why it was cut short, else DuckDB's `error` (null or empty: none)
  /// about the text `sql`.
  SqlFault FaultOf(duckdb_error_type type, const char* error, const std::string& sql) const;

  /// A new execution: nothing was cut yet.
  void Begin();
  /// Calls into DuckDB for the execution that began last: what this thread allocates meanwhile is its own.
  /// What is refused where DuckDB itself catches nothing is an error too.
  template <typename Function>
  duckdb_state Call(Function call) {
    Allowance::Scope allocations(allowance());
    try {
      return call();
    } catch (const std::exception&) {
      return DuckDBError;
    }
  }

 private:
  duckdb_connection connection_;
  std::unique_ptr<Allowance> allowance_;
  // An interrupt hits either before a Begin or after it: DuckDB and the allowance forget earlier ones.
  mutable std::mutex mutex_;
  bool is_interrupted_ = false;
};

}  // namespace millstream
