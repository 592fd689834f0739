#include <tmmintrin.h>

#include <chrono>
#include <cstring>

#include "base/text.h"
#include "event/literals.h"

namespace millstream {
namespace {

constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kMinuteUs = 60 * kSecondUs;
constexpr int64_t kHourUs = 60 * kMinuteUs;
constexpr int64_t kDayUs = 24 * kHourUs;

// Two digits, or -1.
int Pair(const char* p) {
  unsigned tens = static_cast<unsigned char>(p[0]) - '0', ones = static_cast<unsigned char>(p[1]) - '0';
  return tens <= 9 && ones <= 9 ? static_cast<int>(tens * 10 + ones) : -1;
}

bool IsDate(int year, int month, int day) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12 || day < 1) return false;
  if (day <= kDays[month - 1]) return true;
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return month == 2 && day == 29 && leap;
}

// Days since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date
// Algorithms").
int32_t DaysOf(int year, int month, int day) {
  int y = month <= 2 ? year - 1 : year;
  int era = (y >= 0 ? y : y - 399) / 400;
  int year_of_era = y - era * 400;
  int day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146'097 + day_of_era - 719'468;
}

// ".123456789" at `at`: microseconds, further digits cut off. Steps over it.
bool Fraction(std::string_view text, size_t& at, int64_t& us) {
  us = 0;
  if (at == text.size() || text[at] != '.') return true;
  size_t begin = ++at;
  int64_t unit = kSecondUs / 10;
  for (; at < text.size() && IsDigit(text[at]); ++at) {
    us += (text[at] - '0') * unit;
    unit /= 10;
  }
  return at > begin;
}

// "Z", "+01:00", "+0100", "+01" or nothing, up to the text's end.
bool Zone(std::string_view text, size_t at, int64_t& us) {
  us = 0;
  if (at == text.size()) return true;
  std::string_view rest = text.substr(at);
  if (rest == "Z" || rest == "z") return true;
  if (rest[0] != '+' && rest[0] != '-') return false;
  int hours = -1, minutes = 0;
  if (rest.size() == 3 || rest.size() == 5 || rest.size() == 6) hours = Pair(rest.data() + 1);
  if (rest.size() == 5) minutes = Pair(rest.data() + 3);
  if (rest.size() == 6) minutes = rest[3] == ':' ? Pair(rest.data() + 4) : -1;
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return false;
  us = (rest[0] == '-' ? -1 : 1) * (hours * kHourUs + minutes * kMinuteUs);
  return true;
}

}  // namespace

bool ParseDate(std::string_view text, int32_t& days) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  int century = Pair(text.data()), year = Pair(text.data() + 2);
  int month = Pair(text.data() + 5), day = Pair(text.data() + 8);
  if (century < 0 || year < 0 || !IsDate(century * 100 + year, month, day)) return false;
  days = DaysOf(century * 100 + year, month, day);
  return true;
}

bool ParseTime(std::string_view text, int64_t& us) {
  if (text.size() < 8 || text[2] != ':' || text[5] != ':') return false;
  int hour = Pair(text.data()), minute = Pair(text.data() + 3), second = Pair(text.data() + 6);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false;
  int64_t fraction;
  size_t at = 8;
  if (!Fraction(text, at, fraction) || at != text.size()) return false;
  us = hour * kHourUs + minute * kMinuteUs + second * kSecondUs + fraction;
  return true;
}

bool ParseTimestamp(std::string_view text, int64_t& us) {
  if (text.size() < 19) return false;
  const char* p = text.data();
  if (p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ' && p[10] != 't') || p[13] != ':' ||
      p[16] != ':') {
    return false;
  }
  // "YYYY-MM-DDThh:mm" as six pairs of digits.
  __m128i bytes = _mm_sub_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), _mm_set1_epi8('0'));
  __m128i digits =
      _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, -1, -1, -1, -1));
  __m128i nines = _mm_set1_epi8(9);
  if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(digits, nines), nines)) != 0xFFFF) return false;
  alignas(16) int16_t pairs[8];
  _mm_store_si128(
      reinterpret_cast<__m128i*>(pairs),
      _mm_maddubs_epi16(digits, _mm_setr_epi8(10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 0, 0, 0, 0)));
  int year = pairs[0] * 100 + pairs[1], month = pairs[2], day = pairs[3], hour = pairs[4], minute = pairs[5];
  int second = Pair(p + 17);
  if (!IsDate(year, month, day) || hour > 23 || minute > 59 || second < 0 || second > 60) return false;
  size_t at = 19;
  int64_t fraction, zone;
  if (!Fraction(text, at, fraction) || !Zone(text, at, zone)) return false;
  us = DaysOf(year, month, day) * kDayUs + hour * kHourUs + minute * kMinuteUs + second * kSecondUs +
       fraction - zone;
  return true;
}

std::string FormatDate(int32_t days) {
  std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(days))};
  char text[32];
  int length = std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()),
                             static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return std::string(text, static_cast<size_t>(length));
}

}  // namespace millstream
