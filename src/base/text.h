// Text: how durations, sizes, shares, times and counts are read and written everywhere (SURFACE, "Words that
// hold everywhere").
//
// Place: floor 0. Stateless. Parsers answer kInvalid with what was expected.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace millstream {

/// "250ms", "30s", "5m", "24h", "30d" in microseconds.
Result<int64_t> ParseDurationUs(std::string_view text);
/// "3 ms", "1.2 s", "3h12m": for people.
std::string FormatDuration(int64_t us);
/// "64KiB", "16MiB", "10GiB", "512" in bytes.
Result<uint64_t> ParseBytes(std::string_view text);
/// "3.1 MiB": for people.
std::string FormatBytes(uint64_t bytes);
/// "5%" as 0.05.
Result<double> ParseShare(std::string_view text);
/// RFC 3339, e.g. "2026-11-22T10:00:00.5+01:00", in microseconds since 1970 UTC.
Result<int64_t> ParseTimeUs(std::string_view text);
/// "2026-11-22T00:00:00.123456Z"; no fraction if it is zero.
std::string FormatTime(int64_t us);
/// "1,240,118".
std::string FormatCount(uint64_t count);

/// A name of ours: [a-z][a-z0-9_]{0,62} and no SQL keyword, not `input`. kInvalid says what is wrong with it.
Status CheckName(std::string_view name);

/// The number that the whole text is; nothing if it is none, or does not fit.
template <typename Number>
std::optional<Number> ParseNumber(std::string_view text, int base = 10) {
  Number number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
/// A letter of ASCII, a digit or '_'.
constexpr bool IsAsciiWord(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_';
}
/// What JSON and SQL take for space between tokens.
constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
/// The value of a hexadecimal digit, either case; -1 if it is none.
constexpr int HexDigit(char c) {
  char lower = static_cast<char>(c | 0x20);
  return IsDigit(c) ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}
/// With the ASCII letters in lower case.
std::string Lower(std::string_view text);
/// Equal but for the case of ASCII letters, as SQL's names are.
bool SameName(std::string_view a, std::string_view b);

std::vector<std::string_view> Split(std::string_view text, char separator);
std::string_view Trim(std::string_view text);
struct LineCount {
  uint64_t lines = 0;  // a last one without its end counts
  uint64_t full = 0;   // that hold more than spaces, tabs and returns
};
/// Of NDJSON.
LineCount CountLines(std::string_view text);
std::string Hex(std::string_view bytes);
/// Bytes of the UTF-8 character at the start of `text`, which is not empty (RFC 3629: no surrogates, no
/// overlong forms); 0 if there is none.
size_t Utf8Length(std::string_view text);
/// Appends `text` as a JSON string with its quotes. Each byte that is not part of valid UTF-8 becomes U+FFFD.
void AppendJsonString(std::string& out, std::string_view text);
std::string JsonString(std::string_view text);
/// The same as a list: ["a","b"].
void AppendJsonStrings(std::string& out, const std::vector<std::string>& texts);

}  // namespace millstream
