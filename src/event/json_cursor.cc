#include "event/json_cursor.h"

namespace millstream {
namespace {

// Four hexadecimal digits as a number, or -1.
int HexQuad(const char* p) {
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    char c = p[i];
    char lower = static_cast<char>(c | 0x20);
    int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

// `at` stands on a backslash; leaves it after the escape. An escape may seem to reach past `end` (at most 12
// bytes, which are readable); String then finds no quote before `end`.
bool JsonCursor::Escape() {
  escaped = true;
  switch (at[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
      at += 2;
      return true;
    case 'u':
      break;
    default:
      return Fail("not an escape of JSON");
  }
  int unit = HexQuad(at + 2);
  if (unit < 0) return Fail("expected four hexadecimal digits after \\u");
  if (unit >= 0xDC00 && unit <= 0xDFFF) return Fail("a low surrogate without its high one");
  if (unit >= 0xD800 && unit <= 0xDBFF) {
    int low = at[6] == '\\' && at[7] == 'u' ? HexQuad(at + 8) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return Fail("a high surrogate without its low one");
    at += 12;
    return true;
  }
  at += 6;
  return true;
}

bool JsonCursor::Object() {
  if (!Enter()) return false;
  if (*at == '}' && at < end) {
    ++at, ++depth_left;
    return true;
  }
  for (;;) {
    if (*at != '"' || at >= end) return Fail("expected a name in quotes");
    if (!String() || !Colon() || !Value()) return false;
    SkipSpace();
    if (at >= end) return Fail("expected ',' or '}'");
    char c = *at++;
    if (c == '}') break;
    if (c != ',') return --at, Fail("expected ',' or '}'");
    SkipSpace();
  }
  ++depth_left;
  return true;
}

bool JsonCursor::Array() {
  if (!Enter()) return false;
  if (*at == ']' && at < end) {
    ++at, ++depth_left;
    return true;
  }
  for (;;) {
    if (!Value()) return false;
    SkipSpace();
    if (at >= end) return Fail("expected ',' or ']'");
    char c = *at++;
    if (c == ']') break;
    if (c != ',') return --at, Fail("expected ',' or ']'");
    SkipSpace();
  }
  ++depth_left;
  return true;
}

}  // namespace millstream
