// JsonNode: a JSON document as a tree that can be changed and written back.
//
// Place: floor 2, inside sql/: DuckDB's parse trees (json_serialize_sql) and errors come as JSON. Numbers
// keep their text, so that no literal of a user's filter changes on the way (doubles, 64-bit locations,
// hugeints). Values; one thread. Failure: ParseJsonTree answers kInvalid on what is no JSON (DuckDB writes
// none such).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace millstream {

class JsonNode {
 public:
  enum class Kind : uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };
  using Members = std::vector<std::pair<std::string, JsonNode>>;

  JsonNode() = default;
  static JsonNode String(std::string text);
  static JsonNode Number(std::string text);
  static JsonNode Boolean(bool value);
  static JsonNode Array(std::vector<JsonNode> items = {});
  static JsonNode Object(Members members = {});

  Kind kind() const { return kind_; }
  bool IsNull() const { return kind_ == Kind::kNull; }
  bool IsObject() const { return kind_ == Kind::kObject; }
  bool IsArray() const { return kind_ == Kind::kArray; }
  bool IsTrue() const { return kind_ == Kind::kTrue; }

  /// A string's text or a number's digits; empty for others.
  const std::string& text() const { return text_; }
  /// Items of an array.
  std::vector<JsonNode>& items() { return items_; }
  const std::vector<JsonNode>& items() const { return items_; }
  Members& members() { return members_; }
  const Members& members() const { return members_; }

  /// A member of an object; a null node where there is none.
  const JsonNode& operator[](std::string_view name) const;
  /// The same for writing; added if it is missing.
  JsonNode& At(std::string_view name);
  /// The member's text if it is a string or number, else "".
  const std::string& Text(std::string_view name) const { return (*this)[name].text(); }

  void Write(std::string& out) const;
  std::string ToString() const;

 private:
  Kind kind_ = Kind::kNull;
  std::string text_;
  std::vector<JsonNode> items_;
  Members members_;
};

Result<JsonNode> ParseJsonTree(std::string_view text);

}  // namespace millstream
