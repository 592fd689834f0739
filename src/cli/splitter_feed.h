// OpenSplitterFeed: the EventFeed of everything but plain NDJSON: compressed files, JSON documents, CSV.
//
// Place: floor 8. See cli/event_feed.h. Such a file is read from its start to resume, and what was taken is
// passed over.
#pragma once

#include <memory>

#include "cli/event_feed.h"

namespace millstream {

/// `file` null: stdin.
Result<std::unique_ptr<EventFeed>> OpenSplitterFeed(std::unique_ptr<File> file, uint64_t total,
                                                    const FeedOptions& options, const std::string& resume);

}  // namespace millstream
