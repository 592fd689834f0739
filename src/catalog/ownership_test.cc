// Every interleaving of loops, changes and crashes of a small pipeline, in memory: whatever happens, what is
// durable was made by the version that owns it, as `_control` tells it afterwards.
#include "catalog/ownership.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <unordered_set>

namespace millstream {
namespace {

TEST(Ownership, BoundariesDecide) {
  Ownership ownership;
  ownership.Activate(3, {});
  ownership.Activate(5, {{0, 10}});
  ownership.Activate(6, {{0, 10}, {1, 4}});
  EXPECT_EQ(ownership.OwnerOf(0, 9).version, 3u);
  EXPECT_EQ(ownership.OwnerOf(0, 9).end, 10u);
  EXPECT_EQ(ownership.OwnerOf(0, 10).version, 6u) << "5 was overtaken before its first event";
  EXPECT_EQ(ownership.OwnerOf(0, 10).end, UINT64_MAX);
  EXPECT_EQ(ownership.OwnerOf(1, 3).version, 5u);
  EXPECT_EQ(ownership.OwnerOf(1, 3).end, 4u);
}

TEST(Ownership, AHoldStopsOnlyWhatIsNew) {
  Ownership ownership;
  ownership.Activate(1, {});
  EXPECT_EQ(ownership.Claim(0, 1, 0, 100), Ownership::Answer::kGo);  // and its sink never comes back
  EXPECT_EQ(ownership.Hold(), (Boundary{{0, 100}}));
  EXPECT_EQ(ownership.Claim(0, 1, 0, 50), Ownership::Answer::kGo)
      << "a slower sink goes on below the boundary";
  EXPECT_EQ(ownership.Claim(0, 1, 50, 150), Ownership::Answer::kWait);
  ownership.Activate(2, {{0, 100}});
  ownership.Release();
  EXPECT_EQ(ownership.Claim(0, 1, 50, 150), Ownership::Answer::kOther) << "it is cut at 100";
  EXPECT_EQ(ownership.Claim(0, 1, 50, 100), Ownership::Answer::kGo);
  EXPECT_EQ(ownership.Claim(0, 1, 100, 150), Ownership::Answer::kOther);
  EXPECT_EQ(ownership.Claim(0, 2, 100, 150), Ownership::Answer::kGo);
}

// A sink had come to 100, and was taken out; the process that follows never hears of it.
TEST(Ownership, BoundariesNeverGoBack) {
  Ownership ownership;
  ownership.Activate(1, {});
  ownership.Activate(2, {{0, 100}});
  ownership.Delivered(0, 40);
  EXPECT_EQ(ownership.Hold(), (Boundary{{0, 100}}));
}

constexpr int kPartitionsMax = 2, kSinksMax = 2, kOffsetsMax = 3, kVersionsMax = 3;

struct Size {
  int partitions, sinks, offsets, versions, crashes;
};

/// All there is of the pipeline, as bytes, so that a state that was seen is known.
struct World {
  enum Step : uint8_t { kIdle, kFiltered, kClaimed, kLettered };
  struct Loop {
    // Durable: the next offset; for each offset which version's row and letter are there (0: none).
    uint8_t committed = 0;
    std::array<uint8_t, kOffsetsMax> rows{}, letters{};
    // Of the process: the batch under way.
    uint8_t step = kIdle, first = 0, next = 0, version = 0;
  };
  std::array<std::array<Loop, kPartitionsMax>, kSinksMax> loops{};
  // Durable: `_control`.
  uint8_t applied = 1, activated = 1;
  std::array<std::array<uint8_t, kPartitionsMax>, kVersionsMax> boundaries{};  // of version i + 1
  // Of the process: what was ever claimed, and how far the change under way is.
  std::array<uint8_t, kPartitionsMax> claimed{};
  enum Change : uint8_t { kNone, kApplied, kHeld, kActivated };
  uint8_t change = kNone;
  std::array<uint8_t, kPartitionsMax> boundary{};
  uint8_t crashes = 0;

  std::string Key() const {
    std::string bytes(sizeof *this, '\0');
    std::memcpy(bytes.data(), static_cast<const void*>(this), sizeof *this);
    return bytes;
  }
};
static_assert(std::has_unique_object_representations_v<World>);

class Explorer {
 public:
  explicit Explorer(Size size) : size_(size) {}

  /// Visits every state that can be reached. The number of them.
  size_t Run() {
    std::vector<World> left{World()};
    seen_.insert(World().Key());
    while (!left.empty()) {
      World world = left.back();
      left.pop_back();
      Check(world);
      if (testing::Test::HasFailure()) return seen_.size();
      bool is_stuck = true;
      for (World& next : After(world)) {
        is_stuck = false;
        if (seen_.insert(next.Key()).second) left.push_back(next);
      }
      if (is_stuck) CheckEnd(world);
    }
    return seen_.size();
  }
  size_t ends() const { return ends_; }

  /// One way through the states, by chance.
  void Walk(uint32_t seed) {
    std::minstd_rand random(seed);
    World world;
    for (std::vector<World> after = After(world); !after.empty(); after = After(world)) {
      world = after[random() % after.size()];
      Check(world);
      if (testing::Test::HasFailure()) return;
    }
    CheckEnd(world);
  }

 private:
  /// What the process knows: the pure code under test, as it stands in this state.
  Ownership Known(const World& world) const {
    // An `activated` that is durable is not known to the loops before the hold ends.
    Ownership ownership =
        Durable(world, world.change == World::kActivated ? world.activated - 1 : world.activated);
    for (int p = 0; p < size_.partitions; ++p) ownership.Delivered(p, world.claimed[p]);
    if (world.change == World::kHeld || world.change == World::kActivated) ownership.Hold();
    return ownership;
  }
  Ownership Durable(const World& world, int versions) const {
    Ownership ownership;
    for (int v = 0; v < versions; ++v) {
      Boundary from;
      for (int p = 0; p < size_.partitions; ++p) from[p] = world.boundaries[v][p];
      ownership.Activate(v + 1, from);
    }
    return ownership;
  }

  std::vector<World> After(const World& world) const {
    std::vector<World> after;
    auto add = [&](auto change) {
      World next = world;
      if (change(next)) after.push_back(next);
    };
    Ownership known = Known(world);
    for (int s = 0; s < size_.sinks; ++s) {
      for (int p = 0; p < size_.partitions; ++p) {
        const World::Loop& now = world.loops[s][p];
        auto owner = known.OwnerOf(p, now.committed);
        for (uint8_t count : {1, 2, 3})
          add([&](World& next) {  // takes and filters a batch
            World::Loop& loop = next.loops[s][p];
            if (loop.step != World::kIdle || loop.committed + count > size_.offsets) return false;
            if (loop.committed + count > owner.end) return false;
            loop.step = World::kFiltered, loop.first = loop.committed, loop.next = loop.committed + count;
            loop.version = static_cast<uint8_t>(owner.version);
            return true;
          });
        add([&](World& next) {
          World::Loop& loop = next.loops[s][p];
          if (loop.step != World::kFiltered) return false;
          auto answer = known.Claim(p, loop.version, loop.first, loop.next);
          if (answer == Ownership::Answer::kWait) return false;
          if (answer == Ownership::Answer::kOther) {
            loop.step = World::kIdle, loop.first = loop.next = loop.version = 0;
            return true;
          }
          loop.step = World::kClaimed;
          next.claimed[p] = std::max(next.claimed[p], loop.next);
          return true;
        });
        add([&](World& next) {  // dead letters become durable before the rows
          World::Loop& loop = next.loops[s][p];
          if (loop.step != World::kClaimed) return false;
          for (int o = loop.first; o < loop.next; ++o)
            if (loop.letters[o] == 0) loop.letters[o] = loop.version;
          loop.step = World::kLettered;
          return true;
        });
        add([&](World& next) {  // rows and offset become durable
          World::Loop& loop = next.loops[s][p];
          if (loop.step != World::kLettered) return false;
          for (int o = loop.first; o < loop.next; ++o) loop.rows[o] = loop.version;
          loop.committed = loop.next;
          loop.step = World::kIdle, loop.first = loop.next = loop.version = 0;
          return true;
        });
      }
    }
    add([&](World& next) { return ChangeGoesOn(next, known); });
    add([&](World& next) { return Crash(next); });
    return after;
  }

  bool ChangeGoesOn(World& world, Ownership& known) const {
    switch (world.change) {
      case World::kNone:
        if (world.applied == size_.versions) return false;
        ++world.applied;
        world.change = World::kApplied;
        return true;
      case World::kApplied:
        for (auto [partition, offset] : known.Hold())
          world.boundary[partition] = static_cast<uint8_t>(offset);
        world.change = World::kHeld;
        return true;
      case World::kHeld:
        world.boundaries[world.activated++] = world.boundary;
        world.change = World::kActivated;
        return true;
      default:
        world.change = World::kNone, world.boundary = {};
        return true;
    }
  }

  /// The process dies and starts again: what is durable says how it goes on.
  bool Crash(World& world) const {
    if (world.crashes == size_.crashes) return false;
    ++world.crashes;
    world.claimed = world.boundary = {};
    for (int s = 0; s < size_.sinks; ++s) {
      for (int p = 0; p < size_.partitions; ++p) {
        World::Loop& loop = world.loops[s][p];
        loop.step = World::kIdle, loop.first = loop.next = loop.version = 0;
        uint8_t reached = loop.committed;
        for (int o = 0; o < size_.offsets; ++o)
          if (loop.letters[o] != 0) reached = std::max<uint8_t>(reached, o + 1);
        world.claimed[p] = std::max(world.claimed[p], reached);
      }
    }
    world.change = world.applied > world.activated ? World::kApplied : World::kNone;
    return true;
  }

  void Check(const World& world) const {
    Ownership durable = Durable(world, world.activated);
    for (int s = 0; s < size_.sinks; ++s) {
      for (int p = 0; p < size_.partitions; ++p) {
        const World::Loop& loop = world.loops[s][p];
        for (int o = 0; o < size_.offsets; ++o) {
          uint64_t owner = durable.OwnerOf(p, o).version;
          if (loop.rows[o] != 0) {
            ASSERT_EQ(loop.rows[o], owner) << "row: sink " << s << " partition " << p << " offset " << o;
          }
          if (loop.letters[o] != 0) {
            ASSERT_EQ(loop.letters[o], owner)
                << "letter: sink " << s << " partition " << p << " offset " << o;
          }
          ASSERT_EQ(loop.rows[o] != 0, o < loop.committed);
        }
      }
    }
  }
  /// Nothing can go on: then everything must be done.
  void CheckEnd(const World& world) {
    ++ends_;
    for (int s = 0; s < size_.sinks; ++s)
      for (int p = 0; p < size_.partitions; ++p) ASSERT_EQ(world.loops[s][p].committed, size_.offsets);
    ASSERT_EQ(world.activated, size_.versions);
  }

  const Size size_;
  std::unordered_set<std::string> seen_;
  size_t ends_ = 0;
};

TEST(Ownership, HoldsInEveryOrderOfStepsAndCrashes) {
  for (Size size : {Size{1, 2, 3, 3, 2}, Size{2, 1, 2, 3, 2}, Size{2, 2, 1, 3, 2}}) {
    Explorer explorer(size);
    size_t states = explorer.Run();
    EXPECT_GT(explorer.ends(), 0u);
    RecordProperty(fmt::format("states_{}x{}x{}", size.partitions, size.sinks, size.offsets),
                   std::to_string(states));
  }
}

TEST(Ownership, HoldsOnManyWaysThroughMoreStates) {
  Explorer explorer({2, 2, 3, 3, 3});
  for (uint32_t seed = 1; seed <= 5'000; ++seed) {
    explorer.Walk(seed);
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  EXPECT_EQ(explorer.ends(), 5'000u);
}

}  // namespace
}  // namespace millstream
