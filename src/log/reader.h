// DiskReader: reads one partition's batches in order, up to what is durable.
//
// Place: floor 2. Follows the growing segment through its writer's file, opens sealed ones by their path, one
// at a time. Threads: one thread. The partition must outlive it. Failure: kNotFound below the start; kCorrupt
// with file and byte.
#pragma once

#include <memory>
#include <string>

#include "log/context.h"
#include "log/partition_view.h"
#include "log/segment.h"

namespace millstream {

class DiskReader final : public PartitionReader {
 public:
  DiskReader(LogContext& context, const PartitionView& view, std::string stream, uint32_t partition,
             uint64_t from)
      : context_(context), view_(view), stream_(std::move(stream)), partition_(partition), next_(from) {}

  Result<std::unique_ptr<EventBatch>> Next() override;
  void Seek(uint64_t offset) override;
  /// Partition::OffsetForTime.
  Result<uint64_t> FindTime(int64_t time_us);

 private:
  // Opens what `place` names and stands before `offset`, or before the first batch stamped later than
  // `time_us` by running maximum.
  Status Enter(const PartitionView::Place& place, uint64_t offset, int64_t time_us);
  // The header of the next batch that is durable; null if there is none.
  Result<std::optional<BatchHeader>> NextHeader();
  Result<std::unique_ptr<EventBatch>> OpenBatch(const BatchHeader& header);

  LogContext& context_;
  const PartitionView& view_;
  const std::string stream_;
  const uint32_t partition_;
  uint64_t next_;
  uint64_t durable_end_ = 0;
  SegmentPtr segment_;
  std::shared_ptr<File> file_;
  std::unique_ptr<SegmentCursor> cursor_;
  uint64_t segment_end_ = 0;  // the first offset after this segment; UINT64_MAX while it grows
};

}  // namespace millstream
