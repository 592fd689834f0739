// JsonCursor: the scanner under JsonFinder: checks one JSON value and steps over it.
//
// Place: floor 1; inside event/ only. Everything here is inlined into the finder's loop.
// The caller promises kJsonPadding readable bytes after `end`: loads of 16 bytes need no bounds, and only the
// end of each token is compared with `end`. Strings are checked 16 bytes at a time by SSE2; bytes above 0x7F
// are only noted, so that UTF-8 is validated once for documents that have any. Failure: functions answer
// false; `error` and `at` then say what and where.
#pragma once

#include <emmintrin.h>

#include <cstdint>
#include <cstring>

#include "event/json_scan.h"  // kJsonPadding

namespace millstream {

/// No depth limit may be larger: the scanner recurses.
inline constexpr uint32_t kJsonDepthMax = 1024;

struct JsonCursor {
  const char* at = nullptr;
  const char* end = nullptr;
  uint32_t depth_left = 0;
  unsigned high = 0;     // not 0: some string has bytes above 0x7F
  bool escaped = false;  // the last string has a backslash
  const char* error = nullptr;
  bool too_deep = false;

  bool Fail(const char* message) {
    error = message;
    return false;
  }

  void SkipSpace() {
    while (static_cast<unsigned char>(*at) <= ' ' && at < end &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
      ++at;
    }
  }

  /// From the opening quote to after the closing one.
  bool String() {
    const __m128i quotes = _mm_set1_epi8('"');
    const __m128i backslashes = _mm_set1_epi8('\\');
    const __m128i controls = _mm_set1_epi8(0x1F);
    const char* p = at + 1;
    escaped = false;
    while (p < end) {
      __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      __m128i stops =
          _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quotes), _mm_cmpeq_epi8(bytes, backslashes)),
                       _mm_cmpeq_epi8(_mm_min_epu8(bytes, controls), bytes));
      auto mask = static_cast<unsigned>(_mm_movemask_epi8(stops));
      auto above = static_cast<unsigned>(_mm_movemask_epi8(bytes));
      if (mask == 0) {
        high |= above;
        p += 16;
        continue;
      }
      unsigned before = __builtin_ctz(mask);
      high |= above & ((1u << before) - 1);
      p += before;
      if (*p == '"') {
        if (p >= end) break;
        at = p + 1;
        return true;
      }
      if (p >= end) break;
      at = p;
      if (*p != '\\') return Fail("a control character in a string must be escaped");
      if (!Escape()) return false;
      p = at;
    }
    at = end;
    return Fail("the string is not closed");
  }

  bool Number() {
    const char* p = at;
    if (*p == '-') ++p;
    if (*p == '0') {
      ++p;
    } else {
      const char* digits = p;
      p = SkipDigits(p);
      if (p == digits) return at = p, Fail("expected a digit");
    }
    if (*p == '.') {
      const char* digits = ++p;
      p = SkipDigits(p);
      if (p == digits) return at = p, Fail("expected a digit after the point");
    }
    if ((*p | 0x20) == 'e') {
      ++p;
      if (*p == '+' || *p == '-') ++p;
      const char* digits = p;
      p = SkipDigits(p);
      if (p == digits) return at = p, Fail("expected a digit in the exponent");
    }
    at = p;
    return p <= end || Fail("the document ends inside a number");
  }

  /// Any value; checks it in full.
  bool Value() {
    switch (*at) {
      case '"':
        return at < end ? String() : Fail("expected a value");
      case '{':
        return Object();
      case '[':
        return Array();
      case 't':
        return Word("true", 4);
      case 'f':
        return Word("false", 5);
      case 'n':
        return Word("null", 4);
      case '-':
      case '0':
      case '1':
      case '2':
      case '3':
      case '4':
      case '5':
      case '6':
      case '7':
      case '8':
      case '9':
        return at < end ? Number() : Fail("expected a value");
      default:
        return Fail("expected a value");
    }
  }

  bool Enter() {
    if (at >= end) return Fail("expected a value");
    if (depth_left == 0) {
      too_deep = true;
      return Fail("nested too deep");
    }
    --depth_left;
    ++at;
    SkipSpace();
    return true;
  }
  /// After a key: the colon and the space around it.
  bool Colon() {
    if (*at != ':') {
      SkipSpace();
      if (*at != ':') return Fail("expected ':' after the name");
    }
    ++at;
    SkipSpace();
    return at < end || Fail("expected a value");
  }

  static const char* SkipDigits(const char* p) {
    for (;;) {
      uint64_t bytes;
      std::memcpy(&bytes, p, 8);
      // A byte's top bit is set where it is no digit; a carry can only spoil bytes above the first such.
      uint64_t x = bytes ^ 0x3030303030303030ull;
      uint64_t other = ((x + 0x7676767676767676ull) | x) & 0x8080808080808080ull;
      if (other != 0) return p + (__builtin_ctzll(other) >> 3);
      p += 8;
    }
  }

 private:
  bool Object();
  bool Array();
  bool Escape();
  bool Word(const char* word, int length) {
    if (std::memcmp(at, word, length) != 0 || at + length > end) return Fail("expected a value");
    at += length;
    return true;
  }
};

}  // namespace millstream
