// Every interleaving of the live loops, a rebuild, its cutover, cancelling, crashes and power cuts of a small
// pipeline, in memory: readers see the old table or the new one, never a mixture, and each other row is made
// by the version that owns it.
#include "catalog/cutover.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <unordered_set>
#include <vector>

namespace millstream {
namespace {

constexpr int kPartitions = 2, kOffsets = 2;
constexpr uint8_t kNew = 3;  // versions 1 and 2 were live before; 3 comes with the rebuild

/// A table as the file has it: which version made each row, and how far it came.
struct Rows {
  std::array<std::array<uint8_t, kOffsets>, kPartitions> made{};
  std::array<uint8_t, kPartitions> next{};
  bool operator==(const Rows&) const = default;
};
struct Store {
  Rows table, shadow;
  uint8_t has_shadow = 0;
};

struct World {
  // Durable.
  Store store, checkpointed;  // what a power cut may leave
  Rows other;                 // the pipeline's other sink, in a file of its own
  uint8_t decided = 0, cancelled = 0, activated = 0;
  std::array<uint8_t, kPartitions> boundary{};  // of version 3
  // Of the process.
  uint8_t ready = 0;  // the steps of a start are done
  uint8_t durable = 0, closed = 0;
  std::array<uint8_t, kPartitions> claimed{};
  uint8_t crashes = 0;
  uint8_t went_back = 0;  // a crash: readers may see an earlier state

  std::string Key() const {
    std::string bytes(sizeof *this, '\0');
    std::memcpy(bytes.data(), static_cast<const void*>(this), sizeof *this);
    return bytes;
  }
};
static_assert(std::has_unique_object_representations_v<World>);

Ownership Known(const World& world) {
  Ownership ownership;
  ownership.Activate(1, {});
  ownership.Activate(2, {{0, 1}, {1, 0}});
  Boundary from;
  for (uint32_t p = 0; p < kPartitions; ++p) from[p] = world.boundary[p];
  if (world.activated != 0) ownership.Activate(kNew, from);
  return ownership;
}

CutoverFacts FactsOf(const World& world) {
  CutoverFacts facts;
  facts.is_decided = world.decided != 0, facts.is_cancelled = world.cancelled != 0;
  facts.has_shadow = world.store.has_shadow != 0;
  facts.is_durable = world.durable != 0, facts.is_closed = world.closed != 0;
  facts.is_near = facts.has_shadow;
  for (uint32_t p = 0; p < kPartitions; ++p) {
    facts.live[0][p] = world.store.table.next[p];
    facts.rebuilt[0][p] = world.store.shadow.next[p];
    facts.is_near = facts.is_near && world.store.shadow.next[p] + 1 >= kOffsets;
  }
  return facts;
}

class Explorer {
 public:
  explicit Explorer(int crashes) : crashes_(crashes) {}

  size_t Run() {
    std::vector<World> left{World()};
    seen_.insert(World().Key());
    while (!left.empty() && !testing::Test::HasFailure()) {
      World world = left.back();
      left.pop_back();
      bool is_stuck = true;
      for (World& next : After(world)) {
        is_stuck = false;
        Check(world, next);
        if (seen_.insert(next.Key()).second) left.push_back(next);
      }
      if (is_stuck) CheckEnd(world);
    }
    return seen_.size();
  }
  size_t ends = 0, switched = 0, cancelled = 0;

 private:
  std::vector<World> After(const World& world) const {
    std::vector<World> after;
    auto add = [&](auto change) {
      World next = world;
      if (change(next)) after.push_back(next);
    };
    if (world.ready == 0) {
      add(Start);
    } else {
      for (uint32_t p = 0; p < kPartitions; ++p) {
        add([&](World& next) { return DeliverOne(next, next.other, p, 0); });
        add([&](World& next) {
          return next.closed == 0 && DeliverOne(next, next.store.table, p, next.decided != 0 ? kNew : 0);
        });
        add([&](World& next) {  // the rebuild: its version owns everything
          Rows& rows = next.store.shadow;
          if (next.decided + next.cancelled > 0 || next.store.has_shadow == 0 || rows.next[p] == kOffsets)
            return false;
          rows.made[p][rows.next[p]++] = kNew;
          return true;
        });
      }
      add([&](World& next) {  // the rebuild makes its table
        if (next.decided + next.cancelled + next.store.has_shadow > 0) return false;
        next.store.has_shadow = 1;
        return true;
      });
      add([&](World& next) { return Step(next); });
      add([&](World& next) {
        if (next.decided + next.cancelled > 0) return false;
        next.cancelled = 1;
        return true;
      });
    }
    if (world.crashes < crashes_) {
      add([&](World& next) { return Crash(next); });
      add([&](World& next) {
        next.store = next.checkpointed;
        return Crash(next);
      });
    }
    return after;
  }

  /// What a start does before any loop runs.
  static bool Start(World& world) {
    CutoverStep step = NextCutoverStep(FactsOf(world));
    if (step == CutoverStep::kSwitch || step == CutoverStep::kDropShadow) return Step(world);
    if (world.decided > world.activated) {  // what was decided is activated
      for (uint32_t p = 0; p < kPartitions; ++p)
        world.boundary[p] = std::max(world.other.next[p], world.store.table.next[p]);
      world.activated = 1;
      return true;
    }
    for (uint32_t p = 0; p < kPartitions; ++p)
      world.claimed[p] = std::max(world.other.next[p], world.store.table.next[p]);
    world.ready = 1;
    return true;
  }

  static bool Step(World& world) {
    Store& store = world.store;
    switch (NextCutoverStep(FactsOf(world))) {
      case CutoverStep::kCheckpoint:
        world.checkpointed = store, world.durable = 1;
        return true;
      case CutoverStep::kClose:
        world.closed = 1;
        return true;
      case CutoverStep::kDecide:
        world.decided = 1;
        return true;
      case CutoverStep::kSwitch:
        EXPECT_TRUE(world.went_back != 0 || (store.shadow.next[0] >= store.table.next[0] &&
                                             store.shadow.next[1] >= store.table.next[1]))
            << "readers would see less than before";
        store.table = store.shadow;
        [[fallthrough]];
      case CutoverStep::kDropShadow:
        store.shadow = {}, store.has_shadow = 0;
        return true;
      case CutoverStep::kOpen:
        if (world.decided > world.activated) {
          world.boundary = world.claimed;
          world.activated = 1;
          return true;
        }
        world.closed = 0;
        return true;
      default:
        return false;
    }
  }

  static bool DeliverOne(World& world, Rows& rows, uint32_t p, uint64_t since) {
    uint8_t offset = rows.next[p];
    if (offset == kOffsets) return false;
    Ownership ownership = Known(world);
    rows.made[p][offset] = static_cast<uint8_t>(ownership.OwnerOf(p, offset, since).version);
    rows.next[p] = offset + 1;
    world.claimed[p] = std::max(world.claimed[p], rows.next[p]);
    return true;
  }

  static bool Crash(World& world) {
    world.ready = world.durable = world.closed = 0;
    world.claimed = {};
    ++world.crashes, world.went_back = 1;
    return true;
  }

  void Check(const World& before, const World& now) {
    Ownership old;
    old.Activate(1, {});
    old.Activate(2, {{0, 1}, {1, 0}});
    Ownership known = Known(now);
    bool is_old = true, is_new = true;
    for (uint32_t p = 0; p < kPartitions; ++p) {
      for (uint8_t o = 0; o < now.store.table.next[p]; ++o) {
        is_old = is_old && now.store.table.made[p][o] == old.OwnerOf(p, o).version;
        is_new = is_new && now.store.table.made[p][o] == kNew;
      }
      for (uint8_t o = 0; o < now.other.next[p]; ++o)
        EXPECT_EQ(now.other.made[p][o], known.OwnerOf(p, o).version) << "the other sink, offset " << int{o};
      if (before.crashes == now.crashes && before.went_back == 0) {
        EXPECT_GE(now.store.table.next[p], before.store.table.next[p]);
      }
    }
    EXPECT_TRUE(is_old || is_new) << "a mixture";
    bool must_be_new = now.ready != 0 && now.decided != 0 && now.closed == 0;
    EXPECT_TRUE(now.decided != 0 || is_old) << "nobody has decided it";
    EXPECT_TRUE(!must_be_new || is_new) << "it was decided";
  }

  void CheckEnd(const World& world) {
    ++ends;
    (world.decided != 0 ? switched : cancelled)++;
    EXPECT_TRUE(world.decided + world.cancelled == 1 && world.store.has_shadow == 0 && world.closed == 0);
    EXPECT_EQ(world.activated, world.decided);
    for (uint32_t p = 0; p < kPartitions; ++p) {
      EXPECT_EQ(world.store.table.next[p], kOffsets);
      EXPECT_EQ(world.other.next[p], kOffsets);
    }
  }

  const int crashes_;
  std::unordered_set<std::string> seen_;
};

TEST(Cutover, EveryInterleavingEndsWithOneTable) {
  Explorer explorer(2);
  size_t states = explorer.Run();
  EXPECT_GT(states, 10'000u);
  EXPECT_GT(explorer.switched, 0u);
  EXPECT_GT(explorer.cancelled, 0u);
  std::printf("%zu states, %zu ends\n", states, explorer.ends);
}

TEST(Cutover, ARebuildMustReachEveryWriter) {
  CutoverFacts facts;
  facts.has_shadow = facts.is_near = facts.is_durable = facts.is_closed = true;
  facts.live = {{0, {{0, 5}, {1, 0}}}, {1, {{0, 3}}}};
  facts.rebuilt = {{0, {{0, 5}}}};
  EXPECT_EQ(NextCutoverStep(facts), CutoverStep::kCatchUp) << "the second has not begun";
  facts.rebuilt[1] = {{0, 2}};
  EXPECT_EQ(NextCutoverStep(facts), CutoverStep::kCatchUp);
  facts.rebuilt[1] = {{0, 3}};
  EXPECT_EQ(NextCutoverStep(facts), CutoverStep::kDecide);
}

TEST(Ownership, NothingBeforeItWasMadeAnewCounts) {
  Ownership ownership;
  ownership.Activate(1, {});
  ownership.Activate(4, {{0, 10}});
  ownership.Activate(6, {{0, 20}});
  EXPECT_EQ(ownership.OwnerOf(0, 3, 4).version, 4u);
  EXPECT_EQ(ownership.OwnerOf(0, 3, 4).end, 20u);
  EXPECT_EQ(ownership.OwnerOf(0, 3, 5).version, 4u) << "made anew without another version: the newest then";
  EXPECT_EQ(ownership.OwnerOf(0, 25, 4).version, 6u);
  EXPECT_EQ(ownership.OwnerOf(0, 3, 6).end, UINT64_MAX);
  EXPECT_EQ(ownership.Claim(0, 1, 3, 5, 4), Ownership::Answer::kOther);
  EXPECT_EQ(ownership.Claim(0, 4, 3, 5, 4), Ownership::Answer::kGo);
}

}  // namespace
}  // namespace millstream
