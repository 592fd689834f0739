// Test tools of tables/: a database in a temporary folder, batches of order rows, and an oracle in memory
// that says what a table must answer.
//
// Place: tests and benchmarks of tables/ only. One thread each. Failure: CHECK.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "sql/row_buffer.h"
#include "tables/registry.h"
#include "tables/table_store.h"

namespace millstream {

/// A row as a filter gives it.
struct TestRow {
  std::string id;
  std::string city;
  int64_t cents = 0;  // gross: DECIMAL(12,2)
  int64_t version = 0;
  bool city_is_null = false;
  bool deleted = false;
  bool changed = false;  // `_op` u
  int64_t ingested_us = 0;
  uint32_t partition = 0;
  uint64_t offset = 0;
  int32_t ordinal = 0;
};

/// id, city, gross, version, then `_op`, `_ingested_at`, `_partition`, `_offset`, `_ordinal`.
std::vector<ColumnInfo> TestColumns(bool reserved);
/// A batch of one partition; next_offset is the last row's offset + 1.
RowBatch MakeBatch(Connection& connection, const std::vector<TestRow>& rows, uint32_t partition);

/// A store over a file in a folder of its own; Reopen closes and opens it again.
class TestStore {
 public:
  explicit TestStore(std::string folder = "", uint64_t memory_bytes = 1ull << 30);
  ~TestStore();
  void Open();
  void Close();
  void Reopen() { Close(), Open(); }
  TableStore& store() { return *store_; }
  Database& database() { return *database_; }
  Connection& connection() { return *connection_; }
  const std::string& folder() const { return folder_; }
  /// Rows of a query as lines "a|b|c", sorted.
  std::vector<std::string> Lines(const std::string& sql) {
    ScanHold hold(*database_, *connection_);  // as every query has
    return Lines(*connection_, sql);
  }
  static std::vector<std::string> Lines(Connection& connection, const std::string& sql);
  std::string One(const std::string& sql) { return One(*connection_, sql); }
  static std::string One(Connection& connection, const std::string& sql);

 private:
  std::string folder_;
  uint64_t memory_bytes_;
  bool own_folder_;
  SystemClock clock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<TableStore> store_;
};

enum class Mode { kAppend, kUpsert, kUpsertAcross, kUpsertOrdered, kAggregate };
TableSpec SpecOf(Mode mode);

/// What the table of a mode must answer after rows, in any order of delivery.
class Oracle {
 public:
  explicit Oracle(Mode mode) : mode_(mode) {}
  void Add(const TestRow& row, const std::string& pipeline);
  /// In the form of TestStore::Lines(Query()).
  std::vector<std::string> Lines() const;
  std::string Query(const std::string& table) const;

 private:
  struct Sum {
    int64_t n = 0, cities = 0, cents = 0, low = 0, high = 0;
    std::tuple<uint64_t, int32_t> newest;
    std::string last;
  };
  using Order = std::tuple<int64_t, int64_t, uint32_t, uint32_t, uint64_t, int32_t>;
  Mode mode_;
  std::vector<TestRow> all_;
  std::map<std::string, std::pair<Order, TestRow>> newest_;
  std::map<std::string, Sum> sums_;
};

/// Random rows: few or many keys, duplicates, NULLs, deletes where the mode takes them.
std::vector<TestRow> RandomRows(Random& random, Mode mode, uint32_t partition, uint64_t first_offset,
                                size_t count, uint64_t keys);

}  // namespace millstream
