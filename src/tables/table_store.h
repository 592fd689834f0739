// TableStore: the query-optimised read models: base, append-only delta, view and background fold, with the
// offsets of their writers.
//
// Place: floor 3. Used by the `table` sink (deliver), query/ (read) and pipeline/ (offsets, drops). One
// DuckDB file holds bases, registry and offsets; deltas lie in memory. Deliveries reach memory; a fold takes
// rows and the offsets behind them into the file in one transaction (docs/decisions/0006-tables.md;
// SEMANTICS, "Tables"). Threads: all public functions are thread-safe; Deliver blocks until readers see its
// rows. Failure: a delivery with a data error answers kInvalid and nothing of it is taken; a failed fold is
// rolled back and tried again; kIo is fatal, where the disk is not just full.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "sql/database.h"
#include "sql/key_set.h"
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

struct TableShape;

/// When deltas are folded.
enum class Folding : uint8_t {
  kSteady,  // readers look at any time, and what is not folded comes again after a crash: early
  kBulk,    // tables are made once, and read after FoldAll: late, for each fold passes the base, and so
            // with more memory
};

class TableStore {
 public:
  /// Starts the store's threads. `on_fatal` is called by one of them, once, when the file cannot be written
  /// any more (kIo; a full disk is waited for): deliveries that waited for nothing have nobody to be told.
  static Result<std::unique_ptr<TableStore>> Open(Database& database, Clock& clock,
                                                  std::function<void(Status)> on_fatal = {},
                                                  Folding folding = Folding::kSteady);
  ~TableStore();

  /// Makes the table or adds the columns that it lacks (for what a pipeline gives: visible columns). kInvalid
  /// for a column of another type or another key: what differs and what to do (a new table name, or a
  /// rebuild).
  Status Ensure(const TableSpec& spec, const std::vector<ColumnInfo>& columns);
  /// The same question without changing anything.
  Status CheckCompatible(const TableSpec& spec, const std::vector<ColumnInfo>& columns) const;

  /// An upsert table whose offsets alone decide: an event was set aside that may come after newer ones, so
  /// folds keep tombstones from now on, for good. Other tables need nothing.
  Status KeepDeletes(const std::string& table);
  /// Such events come now: rows are compared by their whole order from now on, for good.
  Status AdmitOlder(const std::string& table);

  /// Takes the rows and the writer's next offset for the batch's partition: readers see both; a fold writes
  /// both in one transaction, and what it has not written comes again after a crash. kUnavailable: no room
  /// for a while. Only visible columns are written, beside pipeline, partition, offset and ordinal. Rows
  /// below the stored offset are there already and are left out.
  Status Deliver(const Writer& writer, const std::string& table, const RowBatch& rows);

  /// For how long `values` and `delete_when` may work at the rows of a delivery (30 s unless told): then
  /// Deliver is kInvalid, of a delivery of one event as much as of many.
  void LimitRows(int64_t us);

  /// Next offsets by partition.
  std::map<uint32_t, StoredOffset> Offsets(const Writer& writer) const;
  /// Offsets that survive a power cut: those at the last checkpoint (retention's low-water mark).
  std::map<uint32_t, StoredOffset> CheckpointedOffsets(const Writer& writer) const;
  void ForgetWriter(const Writer& writer);

  std::vector<TableInfo> List() const;
  std::optional<TableInfo> Find(const std::string& name) const;
  Status Drop(const std::string& name);
  /// Who has ever delivered to the table, and is not forgotten.
  std::vector<Writer> WritersOf(const std::string& table) const;

  /// Lets tables that were made anew beside others take their places: pairs of a table, "revenue@7", and the
  /// name under which readers are to see it. One transaction for all: views, registry, writers with their
  /// offsets (of a writer's sink, what the table's name has beyond the other is left out). Readers with a
  /// snapshot keep the old rows, which are dropped after the next checkpoint. Nobody may deliver to any of
  /// them meanwhile. What is not there has been switched already and is left out. kUnavailable: nothing has
  /// changed, and another attempt may do.
  Status Switch(const std::vector<std::pair<std::string, std::string>>& shadows);

  /// The row of one key, given as texts in the key's order, without reading the whole view; as readers see
  /// it.
  Result<Rows> Lookup(Connection& connection, const std::string& table,
                      const std::vector<std::string>& key) const;
  /// Rows of a keyed table by the hashes of their keys (`hash(…)` of the key columns), to stand after FROM.
  /// `keys`: which hashes; `hashes`: the same as a SELECT, for parts so large that it pays to
  /// leave row groups out. Nothing: there is no such table, it has no key, or a fold is being switched to;
  /// read its view then. What was read holds if `switches` is the same afterwards.
  struct KeyRows {
    std::string sql;
    uint64_t switches = 0;
  };
  std::optional<KeyRows> RowsOfKeys(const std::string& table, const KeySet& keys,
                                    const std::string& hashes) const;
  bool IsSwitched(const std::string& table, uint64_t switches) const;

  /// The statement that Lookup runs: to be made anew if it then IsStale.
  Result<KeyRows> RowOfKey(const std::string& table, const std::vector<std::string>& key) const;
  /// After RowOfKey's statement has begun, or failed with `fault`: a fold came between. Then try again, so
  /// often at most, with a pause.
  static constexpr int kStaleTries = 5'000;
  static constexpr std::chrono::milliseconds kStalePause{1};
  bool IsStale(const std::string& table, uint64_t switches, const SqlFault& fault) const;

  /// Folds every delta now. A stop ends it with an error; nothing is lost.
  Status FoldAll(std::stop_token stop = {});
  Status Checkpoint();

  struct Counters {
    uint64_t deliveries = 0, rows = 0, folds = 0, folded_rows = 0;
  };
  Counters counters() const;

  struct State;  // tables/store_state.h; of this room only

 private:
  Result<Rows> LookupInSwitch(Connection& connection, const std::string& table,
                              const std::vector<std::string>& key) const;
  Status ChangeShape(const std::string& table, const std::function<bool(TableShape&)>& change);
  explicit TableStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
