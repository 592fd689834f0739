// OpenSplitterFeed: the InputFeed of everything but plain NDJSON: compressed files, JSON documents, CSV.
//
// Place: floor 8. See cli/input_feed.h. Such a file is read from its start to resume, and what was taken is
// passed over.
#pragma once

#include <memory>

#include "cli/input_feed.h"

namespace millstream {

/// `file` null: stdin.
Result<std::unique_ptr<InputFeed>> OpenSplitterFeed(std::unique_ptr<File> file, uint64_t total,
                                                    const FeedOptions& options, const std::string& resume);

}  // namespace millstream
