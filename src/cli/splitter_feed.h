// MakeSplitterFeed: the InputFeed of everything but plain NDJSON: compressed bytes, JSON documents, CSV.
//
// Place: floor 8. See cli/input_feed.h. Such an input is read from its start to resume, and what was taken is
// passed over.
#pragma once

#include <memory>

#include "cli/input_bytes.h"
#include "cli/input_feed.h"

namespace millstream {

/// `total`: bytes of the file, 0 for stdin. `skip`: events that were taken before.
std::unique_ptr<InputFeed> MakeSplitterFeed(InputBytes bytes, uint64_t total, SplitOptions options,
                                            Compression compression, uint64_t skip);

}  // namespace millstream
