// Inflater: gzip and zstd, a chunk at a time, with a bound on what comes out.
//
// Place: floor 1. Used for HTTP bodies, files and stdin. Several gzip members or zstd frames one after
// another are one stream. Threads: one at a time. Failure: kInvalid for damaged input; kExhausted if more
// than `max_bytes` would come out in all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace millstream {

enum class Compression : uint8_t { kNone, kGzip, kZstd };

/// "gzip", "zstd", "none"; kInvalid names them.
Result<Compression> ParseCompression(std::string_view name);
/// By a file's name: .gz, .zst, .zstd; else none.
Compression CompressionOf(std::string_view path);
/// By the first bytes of what was compressed.
Compression CompressionOfBytes(std::string_view head);

class Inflater {
 public:
  static std::unique_ptr<Inflater> Make(Compression compression, uint64_t max_bytes = UINT64_MAX);
  virtual ~Inflater() = default;
  /// Takes bytes from the front of `in` and appends at most `most` to `out`. To be called again while `in` is
  /// not empty or `most` bytes came.
  virtual Status Inflate(std::string_view& in, std::string& out, size_t most) = 0;
  /// After the last byte: kInvalid if the stream breaks off in the middle.
  virtual Status Finish() const = 0;
};

/// All at once.
Result<std::string> InflateAll(Compression compression, std::string_view in, uint64_t max_bytes);

}  // namespace millstream
