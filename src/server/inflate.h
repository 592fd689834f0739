// Inflate: request bodies with Content-Encoding gzip or zstd, with a bound on what comes out.
//
// Place: floor 7. Stateless; runs on worker threads. Failure: kExhausted beyond the bound (413), kInvalid for bytes that do not decode (400),
// kNotFound for an encoding that is not known (415).
#pragma once

#include <string_view>

#include "base/status.h"
#include "server/http_message.h"

namespace millstream {

/// True for "", identity, gzip, x-gzip and zstd.
bool KnowsEncoding(std::string_view encoding);
/// `encoding`: one of those, in lower case. At most `max_bytes` come out. Concatenated gzip members and zstd frames are one body.
Result<BodyBuffer> Inflate(std::string_view encoding, std::string_view bytes, uint64_t max_bytes);

}  // namespace millstream
