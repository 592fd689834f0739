// CloudEvents on any bytes: an event of the JSON format, and HTTP's binary mode (lines "name: value", an
// empty one, the body). What is read views the text that was given.
#include <cstdlib>

#include "event/cloudevents.h"

namespace {

bool Inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto structured = ParseCloudEvent(text);
  if (structured && structured->data != "null" && !Inside(structured->data, text)) std::abort();
  HeaderList headers;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    size_t colon = line.find(':');
    if (colon == line.npos) break;
    headers.emplace_back(line.substr(0, colon), line.substr(colon + 1));
  }
  (void)ReadCloudEventHeaders(headers, text);
  for (const auto& [name, value] : headers) IsJsonContentType(value);
  return 0;
}
