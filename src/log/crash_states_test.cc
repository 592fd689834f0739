// Crash states: whatever a disk may hold after a power cut at any of its changes, the log opens, has all that
// was acknowledged, nothing that was not appended, nothing twice, and in order.
//
// A seeded workload writes two streams, the second as a chain does: its receipts say how far of the first it
// has come. Before each change of the disk the disk is copied, and each copy loses its unsynced data in
// several ways (Survivors); each tenth is cut once more while it recovers, and one goes on after the end of
// the process alone and is cut then. MILLSTREAM_CRASH_STATES says how many states are tried (20,000),
// MILLSTREAM_CRASH_SEED with which workload to begin.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "log/log_test_support.h"

namespace millstream {
namespace {

constexpr int64_t kHour = 3600ll * 1'000'000;
constexpr uint32_t kPartitions = 2;
constexpr Survivors kWays[] = {Survivors::kAll,    Survivors::kNone, Survivors::kPrefix,
                               Survivors::kPrefix, Survivors::kAny,  Survivors::kAny};

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* text = ::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

LogOptions Options() {
  LogOptions options;
  options.segment_bytes = 1 << 10;
  options.index_every_bytes = 512;
  options.reserve_bytes = 512;
  options.merge_below_events = 4;
  options.merged_events = 10;
  options.merge_in_background = false;
  return options;
}

/// A log with `orders` and `derived`, opened on a disk.
struct Opened {
  std::unique_ptr<Log> log;
  Stream *orders = nullptr, *derived = nullptr;
};

Result<Opened> OpenOn(MemoryFileSystem& fs, Clock& clock, Random& random) {
  Opened opened;
  ASSIGN_OR_FAIL(opened.log, Log::Open(fs, clock, random, "/data", Options(), {}));
  ASSIGN_OR_FAIL(opened.orders, opened.log->OpenStream("orders", kPartitions));
  ASSIGN_OR_FAIL(opened.derived, opened.log->OpenStream("derived", 1));
  return opened;
}

/// What was appended where, and up to where it was acknowledged.
struct Told {
  std::map<uint64_t, std::string> given;
  uint64_t acknowledged_end = 0;  // all below it was durable when it was told
  uint64_t start = 0;             // retention may have removed what lies below
};

class Workload {
 public:
  explicit Workload(uint64_t seed) : seed_(seed), random_(seed), log_random_(seed) {}

  /// Runs `steps`, and gives each crash state to Check.
  void Run(int steps, uint64_t states_max) {
    states_max_ = states_max;
    fs_.ObserveChanges([this] { Branch(); });
    if (!Reopen()) return;
    for (int step = 0; step < steps && states_ < states_max_ && !::testing::Test::HasFailure(); ++step)
      Step();
    fs_.ObserveChanges({});
  }

  uint64_t states() const { return states_; }

 private:
  bool Reopen() {
    now_ = {};
    auto opened = OpenOn(fs_, clock_, log_random_);
    EXPECT_TRUE(opened.has_value());
    if (!opened) return false;
    now_ = std::move(*opened);
    now_.orders->SetLayout({}, Codec::kNone, {.age_us = kHour});
    now_.derived->SetLayout({}, Codec::kNone, {});
    // After an end of the process what was not acknowledged may be gone or be there: the log says which.
    for (uint32_t p = 0; p < kPartitions; ++p) Forget(orders_[p], now_.orders->partition(p));
    Forget(derived_, now_.derived->partition(0));
    return true;
  }
  static void Forget(Told& told, Partition& partition) {
    told.given.erase(told.given.lower_bound(partition.bounds().end), told.given.end());
    told.acknowledged_end = std::max(told.acknowledged_end, partition.bounds().durable_end);
  }

  void Step() {
    clock_.AdvanceUs(static_cast<int64_t>(random_.Below(1000)));
    const uint64_t what = random_.Below(100);
    if (what < 55) {
      Take(static_cast<uint32_t>(random_.Below(kPartitions)));
    } else if (what < 80) {
      Derive(static_cast<uint32_t>(random_.Below(kPartitions)));
    } else if (what < 86) {
      (void)now_.log->MergeSealed();
    } else if (what < 90) {
      clock_.AdvanceUs(2 * kHour);
      for (uint32_t p = 0; p < kPartitions; ++p) now_.orders->partition(p).SetLowWater(derived_to_[p]);
      // Told before it is done: from now on it may be gone.
      for (uint32_t p = 0; p < kPartitions; ++p) orders_[p].start = derived_to_[p];
      (void)now_.log->Retain();
    } else if (what < 93) {
      (void)now_.log->SealAll();
    } else if (what < 97) {
      (void)now_.log->Close();
      (void)Reopen();
    } else {
      (void)Reopen();  // as after the end of the process
    }
  }

  void Append(Partition& partition, Told& told, EncodedBatch batch, const std::vector<std::string>& events,
              AckMode mode) {
    // Known before it is written: a crash state may hold it.
    const uint64_t first = partition.bounds().end;
    for (size_t i = 0; i < events.size(); ++i) told.given[first + i] = events[i];
    auto placed = partition.AppendAndWait(std::move(batch), mode);
    ASSERT_TRUE(placed.has_value()) << placed.error().ToString();
    ASSERT_EQ(placed->first_offset, first);
    if (mode == AckMode::kDurable) told.acknowledged_end = first + events.size();
  }

  void Take(uint32_t p) {
    std::vector<std::string> events;
    for (uint64_t n = 1 + random_.Below(4); n > 0; --n)
      events.push_back(EventText(number_++, random_.Below(200)));
    Receipts receipts;
    if (random_.Below(3) == 0)
      receipts.push_back({"source/a", "p", fmt::format("{}", number_), 0, UINT32_MAX});
    const AckMode mode = random_.Below(6) == 0 ? AckMode::kWritten : AckMode::kDurable;
    EncodedBatch batch = MakeBatch(events, receipts, random_.Below(2) == 0 ? Codec::kNone : Codec::kLz4);
    Append(now_.orders->partition(p), orders_[p], std::move(batch), events, mode);
  }

  /// Reads on in `orders` where the receipt says, and appends what was read with the next receipt.
  void Derive(uint32_t p) {
    auto receipt = now_.derived->partition(0).FindReceipt("pipeline/chain", fmt::format("{}", p));
    const uint64_t from = receipt ? std::stoull(receipt->position) : 0;
    ASSERT_EQ(from, derived_to_[p]);
    std::map<uint64_t, std::string> read = ReadEvents(now_.orders->partition(p), from);
    if (read.empty()) return;
    std::vector<std::string> events;
    for (const auto& [offset, text] : read) {
      events.push_back(text);
      if (events.size() == 5) break;
    }
    const uint64_t next = std::next(read.begin(), static_cast<ptrdiff_t>(events.size()) - 1)->first + 1;
    Receipts receipts{{"pipeline/chain", fmt::format("{}", p), fmt::format("{}", next), 0, UINT32_MAX}};
    Append(now_.derived->partition(0), derived_, MakeBatch(events, receipts), events, AckMode::kDurable);
    derived_to_[p] = next;
  }

  void Branch() {
    for (Survivors way : kWays) {
      if (states_ >= states_max_ || ::testing::Test::HasFailure()) return;
      std::unique_ptr<MemoryFileSystem> disk = fs_.Clone();
      const uint64_t crash = seed_ * 1'000'003 + states_++;
      SCOPED_TRACE(
          fmt::format("MILLSTREAM_CRASH_SEED={}, state {}, change {}", seed_, states_, fs_.changes()));
      disk->Crash(crash, way);
      ManualClock clock(clock_.WallUs());
      SeededRandom random(crash);
      if (crash % 10 == 0) {
        disk->PowerOffAt(1 + random.Below(12));
        (void)OpenOn(*disk, clock, random);
        disk->Crash(crash + 1);
      }
      Check(*disk, clock, random);
    }
    if (states_ < states_max_ && !::testing::Test::HasFailure()) EndThenCut();
  }

  /// The process ends, what it wrote stays in the page cache, the next one acknowledges, and then the power
  /// goes.
  void EndThenCut() {
    std::unique_ptr<MemoryFileSystem> disk = fs_.Clone();
    const uint64_t crash = seed_ * 1'000'003 + states_++;
    SCOPED_TRACE(
        fmt::format("MILLSTREAM_CRASH_SEED={}, state {}, change {}, ended", seed_, states_, fs_.changes()));
    ManualClock clock(clock_.WallUs());
    SeededRandom random(crash);
    std::set<std::string> seen;
    Told orders = orders_[0];
    {
      auto opened = OpenOn(*disk, clock, random);
      ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
      Partition& partition = opened->orders->partition(0);
      Forget(orders, partition);
      for (uint64_t n = 1'000'000; n < 1'000'003; ++n) {
        auto placed = partition.AppendAndWait(NumberedBatch(n, 1));
        ASSERT_TRUE(placed.has_value());
        orders.given[placed->first_offset] = EventText(n);
        orders.acknowledged_end = placed->first_offset + 1;
      }
    }
    disk->Crash(crash, crash % 2 == 0 ? Survivors::kNone : Survivors::kAny);
    auto opened = OpenOn(*disk, clock, random);
    ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
    CheckPartition(opened->orders->partition(0), orders, seen);
  }

  void Check(MemoryFileSystem& disk, Clock& clock, Random& random) {
    auto opened = OpenOn(disk, clock, random);
    ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
    std::set<std::string> seen;
    uint64_t ends[kPartitions];
    for (uint32_t p = 0; p < kPartitions; ++p) {
      CheckPartition(opened->orders->partition(p), orders_[p], seen);
      ends[p] = opened->orders->partition(p).bounds().durable_end;
    }
    seen.clear();
    CheckPartition(opened->derived->partition(0), derived_, seen);
    for (uint32_t p = 0; p < kPartitions; ++p) {
      auto receipt = opened->derived->partition(0).FindReceipt("pipeline/chain", fmt::format("{}", p));
      const uint64_t position = receipt ? std::stoull(receipt->position) : 0;
      EXPECT_GE(position, derived_to_[p]) << "a receipt was lost with its events";
      EXPECT_LE(position, ends[p]) << "a receipt names what the log does not have";
    }
    if (::testing::Test::HasFailure()) return;
    // It goes on.
    Partition& first = opened->orders->partition(0);
    auto placed = first.AppendAndWait(NumberedBatch(1'000'000, 1));
    ASSERT_TRUE(placed.has_value());
    ASSERT_TRUE(opened->log->Close().ok());
    for (const char* stream : {"orders", "derived"}) {
      auto damage = Log::Verify(disk, "/data", stream);
      ASSERT_TRUE(damage.has_value());
      EXPECT_TRUE(damage->empty()) << damage->front().file << ": " << damage->front().message;
    }
  }

  static void CheckPartition(Partition& partition, const Told& told, std::set<std::string>& seen) {
    const Bounds bounds = partition.bounds();
    EXPECT_LE(bounds.start, told.start) << "retention went beyond the low-water mark";
    std::map<uint64_t, std::string> found = ReadEvents(partition, bounds.start);
    EXPECT_EQ(found.size(), bounds.durable_end - bounds.start) << "offsets are dense";
    EXPECT_GE(bounds.durable_end, told.acknowledged_end) << "what was acknowledged is lost";
    for (const auto& [offset, text] : found) {
      EXPECT_TRUE(seen.insert(text).second) << "twice: " << text;
      auto given = told.given.find(offset);
      EXPECT_TRUE(given != told.given.end() && given->second == text) << offset << ": " << text;
    }
  }

  const uint64_t seed_;
  MemoryFileSystem fs_;
  ManualClock clock_;
  SeededRandom random_, log_random_;
  Opened now_;
  Told orders_[kPartitions], derived_;
  uint64_t derived_to_[kPartitions] = {};
  uint64_t number_ = 0;
  uint64_t states_ = 0, states_max_ = 0;
};

TEST(CrashStatesTest, InEveryStateOfTheDiskWhatWasAcknowledgedIsThere) {
  const uint64_t states_max = Setting("MILLSTREAM_CRASH_STATES", 20'000);
  uint64_t seed = Setting("MILLSTREAM_CRASH_SEED", 1), states = 0, workloads = 0;
  for (; states < states_max && !HasFailure(); ++seed, ++workloads) {
    Workload workload(seed);
    workload.Run(60, states_max - states);
    states += workload.states();
  }
  RecordProperty("states", static_cast<int>(states));
  fmt::print("{} crash states of {} workloads\n", states, workloads);
}

}  // namespace
}  // namespace millstream
