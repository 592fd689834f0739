#include "base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace millstream {
namespace {

uint64_t Load64(const char* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Moves a CRC's state over a fixed number of zero bytes: a linear map, so four tables of one byte each are
// all of it.
class ZeroBytes {
 public:
  explicit ZeroBytes(size_t bytes) {
    std::array<uint32_t, 32> basis;
    for (int bit = 0; bit < 32; ++bit) {
      uint64_t state = 1u << bit;
      for (size_t done = 0; done < bytes; done += 8) state = _mm_crc32_u64(state, 0);
      basis[bit] = static_cast<uint32_t>(state);
    }
    for (int byte = 0; byte < 4; ++byte) {
      for (uint32_t value = 0; value < 256; ++value) {
        uint32_t moved = 0;
        for (int bit = 0; bit < 8; ++bit) {
          if (value >> bit & 1) moved ^= basis[byte * 8 + bit];
        }
        table_[byte][value] = moved;
      }
    }
  }
  uint32_t operator()(uint32_t state) const {
    return table_[0][state & 255] ^ table_[1][state >> 8 & 255] ^ table_[2][state >> 16 & 255] ^
           table_[3][state >> 24];
  }

 private:
  uint32_t table_[4][256];
};

// The instruction takes three cycles but one can start each cycle: three lanes of `kLane` bytes keep it busy.
template <size_t kLane>
uint32_t ThreeLanes(const char*& at, size_t& left, uint32_t state) {
  static const ZeroBytes kOverLane(kLane);
  while (left >= 3 * kLane) {
    uint64_t a = state, b = 0, c = 0;
    for (const char* end = at + kLane; at < end; at += 8) {
      a = _mm_crc32_u64(a, Load64(at));
      b = _mm_crc32_u64(b, Load64(at + kLane));
      c = _mm_crc32_u64(c, Load64(at + 2 * kLane));
    }
    state =
        kOverLane(kOverLane(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ static_cast<uint32_t>(c);
    at += 2 * kLane;
    left -= 3 * kLane;
  }
  return state;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t crc) {
  uint32_t state = ~crc;
  const char* at = bytes.data();
  size_t left = bytes.size();
  state = ThreeLanes<4096>(at, left, state);
  state = ThreeLanes<256>(at, left, state);
  uint64_t wide = state;
  for (; left >= 8; at += 8, left -= 8) wide = _mm_crc32_u64(wide, Load64(at));
  state = static_cast<uint32_t>(wide);
  for (; left > 0; ++at, --left) state = _mm_crc32_u8(state, static_cast<uint8_t>(*at));
  return ~state;
}

}  // namespace millstream
