// LogContext: what all partitions of a log share; DiskWatch: is there still room.
//
// Place: floor 2. Owned by the log, outlives its partitions. Threads: thread-safe; uuid and options do not
// change after Open.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "log/log.h"
#include "log/receipt_index.h"
#include "log/stamper.h"

namespace millstream {

class DiskPartition;

/// Below the free-space floor ordinary streams are refused; streams of ours (names with a leading `_`) go on,
/// and the reserve file is given up for them when the disk is full.
class DiskWatch {
 public:
  DiskWatch(FileSystem& fs, Clock& clock, std::string directory, double floor, uint64_t reserve_bytes);
  /// True below the floor. Asks the system every 200 ms at most.
  bool Low();
  /// Makes the reserve file if there is room for it.
  Status MakeReserve();
  /// Removes the reserve file; true if there was one.
  bool ReleaseReserve();

 private:
  FileSystem& fs_;
  Clock& clock_;
  const std::string directory_;
  const std::string reserve_path_;
  const double floor_;
  const uint64_t reserve_bytes_;
  std::mutex mutex_;
  std::atomic<bool> low_ = false;
  std::atomic<int64_t> asked_ns_ = INT64_MIN / 2;
};

struct LogContext {
  LogContext(FileSystem& file_system, Clock& log_clock, std::string log_directory, LogOptions log_options,
             std::function<void(Status)> on_fatal)
      : fs(file_system),
        clock(log_clock),
        directory(std::move(log_directory)),
        options(log_options),
        stamper(log_clock),
        disk(file_system, log_clock, directory, options.free_space_floor, options.reserve_bytes),
        on_fatal_(std::move(on_fatal)) {
    key_receipts.window_us = options.key_receipt_window_us;
    key_receipts.receipts_max = options.max_key_receipts;
  }

  FileSystem& fs;
  Clock& clock;
  const std::string directory;
  const LogOptions options;
  Uuid uuid{};
  Stamper stamper;
  DiskWatch disk;
  KeyReceiptBudget key_receipts;
  /// Set before the first partition is made: partitions have no threads. Called by whoever queued something
  /// for a partition, which waits there until somebody calls WriteQueued.
  std::function<void(DiskPartition&)> on_queued;

  /// The first call goes to on_fatal.
  void Fatal(const Status& status) {
    if (!fatal_.exchange(true) && on_fatal_) on_fatal_(status);
  }

 private:
  std::function<void(Status)> on_fatal_;
  std::atomic<bool> fatal_ = false;
};

}  // namespace millstream
