// The scanner on any bytes: never out of bounds, and of simdjson's opinion.
#include <simdjson.h>

#include "base/fuzz_target.h"
#include "event/json_scan.h"

FUZZ_TARGET(event_json_fuzz, text) {
  using namespace millstream;
  static JsonFinder finder({"/a", "/a/b", "/0", ""}, 1024);
  std::vector<JsonValue> values;
  auto error = finder.Find(text, values);
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::error_code oracle = parser.parse(text.data(), text.size()).get(root);
  bool counts =
      oracle != simdjson::NUMBER_ERROR && oracle != simdjson::DEPTH_ERROR && oracle != simdjson::CAPACITY;
  if (counts) CHECK(error.has_value() == (oracle != simdjson::SUCCESS));
  if (error) return;
  std::string scratch;
  if (values[0].kind == JsonKind::kString) JsonStringValue(values[0], scratch);
  auto elements = JsonElements(text);
  auto members = JsonMembers(text);
  JsonRecords(text, "/*/a");
  if (oracle != simdjson::SUCCESS) return;
  std::string_view expected;
  const bool is_string = root.at_pointer("/a").get(expected) == simdjson::SUCCESS;
  CHECK(is_string == (values[0].kind == JsonKind::kString));
  if (is_string) CHECK(JsonStringValue(values[0], scratch) == expected);
  simdjson::dom::array array;
  CHECK(elements.has_value() == (root.get(array) == simdjson::SUCCESS));
  if (elements) CHECK(elements->size() == array.size());
  simdjson::dom::object object;
  CHECK(members.has_value() == (root.get(object) == simdjson::SUCCESS));
  if (members) CHECK(members->size() == object.size());
}
