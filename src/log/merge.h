// MergeSegment: rewrites a sealed segment with its tiny batches merged.
//
// Place: floor 2; run by the log's merger thread. Batches with fewer events than merge_below_events are
// merged with their neighbours of the same epoch up to merged_events and kMergedBytesMax; all others are
// copied as they are. The new file is synced and renamed over the old one, whose readers go on reading what
// they have open. Threads: one a partition (its maintenance mutex). Failure: the old segment stays as it is.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "log/context.h"
#include "log/partition_view.h"

namespace millstream {

inline constexpr uint64_t kMergedBytesMax = 8 << 20;

/// The merged segment, to be put in the old one's place; null if `stop` came first.
Result<SegmentPtr> MergeSegment(LogContext& context, const SegmentPtr& segment, const std::string& stream,
                                uint32_t partition, const Contract& contract, Codec codec,
                                const std::stop_token& stop);

}  // namespace millstream
