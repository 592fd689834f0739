// JsonView: members of the API's documents, numbers with the digits that they came with.
//
// Place: floor 8. A view over text that the caller keeps.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millstream {

class JsonView {
 public:
  JsonView() = default;
  explicit JsonView(std::string_view json) : json_(json) {}

  /// A member of an object; an empty view if it is missing or this is no object.
  JsonView operator[](std::string_view name) const;
  std::vector<JsonView> items() const;
  /// A string without quotes, a number as written, null and missing as "".
  std::string text() const;
  uint64_t number() const;
  double real() const;
  std::string_view raw() const { return json_; }
  bool missing() const { return json_.empty() || json_ == "null"; }

 private:
  std::string_view json_;
};

}  // namespace millstream
