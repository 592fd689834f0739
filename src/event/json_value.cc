// Values of documents that are known to be valid: unescaping, elements, members, records.
#include <emmintrin.h>

#include <cstring>

#include "event/json_scan.h"

namespace millstream {
namespace {

// Steps over values of a valid text; answers `end` rather than reading on where the text is not valid after
// all.
class Stepper {
 public:
  explicit Stepper(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  char Peek() {
    while (at_ < end_ && IsSpace(*at_)) ++at_;
    return at_ < end_ ? *at_ : '\0';
  }
  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  std::string_view String() {
    const char* begin = at_;
    SkipString();
    return {begin, static_cast<size_t>(at_ - begin)};
  }
  std::string_view Value() {
    char first = Peek();
    const char* begin = at_;
    if (first == '"') {
      SkipString();
    } else if (first == '{' || first == '[') {
      SkipContainer();
    } else {
      while (at_ < end_ && *at_ != ',' && *at_ != ']' && *at_ != '}' && !IsSpace(*at_)) ++at_;
    }
    return {begin, static_cast<size_t>(at_ - begin)};
  }

 private:
  void SkipString() {
    ++at_;
    const __m128i quotes = _mm_set1_epi8('"');
    const __m128i backslashes = _mm_set1_epi8('\\');
    while (at_ < end_) {
      if (end_ - at_ >= 16) {
        __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
        int mask = _mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(bytes, quotes), _mm_cmpeq_epi8(bytes, backslashes)));
        if (mask == 0) {
          at_ += 16;
          continue;
        }
        at_ += __builtin_ctz(static_cast<unsigned>(mask));
      }
      char c = *at_++;
      if (c == '"') return;
      if (c == '\\' && at_ < end_) ++at_;
    }
  }
  void SkipContainer() {
    const __m128i case_bit = _mm_set1_epi8(0x20);
    uint32_t depth = 0;
    while (at_ < end_) {
      if (end_ - at_ >= 16) {
        // Of '"', '{', '[', '}', ']' only: the brackets differ from the braces in bit 5.
        __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
        __m128i folded = _mm_or_si128(bytes, case_bit);
        __m128i stops = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                     _mm_or_si128(_mm_cmpeq_epi8(folded, _mm_set1_epi8('{')),
                                                  _mm_cmpeq_epi8(folded, _mm_set1_epi8('}'))));
        int mask = _mm_movemask_epi8(stops);
        if (mask == 0) {
          at_ += 16;
          continue;
        }
        at_ += __builtin_ctz(static_cast<unsigned>(mask));
      }
      char c = *at_;
      if (c == '"') {
        SkipString();
        continue;
      }
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return;
    }
  }

  const char* at_;
  const char* end_;
};

void AppendUtf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0 | point >> 6);
    out += static_cast<char>(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | point >> 12);
    out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (point & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | point >> 18);
    out += static_cast<char>(0x80 | (point >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (point & 0x3F));
  }
}

uint32_t HexUnit(std::string_view digits) {
  uint32_t unit = 0;
  for (char c : digits) {
    unit = unit * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return unit;
}

void Unescape(std::string_view body, std::string& out) {
  out.clear();
  for (size_t i = 0; i < body.size();) {
    size_t escape = body.find('\\', i);
    if (escape == body.npos || escape + 1 >= body.size()) {
      out += body.substr(i);
      return;
    }
    out += body.substr(i, escape - i);
    char c = body[escape + 1];
    i = escape + 2;
    switch (c) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u': {
        uint32_t point = HexUnit(body.substr(i, 4));
        i += 4;
        if (point >= 0xD800 && point <= 0xDBFF && i + 6 <= body.size()) {
          point = 0x10000 + ((point - 0xD800) << 10) + (HexUnit(body.substr(i + 2, 4)) - 0xDC00);
          i += 6;
        }
        AppendUtf8(out, point);
        break;
      }
      default:
        out += c;
    }
  }
}

void CollectRecords(std::string_view value, std::string_view pointer, std::vector<std::string_view>& out) {
  if (pointer.empty()) {
    out.push_back(value);
    return;
  }
  size_t slash = pointer.find('/', 1);
  std::string_view token = pointer.substr(1, slash == pointer.npos ? pointer.npos : slash - 1);
  std::string_view rest = slash == pointer.npos ? std::string_view() : pointer.substr(slash);
  if (auto elements = JsonElements(value)) {
    for (size_t i = 0; i < elements->size(); ++i) {
      if (token == "*" || token == std::to_string(i)) CollectRecords((*elements)[i], rest, out);
    }
    return;
  }
  std::string name;
  for (size_t i = 0; i < token.size(); ++i) {
    bool escape = token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1');
    name += !escape ? token[i] : token[++i] == '0' ? '~' : '/';
  }
  auto members = JsonMembers(value);
  if (!members) return;
  for (auto& [member, text] : *members) {
    if (member != name) continue;
    CollectRecords(text, rest, out);
    return;  // the first of equal names wins
  }
}

}  // namespace

JsonKind JsonKindOf(char first) {
  switch (first) {
    case '"':
      return JsonKind::kString;
    case '{':
      return JsonKind::kObject;
    case '[':
      return JsonKind::kArray;
    case 't':
    case 'f':
      return JsonKind::kBoolean;
    case 'n':
      return JsonKind::kNull;
    default:
      return JsonKind::kNumber;
  }
}

JsonValue MakeJsonValue(std::string_view text) {
  if (text.empty()) return JsonValue();
  JsonKind kind = JsonKindOf(text[0]);
  return {kind, kind == JsonKind::kString && text.find('\\') != text.npos, text};
}

std::string_view JsonStringValue(const JsonValue& value, std::string& scratch) {
  std::string_view body = value.text.substr(1, value.text.size() - 2);
  if (!value.escaped) return body;
  Unescape(body, scratch);
  return scratch;
}

std::optional<std::vector<std::string_view>> JsonElements(std::string_view array) {
  Stepper stepper(array);
  if (!stepper.Take('[')) return std::nullopt;
  std::vector<std::string_view> elements;
  if (stepper.Take(']')) return elements;
  do {
    elements.push_back(stepper.Value());
  } while (stepper.Take(','));
  return elements;
}

std::optional<std::vector<std::pair<std::string, std::string_view>>> JsonMembers(std::string_view object) {
  Stepper stepper(object);
  if (!stepper.Take('{')) return std::nullopt;
  std::vector<std::pair<std::string, std::string_view>> members;
  if (stepper.Take('}')) return members;
  std::string scratch;
  while (stepper.Peek() == '"') {
    std::string_view quoted = stepper.String();
    JsonValue name{JsonKind::kString, quoted.find('\\') != quoted.npos, quoted};
    if (quoted.size() < 2 || !stepper.Take(':')) break;
    std::string unescaped(JsonStringValue(name, scratch));
    members.emplace_back(std::move(unescaped), stepper.Value());
    if (!stepper.Take(',')) break;
  }
  return members;
}

std::vector<std::string_view> JsonRecords(std::string_view document, std::string_view pointer) {
  std::vector<std::string_view> records;
  Stepper stepper(document);
  CollectRecords(stepper.Value(), pointer, records);
  return records;
}

}  // namespace millstream
