// JsonObject: writes one JSON object member by member.
//
// Place: floor 7. Appends to a string that outlives it; the closing brace comes with the destructor. One
// thread.
#pragma once

#include <iterator>
#include <string>
#include <string_view>

#include "base/text.h"

namespace millstream {

class JsonObject {
 public:
  explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
  ~JsonObject() { out_ += '}'; }
  JsonObject(const JsonObject&) = delete;
  JsonObject& operator=(const JsonObject&) = delete;

  JsonObject& Text(std::string_view name, std::string_view value) {
    Name(name);
    AppendJsonString(out_, value);
    return *this;
  }
  JsonObject& Number(std::string_view name, auto value) {
    Name(name);
    fmt::format_to(std::back_inserter(out_), "{}", value);
    return *this;
  }
  /// `json`: a value's text.
  JsonObject& Json(std::string_view name, std::string_view json) {
    Name(name);
    out_ += json;
    return *this;
  }
  /// Calls `each` with every item to append its JSON.
  template <typename List, typename Each>
  JsonObject& Array(std::string_view name, const List& list, Each each) {
    Name(name);
    out_ += '[';
    std::string_view separator;
    for (const auto& item : list) {
      out_ += std::exchange(separator, ",");
      each(item);
    }
    out_ += ']';
    return *this;
  }

 private:
  void Name(std::string_view name) {
    if (!out_.ends_with('{')) out_ += ',';
    AppendJsonString(out_, name);
    out_ += ':';
  }
  std::string& out_;
};

}  // namespace millstream
