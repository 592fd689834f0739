// RecordSplitter on any bytes, in all its formats: the cut of the chunks changes nothing. The first byte
// chooses the format, the second the cut.
#include "base/fuzz_target.h"
#include "event/record_splitter.h"

namespace {

using namespace millstream;

std::string Split(SplitOptions options, std::string_view text, size_t chunk) {
  RecordSplitter splitter(std::move(options));
  std::string out;
  for (size_t at = 0;;) {
    auto record = splitter.Next();
    if (!record) return out + "error";
    if (*record) {
      out += fmt::format("{}:{}:{}\n", (*record)->line, (*record)->text, (*record)->fault);
    } else if (at < text.size()) {
      splitter.Feed(text.substr(at, chunk));
      at += chunk;
    } else {
      splitter.End();
      record = splitter.Next();
      if (!record) return out + "error";
      if (!*record) return out;
      out += fmt::format("{}:{}:{}\n", (*record)->line, (*record)->text, (*record)->fault);
    }
  }
}

}  // namespace

FUZZ_TARGET(event_splitter_fuzz, text) {
  if (text.size() < 2) return;
  const auto format = static_cast<uint8_t>(text[0]), cut = static_cast<uint8_t>(text[1]);
  text.remove_prefix(2);
  SplitOptions options;
  options.format = static_cast<RecordFormat>(format % 3);
  if (format & 64) options.records = "/a/*";
  CHECK(Split(options, text, 1 + cut % 16) == Split(options, text, text.size() + 1));
}
