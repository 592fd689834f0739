// Compress: bytes as one gzip member or one zstd frame. Members and frames may follow one another in a file,
// and every reader of the formats reads on across them, so that an appended batch is complete by itself.
//
// Place: floor 4, sinks/ only. Stateless. Source of the formats: RFC 1952, RFC 8878.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "event/decompress.h"

namespace millstream {

/// "gzip" or "zstd"; by the path's ending (.gz, .zst) for ""; else none.
Compression CompressionOf(std::string_view option, std::string_view path);
/// kExhausted if the library finds no memory.
Result<std::string> Compress(std::string_view bytes, Compression compression);

}  // namespace millstream
