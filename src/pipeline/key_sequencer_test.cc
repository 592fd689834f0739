// Every interleaving of clients, ingest, deliveries and crashes over two partitions with a key each and a
// third key that shares a partition: no command is decided without an earlier event of its key, and each is
// decided once.
#include "pipeline/key_sequencer.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <vector>

namespace millstream {
namespace {

using Look = KeySequencer::Look;
using Key = KeySequencer::Key;

TEST(KeySequencer, ACommandWaitsForItsKeyAndForTheTables) {
  KeySequencer sequencer(10);
  EXPECT_EQ(sequencer.At(1, 9), Look::kBehind);  // what lies below the floor is not known
  EXPECT_EQ(sequencer.At(1, 10), Look::kReady);
  std::array<Key, 2> keys{1, 2};
  sequencer.Queue(keys);
  EXPECT_EQ(sequencer.At(1, 10), Look::kBusy);
  EXPECT_EQ(sequencer.At(3, 10), Look::kReady);
  sequencer.Land(keys, 10);
  EXPECT_EQ(sequencer.At(1, 10), Look::kBehind);
  EXPECT_EQ(sequencer.At(1, 11), Look::kReady);
  EXPECT_EQ(sequencer.At(2, 11), Look::kBehind);
  EXPECT_EQ(sequencer.Last(2), 11u);
  EXPECT_EQ(sequencer.Last(3), std::nullopt);
}

TEST(KeySequencer, WhileAKeyIsDecidedNothingOfItIsQueued) {
  KeySequencer sequencer;
  std::array<Key, 1> one{1}, two{2};
  sequencer.Begin(1);
  EXPECT_FALSE(sequencer.MayQueue(one));
  EXPECT_TRUE(sequencer.MayQueue(two));
  EXPECT_EQ(sequencer.At(1, 100), Look::kBusy);
  sequencer.Queue(one);
  EXPECT_FALSE(sequencer.MayQueue(one));
  sequencer.End(1);
  EXPECT_TRUE(sequencer.MayQueue(one));
  EXPECT_EQ(sequencer.At(1, 100), Look::kBusy);
  sequencer.Fail(one);
  EXPECT_EQ(sequencer.At(1, 100), Look::kReady);
  sequencer.Begin(1);
  sequencer.End(1);
  EXPECT_EQ(sequencer.At(1, 0), Look::kReady);
  EXPECT_EQ(sequencer.keys(), 0u);
}

TEST(KeySequencer, WhatIsForgottenIsAskedOfTheTables) {
  KeySequencer sequencer(0, 2);
  std::array<Key, 2> keys{1, 2};
  std::array<Key, 1> third{3}, fourth{4};
  sequencer.Queue(keys);
  sequencer.Land(keys, 0);
  EXPECT_EQ(sequencer.Needs(1), 1u);
  sequencer.Queue(fourth);
  sequencer.Queue(third);
  sequencer.Land(third, 2);
  EXPECT_EQ(sequencer.keys(), 1u);
  EXPECT_EQ(sequencer.At(4, 100), Look::kBusy);
  EXPECT_EQ(sequencer.floor(), 3u);
  EXPECT_EQ(sequencer.Last(1), std::nullopt);
  EXPECT_EQ(sequencer.Needs(1), 3u);
  sequencer.Learn(1, 0);
  sequencer.LowerFloor(0);
  EXPECT_EQ(sequencer.Last(1), 0u);
  EXPECT_EQ(sequencer.Needs(9), 0u);
}

// ---- The model. Keys 0 and 1 lie in partition 0, key 2 in partition 1. Each event takes one from its key's
// balance, a command only if its table says that it is above zero; plain events do so unasked.

constexpr int kKeys = 3, kPartitions = 2, kClients = 2, kMostEvents = 4, kMostCrashes = 1;
constexpr std::array<int, kKeys> kPartitionOf{0, 0, 1};

struct Event {
  int key = 0;
  int seen = -1;  // of a command: how many events of its key the table had when it was decided
  bool operator<(const Event& o) const { return std::tie(key, seen) < std::tie(o.key, o.seen); }
};

struct Client {
  enum class At : uint8_t { kIdle, kWaiting, kDeciding, kQueued } at = At::kIdle;
  int key = 0, seen = 0;
  bool operator<(const Client& o) const { return std::tie(at, key, seen) < std::tie(o.at, o.key, o.seen); }
};

struct Part {
  std::vector<Event> log;     // landed
  std::vector<Event> queued;  // handed to the log, in order
  size_t next = 0;            // the table's
  size_t floor = 0;
  bool operator<(const Part& o) const {
    return std::tie(log, queued, next, floor) < std::tie(o.log, o.queued, o.next, o.floor);
  }
};

struct World {
  std::array<Part, kPartitions> parts;
  std::array<Client, kClients> clients;
  int crashes = 0, plain = 0;
  bool operator<(const World& o) const {
    return std::tie(parts, clients, crashes, plain) < std::tie(o.parts, o.clients, o.crashes, o.plain);
  }
};

/// The sequencer as it stands after what the world has been through: rebuilt by its own calls.
KeySequencer SequencerOf(const World& world, int partition) {
  const Part& part = world.parts[static_cast<size_t>(partition)];
  KeySequencer sequencer(part.floor);
  for (size_t offset = part.floor; offset < part.log.size(); ++offset) {
    std::array<Key, 1> key{static_cast<Key>(part.log[offset].key)};
    sequencer.Queue(key);
    sequencer.Land(key, offset);
  }
  for (const Event& event : part.queued) {
    std::array<Key, 1> key{static_cast<Key>(event.key)};
    sequencer.Queue(key);
  }
  for (const Client& client : world.clients)
    if (client.at == Client::At::kDeciding && kPartitionOf[static_cast<size_t>(client.key)] == partition)
      sequencer.Begin(static_cast<Key>(client.key));
  return sequencer;
}

int CountOf(const std::vector<Event>& events, size_t end, int key) {
  int count = 0;
  for (size_t i = 0; i < end; ++i) count += events[i].key == key;
  return count;
}

class Explorer {
 public:
  /// Without the sequencer's word: what goes wrong then shows that the model would tell.
  explicit Explorer(bool asks) : asks_(asks) {}

  void Visit(const World& world) {
    if (!asks_ && lost_updates > 0 && doubled > 0) return;  // found
    if (!seen_.insert(world).second) return;
    for (const Part& part : world.parts)
      for (size_t offset = 0; offset < part.log.size(); ++offset)
        if (part.log[offset].seen >= 0 &&
            part.log[offset].seen != CountOf(part.log, offset, part.log[offset].key))
          ++lost_updates;
    for (size_t i = 0; i < kClients; ++i) Step(world, i);
    for (size_t p = 0; p < kPartitions; ++p) Step(world, world.parts[p], p);
    if (world.crashes < kMostCrashes) Crash(world);
  }

  size_t states() const { return seen_.size(); }
  int lost_updates = 0, doubled = 0, decided = 0;

 private:
  static size_t EventsOf(const World& world) {
    size_t events = 0;
    for (const Part& part : world.parts) events += part.log.size() + part.queued.size();
    for (const Client& client : world.clients) events += client.at == Client::At::kDeciding;
    return events;
  }

  void Step(const World& world, size_t index) {
    const Client& client = world.clients[index];
    auto partition = static_cast<size_t>(kPartitionOf[static_cast<size_t>(client.key)]);
    World next = world;
    Client& after = next.clients[index];
    Part& part = next.parts[partition];
    switch (client.at) {
      case Client::At::kIdle:
        for (int key = 0; key < kKeys && EventsOf(world) < kMostEvents; ++key) {
          after = {Client::At::kWaiting, key, 0};
          Visit(next);
        }
        return;
      case Client::At::kWaiting: {
        if (EventsOf(world) >= kMostEvents) return;
        if (asks_ &&
            SequencerOf(world, static_cast<int>(partition)).At(static_cast<Key>(client.key), part.next) !=
                Look::kReady)
          return;
        for (const Client& other : world.clients)
          doubled += &other != &client && other.at == Client::At::kDeciding && other.key == client.key;
        ++decided;
        after = {Client::At::kDeciding, client.key, CountOf(part.log, part.next, client.key)};
        return Visit(next);
      }
      case Client::At::kDeciding:
        after = {Client::At::kIdle, 0, 0};  // refused
        Visit(next);
        part.queued.push_back({client.key, client.seen});
        after = {Client::At::kQueued, client.key, 0};
        return Visit(next);
      case Client::At::kQueued:
        if (!part.queued.empty()) return;  // not answered yet
        after = {Client::At::kIdle, 0, 0};
        return Visit(next);
    }
  }

  void Step(const World& world, const Part& part, size_t p) {
    if (part.next < part.log.size()) {  // a delivery
      World next = world;
      ++next.parts[p].next;
      Visit(next);
    }
    for (size_t count = 1; count <= part.queued.size(); ++count) {  // a group commit
      World next = world;
      std::vector<Event>& queued = next.parts[p].queued;
      auto end = queued.begin() + static_cast<std::ptrdiff_t>(count);
      next.parts[p].log.insert(next.parts[p].log.end(), queued.begin(), end);
      queued.erase(queued.begin(), end);
      Visit(next);
    }
    for (int key = 0; key < kKeys && world.plain < 2 && EventsOf(world) < kMostEvents; ++key) {
      if (kPartitionOf[static_cast<size_t>(key)] != static_cast<int>(p)) continue;
      std::array<Key, 1> keys{static_cast<Key>(key)};
      if (asks_ && !SequencerOf(world, static_cast<int>(p)).MayQueue(keys)) continue;
      World next = world;
      next.parts[p].queued.push_back({key, -1});
      ++next.plain;
      Visit(next);
    }
  }

  /// Some of what was queued may have become durable; the table goes back to any earlier state.
  void Crash(const World& world) {
    for (size_t kept0 = 0; kept0 <= world.parts[0].queued.size(); ++kept0)
      for (size_t kept1 = 0; kept1 <= world.parts[1].queued.size(); ++kept1)
        for (size_t back = 0; back <= world.parts[0].next; ++back) {
          World next = world;
          ++next.crashes;
          next.clients = {};
          next.parts[0].next = back;
          for (size_t p = 0; p < kPartitions; ++p) {
            Part& part = next.parts[p];
            part.queued.resize(p == 0 ? kept0 : kept1);
            part.log.insert(part.log.end(), part.queued.begin(), part.queued.end());
            part.queued.clear();
            part.floor = part.log.size();
          }
          Visit(next);
        }
  }

  const bool asks_;
  std::set<World> seen_;
};

TEST(KeySequencer, NoInterleavingLosesAnUpdate) {
  Explorer explorer(true);
  explorer.Visit({});
  EXPECT_EQ(explorer.lost_updates, 0);
  EXPECT_EQ(explorer.doubled, 0);
  EXPECT_GT(explorer.states(), 10'000u);
  EXPECT_GT(explorer.decided, 1'000);
}

TEST(KeySequencer, TheModelTellsWhatGoesWrongWithoutIt) {
  Explorer explorer(false);
  explorer.Visit({});
  EXPECT_GT(explorer.lost_updates, 0);
  EXPECT_GT(explorer.doubled, 0);
}

}  // namespace
}  // namespace millstream
