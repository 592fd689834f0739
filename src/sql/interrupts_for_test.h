// Interrupts at random moments, for tests that what they hit fails or is whole.
#pragma once

#include <chrono>
#include <functional>
#include <random>
#include <thread>

namespace millstream {

/// Calls `interrupt` after up to `most`, again and again, until the thread is asked to stop.
inline std::jthread InterruptAtRandom(std::function<void()> interrupt, std::chrono::nanoseconds most) {
  return std::jthread([interrupt = std::move(interrupt), most](const std::stop_token& stop) {
    std::minstd_rand random(7);
    while (!stop.stop_requested()) {
      // It does not sleep: a wake-up would come too late for the moments in question.
      auto at = std::chrono::steady_clock::now() + std::chrono::nanoseconds(random() % most.count());
      while (std::chrono::steady_clock::now() < at) {
      }
      interrupt();
    }
  });
}

}  // namespace millstream
