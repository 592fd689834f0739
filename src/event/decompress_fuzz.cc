// Inflater on any bytes: the cut of what goes in and comes out changes nothing, and the bound holds. The
// first byte chooses the compression, the next two the cuts.
#include "base/fuzz_target.h"
#include "event/decompress.h"

namespace {

using namespace millstream;

constexpr uint64_t kBytesMax = 16 << 10;

/// `piece` bytes at a time go in and at most `most` come out; nothing on failure.
std::optional<std::string> InflateCut(Compression compression, std::string_view text, size_t piece,
                                      size_t most) {
  auto inflater = Inflater::Make(compression, kBytesMax);
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) {
    std::string_view in = text.substr(at, piece);
    for (size_t before = 0; !in.empty() || out.size() - before == most;) {
      before = out.size();
      if (!inflater->Inflate(in, out, most).ok()) return std::nullopt;
      CHECK(out.size() - before <= most);
    }
  }
  if (!inflater->Finish().ok()) return std::nullopt;
  return out;
}

}  // namespace

FUZZ_TARGET(event_decompress_fuzz, text) {
  if (text.size() < 3) return;
  auto compression = static_cast<Compression>(text[0] % 3);
  size_t piece = 1 + text[1] % 64u, most = 1 + text[2] % 256u;
  text.remove_prefix(3);
  Result<std::string> whole = InflateAll(compression, text, kBytesMax);
  std::optional<std::string> cut = InflateCut(compression, text, piece, most);
  // zstd itself holds a frame's stated size against its content only where it has the whole frame at once.
  CHECK(whole.has_value() == cut.has_value() || compression == Compression::kZstd);
  if (!whole || !cut) return;
  CHECK(*whole == *cut);
  CHECK(whole->size() <= kBytesMax);
}
