// Folder: the thread that takes deltas into their bases, and decides when to checkpoint.
//
// Place: floor 3, inside tables/. One fold at a time. It takes rows of the delta into the base, with how far
// their writers came, and lets the view begin behind them, in one transaction: before its commit and after it
// readers get the same answers, and a kill at any point leaves a base and offsets that agree. The delta's
// rows are dropped a little later, because a reader may be about to read them. The base of a keyed table is
// changed in place while few of its rows are dead, else written anew in hash order, so that a look-up reads
// one row group of it. Threads: its own; public functions are thread-safe. Failure: a fold that fails is
// rolled back and tried again later; rows stay in the delta, where readers see them.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "tables/store_state.h"

namespace millstream {

class Folder {
 public:
  // A fold costs a pass over the base, so under load it waits for many rows, and for fewer when deliveries
  // pause. What is not folded comes again from the log after a crash: hence the greatest age.
  static constexpr uint64_t kMinRows = 250'000;
  static constexpr uint64_t kMaxRows = 1'000'000;
  static constexpr uint64_t kBaseShare = 2;
  static constexpr int64_t kPauseNs = 1'000'000'000;
  static constexpr int64_t kMaxAgeNs = 10'000'000'000;
  static constexpr int64_t kAgeFolds = 50;  // … and as many times what the last fold took
  // Folding::kBulk: after so many times the base's rows, within these bounds.
  static constexpr uint64_t kBulkShare = 4;
  static constexpr uint64_t kMinRowsBulk = 8'000'000;
  static constexpr uint64_t kMaxRowsBulk = 32'000'000;
  // Beyond these deliveries wait for a fold.
  static constexpr uint64_t kMostUnfolded = 2'000'000;
  static constexpr uint64_t kMostUnfoldedBulk = 2 * kMaxRowsBulk;
  static constexpr int64_t kReaderNs = 100'000'000;  // between a reader's look at the view and its start
  static constexpr uint64_t kCheckpointWalBytes = 64ull << 20;
  static constexpr uint64_t kPauseWalBytes = 1ull << 20;
  static constexpr uint64_t kRowGroupRows = 122'880;          // five of the file's (sql/database.cc)
  static constexpr uint64_t kAppendRows = 2 * kRowGroupRows;  // of an append table
  // Bytes of all deltas, as shares of the database's memory: from the first on they are folded, from the
  // second on deliveries wait. The others are those of Folding::kBulk, for each fold passes the base.
  static constexpr uint64_t kRecentFraction = 8, kMostRecentFraction = RowBuffer::kMemoryFraction;
  static constexpr uint64_t kRecentFractionBulk = 4, kMostRecentFractionBulk = 2;
  static constexpr int64_t kCheckpointAgeNs = 60'000'000'000;  // retention waits for a checkpoint
  static constexpr uint64_t kScatteredRows = 3'000'000;
  // A base is written anew in ranges of so many rows, that DuckDB sorts in its memory.
  static constexpr uint64_t kMinRowsPerRange = 100'000, kMaxRowsPerRange = 1'000'000;
  static constexpr uint64_t kMemoryPerRow = 1024;
  static constexpr int64_t kTickMs = 20;
  static constexpr int64_t kRetryNs = 1'000'000'000;  // after a failure, times those in a row

  Folder(TableStore::State& state, std::unique_ptr<Connection> connection);
  ~Folder();

  /// Folds every delta and writes every buffer that has rows now. Blocks; a stop ends it.
  Status FoldAll(std::stop_token stop);
  /// If a fold of this table runs, it is undone, to be made later.
  void MakeRoom(const Table& table);
  /// A checkpoint while neither a fold nor a commit runs (Database::Checkpoint); a fold that runs is undone,
  /// to be made later. Offsets that survive a power cut follow.
  Status Checkpoint();
  /// Drops what no view names any more: the delta's rows once no reader opens them, a base (none: "") after
  /// the next checkpoint.
  void Retire(const std::string& base, std::shared_ptr<Table> table);

 private:
  void Loop();
  int64_t RetryNs(const Status& status) const;
  /// `has_room_to_come`: rows that were folded still lie in memory, for a moment.
  bool IsDue(const Table& table, int64_t now, bool has_room_to_come) const;
  std::shared_ptr<Table> NextDue(bool has_room_to_come);
  Status FoldEverything();
  Status Fold(Table& table, bool everything);
  Result<uint64_t> CountOf(const std::string& sql);
  Status RunFold(Table& table, const TableShape& shape);
  void Retire(Table& table, uint64_t end_row);
  uint64_t ChooseRows(Table& table, bool everything) const;
  Status SaveRows(Table& table, const TableShape& shape, bool everything);
  Status SaveOffsets(Table& table);
  Status Commit();
  Status StoreOffsets(const Table& table, std::map<Writer, int64_t>* new_ids);
  void PublishOffsets(Table& table, const std::map<Writer, int64_t>& new_ids);
  Result<uint64_t> RunAll(const Table& table, const std::vector<std::string>& statements);
  Status TrimOffsets();
  Status CheckpointNow();
  void CheckpointIfDue();
  bool DropRetired();  // true: nothing is left
  bool Interrupted(const Table& table);

  TableStore::State& state_;
  std::unique_ptr<Connection> connection_;
  int64_t failures_ = 0;       // folds in a row
  int64_t not_before_ns_ = 0;  // after a failure
  std::atomic<uint64_t> rewritten_rows_{
      0};  // since the last checkpoint: blocks of old bases are free only after one
  struct Retired {
    std::shared_ptr<Table> table;
    uint64_t end_row;  // rows below
    int64_t since_ns;
  };
  std::deque<Retired> retired_;
  std::vector<std::string> retired_bases_;  // dropped after a checkpoint
  std::atomic<int64_t> checkpointed_ns_;

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
