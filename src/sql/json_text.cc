#include "sql/json_text.h"

#include <charconv>
#include <cmath>

namespace millstream {
namespace {

constexpr auto kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0; c < 256; ++c) plain[c] = c >= 0x20 && c != '"' && c != '\\';
  return plain;
}();

template <typename T>
void AppendChars(std::string& out, T value) {
  char buffer[64];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  out.append(buffer, end);
}

template <typename T>
bool AppendReal(std::string& out, T value) {
  if (!std::isfinite(value)) return false;
  size_t begin = out.size();
  AppendChars(out, value);
  if (out.find_first_of(".e", begin) == std::string::npos) out += ".0";
  return true;
}

void AppendPadded(std::string& out, uint64_t value, int digits) {
  char buffer[20];
  for (int i = digits - 1; i >= 0; --i) buffer[i] = static_cast<char>('0' + value % 10), value /= 10;
  out.append(buffer, digits);
}

// ".123456" without trailing zeros; nothing for zero.
void AppendFraction(std::string& out, uint64_t value, uint32_t units_per_second) {
  if (value == 0) return;
  int digits = 0;
  for (uint32_t units = units_per_second; units > 1; units /= 10) ++digits;
  out.push_back('.');
  AppendPadded(out, value, digits);
  while (out.back() == '0') out.pop_back();
}

int64_t FloorDivide(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

}  // namespace

void AppendQuoted(std::string& out, std::string_view text) {
  out.push_back('"');
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = text[i];
    if (kPlain[c]) [[likely]]
      continue;
    out.append(text, begin, i - begin);
    begin = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
        break;
    }
  }
  out.append(text, begin, text.size() - begin);
  out.push_back('"');
}

void AppendInteger(std::string& out, int64_t value) { AppendChars(out, value); }
void AppendUnsigned(std::string& out, uint64_t value) { AppendChars(out, value); }

void AppendHugeint(std::string& out, uint64_t lower, uint64_t upper, bool is_signed) {
  unsigned __int128 value = static_cast<unsigned __int128>(upper) << 64 | lower;
  if (is_signed && static_cast<int64_t>(upper) < 0) {
    out.push_back('-');
    value = -value;
  }
  char buffer[40];
  char* at = buffer + sizeof buffer;
  do {
    *--at = static_cast<char>('0' + static_cast<int>(value % 10));
    value /= 10;
  } while (value != 0);
  out.append(at, buffer + sizeof buffer - at);
}

void AppendDecimal(std::string& out, __int128 value, uint8_t scale) {
  unsigned __int128 left =
      value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  if (value < 0) out.push_back('-');
  char buffer[48];
  char* at = buffer + sizeof buffer;
  int digits = 0;
  auto put = [&](int digit) {
    *--at = static_cast<char>('0' + digit);
    if (++digits == scale) *--at = '.';
  };
  while (left > UINT64_MAX) put(static_cast<int>(left % 10)), left /= 10;
  auto rest = static_cast<uint64_t>(left);
  while (rest != 0 || digits <= scale) put(static_cast<int>(rest % 10)), rest /= 10;
  out.append(at, buffer + sizeof buffer - at);
}

bool AppendDouble(std::string& out, double value) { return AppendReal(out, value); }
bool AppendFloat(std::string& out, float value) { return AppendReal(out, value); }

void AppendBase64(std::string& out, std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k)
      three = three << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out.push_back(k <= left ? kDigits[three >> (18 - 6 * k) & 63] : '=');
  }
}

void AppendUuid(std::string& out, uint64_t lower, int64_t upper) {
  uint64_t high = static_cast<uint64_t>(upper) ^ (1ull << 63);  // stored so that it sorts as a signed number
  fmt::format_to(std::back_inserter(out), "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32,
                 high >> 16 & 0xffff, high & 0xffff, lower >> 48, lower & 0xffffffffffff);
}

// Days to year, month, day: the civil calendar of eras of 400 years (Howard Hinnant, "chrono-Compatible
// Low-Level Date Algorithms").
void AppendDate(std::string& out, int32_t days) {
  if (days == INT32_MAX) {
    out += "infinity";
    return;
  }
  if (days == -INT32_MAX) {
    out += "-infinity";
    return;
  }
  int64_t shifted = static_cast<int64_t>(days) + 719468;
  int64_t era = FloorDivide(shifted, 146097);
  auto of_era = static_cast<uint32_t>(shifted - era * 146097);
  uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  uint32_t shifted_month = (5 * of_year + 2) / 153;
  uint32_t day = of_year - (153 * shifted_month + 2) / 5 + 1;
  uint32_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  int64_t year = static_cast<int64_t>(year_of_era) + era * 400 + (month <= 2 ? 1 : 0);
  if (year >= 0 && year <= 9999) {
    AppendPadded(out, static_cast<uint64_t>(year), 4);
  } else {
    fmt::format_to(std::back_inserter(out), "{:+05}", year);
  }
  out.push_back('-');
  AppendPadded(out, month, 2);
  out.push_back('-');
  AppendPadded(out, day, 2);
}

void AppendTimeOfDay(std::string& out, int64_t value, uint32_t units_per_second) {
  uint64_t seconds = static_cast<uint64_t>(value) / units_per_second;
  AppendPadded(out, seconds / 3600, 2);
  out.push_back(':');
  AppendPadded(out, seconds / 60 % 60, 2);
  out.push_back(':');
  AppendPadded(out, seconds % 60, 2);
  AppendFraction(out, static_cast<uint64_t>(value) % units_per_second, units_per_second);
}

void AppendTimestamp(std::string& out, int64_t value, uint32_t units_per_second, bool utc) {
  if (value == INT64_MAX || value == -INT64_MAX) {
    out += value > 0 ? "infinity" : "-infinity";
    return;
  }
  int64_t units_per_day = 86400ll * units_per_second;
  int64_t days = FloorDivide(value, units_per_day);
  AppendDate(out, static_cast<int32_t>(days));
  out.push_back('T');
  AppendTimeOfDay(out, value - days * units_per_day, units_per_second);
  if (utc) out.push_back('Z');
}

void AppendInterval(std::string& out, int32_t months, int32_t days, int64_t micros) {
  size_t begin = out.size();
  auto part = [&](int64_t value, char unit) {
    if (value != 0) AppendInteger(out, value), out.push_back(unit);
  };
  out.push_back('P');
  part(months / 12, 'Y');
  part(months % 12, 'M');
  part(days, 'D');
  if (micros != 0) {
    out.push_back('T');
    part(micros / 3'600'000'000, 'H');
    part(micros / 60'000'000 % 60, 'M');
    int64_t seconds = micros % 60'000'000;
    if (seconds != 0) {
      if (seconds < 0) out.push_back('-');
      auto size = static_cast<uint64_t>(std::abs(seconds));
      AppendUnsigned(out, size / 1'000'000);
      AppendFraction(out, size % 1'000'000, 1'000'000);
      out.push_back('S');
    }
  }
  if (out.size() == begin + 1) out += "T0S";
}

void AppendBits(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;
  size_t padding = static_cast<unsigned char>(bytes[0]);
  for (size_t bit = padding; bit < (bytes.size() - 1) * 8; ++bit)
    out.push_back(static_cast<unsigned char>(bytes[1 + bit / 8]) >> (7 - bit % 8) & 1 ? '1' : '0');
}

void AppendBignum(std::string& out, std::string_view bytes) {
  if (bytes.size() < 4) return;
  bool negative = (static_cast<unsigned char>(bytes[0]) & 0x80) == 0;
  std::vector<uint32_t> digits = {0};  // base 1,000,000,000, lowest first
  for (size_t i = 3; i < bytes.size(); ++i) {
    uint64_t carry = static_cast<unsigned char>(negative ? ~bytes[i] : bytes[i]);
    for (uint32_t& digit : digits) {
      carry += static_cast<uint64_t>(digit) * 256;
      digit = static_cast<uint32_t>(carry % 1'000'000'000);
      carry /= 1'000'000'000;
    }
    if (carry != 0) digits.push_back(static_cast<uint32_t>(carry));
  }
  if (negative) out.push_back('-');
  AppendUnsigned(out, digits.back());
  for (size_t i = digits.size() - 1; i-- > 0;) AppendPadded(out, digits[i], 9);
}

}  // namespace millstream
