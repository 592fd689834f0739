// TableStore::State and what its threads share: the catalog of tables and writers, the two commit loops, the
// folder.
//
// Place: floor 3, inside tables/. Threads: `mutex` guards the catalog and is held briefly, never over a
// statement. Connections: one of each commit loop, the folder's, and one a call of a public function. A
// table's layout (columns, parts) changes only under its `layout` mutex, which the folder holds while it
// folds. Who writes the file beside a fold holds `file` shared; a checkpoint holds it alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tables/registry.h"
#include "tables/table_store.h"

namespace millstream {

/// Hashes the keys of look-ups of one table; one thread at a time.
struct KeyHasher {
  std::unique_ptr<Connection> connection;
  std::unique_ptr<Statement> statement;
};

/// A table and how full its parts are.
struct Table {
  explicit Table(TableShape table_shape) : name(table_shape.spec.name), shape(std::move(table_shape)) {}
  const std::string name;       // never changes, unlike the shape
  std::mutex layout;            // see above; taken before the store's mutex
  std::atomic<int> waiting{0};  // callers that wait for `layout`: a fold makes room
  // Under the store's mutex:
  TableShape shape;
  uint64_t base_rows = 0;  // alive
  uint64_t dead_rows = 0;  // deleted in the base, not yet rewritten
  // Base rows that a look-up passes because the base is in hash order only fold by fold: of each fold since
  // it was last written as a whole, a row group.
  uint64_t scattered_rows = 0;
  uint64_t delta_rows = 0;
  uint64_t folding_rows = 0;
  bool unsaved = false;          // a writer has come further than the file says
  int64_t unsaved_since_ns = 0;  // since when
  std::map<Writer, std::map<uint32_t, StoredOffset>> folding_offsets;  // how far `folding` goes
  int64_t last_delivery_ns = 0;
  int64_t last_fold_ns = 0;
  bool dropped = false;
  std::vector<std::unique_ptr<KeyHasher>> hashers;  // idle ones

  void MarkUnsaved(int64_t now_ns) {
    if (!unsaved) unsaved_since_ns = now_ns;
    unsaved = true;
  }
};

class CommitLoop;
class Folder;

struct TableStore::State {
  State(Database& db, Clock& clk);
  ~State();

  Database& database;
  Clock& clock;
  std::string wal_path;  // empty: a database in memory

  std::mutex ensuring;     // one Ensure at a time; taken first
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
  bool stopping = false;

  std::atomic<uint64_t> memory_used{0};  // bytes of all deltas, lately
  std::atomic<uint64_t> commits{0}, deliveries{0}, rows{0}, folds{0}, folded_rows{0}, retries{0};

  // Made last, ended first.
  std::unique_ptr<CommitLoop> file_loop;    // rows of append tables, with their offsets; layouts
  std::unique_ptr<CommitLoop> memory_loop;  // rows of keyed tables, into their deltas
  std::unique_ptr<Folder> folder;

  std::shared_ptr<Table> FindTable(const std::string& name) const {
    std::lock_guard lock(mutex);
    auto found = tables.find(name);
    return found == tables.end() ? nullptr : found->second;
  }
  TableShape ShapeOf(const Table& table) const {
    std::lock_guard lock(mutex);
    return table.shape;
  }
  int64_t TakePart() {
    std::lock_guard lock(mutex);
    return next_part++;
  }
};

/// Takes a table's layout mutex; a fold that holds it is undone.
class LayoutLock {
 public:
  LayoutLock(TableStore::State& state, Table& table);
  ~LayoutLock() { table_.layout.unlock(); }
  LayoutLock(const LayoutLock&) = delete;
  LayoutLock& operator=(const LayoutLock&) = delete;

 private:
  Table& table_;
};

}  // namespace millstream
