// CloudEvents on any bytes: an event of the JSON format, and HTTP's binary mode (lines "name: value", an
// empty one, the body). What is read views the text that was given.
#include "base/fuzz_target.h"
#include "event/cloudevents.h"

namespace {

bool Inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

FUZZ_TARGET(event_cloudevents_fuzz, text) {
  using namespace millstream;
  auto structured = ParseCloudEvent(text);
  if (structured) CHECK(structured->data == "null" || Inside(structured->data, text));
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
}
