// LetterSet and LetterBook; and every interleaving of requests, effects and crashes of a small stream, in
// memory: whatever happens, each letter has its effect once if it was sent again, and never if it was not.
#include "catalog/letters.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <tuple>

namespace millstream {
namespace {

TEST(LetterSet, KeepsRanges) {
  LetterSet set;
  for (uint64_t number : {5, 7, 6, 1, 3, 2}) set.Insert(number);
  EXPECT_EQ(set.ToText(), "1-3,5-7");
  set.Insert(4, 9);
  EXPECT_EQ(set.ToText(), "1-9");
  EXPECT_EQ(set.count(), 9u);
  EXPECT_TRUE(set.Contains(9));
  EXPECT_FALSE(set.Contains(10));
  EXPECT_EQ(*LetterSet::Parse("1-9"), set);
  EXPECT_EQ(LetterSet::Parse("12,0,3-4")->ToText(), "0,3-4,12");
  for (const char* bad : {"a", "4-3", "1,", "-", "1-"}) EXPECT_FALSE(LetterSet::Parse(bad)) << bad;
}

TEST(LetterSet, WithoutLeavesWhatTheOtherLacks) {
  auto without = [](const char* one, const char* other) {
    return LetterSet::Parse(one)->Without(*LetterSet::Parse(other)).ToText();
  };
  EXPECT_EQ(without("1-9", "3,5-6"), "1-2,4,7-9");
  EXPECT_EQ(without("3-5,8-9", "1-3,9-20"), "4-5,8");
  EXPECT_EQ(without("3-5", "1-9"), "");
  EXPECT_EQ(without("3-5", "1-2,6"), "3-5");
  EXPECT_EQ(LetterSet::Parse("1-9")->Without({}).ToText(), "1-9");
  EXPECT_TRUE(LetterSet().Without(*LetterSet::Parse("1-9")).empty());
}

LetterReplay ReplayOf(const LetterBook& book, LetterSet letters, uint64_t appended, size_t parts) {
  LetterReplay replay;
  replay.stream = "s", replay.letters = std::move(letters), replay.appended = appended;
  for (size_t i = 0; i < parts; ++i) replay.parts.push_back({"p", "sink" + std::to_string(i), 1, 1, 0});
  book.Place(replay, 2);
  return replay;
}

LetterSet SetOf(std::initializer_list<uint64_t> numbers) {
  LetterSet set;
  for (uint64_t number : numbers) set.Insert(number);
  return set;
}

TEST(LetterBook, ALetterIsTakenOnce) {
  LetterBook book;
  ASSERT_TRUE(book.Begin(ReplayOf(book, SetOf({1, 2}), 1, 1), 2).ok());
  EXPECT_EQ(book.StateOf("s", 1), LetterState::kReplaying);
  EXPECT_EQ(book.StateOf("s", 3), LetterState::kOpen);
  EXPECT_EQ(book.StateOf("other", 1), LetterState::kOpen);
  EXPECT_EQ(book.Begin(ReplayOf(book, SetOf({2}), 0, 1), 2).code(), Code::kCorrupt);
  ASSERT_TRUE(book.Drop("s", SetOf({3})).ok());
  EXPECT_EQ(book.StateOf("s", 3), LetterState::kDropped);
  EXPECT_EQ(book.OpenOf("s", 5), 2u);
  EXPECT_EQ(book.Pending(), std::vector<uint64_t>{1});
  ASSERT_TRUE(book.Finish(1).ok());
  EXPECT_FALSE(book.Finish(1).ok());
  EXPECT_EQ(book.StateOf("s", 1), LetterState::kReplayed);
}

TEST(LetterBook, DropOpenLeavesWhatWasSentAgain) {
  LetterBook book;
  ASSERT_TRUE(book.Begin(ReplayOf(book, SetOf({1, 2}), 1, 1), 2).ok());
  ASSERT_TRUE(book.Drop("s", SetOf({3})).ok());
  book.DropOpen("s", SetOf({2, 3, 4}));
  EXPECT_EQ(book.StateOf("s", 2), LetterState::kReplaying);
  EXPECT_EQ(book.StateOf("s", 4), LetterState::kDropped);
  EXPECT_EQ(book.OpenOf("s", 5), 1u);
  ASSERT_TRUE(book.Finish(1).ok());
  EXPECT_EQ(book.StateOf("s", 2), LetterState::kReplayed);
}

TEST(LetterBook, WhatAReplayCannotSendMayBeDropped) {
  LetterBook book;
  ASSERT_TRUE(book.Begin(ReplayOf(book, SetOf({1, 2, 3}), 0, 1), 2).ok());
  ASSERT_TRUE(book.Drop("s", SetOf({2, 3, 7})).ok());
  EXPECT_EQ(book.StateOf("s", 1), LetterState::kReplaying);
  EXPECT_EQ(book.StateOf("s", 3), LetterState::kDropped);
  EXPECT_EQ(book.StateOf("s", 7), LetterState::kDropped);
  EXPECT_EQ(book.replays().at(1).letters, SetOf({1}));
  EXPECT_EQ(book.OpenOf("s", 10), 6u);
  EXPECT_FALSE(book.Drop("s", SetOf({3})).ok());
  ASSERT_TRUE(book.Finish(1).ok());
  EXPECT_FALSE(book.Drop("s", SetOf({1})).ok()) << "it has come";
}

TEST(LetterBook, PlacesAreNeverGivenTwice) {
  LetterBook book;
  LetterReplay first = ReplayOf(book, SetOf({1}), 1, 2);
  ASSERT_TRUE(book.Begin(first, 2).ok());
  LetterReplay second = ReplayOf(book, SetOf({2, 3}), 2, 1);
  EXPECT_EQ(second.id, 2u);
  EXPECT_EQ(second.sequence, 1u);
  EXPECT_EQ(first.parts[1].slot, LetterBook::kFirstSlot + 2);
  EXPECT_EQ(second.parts[0].slot, LetterBook::kFirstSlot + 4);
  LetterReplay stale = second;
  ASSERT_TRUE(book.Begin(second, 2).ok());
  stale.letters = SetOf({9});
  EXPECT_EQ(book.Begin(stale, 2).code(), Code::kCorrupt);
  book.Forget("s");
  EXPECT_EQ(ReplayOf(book, SetOf({1}), 1, 1).id, 3u) << "a stream of that name is another one";
  EXPECT_EQ(book.StateOf("s", 1), LetterState::kOpen);
}

// Letters 0 and 1 are ingest's, and go to partitions 0 and 1; 2 and 3 are a sink's, of one partition.
constexpr int kLetters = 4, kIngest = 2;

struct Request {
  bool is_replay = false;
  std::set<int> letters;
};

struct World {
  // Durable: what `_control` holds, in order: requests, and ends of replays (by number).
  std::vector<Request> requests;
  std::set<uint64_t> finished;
  // Durable: the stream's receipts by partition, and what was appended.
  std::array<uint64_t, kIngest> receipts{};
  std::array<int, kIngest> appended{};
  // The sink's: rows, and how far each replay's slot is; a keyed table keeps both in memory until a fold.
  struct Rows {
    std::map<uint64_t, int> next;  // by replay
    std::array<int, kLetters> rows{};
    auto operator<=>(const Rows&) const = default;
  } kept, recent;
  int crashes = 0;

  auto Key() const {
    std::vector<std::pair<bool, std::set<int>>> asked;
    for (const Request& request : requests) asked.emplace_back(request.is_replay, request.letters);
    return std::tuple(asked, finished, receipts, appended, kept, recent, crashes);
  }
};

/// The book that `_control` tells of.
LetterBook BookOf(const World& world) {
  LetterBook book;
  for (const Request& request : world.requests) {
    LetterSet letters;
    uint64_t ingest = 0;
    bool to_sink = false;
    for (int letter : request.letters) {
      letters.Insert(static_cast<uint64_t>(letter));
      letter < kIngest ? ++ingest : to_sink = true;
    }
    Status status = request.is_replay ? book.Begin(ReplayOf(book, letters, ingest, to_sink ? 1 : 0), 1)
                                      : book.Drop("s", letters);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  for (uint64_t id : world.finished) EXPECT_TRUE(book.Finish(id).ok());
  return book;
}

class Explorer {
 public:
  Explorer(int requests, int crashes, bool in_memory)
      : requests_(requests), crashes_(crashes), in_memory_(in_memory) {}

  size_t Run() {
    std::vector<World> left{World()};
    std::set<decltype(World().Key())> seen{World().Key()};
    while (!left.empty() && !testing::Test::HasFailure()) {
      World world = left.back();
      left.pop_back();
      Check(world);
      std::vector<World> after = After(world);
      if (after.empty()) CheckEnd(world);
      for (World& next : after)
        if (seen.insert(next.Key()).second) left.push_back(next);
    }
    return seen.size();
  }
  size_t ends() const { return ends_; }

 private:
  static int NextOf(const World& world, uint64_t id) {
    int next = 0;
    for (const World::Rows* rows : {&world.kept, &world.recent})
      if (auto found = rows->next.find(id); found != rows->next.end()) next = std::max(next, found->second);
    return next;
  }
  /// The sink's letters of a replay that it has not got yet, the first of them; -1: none.
  static int Wanted(const World& world, const LetterReplay& replay) {
    for (int letter = std::max(kIngest, NextOf(world, replay.id)); letter < kLetters; ++letter)
      if (replay.letters.Contains(static_cast<uint64_t>(letter))) return letter;
    return -1;
  }

  std::vector<World> After(const World& world) const {
    std::vector<World> after;
    LetterBook book = BookOf(world);
    if (static_cast<int>(world.requests.size()) < requests_) {
      for (unsigned mask = 1; mask < 1u << kLetters; ++mask) {
        Request request;
        for (int letter = 0; letter < kLetters; ++letter)
          if (mask & 1u << letter && book.StateOf("s", static_cast<uint64_t>(letter)) == LetterState::kOpen)
            request.letters.insert(letter);
        if (request.letters.empty()) continue;
        for (bool is_replay : {true, false}) {
          request.is_replay = is_replay;
          World next = world;
          next.requests.push_back(request);
          after.push_back(std::move(next));
        }
      }
    }
    // Ingest goes by the order of replays, each partition for itself; a redone piece is what receipts leave.
    for (uint64_t id : book.Pending()) {
      const LetterReplay& replay = book.replays().at(id);
      uint64_t sequence = replay.sequence;
      bool is_done = true;
      for (int letter = 0; letter < kIngest; ++letter) {
        if (!replay.letters.Contains(static_cast<uint64_t>(letter))) continue;
        ++sequence;
        if (world.receipts[letter] >= sequence) continue;
        is_done = false;
        World next = world;
        next.receipts[letter] = sequence, ++next.appended[letter];
        after.push_back(std::move(next));
      }
      if (is_done && Wanted(world, replay) < 0) {
        World next = world;
        next.finished.insert(id);
        after.push_back(std::move(next));
      }
      if (!is_done) break;
    }
    for (const auto& [id, replay] : book.replays()) {
      int letter = Wanted(world, replay);
      if (letter < 0) continue;
      World next = world;
      World::Rows& rows = in_memory_ ? next.recent : next.kept;
      ++rows.rows[letter], rows.next[id] = letter + 1;
      after.push_back(std::move(next));
    }
    if (world.recent != World::Rows()) {  // a fold
      World next = world;
      for (int letter = 0; letter < kLetters; ++letter) next.kept.rows[letter] += next.recent.rows[letter];
      for (const auto& [id, end] : next.recent.next) next.kept.next[id] = end;
      next.recent = {};
      after.push_back(std::move(next));
    }
    if (world.crashes < crashes_) {
      World next = world;
      next.recent = {};
      ++next.crashes;
      after.push_back(std::move(next));
    }
    return after;
  }

  static int Effects(const World& world, int letter) {
    return letter < kIngest ? world.appended[letter] : world.kept.rows[letter] + world.recent.rows[letter];
  }

  void Check(const World& world) const {
    LetterBook book = BookOf(world);
    for (int letter = 0; letter < kLetters; ++letter) {
      LetterState state = book.StateOf("s", static_cast<uint64_t>(letter));
      bool is_sent = state == LetterState::kReplaying || state == LetterState::kReplayed;
      EXPECT_LE(Effects(world, letter), is_sent ? 1 : 0) << "letter " << letter;
    }
  }
  void CheckEnd(const World& world) {
    ++ends_;
    LetterBook book = BookOf(world);
    EXPECT_TRUE(book.Pending().empty());
    for (int letter = 0; letter < kLetters; ++letter) {
      bool is_sent = book.StateOf("s", static_cast<uint64_t>(letter)) == LetterState::kReplayed;
      EXPECT_EQ(Effects(world, letter), is_sent ? 1 : 0) << "letter " << letter;
    }
  }

  const int requests_, crashes_;
  const bool in_memory_;
  size_t ends_ = 0;
};

TEST(LetterBook, EveryCrashPointOfASinkThatStoresAtOnce) {
  Explorer explorer(3, 1, false);
  EXPECT_GT(explorer.Run(), 1000u);
  EXPECT_GT(explorer.ends(), 10u);
}

TEST(LetterBook, EveryCrashPointOfATableThatKeepsItsNewestRowsInMemory) {
  Explorer explorer(2, 2, true);
  EXPECT_GT(explorer.Run(), 1000u);
  EXPECT_GT(explorer.ends(), 10u);
}

}  // namespace
}  // namespace millstream
