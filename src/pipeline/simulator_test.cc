// Simulated histories: whatever happens in whatever order, nothing is lost, doubled, or made by the wrong
// version.
//
// MILLSTREAM_SIMULATIONS says how many histories are run (1,000), MILLSTREAM_SIMULATOR_SEED with which seed
// to begin, MILLSTREAM_SIMULATOR_HISTORY a history in its place. A history that fails is shrunk and printed
// as text; what was found and mended stays below as such a text.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "pipeline/simulator_checks_for_test.h"
#include "pipeline/simulator_steps_for_test.h"

namespace millstream {
namespace {

constexpr size_t kLength = 120;  // of a history
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kHistories = 100;
#else
constexpr uint64_t kHistories = 1000;
#endif

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* text = ::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string RunHistory(Simulator::Shared& shared, uint64_t seed, const History& history,
                       bool doubles = false) {
  Simulator simulator(shared, seed);
  if (doubles) simulator.PlantDoubles();
  return simulator.Run(history);
}

History Smallest(Simulator::Shared& shared, uint64_t seed, const History& history, bool doubles = false) {
  return Shrink(history,
                [&](const History& less) { return !RunHistory(shared, seed, less, doubles).empty(); });
}

TEST(Simulator, HoldsInEveryHistory) {
  const uint64_t first = Setting("MILLSTREAM_SIMULATOR_SEED", 1);
  const uint64_t count = Setting("MILLSTREAM_SIMULATIONS", kHistories);
  Simulator::Shared shared;
  uint64_t events = 0, deaths = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const char* given = ::getenv("MILLSTREAM_SIMULATOR_HISTORY");
    const History history = given == nullptr ? MakeHistory(seed, kLength) : ParseHistory(given);
    Simulator simulator(shared, seed);
    std::string violation = simulator.Run(history);
    events += simulator.events(), deaths += simulator.deaths();
    if (violation.empty()) continue;
    History smallest = Smallest(shared, seed, history);
    FAIL() << "MILLSTREAM_SIMULATOR_SEED=" << seed << ": " << violation << "\nshrunk to " << smallest.size()
           << " steps: " << RunHistory(shared, seed, smallest) << "\n{" << seed << ", \"" << ToText(smallest)
           << "\"}";
  }
  fmt::print("{} histories: {} events, {} deaths\n", count, events, deaths);
}

/// Shrunk histories that failed once, with the seed whose settings they need.
constexpr std::pair<uint64_t, const char*> kFound[] = {
    // A start made up for a change that took a sink out, and forgot how far that sink had come.
    {19, "post 189 240, write 797 918, deliver 383 515, checkpoint 620 955, death 159 794, change 51 39"},
    // The next version began below the one before it: what that sink had claimed was known to one process
    // only.
    {121,
     "change 358 80, death 644 619, post 745 758, write 32 829, write 231 87, deliver 5 466, post 955 106, "
     "checkpoint 68 907, write 33 358, deliver 762 808, meanwhile 660 718, deliver 941 609, change 873 720, "
     "cut 621 1, sync_fails 275 279, change 116 155"},
    // `dedupe` forgot all of a request that failed in one partition and was durable in the other.
    {79, "disk_full 908 562, post 98 352, write 262 55"},
    // Of a piece that was halved, a later letter's receipt hid the earlier ones, which came again after a
    // crash.
    {2947,
     "post 70 837, write_fails 408 723, write 896 633, change 882 333, post 381 671, post 881 503, seal 106 "
     "520, "
     "trouble 620 491, deliver 123 594, checkpoint 932 98, cut 66 751"},
    // Retention removed events that a sink had taken, and whose loop was to bring them again: the answer was
    // lost.
    {4839,
     "post 716 393, seal 498 369, change 536 69, trouble 104 107, deliver 390 523, clock 221 869, checkpoint "
     "951 498, "
     "deliver 652 944, retain 935 17"},
    // `dedupe` forgot everything at a start after a leap of the clock.
    {106, "clock 40 515, post 626 392, write 51 115, kill 680 393"},
};

TEST(Simulator, WhatItFoundStaysMended) {
  Simulator::Shared shared;
  for (const auto& [seed, history] : kFound)
    EXPECT_EQ(RunHistory(shared, seed, ParseHistory(history)), "") << seed << ": " << history;
}

TEST(Simulator, ASeedGivesTheSameHistoryAgain) {
  Simulator::Shared shared;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const History history = MakeHistory(seed, kLength);
    EXPECT_EQ(ToText(ParseHistory(ToText(history))), ToText(history));
    uint64_t traces[2];
    for (uint64_t& trace : traces) {
      Simulator simulator(shared, seed);
      EXPECT_EQ(simulator.Run(history), "");
      trace = simulator.trace();
    }
    EXPECT_EQ(traces[0], traces[1]) << "seed " << seed;
  }
}

TEST(Simulator, FindsAFaultAndShrinksItsHistory) {
  Simulator::Shared shared;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const History history = MakeHistory(seed, kLength);
    std::string violation = RunHistory(shared, seed, history, true);
    if (violation.empty()) continue;
    EXPECT_NE(violation.find("2 times"), std::string::npos) << violation;
    const History smallest = Smallest(shared, seed, history, true);
    EXPECT_LT(smallest.size(), 10u) << ToText(smallest);
    for (size_t i = 0; i < smallest.size(); ++i) {
      History less = smallest;
      less.erase(less.begin() + static_cast<ptrdiff_t>(i));
      EXPECT_EQ(RunHistory(shared, seed, less, true), "") << "step " << i << " of " << ToText(smallest);
    }
    EXPECT_EQ(RunHistory(shared, seed, smallest), "") << "without the fault";
    return;
  }
  FAIL() << "not found";
}

}  // namespace
}  // namespace millstream
