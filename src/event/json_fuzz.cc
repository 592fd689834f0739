// The scanner on any bytes: never out of bounds, and of simdjson's opinion.
#include <simdjson.h>

#include <cstdlib>

#include "event/json_scan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  static JsonFinder finder({"/a", "/a/b", "/0", ""}, 1024);
  std::vector<JsonValue> values;
  auto error = finder.Find(text, values);
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::error_code oracle = parser.parse(text.data(), text.size()).get(root);
  bool counts =
      oracle != simdjson::NUMBER_ERROR && oracle != simdjson::DEPTH_ERROR && oracle != simdjson::CAPACITY;
  if (counts && error.has_value() != (oracle != simdjson::SUCCESS)) std::abort();
  if (error) return 0;
  std::string scratch;
  if (values[0].kind == JsonKind::kString) JsonStringValue(values[0], scratch);
  JsonElements(text);
  JsonMembers(text);
  JsonRecords(text, "/*/a");
  return 0;
}
