// Every parser of text.h over any bytes: it answers or refuses, and what it accepted is read back as it was
// written.
#include "base/fuzz_target.h"
#include "base/text.h"

FUZZ_TARGET(base_text_fuzz, text) {
  using namespace millstream;
  if (auto time = ParseTimeUs(text)) {
    auto again = ParseTimeUs(FormatTime(*time));
    // A zone may carry a time past the years that have four digits; it is then written as the last of them.
    CHECK(again.has_value() &&
          (*again == *time || *time > 253'402'300'799'999'999 || *time < -62'167'219'200'000'000));
  }
  (void)ParseDurationUs(text).has_value();
  (void)ParseBytes(text).has_value();
  if (auto share = ParseShare(text)) CHECK(*share >= 0 && *share <= 1);
  if (CheckName(text).ok()) CHECK(!text.empty() && text.size() <= 63);
  std::string json;
  AppendJsonString(json, text);
  CHECK(json.size() >= 2);
  CHECK(Hex(text).size() == 2 * text.size());
  size_t joined = 0;
  for (auto part : Split(text, ',')) joined += part.size() + 1;
  CHECK(joined == text.size() + 1);
}
