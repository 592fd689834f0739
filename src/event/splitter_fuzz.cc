// RecordSplitter and Inflater on any bytes: the cut of the chunks changes nothing.
#include <cstdlib>

#include "event/decompress.h"
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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  SplitOptions options;
  options.format = static_cast<RecordFormat>(data[0] % 3);
  if (data[0] & 64) options.records = "/a/*";
  if (Split(options, text, 1 + data[1] % 16) != Split(options, text, text.size() + 1)) std::abort();
  (void)InflateAll(Compression::kGzip, text, 1 << 20);
  (void)InflateAll(Compression::kZstd, text, 1 << 20);
  return 0;
}
