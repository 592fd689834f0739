#include "cli/json_view.h"

#include <cstdlib>

#include "event/json_scan.h"

namespace millstream {

JsonView JsonView::operator[](std::string_view name) const {
  auto members = JsonMembers(json_);
  if (members)
    for (const auto& [key, value] : *members)
      if (key == name) return JsonView(value);
  return {};
}

std::vector<JsonView> JsonView::items() const {
  std::vector<JsonView> views;
  auto elements = JsonElements(json_);
  if (elements)
    for (std::string_view element : *elements) views.emplace_back(element);
  return views;
}

std::string JsonView::text() const {
  if (missing()) return "";
  if (!json_.starts_with('"')) return std::string(json_);
  std::string scratch;
  JsonValue value{JsonKind::kString, json_.find('\\') != std::string_view::npos, json_};
  return std::string(JsonStringValue(value, scratch));
}

uint64_t JsonView::number() const { return std::strtoull(std::string(json_).c_str(), nullptr, 10); }
double JsonView::real() const { return std::strtod(std::string(json_).c_str(), nullptr); }

}  // namespace millstream
