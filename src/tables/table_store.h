// TableStore: the query-optimised read models: base, append-only delta, view and background fold, with the
// offsets of their writers.
//
// Place: floor 3. Used by the `table` sink (deliver), query/ (read) and pipeline/ (offsets, drops). One
// DuckDB file holds tables, registry and offsets; ONE writer thread does all commits: it takes all deliveries
// that gathered while it committed the last ones, and commits rows and offsets of all in one transaction
// (DESIGN, "Tables"; SEMANTICS, "Tables"). Threads: all public functions are thread-safe; Deliver blocks
// until its rows are committed. Failure: a delivery with a data error answers kInvalid and harms no other in
// its group (the group is rolled back and run again one by one); a failed commit is rolled back and tried
// again; kIo is fatal.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "sql/database.h"
#include "sql/row_batch.h"

namespace millstream {

struct TableSpec {
  std::string name;
  std::vector<std::string> key;  // empty: append
  std::vector<std::pair<std::string, std::string>>
      values;               // aggregate: result column and expression, e.g. {"total", "sum(gross)"}
  std::string delete_when;  // upsert; empty = "_op = 'd'"
  std::vector<std::string>
      order_by;  // upsert: columns that decide which row of a key is newer; empty = SEMANTICS' default
  /// True where events of one key always come from one partition of `writer`: the newest offset wins and
  /// tombstones can go at a fold. Once false for a table, it is false for good.
  bool key_in_one_partition = true;
  std::string writer;  // PIPELINE.GENERATION that key_in_one_partition speaks of
  bool operator==(const TableSpec&) const = default;
};

struct TableInfo {
  TableSpec spec;
  std::vector<ColumnInfo>
      columns;        // as readers see them, `_partition` and `_offset` last for append and upsert
  uint64_t rows = 0;  // exact for append; for keyed ones base + delta, an upper bound
  std::vector<std::string> writers;  // pipelines
  uint64_t delta_rows = 0;
};

/// Who delivers: one stored offset each (SEMANTICS, 4).
struct Writer {
  std::string pipeline;  // name
  uint64_t generation = 0;
  std::string sink;  // sink id, e.g. "table:revenue"
  auto operator<=>(const Writer&) const = default;
};

struct StoredOffset {
  uint64_t next = 0;
  uint32_t epoch = 0;
  bool operator==(const StoredOffset&) const = default;
};

class TableStore {
 public:
  /// `path`: the DuckDB file. Starts the writer and the fold threads.
  static Result<std::unique_ptr<TableStore>> Open(Database& database, Clock& clock);
  ~TableStore();

  /// Makes the table or adds the columns that it lacks (for what a pipeline gives: visible columns). kInvalid
  /// for a column of another type or another key: what differs and what to do (a new table name, or a
  /// rebuild).
  Status Ensure(const TableSpec& spec, const std::vector<ColumnInfo>& columns);
  /// The same question without changing anything.
  Status CheckCompatible(const TableSpec& spec, const std::vector<ColumnInfo>& columns) const;

  /// Stores the rows and the writer's next offset for the batch's partition in one transaction. Only visible
  /// columns are written, beside pipeline, partition, offset and ordinal. Rows below the stored offset are
  /// there already and are left out.
  Status Deliver(const Writer& writer, const std::string& table, const RowBatch& rows);

  /// Next offsets by partition.
  std::map<uint32_t, StoredOffset> Offsets(const Writer& writer) const;
  /// Offsets that survive a power cut: those at the last checkpoint (retention's low-water mark).
  std::map<uint32_t, StoredOffset> CheckpointedOffsets(const Writer& writer) const;
  void ForgetWriter(const Writer& writer);

  std::vector<TableInfo> List() const;
  std::optional<TableInfo> Find(const std::string& name) const;
  Status Drop(const std::string& name);

  /// Look-up of rows by key without reading the whole view: rows as readers see them. `values` in the key's
  /// order.
  Result<Rows> Lookup(Connection& connection, const std::string& table, const std::vector<SqlValue>& values);

  /// Folds every finished delta now and checkpoints (tests, idle times, stop).
  Status FoldAll();
  Status Checkpoint();

  struct Counters {
    uint64_t commits = 0, deliveries = 0, rows = 0, folds = 0, folded_rows = 0, retries = 0;
  };
  Counters counters() const;

  struct State;  // tables/store_state.h; of this room only

 private:
  explicit TableStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
