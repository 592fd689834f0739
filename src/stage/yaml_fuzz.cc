// YAML and JSON of configuration on any bytes: a tree or faults with a place. A tree survives the way to JSON
// and back, as `_control` keeps it.
#include <cstdlib>

#include "stage/node.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  Faults faults;
  Node node = ParseYaml(text, "fuzz.yaml", faults);
  if (faults.empty()) {
    std::string json = ToJson(node);
    Node again = ParseJson(json, "fuzz.json", faults);
    if (!faults.empty() || ToJson(again) != json) std::abort();
    (void)ToYaml(node);
  }
  faults.clear();
  (void)ParseJson(text, "fuzz.json", faults);
  return 0;
}
