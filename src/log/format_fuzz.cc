// The decoders of the log's files on any bytes: kCorrupt or values, never out of bounds. What one of them
// takes, its encoder writes so that it is taken again. The first byte chooses the decoder; CRCs are made
// right, so that what stands behind them is reached. The log's id is all zeros.
#include <cstring>

#include "base/crc32c.h"
#include "base/fuzz_target.h"
#include "log/format.h"

namespace {

/// Magic, CRC, the rest.
void Seal(char* from, size_t size) {
  uint32_t crc = millstream::Crc32c(std::string_view(from + 8, size - 8));
  std::memcpy(from + 4, &crc, sizeof crc);
}

}  // namespace

FUZZ_TARGET(log_format_fuzz, text) {
  using namespace millstream;
  if (text.empty()) return;
  std::string bytes(text.substr(1));
  static const Uuid log{};
  switch (static_cast<uint8_t>(text[0]) % 6) {
    case 0: {
      bytes.resize(std::max<size_t>(bytes.size(), kBatchHeaderBytes));
      Seal(bytes.data(), kBatchHeaderBytes);
      auto header = DecodeBatchHeader(bytes.data(), log);
      if (!header) return;
      std::string again(kBatchHeaderBytes, '\0');
      EncodeBatchHeader(*header, log, again.data());
      CHECK(DecodeBatchHeader(again.data(), log));
      return;
    }
    case 1: {
      if (bytes.size() < kSegmentHeaderFixedBytes) return;
      if (auto whole = SegmentHeaderBytes(std::string_view(bytes).substr(0, kSegmentHeaderFixedBytes));
          whole && *whole >= kSegmentHeaderFixedBytes && *whole <= bytes.size())
        bytes.resize(*whole);
      Seal(bytes.data(), bytes.size());
      auto header = DecodeSegmentHeader(bytes, log);
      if (header) CHECK(DecodeSegmentHeader(EncodeSegmentHeader(*header, log), log));
      return;
    }
    case 2: {
      if (bytes.size() < kTrailerBytes) return;
      Seal(bytes.data() + bytes.size() - kTrailerBytes, kTrailerBytes);
      std::string_view all(bytes);
      auto footer = DecodeTrailer(all.substr(all.size() - kTrailerBytes), all.size(), log);
      if (footer) (void)DecodeFooterBody(all.substr(0, all.size() - kTrailerBytes), &*footer);
      return;
    }
    case 3: {  // the body alone, with counts of any size and its own CRC
      if (bytes.size() < 8) return;
      SegmentFooter footer;
      std::memcpy(&footer.index_count, bytes.data(), 4);
      std::memcpy(&footer.receipt_count, bytes.data() + 4, 4);
      std::string_view body = std::string_view(bytes).substr(8);
      footer.body_crc = Crc32c(body);
      (void)DecodeFooterBody(body, &footer);
      return;
    }
    case 4: {
      if (bytes.size() < 8) return;
      Seal(bytes.data(), bytes.size());
      auto state = DecodeState(bytes, log);
      if (state) CHECK(DecodeState(EncodeState(*state, log), log));
      return;
    }
    default: {
      if (bytes.size() < 8) return;
      Seal(bytes.data(), bytes.size());
      auto identity = DecodeIdentity(bytes);
      if (identity) CHECK(DecodeIdentity(EncodeIdentity(*identity)));
      return;
    }
  }
}
