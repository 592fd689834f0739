// TableStore::State and what its threads share: the catalog of tables and writers, and the folder.
//
// Place: floor 3, inside tables/. Threads: `mutex` guards the catalog and is held briefly, never over a
// statement. Connections: one for layouts, the folder's, one for each kind of rows that a table takes, and
// one a call of a public function. A table's layout (columns, base) changes only under its `layout` mutex,
// which the folder holds while it folds. Who writes the file beside a fold holds `file` shared; a checkpoint
// holds it alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/watchdog.h"
#include "sql/row_buffer.h"
#include "sql/scan.h"
#include "tables/registry.h"
#include "tables/table_store.h"

namespace millstream {

/// A delivery to an append table whose rows are not in the file yet.
struct Arrival {
  Writer writer;
  uint32_t partition = 0;
  uint64_t first_row = 0, end_row = 0;  // of the table's `recent`
  bool in_order = false;                // its rows, by offset
  StoredOffset next;
};

/// Makes rows as a table's delta has them out of rows with given columns.
struct DeltaStatement {
  std::vector<ColumnInfo> columns;
  bool is_of_user = false;  // it computes `values` or `delete_when`
  std::unique_ptr<Connection> connection;
  std::unique_ptr<RowScan> scan;
  std::unique_ptr<Statement> statement;
};

/// A table and how full its parts are.
struct Table : std::enable_shared_from_this<Table> {
  explicit Table(TableShape table_shape) : name(table_shape.spec.name), shape(std::move(table_shape)) {}
  const std::string name;       // never changes, unlike the shape
  std::mutex layout;            // see above; taken before the store's mutex
  std::atomic<int> waiting{0};  // callers that wait for `layout`: a fold makes room
  // Rows come in one delivery after the other. Taken before the store's mutex.
  std::mutex intake;
  std::vector<std::unique_ptr<DeltaStatement>> delta_statements;  // under `intake`
  std::shared_ptr<RowBuffer> recent;  // the delta; rows come under the store's mutex
  // Under the store's mutex:
  TableShape shape;
  uint64_t base_rows = 0;  // alive
  uint64_t dead_rows = 0;  // deleted in the base, not yet rewritten
  // Base rows that a look-up passes because the base is in hash order only fold by fold: of each fold since
  // it was last written as a whole, a row group.
  uint64_t scattered_rows = 0;
  uint64_t delta_rows = 0;       // rows of `recent` that the file has not
  uint64_t saved_rows = 0;       // rows of `recent` below are in the file
  uint64_t recent_bytes = 0;     // of memory
  std::deque<Arrival> arrivals;  // of append tables, in the order of their rows
  bool unsaved = false;          // a writer has come further than the file says
  int64_t unsaved_since_ns = 0;  // since when
  std::map<Writer, std::map<uint32_t, StoredOffset>> folding_offsets;  // how far a fold goes
  int64_t last_delivery_ns = 0;
  int64_t last_fold_ns = 0;
  bool dropped = false;
  // Odd while a fold is being committed: what a snapshot of the file has fits either `shape` or `next_shape`.
  std::atomic<uint64_t> switches{0};
  std::optional<TableShape> next_shape;

  void MarkUnsaved(int64_t now_ns) {
    if (!unsaved) unsaved_since_ns = now_ns;
    unsaved = true;
  }
};

class Folder;

struct TableStore::State {
  State(Database& db, Clock& clk, Folding how);
  ~State();

  Database& database;
  Clock& clock;
  const Folding folding;
  std::string wal_path;  // empty: a database in memory

  std::mutex ensuring;     // one Ensure, Switch or change of a shape at a time; taken first
  std::shared_mutex file;  // see above; taken before `mutex`
  mutable std::mutex mutex;
  std::condition_variable room;  // a fold has ended: deliveries that waited for it go on
  std::map<std::string, std::shared_ptr<Table>> tables;
  std::map<Writer, WriterRecord> writers;
  std::map<Writer, std::map<uint32_t, StoredOffset>> checkpointed;
  int64_t next_part = 1;
  int64_t next_writer = 1;
  int64_t last_seq = 0;      // of an offset in the file
  uint64_t offset_rows = 0;  // in the file
  Status fatal;              // an I/O failure: nothing more is taken
  std::function<void(Status)> on_fatal;
  bool stopping = false;

  // Of what users wrote, for the rows of a delivery; the watchdog is made when the first such table is.
  std::atomic<int64_t> rows_us{30'000'000};
  std::once_flag watchdog_wanted;
  std::unique_ptr<Watchdog> watchdog;

  std::atomic<uint64_t> recent_bytes{0};  // of all deltas
  std::atomic<uint64_t> deliveries{0}, rows{0}, folds{0}, folded_rows{0};

  std::mutex layouts;  // one change of layouts at a time; taken before `file`
  std::unique_ptr<Connection> layout_connection;
  std::unique_ptr<Folder> folder;  // made last, ended first

  std::shared_ptr<Table> FindTable(const std::string& name) const {
    std::lock_guard lock(mutex);
    auto found = tables.find(name);
    return found == tables.end() ? nullptr : found->second;
  }
  TableShape ShapeOf(const Table& table) const {
    std::lock_guard lock(mutex);
    return table.shape;
  }
  /// After a fold or a checkpoint failed: nothing more is taken if the file cannot be written any more.
  void NoteFailure(const Status& status);
  /// Runs a change of the file's layout, which brings its own transaction.
  Status ChangeLayout(const std::function<Status(Connection&)>& change);
  /// Deliveries and readers go by it from here on.
  void SetShape(Table& table, TableShape shape);
  /// Takes a delivery.
  Status TakeRows(const Writer& writer, Table& table, const RowBatch& batch);
  /// How far a writer is, as readers see it. Under `mutex`.
  uint64_t StoredNext(const Writer& writer, uint32_t partition) const;
  /// Gives a table an empty delta.
  Status MakeRecent(Table& table, TableShape& shape);
  /// After rows came to a buffer or left it. Under `mutex`.
  void CountBytes(Table& table);
  int64_t TakePart() {
    std::lock_guard lock(mutex);
    return next_part++;
  }

 private:
  Result<DeltaStatement*> FindDeltaStatement(Table& table, const TableShape& shape,
                                             const std::vector<ColumnInfo>& columns);
  Result<std::vector<Chunk>> MakeRows(Table& table, const TableShape& shape, const RowBatch& batch,
                                      std::span<const Chunk> chunks, std::vector<ColumnInfo>* columns,
                                      uint32_t pipeline);
};

/// Takes a table's layout mutex; a fold that holds it is undone.
class LayoutLock {
 public:
  LayoutLock(TableStore::State& state, Table& table);
  ~LayoutLock() { table_->layout.unlock(); }
  LayoutLock(const LayoutLock&) = delete;
  LayoutLock& operator=(const LayoutLock&) = delete;

 private:
  const std::shared_ptr<Table> table_;  // whoever holds the lock may have retired it
};

}  // namespace millstream
