// PartitionView: what of a partition may be read: its segments and how far the last one is durable.
//
// Place: floor 2, between a partition's writer thread, which publishes, and its readers, which look up and
// wait. Threads: thread-safe; the lock is held for look-ups only, never during I/O.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "log/log.h"
#include "log/segment.h"

namespace millstream {

using SegmentPtr = std::shared_ptr<const Segment>;

class PartitionView {
 public:
  /// `name` is "STREAM/PARTITION", for messages.
  explicit PartitionView(std::string name) : name_(std::move(name)) {}

  /// Where a reader goes on. `position` and `limit` hold for a segment that is not sealed.
  struct Place {
    SegmentPtr segment;
    uint64_t position = 0;
    uint64_t limit = 0;
    uint64_t end_offset = 0;  // UINT64_MAX while the segment grows
  };
  /// The segment that holds `offset`, or the first after it. kNotFound below the start, naming the earliest
  /// offset.
  Result<Place> Find(uint64_t offset) const;
  /// The same for the first segment that holds an event stamped later than `time_us` by running maximum; null
  /// if none does.
  Result<Place> FindTime(int64_t time_us) const;
  /// How far the segment that starts at `first_offset` may be read now: limit and end_offset of a Place.
  Result<Place> Refresh(const SegmentPtr& segment) const;
  uint64_t durable_end() const;
  Bounds bounds() const;
  std::vector<SegmentPtr> segments() const;
  std::vector<SegmentInfo> Describe() const;
  /// Describe of several at one moment. Nobody else holds two of their locks.
  static std::vector<std::vector<SegmentInfo>> DescribeAll(const std::vector<const PartitionView*>& views);
  bool Wait(uint64_t offset, int64_t timeout_us, std::stop_token stop) const;

  /// The writer's side. Start names all segments; the last one grows and is durable as far as its writer is.
  void Start(std::vector<SegmentPtr> segments, const SegmentFooter& tail, uint64_t position,
             uint64_t next_offset, uint32_t epoch);
  void PublishWritten(uint64_t end, uint64_t position);
  void PublishDurable(const SegmentFooter& tail, uint64_t position, uint64_t end);
  /// The last segment was sealed, and `next` grows from now on.
  void Roll(SegmentPtr sealed, SegmentPtr next, uint64_t position);
  /// Puts a merged segment in the place of the one with the same first offset; false if that is gone.
  bool Replace(SegmentPtr merged);
  /// Takes the first segment out; it must not be the last one.
  void RemoveFirst();
  /// Wakes all who wait; Wait answers false from now on unless there is something to read.
  void Close();

 private:
  std::vector<SegmentInfo> DescribeLocked() const;
  Place PlaceIn(size_t index) const;
  Status BelowStart(uint64_t offset) const;

  const std::string name_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::vector<SegmentPtr> segments_;
  SegmentFooter tail_;  // what is durable of the last segment, with its index
  uint64_t tail_header_bytes_ = 0;
  uint64_t durable_position_ = 0;
  uint64_t written_position_ = 0;
  uint64_t durable_end_ = 0;
  uint64_t end_ = 0;
  uint64_t last_end_ =
      0;  // after the last durable event: below durable_end_ where a repair has lost the newest
  uint64_t sealed_bytes_ = 0;
  uint32_t epoch_ = 0;
  bool closed_ = false;
};

}  // namespace millstream
