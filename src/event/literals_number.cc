#include <array>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "event/literals.h"

namespace millstream {
namespace {

constexpr int kDigitsMax = 38;

constexpr std::array<Int128, kDigitsMax + 1> PowersOfTen() {
  std::array<Int128, kDigitsMax + 1> powers{};
  powers[0] = 1;
  for (int i = 1; i <= kDigitsMax; ++i) powers[i] = powers[i - 1] * 10;
  return powers;
}
constexpr std::array<Int128, kDigitsMax + 1> kPower = PowersOfTen();

constexpr std::array<int64_t, 19> PowersOfTen64() {
  std::array<int64_t, 19> powers{};
  powers[0] = 1;
  for (int i = 1; i <= 18; ++i) powers[i] = powers[i - 1] * 10;
  return powers;
}
constexpr std::array<int64_t, 19> kPower64 = PowersOfTen64();

using Unsigned128 = unsigned __int128;

// mantissa * 10^exponent; the mantissa does not end in zero.
struct NumberParts {
  bool negative = false;
  Unsigned128 mantissa = 0;
  int64_t exponent = 0;
};

bool ReadExponent(std::string_view text, size_t at, int64_t& exponent) {
  bool negative = false;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) negative = text[at++] == '-';
  if (at == text.size()) return false;
  int64_t value = 0;
  for (; at < text.size(); ++at) {
    if (!IsDigit(text[at])) return false;
    if (value < 1'000'000'000) value = value * 10 + (text[at] - '0');
  }
  exponent = negative ? -value : value;
  return true;
}

// False if the text is no number, or has more significant digits than 128 bits hold.
bool ReadNumber(std::string_view text, NumberParts& parts) {
  size_t at = 0;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) parts.negative = text[at++] == '-';
  int64_t zeros = 0;  // seen after a significant digit, not yet multiplied in
  int64_t after_point = 0;
  bool point = false, any = false;
  for (; at < text.size(); ++at) {
    char c = text[at];
    if (c == '.' && !point) {
      point = true;
      continue;
    }
    if (!IsDigit(c)) break;
    any = true;
    after_point += point ? 1 : 0;
    if (c == '0') {
      zeros += parts.mantissa > 0 ? 1 : 0;
      continue;
    }
    if (zeros >= kDigitsMax) return false;
    Unsigned128 shifted;
    if (__builtin_mul_overflow(parts.mantissa, static_cast<Unsigned128>(kPower[zeros + 1]), &shifted))
      return false;
    if (__builtin_add_overflow(shifted, static_cast<Unsigned128>(c - '0'), &parts.mantissa)) return false;
    zeros = 0;
  }
  if (!any) return false;
  if (at < text.size()) {
    if (text[at] != 'e' && text[at] != 'E') return false;
    if (!ReadExponent(text, at + 1, parts.exponent)) return false;
  }
  parts.exponent += zeros - after_point;
  return true;
}

// |value| * 10^scale, if it is whole and fits.
bool Whole(const NumberParts& parts, int scale, Unsigned128& out) {
  out = 0;
  if (parts.mantissa == 0) return true;
  int64_t shift = parts.exponent + scale;
  if (shift < 0 || shift > kDigitsMax) return false;
  return !__builtin_mul_overflow(parts.mantissa, static_cast<Unsigned128>(kPower[shift]), &out);
}

template <typename T>
bool ParseFloating(std::string_view text, T& out) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (end != text.data() + text.size()) return false;
  if (error == std::errc()) return true;
  // Out of range: too small is zero, too large is refused.
  if (error != std::errc::result_out_of_range) return false;
  size_t end_of_digits = std::min(text.find_first_of("eE"), text.size());
  int64_t exponent = 0;
  if (end_of_digits < text.size() && !ReadExponent(text, end_of_digits + 1, exponent)) return false;
  // What is out of range is so far from one that the place of its first digit that is not zero tells.
  auto point = static_cast<int64_t>(std::min(text.find('.'), end_of_digits));
  if (point - static_cast<int64_t>(text.find_first_of("123456789")) + exponent > 0) return false;
  out = text[0] == '-' ? T(-0.0) : T(0);
  return true;
}

}  // namespace

bool ParseDecimal(std::string_view text, uint8_t width, uint8_t scale, Int128& out) {
  // The usual form, "-123.45" with at most 18 digits in all, needs no 128-bit arithmetic.
  if (text.size() <= 18 && width <= 18) {
    const char* p = text.data();
    const char* end = p + text.size();
    bool negative = p < end && *p == '-';
    if (negative) ++p;
    int64_t value = 0;
    const char* digits = p;
    while (p < end && IsDigit(*p)) value = value * 10 + (*p++ - '0');
    if (p > digits) {
      int64_t after_point = 0;
      if (p < end && *p == '.') {
        const char* fraction = ++p;
        while (p < end && IsDigit(*p)) value = value * 10 + (*p++ - '0');
        after_point = p - fraction;
      }
      if (p == end && after_point <= scale) {
        int64_t scaled;
        if (__builtin_mul_overflow(value, kPower64[scale - after_point], &scaled)) return false;
        if (scaled >= kPower64[width]) return false;
        out = negative ? -scaled : scaled;
        return true;
      }
    }
  }
  NumberParts parts;
  Unsigned128 whole;
  if (!ReadNumber(text, parts) || !Whole(parts, scale, whole)) return false;
  if (whole >= static_cast<Unsigned128>(kPower[width])) return false;
  out = parts.negative ? -static_cast<Int128>(whole) : static_cast<Int128>(whole);
  return true;
}

bool ParseInteger(std::string_view text, Int128 lowest, Int128 highest, Int128& out) {
  if (text.size() <= 18) {
    const char* p = text.data();
    const char* end = p + text.size();
    bool negative = p < end && *p == '-';
    if (negative) ++p;
    int64_t value = 0;
    const char* digits = p;
    while (p < end && IsDigit(*p)) value = value * 10 + (*p++ - '0');
    if (p == end && p > digits) {
      out = negative ? -value : value;
      return out >= lowest && out <= highest;
    }
  }
  NumberParts parts;
  Unsigned128 whole;
  if (!ReadNumber(text, parts) || !Whole(parts, 0, whole)) return false;
  if (parts.negative) {
    if (whole > 0 && (lowest >= 0 || whole - 1 > static_cast<Unsigned128>(-(lowest + 1)))) return false;
    out = static_cast<Int128>(-whole);
  } else {
    if (whole > static_cast<Unsigned128>(highest)) return false;
    out = static_cast<Int128>(whole);
  }
  return out >= lowest;
}

bool ParseUnsigned64(std::string_view text, uint64_t& out) {
  Int128 value;
  if (!ParseInteger(text, 0, static_cast<Int128>(UINT64_MAX), value)) return false;
  out = static_cast<uint64_t>(value);
  return true;
}

bool ParseDouble(std::string_view text, double& out) { return ParseFloating(text, out); }
bool ParseFloat(std::string_view text, float& out) { return ParseFloating(text, out); }

bool ParseBoolean(std::string_view text, bool& out) {
  if (text.size() > 5) return false;
  std::string lower = Lower(text);
  for (std::string_view yes : {"true", "t", "yes", "y", "1"}) {
    if (lower == yes) return out = true, true;
  }
  for (std::string_view no : {"false", "f", "no", "n", "0"}) {
    if (lower == no) return out = false, true;
  }
  return false;
}

std::string FormatDecimal(Int128 value, uint8_t scale) {
  bool negative = value < 0;
  auto rest = negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string digits;
  for (; rest > 0; rest /= 10) digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  while (digits.size() <= scale) digits += '0';
  std::string text = negative ? "-" : "";
  for (size_t i = digits.size(); i-- > 0;) {
    text += digits[i];
    if (i == scale && scale > 0) text += '.';
  }
  return text;
}

}  // namespace millstream
