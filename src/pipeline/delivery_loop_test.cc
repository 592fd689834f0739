// A delivery loop over a log on a disk in memory and a sink that can be told to fail: what it hands over, in
// which order letters and rows become durable, what it shows of itself.
#include "pipeline/delivery_loop.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/memory_file_system.h"
#include "event/assembler.h"

namespace millstream {
namespace {

/// Keeps offsets and values in memory, by its own word exactly once.
class KeptSink final : public Sink {
 public:
  explicit KeptSink(std::function<uint64_t()> letters) : letters_(std::move(letters)) {}
  Result<std::map<uint32_t, uint64_t>> Open() override {
    ++opens;
    if (open_failures > 0) {
      --open_failures;
      return Fail(open_failure);
    }
    return stored;
  }
  Status SetColumns(const std::vector<ColumnInfo>& given, uint32_t) override {
    columns = given;
    return column_failures-- > 0 ? Conflict("n is a point there") : OkStatus();
  }
  std::vector<RefusedEvent> Refuse(const RowBatch& rows) const override {
    std::vector<RefusedEvent> refused;
    ForEach(rows, [&](int64_t n, uint64_t offset) {
      if (n == refuses) refused.push_back({offset, "not this one"});
    });
    return refused;
  }
  Status Deliver(const RowBatch& rows) override {
    ++calls;
    letters_seen.push_back(letters_());
    if (failures > 0) {
      --failures;
      return failure;
    }
    Status status;
    ForEach(rows, [&](int64_t n, uint64_t) {
      if (n == chokes_on) status = Invalid("choked on {}", n);
    });
    if (!status.ok()) return status;
    ForEach(rows, [&](int64_t n, uint64_t) { kept.push_back(n); });
    if (static_cast<int64_t>(rows.next_offset) == holds_before) held.wait(true);
    next = rows.next_offset;
    return status;
  }

  int64_t refuses = -1, chokes_on = -1;
  std::atomic<int> failures{0};
  Status failure;
  std::map<uint32_t, uint64_t> stored;
  std::vector<ColumnInfo> columns;
  std::atomic<int> opens{0}, open_failures{0}, column_failures{0};
  Status open_failure;
  std::atomic<int> calls{0};
  std::atomic<int64_t> holds_before{-1};  // the delivery up to there waits while `held`
  std::atomic<bool> held{true};
  std::atomic<uint64_t> next{0};
  std::vector<int64_t> kept;
  std::vector<uint64_t> letters_seen;  // how many letters were durable at each call

 private:
  template <typename Call>
  static void ForEach(const RowBatch& rows, Call call) {
    auto n = static_cast<uint32_t>(rows.Find("n")), offset = static_cast<uint32_t>(rows.Find("_offset"));
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row)
        call(chunk.Int64(n, row), static_cast<uint64_t>(chunk.Int64(offset, row)));
  }
  std::function<uint64_t()> letters_;
};

class DeliveryLoopTest : public testing::Test {
 protected:
  DeliveryLoopTest() {
    log_ = std::move(*Log::Open(fs_, clock_, random_, "/data", LogOptions{}, [](Status) {}));
    stream_ = *log_->OpenStream("orders", 1);
    letters_ = std::make_unique<DeadLetters>(*log_);
    EXPECT_TRUE(letters_->Open("orders").ok());
    database_ = std::move(*Database::Open("", {}));
    shape_.name = "orders";
    Field field;
    field.name = "n", field.type.kind = Type::Kind::kBigint, field.pointer = "/n";
    shape_.contract.fields.push_back(std::move(field));
    stream_->SetLayout(shape_.contract, Codec::kNone, {});
    auto sink = std::make_unique<KeptSink>([this] { return letters_->Count("orders"); });
    sink_ = sink.get();
    shared_ = std::make_unique<SharedSink>(SharedSink::Context{"p", "kept", &clock_, &random_, nullptr},
                                           std::move(sink), SharedSink::Layout{1, {{"n", "BIGINT"}}, 1});
  }
  ~DeliveryLoopTest() override { Stop(); }

  void Append(int64_t first, int64_t end) {
    Assembler assembler(shape_);
    for (int64_t n = first; n < end; ++n) {
      std::string event = fmt::format("{{\"n\":{}}}", n);
      event.reserve(event.size() + 64);
      EXPECT_FALSE(assembler.Add({}, event).has_value());
    }
    EXPECT_TRUE(stream_->partition(0).AppendAndWait(assembler.Finish(0, {})).has_value());
  }
  void Start(const std::string& sql) {
    auto version = std::make_shared<PipelineVersion>();
    version->number = 1, version->config.name = "p", version->config.stream = "orders";
    FilterConfig filter;
    filter.name = "f", filter.kind = "sql", filter.sql = sql;
    version->config.filters.push_back(std::move(filter));
    version->stream.shape = shape_;
    LoopContext context;
    context.pipeline = "p", context.generation = 1, context.stream = "orders";
    context.partition = &stream_->partition(0);
    context.dead_letters = letters_.get();
    context.runner.database = database_.get(), context.runner.registry = &registry_;
    context.runner.clock = &clock_;
    context.sink = shared_.get();
    gate_ = std::make_unique<VersionGate>(std::vector<std::shared_ptr<const PipelineVersion>>{version});
    context.gate = gate_.get();
    context.clock = &clock_, context.random = &random_, context.watchdog = &watchdog_;
    context.end = end_, context.pace = pace_;
    loop_ = std::make_unique<DeliveryLoop>(std::move(context));
    thread_ = std::jthread([this](std::stop_token stop) { loop_->Run(stop); });
  }
  void Stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }
  void WaitFor(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(condition());
  }
  void Deliver(const std::string& sql, uint64_t end) {
    Start(sql);
    WaitFor([&] { return loop_->next() == end; });
    Stop();
  }
  std::vector<std::string> Letters() {
    std::vector<std::string> lines;
    auto listing = letters_->List("orders", {});
    for (const DeadLetter& letter : listing->letters)
      lines.push_back(fmt::format("{} {} {} {}", letter.at, letter.code, letter.offset, letter.reason));
    return lines;
  }
  static std::vector<int64_t> Numbers(int64_t first, int64_t end, const std::set<int64_t>& without) {
    std::vector<int64_t> numbers;
    for (int64_t n = first; n < end; ++n)
      if (!without.contains(n)) numbers.push_back(n);
    return numbers;
  }

  MemoryFileSystem fs_;
  SystemClock clock_;
  SeededRandom random_{7};
  Registry registry_;
  StreamShape shape_;
  std::unique_ptr<Log> log_;
  Stream* stream_ = nullptr;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<SharedSink> shared_;
  KeptSink* sink_ = nullptr;
  Watchdog watchdog_;
  uint64_t end_ = UINT64_MAX;
  Pace pace_;
  std::unique_ptr<VersionGate> gate_;
  std::unique_ptr<DeliveryLoop> loop_;
  std::jthread thread_;
};

TEST_F(DeliveryLoopTest, BadEventsStandAloneAndTheirLettersAreDurableBeforeTheRows) {
  Append(0, 1000);
  Deliver("SELECT n, CASE WHEN n IN (17, 700) THEN error('bad ' || n) ELSE n END AS m FROM input", 1000);
  EXPECT_EQ(sink_->kept, Numbers(0, 1000, {17, 700}));
  EXPECT_EQ(sink_->letters_seen, std::vector<uint64_t>{2});
  std::vector<std::string> letters = Letters();
  ASSERT_EQ(letters.size(), 2u);
  EXPECT_TRUE(letters[0].starts_with("p.f sql 17 ")) << letters[0];
  EXPECT_TRUE(letters[1].starts_with("p.f sql 700 ")) << letters[1];
  DeliveryLoop::Snapshot shown = loop_->snapshot();
  EXPECT_EQ(shown.dead, 2u);
  EXPECT_EQ(shown.filters.at("f").dead, 2u);
  EXPECT_EQ(shown.filters.at("f").out, 998u);
  EXPECT_EQ(shown.events, 1000u);
}

TEST_F(DeliveryLoopTest, WhatTheSinkRefusesAtSightCostsNoBisection) {
  Append(0, 1000);
  sink_->refuses = 500;
  Deliver("SELECT n FROM input", 1000);
  EXPECT_EQ(sink_->kept, Numbers(0, 1000, {500}));
  EXPECT_EQ(sink_->calls, 1);
  EXPECT_EQ(sink_->letters_seen, std::vector<uint64_t>{1});
  EXPECT_EQ(Letters(), std::vector<std::string>{"p.kept sink 500 not this one"});
}

TEST_F(DeliveryLoopTest, WhatTheSinkChokesOnIsFoundByHalves) {
  Append(0, 256);
  sink_->chokes_on = 100;
  Deliver("SELECT n FROM input", 256);
  EXPECT_EQ(sink_->kept, Numbers(0, 256, {100}));
  EXPECT_EQ(sink_->calls, 1 + 2 * 8 + 1);  // the whole, two halves at each step, the event without rows
  EXPECT_EQ(Letters(), std::vector<std::string>{"p.kept sink 100 choked on 100"});
  EXPECT_EQ(loop_->snapshot().filters.at("f").out, 256u);  // each row once, however often it ran
}

TEST_F(DeliveryLoopTest, AFailureThatPassesIsRetriedAndShown) {
  Append(0, 10);
  sink_->failures = 2, sink_->failure = Unavailable("no room now");
  Start("SELECT CASE WHEN n = 3 THEN error('bad') ELSE n END AS n FROM input");
  WaitFor([&] { return loop_->snapshot().state == "degraded"; });
  EXPECT_TRUE(loop_->snapshot().reason.starts_with("no room now, try 2 in 0.1")) << loop_->snapshot().reason;
  WaitFor([&] { return loop_->next() == 10; });
  WaitFor([&] { return loop_->snapshot().state == "live"; });
  Stop();
  EXPECT_EQ(sink_->kept, Numbers(0, 10, {3}));
  EXPECT_EQ(loop_->snapshot().retries, 2u);
  EXPECT_EQ(Letters().size(), 1u);  // not one an attempt
}

TEST_F(DeliveryLoopTest, WhatFollowsAnEventThatWasSetAsideIsNotStuck) {
  Append(0, 2);  // one piece
  sink_->failures = 1'000'000, sink_->failure = Unavailable("down"), sink_->holds_before = 2;
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->snapshot().state == "degraded"; });
  loop_->SkipTo(1);
  WaitFor([&] { return Letters().size() == 1; });  // no attempt goes on that has both
  sink_->failures = 0;
  WaitFor([&] { return loop_->next() == 1; });
  EXPECT_EQ(loop_->snapshot().state, "live") << loop_->snapshot().reason;
  sink_->held = false;
  sink_->held.notify_all();
  WaitFor([&] { return loop_->next() == 2; });
  Stop();
  EXPECT_EQ(sink_->kept, Numbers(1, 2, {}));
}

TEST_F(DeliveryLoopTest, AfterACrashBeforeTheRowsNoLetterIsWrittenTwice) {
  Append(0, 10);
  sink_->failures = 1000, sink_->failure = Unavailable("down");
  const std::string sql = "SELECT CASE WHEN n IN (3, 8) THEN error('bad') ELSE n END AS n FROM input";
  Start(sql);
  WaitFor([&] { return sink_->calls > 0; });
  Stop();
  EXPECT_EQ(Letters().size(), 2u);
  sink_->failures = 0;
  Append(10, 20);
  // A loop that knows nothing of the first; what it refuses beyond those letters gets its own.
  Deliver("SELECT CASE WHEN n IN (3, 5, 8, 12) THEN error('bad') ELSE n END AS n FROM input", 20);
  EXPECT_EQ(sink_->kept, Numbers(0, 20, {3, 5, 8, 12}));
  std::set<std::string> offsets;
  for (const std::string& letter : Letters()) offsets.insert(letter.substr(0, letter.find(' ', 8)));
  EXPECT_EQ(offsets, (std::set<std::string>{"p.f sql 3", "p.f sql 5", "p.f sql 8", "p.f sql 12"}));
  EXPECT_EQ(Letters().size(), 4u);
}

TEST_F(DeliveryLoopTest, ACorruptSinkEndsTheLoopAndResetStartsItAgain) {
  Append(0, 10);
  sink_->failures = 1, sink_->failure = Corrupt("the file is another one");
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->failed(); });
  thread_.join();
  EXPECT_EQ(loop_->snapshot().state, "failed");
  EXPECT_EQ(loop_->snapshot().reason, "the file is another one");
  EXPECT_EQ(loop_->next(), 0u);
  loop_->Reset();
  thread_ = std::jthread([this](std::stop_token stop) { loop_->Run(stop); });
  WaitFor([&] { return loop_->next() == 10; });
  EXPECT_EQ(sink_->kept, Numbers(0, 10, {}));
}

TEST_F(DeliveryLoopTest, ASinkThatCannotBeOpenedIsTriedAgainAndGoesOnFromWhatItStored) {
  Append(0, 10);
  sink_->open_failures = 2, sink_->open_failure = NotFound("no such folder");
  sink_->column_failures = 1;
  sink_->stored = {{0, 4}};
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->snapshot().state == "degraded"; });
  EXPECT_TRUE(loop_->snapshot().reason.starts_with("no such folder, try 2 in 0.1"))
      << loop_->snapshot().reason;
  EXPECT_FALSE(loop_->is_open());
  WaitFor([&] { return loop_->snapshot().reason.starts_with("n is a point there, try 4 in 0."); });
  WaitFor([&] { return loop_->snapshot().state == "live" && loop_->next() == 10; });
  Stop();
  EXPECT_EQ(sink_->opens, 4);
  EXPECT_EQ(sink_->columns.size(), 1u);
  EXPECT_EQ(sink_->kept, Numbers(4, 10, {}));
  EXPECT_EQ(loop_->snapshot().retries, 3u);
}

TEST_F(DeliveryLoopTest, AFaultThatDoesNotMendItselfEndsTheLoopUntilItIsResumed) {
  Append(0, 10);
  sink_->open_failures = 1, sink_->open_failure = Invalid("column n is a point; cast it");
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->failed(); });
  thread_.join();
  EXPECT_EQ(sink_->opens, 1);
  EXPECT_EQ(loop_->snapshot().reason,
            "column n is a point; cast it; once that is put right: millstream pipeline resume p");
  loop_->Reset();
  thread_ = std::jthread([this](std::stop_token stop) { loop_->Run(stop); });
  WaitFor([&] { return loop_->next() == 10; });
  EXPECT_EQ(sink_->kept, Numbers(0, 10, {}));
}

TEST_F(DeliveryLoopTest, ASinkThatIsAheadOfTheLogIsNotTrusted) {
  Append(0, 10);
  sink_->stored = {{0, 11}};
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->failed(); });
  EXPECT_NE(loop_->snapshot().reason.find("but the log ends at 10"), std::string::npos)
      << loop_->snapshot().reason;
  EXPECT_FALSE(loop_->is_open());
}

TEST_F(DeliveryLoopTest, LoopsOfOneSinkShareItsAttempts) {
  sink_->open_failures = 1, sink_->open_failure = Unavailable("not yet");
  SharedSink::Opening first = shared_->EnsureOpen(), second = shared_->EnsureOpen();
  EXPECT_EQ(sink_->opens, 1);
  EXPECT_EQ(second.status.message(), "not yet");
  EXPECT_EQ(second.attempts, 1u);
  EXPECT_LE(second.wait_us, first.wait_us);
  EXPECT_GE(first.wait_us, 100'000);
  std::this_thread::sleep_for(std::chrono::microseconds(first.wait_us));
  EXPECT_TRUE(shared_->EnsureOpen().status.ok());
  EXPECT_EQ(sink_->opens, 2);
}

// Loops of one sink may stand in different versions for a while.
TEST_F(DeliveryLoopTest, ASinkIsToldOfTheColumnsOfEachBatch) {
  ASSERT_TRUE(shared_->EnsureOpen().status.ok());
  RowBatch older, newer;
  older.columns = {{"n", "BIGINT"}}, older.visible = 1;
  newer.columns = {{"n", "BIGINT"}, {"m", "BIGINT"}}, newer.visible = 2;
  ASSERT_TRUE(shared_->Prepare({2, newer.columns, newer.visible}).ok());
  ASSERT_TRUE(shared_->Deliver(older, 1).ok());
  EXPECT_EQ(sink_->columns.size(), 1u);
  ASSERT_TRUE(shared_->Deliver(newer, 2).ok());
  EXPECT_EQ(sink_->columns.size(), 2u);
}

TEST_F(DeliveryLoopTest, AStopInterruptsTheFilters) {
  Append(0, 2);
  Start("SELECT n, (SELECT sum(a.range * b.range) FROM range(300000) a, range(300000) b) AS m FROM input");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  auto begin = std::chrono::steady_clock::now();
  Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_EQ(loop_->next(), 0u);
  EXPECT_EQ(sink_->calls, 0);
  EXPECT_TRUE(Letters().empty());
  Deliver("SELECT n FROM input", 2);
}

TEST_F(DeliveryLoopTest, ALoopOverAPartOfHistoryIsDoneAtItsEnd) {
  Append(0, 10), Append(10, 20);
  std::atomic<int> paces{0};
  end_ = 13, pace_ = [&](int64_t busy_ns, std::stop_token) { paces += busy_ns > 0; };
  sink_->stored = {{0, 4}};
  Start("SELECT n FROM input");
  thread_.join();  // by itself
  EXPECT_TRUE(loop_->done());
  EXPECT_EQ(loop_->snapshot().state, "done");
  EXPECT_EQ(loop_->next(), 13u);
  EXPECT_EQ(sink_->kept, Numbers(4, 13, {}));
  EXPECT_GE(paces, 1);
}

TEST_F(DeliveryLoopTest, ALoopWaitsForEventsBelowItsEnd) {
  end_ = 15;
  Append(0, 10);
  Start("SELECT n FROM input");
  WaitFor([&] { return loop_->next() == 10; });
  EXPECT_FALSE(loop_->done());
  Append(10, 20);
  WaitFor([&] { return loop_->done(); });
  Stop();
  EXPECT_EQ(sink_->kept, Numbers(0, 15, {}));
}

TEST(CollectedLetters, KeepsTheFirstAndCountsAll) {
  CollectedLetters letters(2);
  DeadLetter letter;
  letter.reason = "bad";
  EXPECT_EQ(*letters.AppendAndWait("orders", {letter}, {}), 0u);
  EXPECT_EQ(*letters.AppendAndWait("orders", {letter, letter}, {}), 1u);
  EXPECT_EQ(letters.count(), 3u);
  ASSERT_EQ(letters.letters().size(), 2u);
  EXPECT_EQ(letters.letters()[1].number, 1u);
}

}  // namespace
}  // namespace millstream
