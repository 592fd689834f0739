// CommitLoop: a thread that writes rows of deliveries into deltas, or changes the file's layout.
//
// Place: floor 3, inside tables/. A store has two. The memory's loop takes the rows of keyed tables into
// their deltas, all that gathered while it committed the last ones in one transaction; how far these came is
// stored by the fold that takes the rows into the file. The file's loop only runs layout changes; on either
// they run between such groups. Failure: after a failed statement the transaction is rolled back, never
// committed (a COMMIT of an aborted one answers success). A data error answers the delivery at fault, and the
// rest of its group runs again; out of memory and conflicts are tried again with back-off, first together,
// then alone; kIo stops the store.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sql/scan.h"
#include "tables/store_state.h"

namespace millstream {

class CommitLoop {
 public:
  static constexpr uint64_t kMaxQueuedBytes = 256ull << 20;
  static constexpr uint64_t kMaxGroupRows = 400'000;
  static constexpr int kMaxTries = 12;

  enum class Target : unsigned char { kFile, kMemory };
  CommitLoop(TableStore::State& state, std::unique_ptr<Connection> connection, Target target);
  ~CommitLoop();

  /// Blocks until committed. What lies below the writer's stored offset is left out.
  Status Deliver(const Writer& writer, std::shared_ptr<Table> table, const RowBatch& rows);
  /// Runs a layout change on the writer's thread, between groups, and forgets what is prepared for `table`
  /// (may be null). The task brings its own transaction.
  Status Run(const Table* table, std::function<Status(Connection&)> task);

 private:
  struct Delivery {
    const Writer* writer = nullptr;
    std::shared_ptr<Table> table;
    const RowBatch* rows = nullptr;
    uint64_t bytes = 0;
    uint64_t inserted = 0;  // rows, by the last attempt
  };
  struct Job {
    std::unique_ptr<Delivery> delivery;  // or a task
    const Table* table = nullptr;
    std::function<Status(Connection&)> task;
    Status status;
    bool done = false;
  };
  struct Insert {
    std::vector<ColumnInfo> columns;
    std::unique_ptr<RowScan> scan;
    std::unique_ptr<Statement> statement;
    bool takes_pipeline = false;
  };
  struct Outcome {
    Status status;
    int index = -1;  // of the delivery at fault; -1: BEGIN or COMMIT
  };
  using Offsets = std::map<std::pair<Writer, uint32_t>, StoredOffset>;

  void Loop();
  Status Wait(Job& job);
  Status RunTask(Job& job);
  void Finish(Job& job, Status status);
  void CommitGroup(std::vector<Job*> group);
  Outcome TryGroup(const std::vector<Job*>& group);
  Outcome InsertRows(Delivery& delivery, int index, uint64_t stored);
  Result<Insert*> FindInsert(const Delivery& delivery);
  void Publish(const std::vector<Job*>& group, const Offsets& offsets);
  void BackOff(int tries);

  TableStore::State& state_;
  const Target target_;
  std::unique_ptr<Connection> connection_;
  // The writer's thread only:
  std::map<const Table*, std::vector<std::unique_ptr<Insert>>> inserts_;
  std::unique_ptr<Statement> begin_, commit_;
  bool failed_ = false;  // for good: `fatal` of the store

  std::mutex mutex_;
  std::condition_variable wake_, done_, room_;
  std::deque<Job*> queue_;
  uint64_t queued_bytes_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace millstream
