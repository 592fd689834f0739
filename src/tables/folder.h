// Folder: the thread that takes finished deltas into their bases, and decides when to checkpoint.
//
// Place: floor 3, inside tables/. One fold at a time. First the writer gives the table a new delta (a layout
// change of its own); then the finished one goes into the base in a transaction of the folder's connection
// that also switches the view and drops the delta: before its commit and after it readers get the same
// answers, and a stop at any point leaves either. A base is changed in place while few of its rows are dead,
// else written anew in hash order, so that a look-up reads one row group of it. Threads: its own; public
// functions are thread-safe. Failure: a fold that fails is rolled back and tried again later; rows stay in
// the delta, where readers see them.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "tables/store_state.h"

namespace millstream {

class Folder {
 public:
  // A fold costs a pass over the base: it waits for a quarter of the base's rows under load, for less when
  // deliveries pause.
  static constexpr uint64_t kMinRows = 200'000;
  static constexpr uint64_t kMaxRows = 4'000'000;
  static constexpr uint64_t kBaseShare = 4;
  static constexpr int64_t kPauseNs = 1'000'000'000;
  static constexpr int64_t kLongPauseNs = 10'000'000'000;
  static constexpr uint64_t kCheckpointWalBytes = 64ull << 20;
  static constexpr uint64_t kPauseWalBytes = 1ull << 20;
  static constexpr uint64_t kRowsPerRange = 500'000;
  static constexpr int64_t kTickMs = 20;

  Folder(TableStore::State& state, std::unique_ptr<Connection> connection);
  ~Folder();

  /// Folds every delta that has rows now. Blocks.
  Status FoldAll();
  /// If a fold of this table runs, it is undone, to be made later.
  void MakeRoom(const Table& table);
  /// A checkpoint by the writer while no fold runs (Database::Checkpoint); a fold that runs is undone, to be
  /// made later.
  Status Checkpoint();

 private:
  void Loop();
  bool IsDue(const Table& table, int64_t now) const;
  std::shared_ptr<Table> NextDue();
  Status FoldEverything();
  Status Fold(Table& table);
  Status Swap(Table& table);
  Status RunFold(Table& table, const TableShape& shape);
  Status RunAll(const Table& table, const std::vector<std::string>& statements);
  Result<uint64_t> CountOf(const std::string& temp_table);
  void CheckpointIfDue(bool after_fold);
  bool Interrupted(const Table& table);

  TableStore::State& state_;
  std::unique_ptr<Connection> connection_;
  int64_t failures_ = 0;       // folds in a row
  int64_t not_before_ns_ = 0;  // after a failure

  std::mutex changing_;  // a fold or a checkpoint, never both; taken before mutex_
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  int checkpoints_waiting_ = 0;
  const Table* current_ = nullptr;
  uint64_t asked_ = 0, answered_ = 0;  // FoldAll
  Status answer_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace millstream
