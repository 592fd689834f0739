// InputFeed: a file or stdin cut into pieces of whole events, each with the place where the next begins.
//
// Place: floor 8; used by `ingest`. Belongs to one thread. Memory: one piece and what the splitter holds.
// Plain NDJSON is cut at line ends and never looked at further; all else goes through event/record_splitter.h
// and comes out as JSON arrays, each event byte for byte. Compression is known by the name or the first
// bytes. Failure: kInvalid names the line where a format breaks off; kIo for the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/file_system.h"
#include "base/status.h"
#include "event/type.h"
#include "pipeline/ingest.h"

namespace millstream {

struct FeedOptions {
  std::string path;     // "-" for stdin
  std::string format;   // ndjson, json, csv; empty: by the name's ending, else `records` means
                        // json, else by the first characters
  std::string records;  // JSON pointer
  std::map<std::string, std::string> csv;  // delimiter, header, quote, null
  Contract contract;                       // types of CSV values
  std::stop_token stop;                    // ends a wait for stdin: kCancelled
};

inline constexpr size_t kPieceBytes = 1 << 20;  // of the input, about

struct FeedPiece {
  BodyFormat format = BodyFormat::kNdjson;
  std::string_view body;              // followed by 64 readable bytes
  std::shared_ptr<const void> owner;  // keeps `body` alive
  uint64_t first_event = 0;           // events of the file before it
  uint64_t events = 0;
  uint64_t first_line = 1;
  std::string
      position;  // "EVENTS BYTES LINES" after it, or "EVENTS" where the file must be read from its start
  uint64_t bytes_read = 0;  // of the file so far, as it lies on disk
};

class InputFeed {
 public:
  /// `resume`: a position that an earlier piece had; empty: from the start.
  static Result<std::unique_ptr<InputFeed>> Open(FileSystem& fs, const FeedOptions& options,
                                                 const std::string& resume);
  virtual ~InputFeed() = default;
  /// The next piece; nothing at the end.
  virtual Result<std::optional<FeedPiece>> Next() = 0;
  /// Bytes of the file; 0 for stdin.
  virtual uint64_t total_bytes() const = 0;
};

/// What a file is known by: path, size and hash of its first 64 KiB.
Result<std::string> FileIdentity(FileSystem& fs, const std::string& path);

}  // namespace millstream
