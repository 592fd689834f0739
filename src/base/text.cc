#include "base/text.h"

#include <emmintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace millstream {
namespace {

// What DuckDB 1.5 refuses as the unquoted name of a table (its reserved words and 30 of its type and function
// words), and `input`, which every filter reads. Sorted.
// clang-format off
constexpr std::string_view kKeywords[] = {
    "all", "analyse", "analyze", "and", "anti", "any", "array", "as", "asc", "asof", "asymmetric", "at",
    "authorization", "binary", "both", "by", "case", "cast", "check", "collate", "collation", "column",
    "concurrently", "constraint", "create", "cross", "default", "deferrable", "desc", "describe",
    "distinct", "do", "else", "end", "except", "false", "fetch", "for", "foreign", "freeze", "from",
    "full", "glob", "group", "having", "ilike", "in", "initially", "inner", "input", "intersect", "into",
    "is", "isnull", "join", "lambda", "lateral", "leading", "left", "like", "limit", "natural", "not",
    "notnull", "null", "offset", "on", "only", "or", "order", "outer", "overlaps", "pivot",
    "pivot_longer", "pivot_wider", "placing", "positional", "primary", "qualify", "references",
    "returning", "right", "select", "semi", "show", "similar", "some", "summarize", "symmetric", "table",
    "tablesample", "then", "to", "trailing", "true", "union", "unique", "unpack", "unpivot", "using",
    "variadic", "verbose", "when", "where", "window", "with"};
// clang-format on

constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kMinuteUs = 60 * kSecondUs;
constexpr int64_t kHourUs = 60 * kMinuteUs;
constexpr int64_t kDayUs = 24 * kHourUs;

// Takes the digits at the start of `text`. False if there are none or they exceed 64 bits.
bool TakeNumber(std::string_view& text, uint64_t& number) {
  size_t digits = 0;
  number = 0;
  for (; digits < text.size() && IsDigit(text[digits]); ++digits) {
    uint64_t digit = static_cast<uint64_t>(text[digits] - '0');
    if (number > (std::numeric_limits<uint64_t>::max() - digit) / 10) return false;
    number = number * 10 + digit;
  }
  text.remove_prefix(digits);
  return digits > 0;
}

// Takes exactly `digits` digits.
bool TakeDigits(std::string_view& text, size_t digits, int& number) {
  if (text.size() < digits) return false;
  number = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (!IsDigit(text[i])) return false;
    number = number * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return true;
}

bool TakeChar(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// "Z" or "+01:00" in minutes.
bool TakeZone(std::string_view& text, int& minutes) {
  minutes = 0;
  if (TakeChar(text, "Zz")) return true;
  if (text.empty() || (text[0] != '+' && text[0] != '-')) return false;
  int sign = text[0] == '-' ? -1 : 1;
  text.remove_prefix(1);
  int hour = 0, minute = 0;
  if (!TakeDigits(text, 2, hour) || !TakeChar(text, ":") || !TakeDigits(text, 2, minute)) return false;
  minutes = sign * (hour * 60 + minute);
  return hour < 24 && minute < 60;
}

// ".123456789" in microseconds; digits beyond the sixth are cut.
bool TakeFraction(std::string_view& text, int64_t& us) {
  us = 0;
  if (!TakeChar(text, ".")) return true;
  size_t digits = 0;
  for (; digits < text.size() && IsDigit(text[digits]); ++digits) {
    if (digits < 6) us = us * 10 + (text[digits] - '0');
  }
  for (size_t i = digits; i < 6; ++i) us *= 10;
  text.remove_prefix(digits);
  return digits > 0;
}

// One decimal below ten, none from there on: "3.1", "412"; ".0" only where `keep_zero`.
std::string ShortNumber(double value, bool keep_zero) {
  std::string text = fmt::format("{:.{}f}", value, value < 9.95 ? 1 : 0);
  if (!keep_zero && text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  auto continues = [&](size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return false;
    }
    return true;
  };
  unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1, 2) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    bool valid = (first != 0xE0 || second >= 0xA0) && (first != 0xED || second < 0xA0);
    return valid && continues(1, 3) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    bool valid = (first != 0xF0 || second >= 0x90) && (first != 0xF4 || second < 0x90);
    return valid && continues(1, 4) ? 4 : 0;
  }
  return 0;
}

Result<int64_t> ParseDurationUs(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t us;
  };
  static constexpr Unit kUnits[] = {{"us", 1},        {"ms", 1000},   {"s", kSecondUs},
                                    {"m", kMinuteUs}, {"h", kHourUs}, {"d", kDayUs}};
  std::string_view rest = text;
  uint64_t number = 0;
  if (TakeNumber(rest, number)) {
    for (const Unit& unit : kUnits) {
      if (rest != unit.name) continue;
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max() / unit.us)) {
        return Fail(Invalid("'{}' is too long a duration", text));
      }
      return static_cast<int64_t>(number) * unit.us;
    }
  }
  return Fail(
      Invalid("'{}' is not a duration; expected a number and a unit, e.g. 250ms, 30s, 5m, 24h, 30d", text));
}

std::string FormatDuration(int64_t us) {
  if (us < 0) return "-" + FormatDuration(us == std::numeric_limits<int64_t>::min() ? us + 1 : -us);
  if (us < 1000) return fmt::format("{} us", us);
  if (us < 999'500) return ShortNumber(static_cast<double>(us) / 1e3, false) + " ms";
  if (us < 59'500'000) return ShortNumber(static_cast<double>(us) / 1e6, false) + " s";
  int64_t seconds = us / kSecondUs + (us % kSecondUs >= kSecondUs / 2 ? 1 : 0);
  auto two = [](int64_t large, const char* large_unit, int64_t small, const char* small_unit) {
    return small == 0 ? fmt::format("{}{}", large, large_unit)
                      : fmt::format("{}{}{}{}", large, large_unit, small, small_unit);
  };
  if (seconds < 3600) return two(seconds / 60, "m", seconds % 60, "s");
  if (seconds < 86'400) return two(seconds / 3600, "h", seconds % 3600 / 60, "m");
  return two(seconds / 86'400, "d", seconds % 86'400 / 3600, "h");
}

Result<uint64_t> ParseBytes(std::string_view text) {
  struct Unit {
    std::string_view name;
    int shift;
  };
  static constexpr Unit kUnits[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  std::string_view rest = text;
  uint64_t number = 0;
  if (TakeNumber(rest, number)) {
    for (const Unit& unit : kUnits) {
      if (rest != unit.name) continue;
      if (number > std::numeric_limits<uint64_t>::max() >> unit.shift) {
        return Fail(Invalid("'{}' is too large a size", text));
      }
      return number << unit.shift;
    }
  }
  return Fail(
      Invalid("'{}' is not a size; expected bytes, or a number and KiB, MiB, GiB or TiB, e.g. 64KiB", text));
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes) / 1024;
  for (; value >= 1023.5 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{} {}", ShortNumber(value, true), kUnits[unit]);
}

Result<double> ParseShare(std::string_view text) {
  std::string_view rest = text;
  uint64_t whole = 0;
  if (rest.size() <= 20 && TakeNumber(rest, whole)) {
    double percent = static_cast<double>(whole);
    bool valid = true;
    if (TakeChar(rest, ".")) {
      size_t before = rest.size();
      uint64_t fraction = 0;
      valid = TakeNumber(rest, fraction);
      percent += static_cast<double>(fraction) / std::pow(10.0, static_cast<double>(before - rest.size()));
    }
    if (valid && rest == "%" && percent <= 100) return percent / 100;
  }
  return Fail(Invalid("'{}' is not a share; expected 0% to 100%, e.g. 5%", text));
}

Result<int64_t> ParseTimeUs(std::string_view text) {
  std::string_view rest = text;
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, zone_minutes = 0;
  int64_t fraction_us = 0;
  bool shaped = TakeDigits(rest, 4, year) && TakeChar(rest, "-") && TakeDigits(rest, 2, month) &&
                TakeChar(rest, "-") && TakeDigits(rest, 2, day) && TakeChar(rest, "Tt ") &&
                TakeDigits(rest, 2, hour) && TakeChar(rest, ":") && TakeDigits(rest, 2, minute) &&
                TakeChar(rest, ":") && TakeDigits(rest, 2, second) && TakeFraction(rest, fraction_us) &&
                TakeZone(rest, zone_minutes) && rest.empty();
  std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                   std::chrono::day(static_cast<unsigned>(day))};
  // Second 60 is a leap second; it counts as the first of the next minute, as in POSIX time.
  if (!shaped || !date.ok() || hour > 23 || minute > 59 || second > 60) {
    return Fail(
        Invalid("'{}' is not a time; expected RFC 3339 with a zone, e.g. 2026-11-22T10:00:00Z", text));
  }
  int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return days * kDayUs + hour * kHourUs + (minute - zone_minutes) * kMinuteUs + second * kSecondUs +
         fraction_us;
}

std::string FormatTime(int64_t us) {
  constexpr int64_t kFirstUs = -62'167'219'200 * kSecondUs;           // 0000-01-01T00:00:00Z
  constexpr int64_t kLastUs = 253'402'300'799 * kSecondUs + 999'999;  // 9999-12-31T23:59:59.999999Z
  us = std::clamp(us, kFirstUs, kLastUs);
  int64_t days = us / kDayUs - (us % kDayUs < 0 ? 1 : 0);
  int64_t in_day = us - days * kDayUs;
  std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(days))};
  std::string text =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), in_day / kHourUs,
                  in_day % kHourUs / kMinuteUs, in_day % kMinuteUs / kSecondUs);
  if (int64_t fraction = in_day % kSecondUs; fraction != 0) {
    text += fmt::format(".{:06}", fraction);
    text.resize(text.find_last_not_of('0') + 1);
  }
  return text + "Z";
}

std::string FormatCount(uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

Status CheckName(std::string_view name) {
  auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  if (name.empty()) return Invalid("a name may not be empty");
  if (name.size() > 63)
    return Invalid("the name '{}…' has {} characters; at most 63 are allowed", name.substr(0, 20),
                   name.size());
  if (name[0] == '_') return Invalid("the name '{}' starts with '_', which is reserved", name);
  bool valid = lower(name[0]) && std::all_of(name.begin(), name.end(),
                                             [&](char c) { return lower(c) || IsDigit(c) || c == '_'; });
  if (!valid)
    return Invalid(
        "'{}' is not a name; expected a lower-case letter, then lower-case letters, digits and '_'", name);
  if (std::binary_search(std::begin(kKeywords), std::end(kKeywords), name)) {
    return Invalid("'{}' is a word of SQL and cannot be a name", name);
  }
  return OkStatus();
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  size_t start = 0;
  for (size_t end = text.find(separator); end != std::string_view::npos; end = text.find(separator, start)) {
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  parts.push_back(text.substr(start));
  return parts;
}

LineCount CountLines(std::string_view text) {
  // A line end before a byte that is no white space, as nearly all are, is one full line.
  const __m128i ends = _mm_set1_epi8('\n');
  const __m128i spaces = _mm_set1_epi8(' ');
  LineCount count;
  bool line_is_full = false;
  size_t at = 0;
  auto one = [&](char c) {
    if (c == '\n') {
      ++count.lines;
      count.full += line_is_full;
      line_is_full = false;
    } else {
      line_is_full |= c != ' ' && c != '\t' && c != '\r';
    }
  };
  while (at < text.size()) {
    if (line_is_full && at + 17 <= text.size()) {
      __m128i end = _mm_cmpeq_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at)), ends);
      auto mask = static_cast<unsigned>(_mm_movemask_epi8(end));
      if (mask == 0) {
        at += 16;
        continue;
      }
      __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at + 1));
      __m128i spaces_next = _mm_cmpeq_epi8(_mm_min_epu8(next, spaces), next);
      if ((mask & static_cast<unsigned>(_mm_movemask_epi8(spaces_next))) == 0) {
        auto found = static_cast<unsigned>(__builtin_popcount(mask));
        count.lines += found;
        count.full += found;
        at += 16;
        continue;
      }
    }
    one(text[at++]);
  }
  if (!text.empty() && text.back() != '\n') one('\n');
  return count;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\v\f";
  size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string Hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    char c = text[at];
    if (static_cast<unsigned char>(c) >= 0x80) {
      size_t length = Utf8Length(text.substr(at));
      out += length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(at, length);
      at += std::max<size_t>(length, 1);
      continue;
    }
    ++at;
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return lower;
}

bool SameName(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string JsonString(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

void AppendJsonStrings(std::string& out, const std::vector<std::string>& texts) {
  out += '[';
  for (const std::string& text : texts) {
    if (!out.ends_with('[')) out += ',';
    AppendJsonString(out, text);
  }
  out += ']';
}

}  // namespace millstream
