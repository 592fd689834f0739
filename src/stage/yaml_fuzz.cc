// YAML and JSON of configuration on any bytes: a tree or faults with a place. A tree survives the way to JSON
// and back, as `_control` keeps it, and to YAML and back.
#include "base/fuzz_target.h"
#include "stage/node.h"

constexpr size_t kKeyBytesMax = 1024;

FUZZ_TARGET(stage_yaml_fuzz, text) {
  using namespace millstream;
  Faults faults;
  Node node = ParseYaml(text, "fuzz.yaml", faults);
  if (faults.empty()) {
    std::string json = ToJson(node);
    Node again = ParseJson(json, "fuzz.json", faults);
    CHECK(faults.empty() && ToJson(again) == json);
    const std::string yaml = ToYaml(node);
    Node from_yaml = ParseYaml(yaml, "fuzz.yaml", faults);
    // YAML has no keys beyond kKeyBytesMax.
    CHECK((faults.empty() && ToJson(from_yaml) == json) || yaml.size() > kKeyBytesMax);
  }
  faults.clear();
  (void)ParseJson(text, "fuzz.json", faults);
}
