// DiskPartition: one partition of the embedded log: its queue, its writer thread, its view for readers.
//
// Place: floor 2. The writer thread alone touches the segment writer. It takes all that is queued, stamps and
// writes it in as few calls as possible, syncs once, and answers; what is queued meanwhile is the next group.
// Threads: public functions are thread-safe. The queue's lock is never held during I/O or while an answer is
// given. Bounds: max_queued_bytes. Failure: a failed sync, or a write that cannot be cut off again, is fatal
// for the partition. A log without threads (DiskLog::OpenStepped) has none here either: what is queued is
// written by who calls WriteQueued.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/metrics.h"
#include "log/context.h"
#include "log/partition_view.h"
#include "log/recovery.h"
#include "log/segment_writer.h"

namespace millstream {

class DiskPartition final : public Partition {
 public:
  DiskPartition(LogContext& context, std::string directory, std::string stream, uint32_t index,
                std::unique_ptr<ReceiptIndex> receipts, RecoveredPartition recovered);
  ~DiskPartition() override;

  void Append(EncodedBatch batch, AckMode mode, Done done) override;
  Bounds bounds() const override;
  Result<std::unique_ptr<PartitionReader>> Read(uint64_t from) override;
  Result<uint64_t> OffsetForTime(int64_t time_us) override;
  std::optional<Receipt> FindReceipt(const std::string& origin, const std::string& part) const override;
  std::optional<PlacedReceipt> FindPlacedReceipt(const std::string& origin,
                                                 const std::string& part) const override;
  std::vector<Receipt> FindReceipts(const std::string& origin) const override;
  bool WaitBeyond(uint64_t offset, int64_t timeout_us, std::stop_token stop) override;
  std::vector<SegmentInfo> segments() const override;
  void SetLowWater(uint64_t offset) override { low_water_ = offset; }
  std::vector<EpochEnd> EpochEnds() const override { return state_.epochs; }

  /// For the stream. Segments are sealed when they are this large.
  void SetSegmentBytes(uint64_t bytes) { segment_bytes_ = bytes; }
  /// Seals the last segment if it holds an event, and waits for it.
  Status Roll();
  /// Drains the queue, syncs, writes the clean-stop mark, ends the thread. With `clean` false: ends as a
  /// crash of the process would.
  Status Close(bool clean);
  /// Without a writer thread, its next turn: commits what is queued; if that is nothing, syncs what waits for
  /// the interval.
  void WriteQueued();
  /// Called by the writer when a sealed segment waits for a merge.
  void SetOnSealed(std::function<void()> on_sealed) { on_sealed_ = std::move(on_sealed); }
  PartitionView& view() { return view_; }
  uint64_t low_water() const { return low_water_; }
  uint32_t index() const { return index_; }
  const std::string& stream() const { return stream_; }
  const std::string& directory() const { return directory_; }
  /// Held while a segment is merged or removed.
  std::mutex& maintenance_mutex() { return maintenance_mutex_; }

 private:
  struct Entry {
    EncodedBatch batch{};
    AckMode mode = AckMode::kDurable;
    Done done;
    bool roll = false;
  };
  // Written, and not yet durable.
  struct Unsynced {
    Appended place;
    Receipts receipts;
    Done done;  // empty if answered already
  };

  void Run();
  // Takes what is queued once there is something, or a sync may be due. False: the partition ends.
  bool WaitForGroup(std::vector<Entry>& group);
  void CommitGroup(std::vector<Entry>& group);
  // Answers what was not written, and syncs the rest unless the partition was abandoned.
  void End();
  // Something was queued; without the queue's lock.
  void TellQueued();
  void Commit(std::vector<Entry>& group);
  // Writes entries in one call; answers those that wait for no sync. After a failure none is answered.
  Status Write(std::span<Entry> entries);
  // Answers entries that were not written, and all that is queued behind them.
  void Refuse(std::span<Entry> entries, const Status& status);
  Status WriteOnce(std::span<StampedBatch> batches);
  void Sync();
  Status RollNow();
  Status StartSegment();
  void Fail(const Status& status);
  SegmentPtr Growing() const;
  std::string NameOf(const std::string& path) const { return path.substr(context_.directory.size() + 1); }

  LogContext& context_;
  const std::string directory_, stream_;
  const uint32_t index_;
  const std::unique_ptr<ReceiptIndex> receipts_;
  PartitionView view_;
  PartitionState state_;
  std::atomic<uint64_t> low_water_ = UINT64_MAX;
  std::atomic<uint64_t> segment_bytes_;
  std::function<void()> on_sealed_;
  std::mutex maintenance_mutex_;

  // The writer thread's own.
  std::unique_ptr<SegmentWriter> writer_;  // null after a new segment could not be made
  SegmentPtr sealed_waiting_;              // sealed, until its successor is made
  uint64_t next_offset_;
  int64_t max_us_;
  std::vector<Unsynced> unsynced_;
  uint64_t unsynced_waiting_ = 0;  // of them, whose callers wait
  int64_t unsynced_since_ns_ = 0;
  Histogram fsync_seconds_;

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::vector<Entry> queue_;
  std::atomic<uint64_t> queued_bytes_ = 0;
  bool closing_ = false;    // no more appends
  bool abandoned_ = false;  // nor is the queue written
  Status failure_;          // why appends are refused
  Status refusing_;         // the same, while a failed write is being told
  std::thread thread_;
};

}  // namespace millstream
