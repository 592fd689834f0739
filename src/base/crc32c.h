// CRC32C (Castagnoli, RFC 3720 appendix B.4), by the SSE4.2 instruction.
//
// Place: floor 0. Stateless.
#pragma once

#include <cstdint>
#include <string_view>

namespace millstream {

/// Extends `crc` (0 at the start) over `bytes`.
uint32_t Crc32c(std::string_view bytes, uint32_t crc = 0);

}  // namespace millstream
