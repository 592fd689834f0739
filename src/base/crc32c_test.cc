#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace millstream {
namespace {

// Bit by bit, from the polynomial alone.
uint32_t Reference(std::string_view bytes) {
  uint32_t state = ~0u;
  for (char c : bytes) {
    state ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) state = state & 1 ? state >> 1 ^ 0x82F63B78u : state >> 1;
  }
  return ~state;
}

TEST(Crc32cTest, KnownVectorsOfRfc3720) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, EveryLengthEqualsTheReferenceAndCanBeExtended) {
  SeededRandom random(7);
  std::string bytes(40'000, '\0');
  for (char& c : bytes) c = static_cast<char>(random.Next64());
  for (size_t size :
       {1u, 7u, 8u, 9u, 255u, 767u, 768u, 769u, 1535u, 5000u, 12287u, 12288u, 12289u, 13057u, 39'999u}) {
    std::string_view view = std::string_view(bytes).substr(1, size);
    EXPECT_EQ(Crc32c(view), Reference(view)) << size;
    size_t cut = random.Below(size + 1);
    EXPECT_EQ(Crc32c(view.substr(cut), Crc32c(view.substr(0, cut))), Reference(view))
        << size << " cut at " << cut;
  }
}

}  // namespace
}  // namespace millstream
