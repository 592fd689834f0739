// DiskLog and DiskStream: the embedded log's folder: identity, streams, retention, merges.
//
// Place: floor 2; what Log::Open makes.
// Threads: thread-safe. One merger thread for the log, at work only where sealed segments hold tiny batches.
// Failure: a merge that fails leaves its segment as it was and is not tried again until the next start.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "log/context.h"
#include "log/partition.h"

namespace millstream {

class DiskStream final : public Stream {
 public:
  DiskStream(LogContext& context, std::string name, std::vector<std::unique_ptr<DiskPartition>> partitions)
      : context_(context), name_(std::move(name)), partitions_(std::move(partitions)) {}

  const std::string& name() const override { return name_; }
  uint32_t partitions() const override { return static_cast<uint32_t>(partitions_.size()); }
  DiskPartition& partition(uint32_t index) override { return *partitions_.at(index); }
  void SetLayout(Contract contract, Codec codec, Retention retention) override;

  /// Removes what retention allows now.
  Status Retain();
  /// Merges every sealed segment that asks for it.
  Status Merge(const std::stop_token& stop);

 private:
  struct Layout {
    Contract contract;
    Codec codec = Codec::kLz4;
    Retention retention;
  };
  std::shared_ptr<const Layout> layout() const;
  Status RetainByAge(DiskPartition& partition, int64_t age_us);
  Status RetainByBytes(uint64_t bytes);
  // The first segment of a partition, if it may be removed.
  static SegmentPtr Removable(DiskPartition& partition);
  Status RemoveFirst(DiskPartition& partition);

  LogContext& context_;
  const std::string name_;
  const std::vector<std::unique_ptr<DiskPartition>> partitions_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Layout> layout_;  // null until SetLayout
  std::mutex merge_mutex_;
  std::set<std::string> unmergeable_;  // paths
};

class DiskLog final : public Log {
 public:
  explicit DiskLog(std::unique_ptr<LogContext> context);
  ~DiskLog() override;
  /// Log::Open for a simulator: without threads. Each partition writes when it is told to, and `on_queued` is
  /// told of what waits for that; who appends and waits for the answer relies on it that `on_queued` writes.
  static Result<std::unique_ptr<DiskLog>> OpenStepped(FileSystem& fs, Clock& clock, Random& random,
                                                      std::string directory, LogOptions options,
                                                      std::function<void(Status)> on_fatal,
                                                      std::function<void(DiskPartition&)> on_queued);

  Result<Stream*> OpenStream(const std::string& name, uint32_t partitions) override;
  Stream* Find(const std::string& name) override;
  Status RemoveStream(const std::string& name) override;
  std::vector<Stream*> streams() override;
  const Uuid& uuid() const override { return context_->uuid; }
  const LogRecovery& recovery() const override { return recovery_; }
  std::vector<PartitionSegments> SegmentsNow() override;
  std::vector<ClockLeap> clock_leaps() const override { return context_->stamper.leaps(); }
  void AcceptClock() override { context_->stamper.Accept(); }
  Status Retain() override;
  Status SealAll() override;
  Status MergeSealed() override;
  Status Close() override;

 private:
  Result<std::unique_ptr<DiskStream>> MakeStream(const std::string& name, uint32_t partitions);
  std::vector<DiskStream*> AllStreams() const;
  void RunMerger(const std::stop_token& stop);
  void StopMerger();

  const std::unique_ptr<LogContext> context_;
  LogRecovery recovery_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<DiskStream>> streams_;
  std::vector<std::unique_ptr<DiskStream>> removed_;  // closed; others may still point at them
  bool closed_ = false;

  std::mutex merger_mutex_;
  std::condition_variable_any merger_changed_;
  bool merger_has_work_ = false;
  std::jthread merger_;
};

}  // namespace millstream
