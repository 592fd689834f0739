// Database, Connection, Statement: DuckDB behind a small C++ face.
//
// Place: floor 2. Only sql/ includes DuckDB's header, and only its C API (docs/decisions/0004-duckdb.md).
// Threads: a Database is thread-safe. A Connection and what comes from it belong to one thread, Interrupt
// excepted. DuckDB runs every query on the calling thread (threads=1). Failure: SqlError kinds become codes:
// conversion, out of range, invalid input, constraint → kInvalid; out of memory → kExhausted; interrupt →
// kDeadline (or kCancelled); transaction conflict → kUnavailable; binder, catalog, parser → kInvalid with a
// position; I/O → kIo; a damaged file → kCorrupt;
// else kInternal.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "event/type.h"

struct _duckdb_database;
struct _duckdb_connection;
struct _duckdb_prepared_statement;
struct _duckdb_data_chunk;
struct _duckdb_logical_type;

namespace millstream {

/// A result's column: its name and type as DuckDB writes it ("DECIMAL(12,2)").
struct ColumnInfo {
  std::string name;
  std::string type;
  bool selected = false;  // a reserved column (row_batch.h) that a filter names or computes itself
  bool operator==(const ColumnInfo&) const = default;
};

/// The kind of a fault that our own checks find in a text.
inline constexpr const char* kNotAllowed = "Not allowed";

/// A statement's failure in the words and place of the text that was given.
struct SqlFault {
  std::string kind;         // "Binder Error", "Conversion Error", …
  std::string message;      // without "LINE 1: …" and caret
  int position = -1;        // 0-based byte in the text; -1 = not known
  std::string nearest;      // DuckDB's "Candidate bindings", if any
  bool data_error = false;  // conversion, out of range, invalid input, constraint: the event is at fault
                            // (SEMANTICS, "Dead letters")
  std::string hint = {};    // what mends a usual slip
};

/// A number as JSON writes it, bound as the type that it has as a literal: BIGINT, HUGEINT, DECIMAL with all
/// its digits; DOUBLE with an exponent or more than 38 digits.
struct SqlNumber {
  std::string text;
};
/// One parameter's value; text forms are cast by DuckDB.
using SqlValue = std::variant<std::monostate, bool, int64_t, double, std::string, SqlNumber>;

/// Up to 2,048 rows. Owns DuckDB's chunk; movable.
class Chunk {
 public:
  Chunk() = default;
  explicit Chunk(_duckdb_data_chunk* chunk) : chunk_(chunk) {}
  ~Chunk();
  Chunk(Chunk&& other) noexcept : chunk_(other.chunk_) { other.chunk_ = nullptr; }
  Chunk& operator=(Chunk&& other) noexcept;

  uint32_t rows() const;
  uint32_t columns() const;
  bool IsNull(uint32_t column, uint32_t row) const;
  /// True if the column is known to hold no NULL.
  bool AllValid(uint32_t column) const;
  /// Direct access to a column's values in DuckDB's physical layout; flat.
  void* data(uint32_t column) const;
  int64_t Int64(uint32_t column, uint32_t row) const;            // BIGINT, UBIGINT, TIMESTAMP(TZ)
  std::string_view String(uint32_t column, uint32_t row) const;  // VARCHAR, BLOB, JSON
  _duckdb_data_chunk* get() const { return chunk_; }

 private:
  _duckdb_data_chunk* chunk_ = nullptr;
};

/// A value of a chunk as JSON text: integers and decimals with all their digits, NaN and Inf null, times RFC
/// 3339 (a TIMESTAMP without zone has no Z), intervals ISO 8601, blobs base64, nested ones as JSON, JSON
/// columns as they are. Made once for a result's column types.
class JsonWriter {
 public:
  explicit JsonWriter(std::vector<_duckdb_logical_type*> types);  // borrowed from the statement for the call
  ~JsonWriter();
  JsonWriter(JsonWriter&&) noexcept;
  void Append(std::string& out, const Chunk& chunk, uint32_t column, uint32_t row) const;
  /// The same value as plain text for CSV and table output: strings without quotes, NULL as nothing.
  void AppendText(std::string& out, const Chunk& chunk, uint32_t column, uint32_t row) const;
  /// All rows of a chunk as JSON objects of the first `count` columns, `between` between them: much faster
  /// than value by value.
  void AppendObjects(std::string& out, const Chunk& chunk, const std::vector<ColumnInfo>& columns,
                     uint32_t count, std::string_view between) const;

  struct TypeInfo;

 private:
  std::vector<TypeInfo> types_;
};

/// Chunks of a result one after another. Materialised or streaming.
class Rows {
 public:
  ~Rows();
  Rows(Rows&&) noexcept;
  const std::vector<ColumnInfo>& columns() const { return columns_; }
  JsonWriter MakeJsonWriter() const;
  /// The next chunk; an empty optional at the end.
  Result<std::optional<Chunk>> Next();
  uint64_t changed_rows() const;  // of an INSERT, UPDATE, DELETE

 private:
  friend class Statement;
  struct State;
  explicit Rows(std::unique_ptr<State> state);
  std::vector<ColumnInfo> columns_;
  std::unique_ptr<State> state_;
};

class Executions;
class WriterReserve;

class Statement {
 public:
  ~Statement();
  Status Bind(uint32_t index_from_1, const SqlValue& value);
  Status Bind(const std::string& name, const SqlValue& value);  // $name; kNotFound if the statement has none
  std::vector<std::string> parameters() const;
  const std::vector<ColumnInfo>& columns() const { return columns_; }
  bool returns_rows() const;
  /// Runs to the end; all rows are kept.
  Result<Rows> Execute();
  /// Runs while rows are taken. Another statement on the same connection ends it.
  Result<Rows> Stream();
  /// The failure of the last call.
  const SqlFault& fault() const { return fault_; }

 private:
  friend class Connection;
  Statement();
  std::vector<ColumnInfo> columns_;
  SqlFault fault_;
  std::shared_ptr<Executions> executions_;  // its connection's
  struct State;
  std::unique_ptr<State> state_;
};

class Connection {
 public:
  ~Connection();
  /// One or more statements, results dropped.
  Status Run(const std::string& sql);
  Result<std::unique_ptr<Statement>> Prepare(const std::string& sql);
  /// Prepare, bind in order, execute.
  Result<Rows> Query(const std::string& sql, const std::vector<SqlValue>& parameters = {});
  /// COMMIT, with memory that nobody else may take (writer_reserve.h). kExhausted before it began, too: the
  /// caller rolls back.
  Status Commit();
  /// ROLLBACK, with the same memory: one that has none leaves its rows locked.
  void Rollback();
  /// From any thread: what runs ends soon with kDeadline, and never with a part of its rows or changes.
  /// Nothing happens to the next statement.
  void Interrupt();
  /// The failure of the last Run, Prepare or Query.
  const SqlFault& fault() const { return fault_; }
  /// Whether what was executed last (by a statement of it too) was refused memory, because it had much: of a
  /// bounded connection, so that the rows are at fault.
  bool NeededTooMuch() const;
  _duckdb_connection* get() const { return connection_; }
  Executions& executions() const { return *executions_; }

 private:
  friend class Database;
  explicit Connection(_duckdb_connection* connection);
  _duckdb_connection* connection_;
  SqlFault fault_;
  std::shared_ptr<Executions> executions_;
  std::shared_ptr<WriterReserve> reserve_;
};

struct DatabaseOptions {
  uint64_t memory_bytes = 1ull << 30;  // DuckDB's, with what RowBuffers may have and what writers have alone
  std::string temp_directory = "";     // for spilling; empty: none
  uint64_t temp_bytes = 0;             // of it at most; 0: what the disk has
  bool read_only = false;
};

class CheckpointGuard;

class Database {
 public:
  /// Opens a file, or memory for "". Our table and scalar functions are registered; extensions, external
  /// access and configuration are locked. DuckDB makes no checkpoint of its own accord, at the end neither.
  /// kCorrupt: the file or its write-ahead log is damaged, or so much so that DuckDB crashed over it before.
  static Result<std::unique_ptr<Database>> Open(const std::string& path, DatabaseOptions options);
  ~Database();
  Result<std::unique_ptr<Connection>> Connect();
  /// For SELECTs that users wrote: what they allocate is bounded, and an interrupt ends them within a vector
  /// too, where they allocate (allowance.h).
  Result<std::unique_ptr<Connection>> ConnectBounded();
  /// The same for these texts alone: with the bounds of functions that they name, which take 10 ms to make.
  Result<std::unique_ptr<Connection>> ConnectBounded(const std::vector<std::string_view>& texts);
  /// CHECKPOINT that a kill or a power cut in its midst cannot hurt. Nothing else may write meanwhile: DuckDB
  /// gives blocks away that the file's header still points at (its pull request 25106).
  Status Checkpoint(Connection& connection);
  /// After a failure that says so (kCorrupt): leaves a mark beside the file, so that the next Open refuses it
  /// (kCorrupt) and whoever owns it sets it aside. Thread-safe; other failures are ignored.
  void NoteDamage(const Status& status) const;
  /// After a failure of whoever must write (kExhausted by DuckDB's own memory limit): whoever can give memory
  /// back is asked to. Thread-safe; other failures are ignored.
  void NoteWant(const Status& status);
  /// Called by NoteWant, from its thread.
  void OnWant(std::function<void()> give_back);
  /// Whether Open found an unfinished checkpoint and undid it.
  bool restored() const { return restored_; }
  uint64_t memory_bytes() const { return memory_bytes_; }
  static std::string LibraryVersion();

 private:
  friend class BatchScan;
  friend class RowBuffer;
  friend class RowScan;
  friend class ScanHold;
  friend class FilterChain;
  friend class KeySet;
  struct State;  // shared with DuckDB's callbacks: slots of scans and tallies
  Database();
  std::unique_ptr<CheckpointGuard> guard_;  // outlives DuckDB's own descriptor; none for memory
  bool restored_ = false;
  std::string path_;
  uint64_t memory_bytes_ = 0;
  std::mutex want_mutex_;
  std::function<void()> give_back_;
  std::unique_ptr<State> state_;
  std::shared_ptr<WriterReserve> reserve_;  // shared with connections
};

}  // namespace millstream
