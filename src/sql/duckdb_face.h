// What the files of sql/ share of DuckDB: the database's state, scan and tally registries, types, errors.
//
// Place: floor 2, inside sql/ only: the one header that includes DuckDB's. Threads: ScanRegistry and
// TallyRegistry are thread-safe; the rest are values and free functions.
#pragma once

#include <duckdb.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "sql/database.h"

namespace millstream {

/// Owns a duckdb_logical_type.
class LogicalType {
 public:
  LogicalType() = default;
  explicit LogicalType(duckdb_logical_type type) : type_(type) {}
  ~LogicalType() {
    if (type_ != nullptr) duckdb_destroy_logical_type(&type_);
  }
  LogicalType(LogicalType&& other) noexcept : type_(std::exchange(other.type_, nullptr)) {}
  LogicalType& operator=(LogicalType&& other) noexcept {
    std::swap(type_, other.type_);
    return *this;
  }
  duckdb_logical_type get() const { return type_; }

 private:
  duckdb_logical_type type_ = nullptr;
};

/// The type as DuckDB's SQL writes it: "DECIMAL(12,2)", "STRUCT(a INTEGER)[]", "JSON".
std::string TypeName(duckdb_logical_type type);
/// DuckDB's type of a contract's type; json has the alias JSON.
LogicalType MakeLogicalType(const Type& type);
/// "name" in double quotes, as an identifier in SQL.
std::string QuoteIdentifier(std::string_view name);
/// 'text' as a string literal in SQL.
std::string QuoteLiteral(std::string_view text);

/// Reads an error's text (JSON, as errors_as_json gives it, or plain). `type` INVALID: told from the text.
/// `text_sql` is used for the position where DuckDB gives only "LINE n:".
SqlFault ReadSqlFault(duckdb_error_type type, const char* error, const std::string& text_sql);
/// The code that a fault means for the loop that sees it, and "Binder Error: …" as message.
Status StatusOf(const SqlFault& fault);

/// What a KeySet holds: open addressing, zero = free.
struct HashSet {
  std::vector<uint64_t> places;  // a power of two of them, three quarters free
  bool has_zero = false;
  bool Has(uint64_t hash) const {
    if (hash == 0) return has_zero;
    for (size_t at = hash & (places.size() - 1); places[at] != 0; at = (at + 1) & (places.size() - 1))
      if (places[at] == hash) return true;
    return false;
  }
  template <typename Call>
  void ForEach(Call call) const {
    if (has_zero) call(uint64_t{0});
    for (uint64_t hash : places)
      if (hash != 0) call(hash);
  }
};

/// How a statement names a source.
struct ScanBinding {
  // Of `_recent` and its like only:
  uint64_t connection = 0;               // DuckDB's number of the connection
  uint64_t first = 0, end = 0;           // rows
  std::shared_ptr<const HashSet> among;  // those of these hashes; null: all
};

/// A table that SQL reads as `_batch(ID)`, `_rows(ID)` or `_recent(ID, FIRST, END)`, of which
/// `_recent_of(…, HASH)` and `_recent_among(…, SET)` give the rows of some hashes. The object belongs to the
/// executing thread.
class ScanSource {
 public:
  virtual ~ScanSource() = default;
  struct ScanColumn {
    std::string name;
    LogicalType type;
  };
  /// The source that a statement which binds this one reads; null = this one itself. A source that one query
  /// may name several times gives each of them its own.
  virtual std::shared_ptr<ScanSource> Bind(const ScanBinding&) { return nullptr; }
  /// What a ScanHold keeps of a source that grows; null = nothing.
  virtual std::shared_ptr<const void> Capture() const { return nullptr; }
  /// How many rows a statement that binds it now may read, about; 0 = not known.
  virtual uint64_t rows_expected() const { return 0; }
  /// Column 0 is what `count(*)` reads.
  virtual const std::vector<ScanColumn>& scan_columns() const = 0;
  /// Before the first Fill of an execution, with the columns that it will ask for.
  virtual bool Begin(const std::vector<uint32_t>& columns, std::string* error) = 0;
  /// Fills up to 2,048 rows of those columns; 0 = the end.
  virtual bool Fill(const std::vector<uint32_t>& columns, duckdb_data_chunk output, std::string* error) = 0;
};

/// Scans by ID. Statements keep what they bound alive.
class ScanRegistry {
 public:
  uint64_t Add(std::shared_ptr<ScanSource> source);
  void Remove(uint64_t id);
  std::shared_ptr<ScanSource> Find(uint64_t id) const;

  /// Keeps what each source captures now for a connection's statements, until Release.
  void Hold(uint64_t connection);
  void Release(uint64_t connection);
  /// What is kept of a source for a connection; null = nothing.
  std::shared_ptr<const void> Held(uint64_t connection, uint64_t id) const;

 private:
  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<ScanSource>> sources_;
  std::map<uint64_t, std::map<uint64_t, std::shared_ptr<const void>>> held_;  // by connection, by source
};

/// Columns of a scan: types are named as DuckDB names them.
Result<std::vector<ScanSource::ScanColumn>> MakeScanColumns(Database& database,
                                                            const std::vector<ColumnInfo>& columns);

/// Things that SQL names by a number. Thread-safe.
template <typename T>
class Numbered {
 public:
  uint64_t Add(std::shared_ptr<T> thing) {
    std::lock_guard lock(mutex_);
    things_.emplace(next_id_, std::move(thing));
    return next_id_++;
  }
  void Remove(uint64_t id) {
    std::lock_guard lock(mutex_);
    things_.erase(id);
  }
  /// Null: there is none.
  std::shared_ptr<T> Find(uint64_t id) const {
    std::lock_guard lock(mutex_);
    auto found = things_.find(id);
    return found == things_.end() ? nullptr : found->second;
  }

 private:
  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<T>> things_;
};

/// Counters, raised by `_tally(ID, _offset)`.
using TallyRegistry = Numbered<std::atomic<uint64_t>>;

/// Sets that `_among(ID, hash)` and `_recent_among` look at.
using HashSets = Numbered<const HashSet>;

/// What our functions find by the numbers that SQL names.
struct Functions {
  std::shared_ptr<ScanRegistry> scans = std::make_shared<ScanRegistry>();
  std::shared_ptr<TallyRegistry> tallies = std::make_shared<TallyRegistry>();
  std::shared_ptr<HashSets> hash_sets = std::make_shared<HashSets>();
};

struct Database::State : Functions {
  duckdb_database database = nullptr;

  ~State() {
    if (database != nullptr) duckdb_close(&database);
  }
};

/// Registers `_batch`, `_rows`, `_tally` and `_among` (once a database: functions cannot be dropped).
Status RegisterFunctions(duckdb_connection connection, const Functions& functions);

}  // namespace millstream
