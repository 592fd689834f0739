#include "base/clock.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

TEST(ClockTest, ManualClockMovesWallAndMonotonicApart) {
  ManualClock clock(1'000);
  int64_t before = clock.MonotonicNs();
  clock.JumpWallUs(-500);
  EXPECT_EQ(clock.WallUs(), 500);
  EXPECT_EQ(clock.MonotonicNs(), before);
  clock.AdvanceUs(7);
  EXPECT_EQ(clock.WallUs(), 507);
  EXPECT_EQ(clock.MonotonicNs(), before + 7'000);
}

}  // namespace
}  // namespace millstream
