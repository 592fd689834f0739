// JSON scanning: validates a document in full while finding chosen values in it.
//
// Place: floor 1. RFC 8259 syntax, UTF-8 (RFC 3629), paired surrogate escapes, a depth limit; duplicate
// names: the first wins (as in DuckDB). Written here rather than taken from simdjson because its On-Demand
// front end checks only what it is asked for and its DOM loses the text of numbers; both serve as oracles in
// the tests (docs/decisions/0003-json-scanner.md). Threads: stateless.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"  // AppendJsonString

namespace millstream {

/// Bytes after a document that must be readable where a text is scanned in place: loads need no bounds.
inline constexpr uint32_t kJsonPadding = 64;

struct JsonError {
  std::string code;     // json, utf8 or depth
  size_t position = 0;  // byte offset in the document
  std::string message;  // "expected ',' or '}'"
};

/// Checks that `text` is exactly one JSON value (white space around it allowed).
std::optional<JsonError> ValidateJson(std::string_view text, uint32_t max_depth = 128);

/// The kind of a JSON value, told from its first byte.
enum class JsonKind : uint8_t { kMissing, kNull, kBoolean, kNumber, kString, kArray, kObject };

/// A value inside a document: its exact text, quotes included.
struct JsonValue {
  JsonKind kind = JsonKind::kMissing;
  bool escaped = false;  // string with backslashes
  std::string_view text;
};

/// From the first byte of a valid value.
JsonKind JsonKindOf(char first);
/// The value whose exact text this is.
JsonValue MakeJsonValue(std::string_view text);

/// A set of JSON pointers, compiled once, looked for in one pass while the document is validated. Remembers
/// which name followed which in the documents before, so that the usual document costs one comparison a name.
/// Threads: one at a time.
class JsonFinder {
 public:
  explicit JsonFinder(std::vector<std::string> pointers, uint32_t max_depth = 128);
  ~JsonFinder();
  JsonFinder(JsonFinder&&) noexcept;
  JsonFinder& operator=(JsonFinder&&) noexcept;
  /// Validates `text` and fills values[i] for pointer i (kMissing if it is not there).
  std::optional<JsonError> Find(std::string_view text, std::vector<JsonValue>& values);
  /// The same for a text after whose end kJsonPadding bytes are readable.
  std::optional<JsonError> FindPadded(std::string_view text, std::vector<JsonValue>& values);

 private:
  struct Pass;
  struct Key;
  struct Node;
  std::vector<Node> nodes_;
  std::string padded_;  // a copy of a text that is not
  size_t pointers_;
  uint32_t max_depth_;
  uint32_t documents_ = 0;
};

/// A JSON string's value: `text` with its quotes; unescapes into `scratch` only if it has to.
std::string_view JsonStringValue(const JsonValue& value, std::string& scratch);

/// The exact texts of the elements of a valid JSON array, or nothing if it is not an array.
std::optional<std::vector<std::string_view>> JsonElements(std::string_view array);
/// The members of a valid JSON object: name (unescaped) and exact text of the value, duplicates kept.
std::optional<std::vector<std::pair<std::string, std::string_view>>> JsonMembers(std::string_view object);
/// The values of a valid document that a pointer with `*` for "each element" names, e.g. "/entry/*/resource"
/// (option `records`).
std::vector<std::string_view> JsonRecords(std::string_view document, std::string_view pointer);

}  // namespace millstream
