// ParallelIngest: pieces of files into one stream: prepared on several threads, appended in the order in
// which they were sent.
//
// Place: floor 5; used by `ingest` without a server and by source runners. One caller's thread sends; threads
// of its own prepare (split, check, lay out, compress), which is nearly all of the work. Several pieces may
// wait for the log at once, so that one sync makes all of them durable.
// Order and exactly once: a piece is appended after the one before it; once one has failed, none behind it is
// appended (log.h: what was queued behind a failed append fails too), so that an origin's receipts never
// reach over a gap. Memory: kBytesMax of bodies that are not durable yet, or one body if it is larger.
// Failure: comes out of the next Send or Finish, a refusal with its faults.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "pipeline/stream_ingest.h"

namespace millstream {

class ParallelIngest {
 public:
  explicit ParallelIngest(std::shared_ptr<StreamIngest> ingest);
  /// Waits for what is under way.
  ~ParallelIngest();
  ParallelIngest(const ParallelIngest&) = delete;
  ParallelIngest& operator=(const ParallelIngest&) = delete;

  /// Hands a piece over, and waits while too much is under way. `body` keeps request.body alive. An error is
  /// that of an earlier piece: this one was not taken.
  Status Send(IngestRequest request, std::shared_ptr<const void> body);
  /// Waits until all that was sent is durable, or answers the first failure; may be used again then.
  Status Finish();

  /// What was answered so far.
  struct Totals {
    uint64_t accepted = 0, quarantined = 0, duplicates = 0;
    Position position;  // the last event in each partition that got one
    void Add(const IngestAnswer& answer);
  };
  Totals totals() const;

 private:
  struct Piece {
    IngestRequest request;
    std::shared_ptr<const void> body;  // until it is prepared
    size_t bytes = 0;                  // as counted in bytes_
    std::shared_ptr<PreparedIngest> prepared;
    bool ready = false;
  };
  void Prepare();
  void CommitReady(std::unique_lock<std::mutex>& lock);
  void Answer(const Piece& piece, tl::expected<IngestAnswer, IngestRefusal> answer);

  const std::shared_ptr<StreamIngest> ingest_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Piece>> pieces_;  // not committed yet, in order
  size_t taken_ = 0;                           // of pieces_, from the front, by threads that prepare
  size_t commits_ = 0;                         // under way
  size_t bytes_ = 0;                           // of pieces that are not durable yet
  std::shared_ptr<IngestOrder> order_ = std::make_shared<IngestOrder>();
  bool committing_ = false;  // one thread at a time commits
  bool closing_ = false;
  Status failure_;
  Totals totals_;
  std::vector<std::jthread> threads_;
};

}  // namespace millstream
