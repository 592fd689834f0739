// Random: randomness behind an interface, so that a test can fix it.
//
// Place: floor 0. SystemRandom is thread-safe; SeededRandom belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <random>

namespace millstream {

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next64() = 0;
  /// Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound) { return Next64() % bound; }
};

class SystemRandom final : public Random {
 public:
  uint64_t Next64() override;  // getrandom(2)
};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t Next64() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

using Uuid = std::array<uint8_t, 16>;

}  // namespace millstream
