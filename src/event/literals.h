// Literals: texts to values, exactly or not at all.
//
// Place: floor 1. Used by the decoder for JSON numbers and strings, by CSV and by defaults. Stateless.
// Failure: false, and the output is not to be used. Nothing is ever rounded, except doubles and floats
// (nearest) and digits after the microsecond (cut off).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millstream {

using Int128 = __int128;

/// "12", "-1.50", "2.5e3": the value times 10^scale must be whole and have at most `width` digits (38 at
/// most).
bool ParseDecimal(std::string_view text, uint8_t width, uint8_t scale, Int128& out);
/// Whole numbers in any of these forms ("1e3" is 1000) between the bounds.
bool ParseInteger(std::string_view text, Int128 lowest, Int128 highest, Int128& out);
bool ParseUnsigned64(std::string_view text, uint64_t& out);
/// Also nan, inf and infinity in any case. A finite text that overflows is refused.
bool ParseDouble(std::string_view text, double& out);
bool ParseFloat(std::string_view text, float& out);
/// true false t f yes no y n 1 0, any case.
bool ParseBoolean(std::string_view text, bool& out);

/// "2026-11-22": days since 1970-01-01.
bool ParseDate(std::string_view text, int32_t& days);
/// "10:00:00.5": microseconds since midnight.
bool ParseTime(std::string_view text, int64_t& us);
/// RFC 3339, or "YYYY-MM-DD hh:mm:ss[.f]"; without a zone it is UTC. Second 60 counts as the next minute's
/// first, as POSIX time does. Years 0000 to 9999.
bool ParseTimestamp(std::string_view text, int64_t& us);

/// With or without hyphens. 16 bytes in DuckDB's layout: a little-endian 128-bit integer whose top bit is
/// flipped.
bool ParseUuid(std::string_view text, char out[16]);
/// RFC 4648 with padding.
bool ParseBase64(std::string_view text, std::string& out);

/// The reverse ways.
std::string FormatDecimal(Int128 value, uint8_t scale);
std::string FormatDate(int32_t days);
std::string FormatUuid(const char bytes[16]);
std::string FormatBase64(std::string_view bytes);

}  // namespace millstream
