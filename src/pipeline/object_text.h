// ObjectText: builds one JSON object member by member.
//
// Place: floor 5; for the documents of this room. The object ends with the writer's life. Belongs to one
// thread.
#pragma once

#include <iterator>
#include <string>
#include <string_view>

#include "event/json_scan.h"

namespace millstream {

class ObjectText {
 public:
  explicit ObjectText(std::string& out) : out_(out) { out_ += '{'; }
  ~ObjectText() { out_ += '}'; }
  ObjectText& Text(std::string_view name, std::string_view value) {
    Name(name);
    AppendJsonString(out_, value);
    return *this;
  }
  template <typename T>
  ObjectText& Number(std::string_view name, T value) {
    Name(name);
    fmt::format_to(std::back_inserter(out_), "{}", value);
    return *this;
  }
  /// `json`: a value's text.
  ObjectText& Json(std::string_view name, std::string_view json) {
    Name(name);
    out_ += json;
    return *this;
  }
  ObjectText& Rate(std::string_view name, double value) {
    Name(name);
    fmt::format_to(std::back_inserter(out_), "{:.1f}", value);
    return *this;
  }
  template <typename List, typename Each>
  ObjectText& Array(std::string_view name, const List& list, Each each) {
    Name(name);
    out_ += '[';
    bool is_first = true;
    for (const auto& item : list) {
      if (!is_first) out_ += ',';
      is_first = false;
      each(item);
    }
    out_ += ']';
    return *this;
  }

 private:
  void Name(std::string_view name) {
    if (!is_first_) out_ += ',';
    is_first_ = false;
    AppendJsonString(out_, name);
    out_ += ':';
  }
  std::string& out_;
  bool is_first_ = true;
};

}  // namespace millstream
