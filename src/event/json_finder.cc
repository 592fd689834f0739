// JsonFinder: a trie of the pointers' tokens, walked beside the document.
#include <simdjson.h>

#include <algorithm>

#include "event/json_cursor.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr uint32_t kNone = 0;        // keys[0] of a node matches nothing
constexpr uint32_t kKeysMax = 256;   // names remembered in one object, wanted ones not counted
constexpr size_t kKeyBytesMax = 64;  // longer names are not remembered

std::vector<std::string> PointerTokens(const std::string& pointer) {
  std::vector<std::string> tokens;
  for (size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/') {
      tokens.emplace_back();
    } else if (tokens.empty()) {
      tokens.emplace_back(1, pointer[i]);  // a pointer without its first slash
    } else if (pointer[i] == '~' && i + 1 < pointer.size() &&
               (pointer[i + 1] == '0' || pointer[i + 1] == '1')) {
      tokens.back() += pointer[++i] == '0' ? '~' : '/';
    } else {
      tokens.back() += pointer[i];
    }
  }
  return tokens;
}

JsonError MakeError(const JsonCursor& cursor, std::string_view text, uint32_t max_depth) {
  JsonError error;
  if (!simdjson::validate_utf8(text.data(), text.size())) {
    error.code = "utf8";
    // The first byte that ends no valid prefix; only for messages, so bisection is fast enough.
    size_t low = 0, high = text.size();
    while (low < high) {
      size_t middle = (low + high) / 2;
      size_t cut = middle + 1;
      while (cut < text.size() && cut < middle + 4 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80)
        ++cut;
      if (simdjson::validate_utf8(text.data(), cut))
        low = middle + 1;
      else
        high = middle;
    }
    error.position = low;
    error.message = "not UTF-8";
    return error;
  }
  error.code = cursor.too_deep ? "depth" : "json";
  error.position = std::min<size_t>(static_cast<size_t>(cursor.at - text.data()), text.size());
  error.message = cursor.too_deep ? "nested more than " + std::to_string(max_depth) + " deep" : cursor.error;
  return error;
}

}  // namespace

// A name that was seen in an object, quotes included.
struct JsonFinder::Key {
  alignas(16) char head[16] = {};
  uint32_t head_mask = 0;  // which bytes of `head` count
  uint32_t length = 0;
  uint32_t next = kNone;  // the name that came after it the last time
  int32_t child = -1;
  unsigned high = 0;
  std::string text;
};

struct JsonFinder::Node {
  std::vector<uint32_t> outputs;  // pointers that end here
  std::vector<std::pair<std::string, int32_t>> children;
  std::vector<Key> keys;
  std::vector<uint32_t> table;  // open addressing over `keys`; 0 = free
  uint32_t first = kNone;       // the name that came first the last time
  uint32_t remembered = 0;
  uint32_t document = 0;  // in which it was found: the first of equal names wins

  Node() {
    keys.emplace_back();
    keys[0].head_mask = 1;  // a name begins with a quote, never with NUL
  }

  int32_t FindChild(std::string_view name) const {
    for (const auto& [token, index] : children) {
      if (token == name) return index;
    }
    return -1;
  }

  static uint64_t Hash(std::string_view quoted) {
    uint64_t head = 0, tail = 0;
    std::memcpy(&head, quoted.data(), std::min<size_t>(quoted.size(), 8));
    if (quoted.size() > 8) std::memcpy(&tail, quoted.data() + quoted.size() - 8, 8);
    uint64_t mixed = (head ^ (tail * 0x9E3779B97F4A7C15ull) ^ quoted.size()) * 0xD6E8FEB86659FD93ull;
    return mixed >> 32;
  }

  uint32_t FindKey(std::string_view quoted) const {
    if (table.empty()) return kNone;
    for (uint64_t slot = Hash(quoted);; ++slot) {
      uint32_t index = table[slot & (table.size() - 1)];
      if (index == kNone || keys[index].text == quoted) return index;
    }
  }

  uint32_t AddKey(std::string_view quoted, int32_t child) {
    Key key;
    std::memcpy(key.head, quoted.data(), std::min<size_t>(quoted.size(), 16));
    key.head_mask = quoted.size() >= 16 ? 0xFFFF : (1u << quoted.size()) - 1;
    key.length = static_cast<uint32_t>(quoted.size());
    key.child = child;
    for (char c : quoted) key.high |= static_cast<unsigned char>(c) & 0x80u;
    key.text = quoted;
    keys.push_back(std::move(key));
    if (keys.size() * 2 > table.size()) {
      table.assign(std::max<size_t>(16, table.size() * 2), kNone);
      for (uint32_t i = 1; i < keys.size(); ++i) Place(i);
    } else {
      Place(static_cast<uint32_t>(keys.size() - 1));
    }
    return static_cast<uint32_t>(keys.size() - 1);
  }

  void Place(uint32_t index) {
    uint64_t slot = Hash(keys[index].text);
    while (table[slot & (table.size() - 1)] != kNone) ++slot;
    table[slot & (table.size() - 1)] = index;
  }
};

// One walk over one document.
struct JsonFinder::Pass {
  JsonCursor cursor;
  JsonFinder& finder;
  std::vector<JsonValue>& values;

  static bool Matches(const JsonCursor& c, const Key& key) {
    __m128i here = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c.at));
    __m128i head = _mm_load_si128(reinterpret_cast<const __m128i*>(key.head));
    auto equal = static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(here, head)));
    if ((equal & key.head_mask) != key.head_mask) return false;
    return key.length <= 16 || (key.length < static_cast<size_t>(c.end - c.at) &&
                                std::memcmp(c.at + 16, key.text.data() + 16, key.length - 16) == 0);
  }

  // The key that stands at the cursor, which is not the one that was expected. Steps over it. *found is kNone
  // if it is not remembered; *child says whether it is wanted.
  bool LookUp(Node& node, uint32_t* found, int32_t* child) {
    const char* begin = cursor.at;
    if (!cursor.String()) return false;
    std::string_view quoted(begin, static_cast<size_t>(cursor.at - begin));
    *found = kNone, *child = -1;
    if (cursor.escaped) {
      std::string scratch;
      *child = node.FindChild(JsonStringValue(JsonValue{JsonKind::kString, true, quoted}, scratch));
    } else if (quoted.size() > kKeyBytesMax) {
      *child = node.FindChild(quoted.substr(1, quoted.size() - 2));
    } else if ((*found = node.FindKey(quoted)) != kNone) {
      *child = node.keys[*found].child;
    } else if (node.remembered < kKeysMax) {
      ++node.remembered;
      *found = node.AddKey(quoted, -1);
    }
    return true;
  }

  bool Visit(Node& node) {
    if (node.document == finder.documents_) return cursor.Value();  // the first of equal names won
    node.document = finder.documents_;
    const char* begin = cursor.at;
    char first = *begin;
    if (node.children.empty() || (first != '{' && first != '[')) {
      if (!cursor.Value()) return false;
    } else if (first == '{') {
      if (!Object(node)) return false;
    } else if (!Array(node)) {
      return false;
    }
    for (uint32_t output : node.outputs) {
      JsonValue& value = values[output];
      value.kind = JsonKindOf(first);
      value.escaped = first == '"' && cursor.escaped;
      value.text = std::string_view(begin, static_cast<size_t>(cursor.at - begin));
    }
    return true;
  }

  bool Object(Node& node) {
    if (!cursor.Enter()) return false;
    if (*cursor.at == '}' && cursor.at < cursor.end) {
      ++cursor.at, ++cursor.depth_left;
      return true;
    }
    uint32_t before = kNone;  // the key before this one, if it is remembered
    uint32_t expected = node.first;
    for (bool is_first = true;; is_first = false) {
      int32_t child;
      const Key& guess = node.keys[expected];
      if (Matches(cursor, guess)) [[likely]] {
        cursor.at += guess.length;
        cursor.high |= guess.high;
        child = guess.child;
        before = expected;
        expected = guess.next;
      } else {
        if (*cursor.at != '"' || cursor.at >= cursor.end) return cursor.Fail("expected a name in quotes");
        uint32_t found;
        if (!LookUp(node, &found, &child)) return false;
        if (found != kNone) {
          if (is_first)
            node.first = found;
          else if (before != kNone)
            node.keys[before].next = found;
        }
        before = found;
        expected = node.keys[found].next;
      }
      if (!cursor.Colon()) return false;
      if (!(child < 0 ? cursor.Value() : Visit(finder.nodes_[child]))) return false;
      if (*cursor.at != ',' && *cursor.at != '}') cursor.SkipSpace();
      if (cursor.at >= cursor.end) return cursor.Fail("expected ',' or '}'");
      char c = *cursor.at++;
      if (c == '}') break;
      if (c != ',') return --cursor.at, cursor.Fail("expected ',' or '}'");
      if (*cursor.at != '"') cursor.SkipSpace();
    }
    ++cursor.depth_left;
    return true;
  }

  bool Array(Node& node) {
    if (!cursor.Enter()) return false;
    if (*cursor.at == ']' && cursor.at < cursor.end) {
      ++cursor.at, ++cursor.depth_left;
      return true;
    }
    for (uint32_t index = 0;; ++index) {
      int32_t child = -1;
      for (auto& [token, i] : node.children) {
        if (token == std::to_string(index)) child = i;
      }
      if (!(child < 0 ? cursor.Value() : Visit(finder.nodes_[child]))) return false;
      cursor.SkipSpace();
      if (cursor.at >= cursor.end) return cursor.Fail("expected ',' or ']'");
      char c = *cursor.at++;
      if (c == ']') break;
      if (c != ',') return --cursor.at, cursor.Fail("expected ',' or ']'");
      cursor.SkipSpace();
    }
    ++cursor.depth_left;
    return true;
  }
};

JsonFinder::JsonFinder(std::vector<std::string> pointers, uint32_t max_depth)
    : pointers_(pointers.size()), max_depth_(std::min(max_depth, kJsonDepthMax)) {
  nodes_.emplace_back();
  for (uint32_t i = 0; i < pointers.size(); ++i) {
    int32_t at = 0;
    for (const std::string& token : PointerTokens(pointers[i])) {
      int32_t next = -1;
      for (auto& [name, child] : nodes_[at].children) {
        if (name == token) next = child;
      }
      if (next < 0) {
        next = static_cast<int32_t>(nodes_.size());
        nodes_[at].children.emplace_back(token, next);
        bool plain = std::none_of(token.begin(), token.end(), [](char c) {
          return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
        });
        if (plain && token.size() + 2 <= kKeyBytesMax) nodes_[at].AddKey("\"" + token + "\"", next);
        nodes_.emplace_back();
      }
      at = next;
    }
    nodes_[at].outputs.push_back(i);
  }
}

JsonFinder::~JsonFinder() = default;
JsonFinder::JsonFinder(JsonFinder&&) noexcept = default;
JsonFinder& JsonFinder::operator=(JsonFinder&&) noexcept = default;

std::optional<JsonError> JsonFinder::FindPadded(std::string_view text, std::vector<JsonValue>& values) {
  values.assign(pointers_, JsonValue());
  if (text.empty()) return JsonError{"json", 0, "the document is empty"};
  ++documents_;
  Pass pass{{}, *this, values};
  JsonCursor& cursor = pass.cursor;
  cursor.at = text.data();
  cursor.end = text.data() + text.size();
  cursor.depth_left = max_depth_;
  cursor.SkipSpace();
  // A number at the end of the text would be read on into what follows it: Find has zeros there.
  if (*cursor.at != '{' && *cursor.at != '[' && text.data() != padded_.data()) return Find(text, values);
  bool valid = cursor.at < cursor.end ? pass.Visit(nodes_[0]) : cursor.Fail("the document is empty");
  if (valid) {
    cursor.SkipSpace();
    if (cursor.at != cursor.end) valid = cursor.Fail("expected the end of the document");
  }
  if (valid && (cursor.high == 0 || simdjson::validate_utf8(text.data(), text.size()))) [[likely]]
    return std::nullopt;
  return MakeError(cursor, text, max_depth_);
}

std::optional<JsonError> JsonFinder::Find(std::string_view text, std::vector<JsonValue>& values) {
  padded_.assign(text);
  padded_.append(kJsonPadding, '\0');
  std::string_view copy(padded_.data(), text.size());
  std::optional<JsonError> error = FindPadded(copy, values);
  for (JsonValue& value : values) {
    if (value.kind != JsonKind::kMissing) {
      value.text = text.substr(static_cast<size_t>(value.text.data() - copy.data()), value.text.size());
    }
  }
  return error;
}

std::optional<JsonError> ValidateJson(std::string_view text, uint32_t max_depth) {
  std::vector<JsonValue> values;
  return JsonFinder({}, max_depth).Find(text, values);
}

}  // namespace millstream
