// Text forms of single values, as JSON and CSV answers show them (SURFACE, "HTTP").
//
// Place: floor 2, inside sql/. Stateless; every function appends to `out`. Times are RFC 3339: TIMESTAMPTZ
// ends in Z, a TIMESTAMP without zone has none; fractions only where they are not zero.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millstream {

/// A JSON string with quotes; `text` is valid UTF-8.
void AppendQuoted(std::string& out, std::string_view text);
void AppendInteger(std::string& out, int64_t value);
void AppendUnsigned(std::string& out, uint64_t value);
/// 128 bits in two's complement; `is_signed` false: all of them count.
void AppendHugeint(std::string& out, uint64_t lower, uint64_t upper, bool is_signed);
/// The digits of a decimal with `scale` of them after the point.
void AppendDecimal(std::string& out, __int128 value, uint8_t scale);
/// The shortest text that reads back equal; with a point or an exponent. False for NaN and infinity: nothing
/// is appended.
bool AppendDouble(std::string& out, double value);
bool AppendFloat(std::string& out, float value);
void AppendBase64(std::string& out, std::string_view bytes);
void AppendUuid(std::string& out, uint64_t lower, int64_t upper);
void AppendDate(std::string& out, int32_t days);
void AppendTimeOfDay(std::string& out, int64_t value, uint32_t units_per_second);
/// Units since 1970, e.g. 1,000,000 a second.
void AppendTimestamp(std::string& out, int64_t value, uint32_t units_per_second, bool utc);
/// ISO 8601: "P1Y2M3DT4H5M6.7S".
void AppendInterval(std::string& out, int32_t months, int32_t days, int64_t micros);
/// DuckDB's BIT: a byte that counts padding bits, then the bits.
void AppendBits(std::string& out, std::string_view bytes);
/// DuckDB's BIGNUM: three bytes of header, then big-endian digits, all inverted where negative.
void AppendBignum(std::string& out, std::string_view bytes);

}  // namespace millstream
