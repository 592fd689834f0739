// StreamFeed: a stream's batches within bounds, partition after partition, for a StreamScan.
//
// Place: floor 6, inside query/. The end of each partition is fixed when the feed is made, so that a query
// ends. Belongs to one thread.
#pragma once

#include <optional>

#include "pipeline/engine.h"
#include "sql/query_rewriter.h"
#include "sql/scan.h"

namespace millstream {

/// Events of the partitions, offsets and append times that `bounds` leave. Retention may have removed what
/// the bounds name: the feed begins at what is kept.
/// `end`: by partition, the first offset that is not given; a partition that it does not name has none.
Result<StreamScan::Feed> MakeStreamFeed(Stream& stream, const StreamBounds& bounds,
                                        const std::optional<Boundary>& end = std::nullopt);

}  // namespace millstream
