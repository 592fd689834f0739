// Recovery: brings a partition's folder from whatever a crash left to a state that may be appended to.
//
// Place: floor 2; used when a stream is opened. Sealed segments give their footer only; the last segment's
// headers are read, and the payloads of those batches that were perhaps not synced when the process ended.
// The tail is cut at the first batch that is not whole, unless a later batch's header says that it had been
// synced (then it is corruption). What was perhaps not synced is written again and synced before anything is
// appended: the page cache may hold what the disk has not. Threads: one thread a partition. Failure: kCorrupt
// names file and byte; nothing is changed then.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "log/context.h"
#include "log/partition_view.h"
#include "log/segment_writer.h"

namespace millstream {

struct RecoveredPartition {
  PartitionState state;  // as it was written: not clean, the new epoch last
  std::vector<SegmentPtr> sealed;
  std::unique_ptr<SegmentWriter> writer;  // of the last segment
  uint64_t next_offset = 0;
  int64_t max_us = 0;
  uint64_t truncated_bytes = 0;
  bool unclean = false;
};

/// Makes the partition if it is not there.
Result<RecoveredPartition> RecoverPartition(LogContext& context, const std::string& directory,
                                            const std::string& stream, uint32_t partition,
                                            ReceiptIndex& receipts);

/// What a walk over the batches of a segment that is not sealed found.
struct TailScan {
  SegmentHeader header;
  SegmentTally tally;
  uint64_t end = 0;                // of the last sound batch
  uint64_t synced = 0;             // below it all is known to have been synced
  Status damage{};                 // of what follows `end`; kOk at the end of the file
  bool damage_was_synced = false;  // a later header proves that what is damaged had been synced
  std::vector<std::pair<uint64_t, BatchHeader>> with_receipts{};
};
/// `check_all`: every payload's CRC is checked, not only those that were perhaps not synced.
Result<TailScan> ScanTail(File& file, const std::string& path, const Uuid& log, const LogOptions& options,
                          const std::vector<OffsetGap>& gaps, bool check_all);

/// True if [first, end) lies within what repairs have removed.
bool Covered(const std::vector<OffsetGap>& gaps, uint64_t first, uint64_t end);

}  // namespace millstream
