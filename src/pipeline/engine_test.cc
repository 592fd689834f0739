// The engine as a whole over real folders: lock, start, stop, what a start makes of the files, runs in a row.
#include "pipeline/engine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "pipeline/data_folder.h"
#include "stage/make_kind.h"

namespace millstream {
namespace {

constexpr char kShop[] = R"(
streams:
  orders:
    partitions: 2
    contract: {id: varchar, n: integer}
pipelines:
  p:
    from: orders
    filters:
      - even: SELECT id, n FROM input WHERE n % 2 = 0
    to:
      - collect: a
      - collect: b
)";

/// What sinks of the kind `collect` were given; outlives the engine as a target outlives the process.
struct Collected {
  std::mutex mutex;
  std::map<std::string, std::vector<std::string>> places;  // by sink: PARTITION:OFFSET of each row
  std::map<std::string, std::map<uint32_t, uint64_t>> offsets;
  std::set<std::string> broken;  // cannot be opened, ever
  std::set<std::string> away;    // cannot be opened now
  std::set<std::string> hangs;   // answer only when interrupted
  std::set<std::string> unfit;   // do not take the columns
};

class CollectSink final : public Sink {
 public:
  CollectSink(std::string name, Collected& collected) : name_(std::move(name)), collected_(collected) {}
  Result<std::map<uint32_t, uint64_t>> Open() override {
    std::lock_guard lock(collected_.mutex);
    if (collected_.broken.contains(name_)) return Fail(Corrupt("{} is broken", name_));
    if (collected_.away.contains(name_)) return Fail(Unavailable("{} is away", name_));
    return collected_.offsets[name_];
  }
  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override {
    std::lock_guard lock(collected_.mutex);
    return collected_.unfit.contains(name_) ? Invalid("{} takes no integers", name_) : OkStatus();
  }
  void Interrupt() override { interrupted_ = true; }
  Status Deliver(const RowBatch& rows) override {
    std::unique_lock lock(collected_.mutex);
    if (collected_.hangs.contains(name_)) {
      lock.unlock();
      while (!interrupted_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Cancelled("interrupted");
    }
    auto column = static_cast<uint32_t>(rows.columns.size()) - 2;
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row)
        collected_.places[name_].push_back(fmt::format("{}:{}", rows.partition, chunk.Int64(column, row)));
    collected_.offsets[name_][rows.partition] = rows.next_offset;
    return OkStatus();
  }

 private:
  const std::string name_;
  Collected& collected_;
  std::atomic<bool> interrupted_{false};
};

struct CollectOptions {
  std::string name;
};

SinkKind CollectKind(Collected& collected) {
  Spec<CollectOptions> spec("collect", "Keeps rows in memory.");
  spec.Field("name", &CollectOptions::name, "which").Required().Main();
  return MakeSinkKind(
      spec, [](const CollectOptions& options) { return options.name; },
      [&collected](CollectOptions options, const SinkContext&) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<CollectSink>(options.name, collected);
      });
}

class EngineTest : public testing::Test {
 protected:
  EngineTest() {
    std::string pattern = testing::TempDir() + "engineXXXXXX";
    directory_ = mkdtemp(pattern.data());
    registry_.Add(CollectKind(collected_));
    Write(kShop);
  }
  ~EngineTest() override {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }
  void Write(const std::string& yaml) { std::ofstream(directory_ + "/millstream.yaml") << yaml; }
  EngineOptions Options() {
    Faults faults;
    EngineOptions options;
    options.fs = &fs_;
    options.clock = &clock_;
    options.random = &random_;
    options.registry = &registry_;
    options.project = LoadProject(fs_, directory_, registry_, faults);
    EXPECT_TRUE(faults.empty()) << faults[0].ToString();
    options.data_directory = directory_ + "/data";
    options.who = "test";
    options.lock_wait_us = 0;
    return options;
  }
  Status Open() {
    engine_.reset();
    ASSIGN_OR_RETURN(engine_, Engine::Open(Options()));
    return OkStatus();
  }
  IngestAnswer Ingest(const std::string& stream, int from, int to) {
    std::string body;
    for (int n = from; n < to; ++n) body += fmt::format("{{\"id\":\"i{}\",\"n\":{}}}\n", n, n);
    body.reserve(body.size() + 64);
    IngestRequest request;
    request.stream = stream;
    request.format = BodyFormat::kNdjson;
    request.body = body;
    auto answer = engine_->IngestAndWait(request);
    EXPECT_TRUE(answer) << answer.error().status.ToString();
    return answer ? *answer : IngestAnswer();
  }
  std::string directory_;
  Collected collected_;
  Registry registry_;
  PosixFileSystem fs_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, EachSinkGetsEachRowOnceOverStarts) {
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(Open().ok());
    Ingest("orders", round * 50, round * 50 + 50);
    // Some rounds deliver, some leave it to the next.
    if (round % 2 == 1) {
      Status status = engine_->RunOnce({}, nullptr);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
    ASSERT_TRUE(engine_->Stop().ok());
  }
  for (auto& [name, places] : collected_.places) {
    EXPECT_EQ(places.size(), 100u) << name;
    EXPECT_EQ(std::set<std::string>(places.begin(), places.end()).size(), 100u) << name;
  }
  EXPECT_EQ(collected_.places.size(), 2u);
}

TEST_F(EngineTest, ABrokenSinkFailsAlone) {
  collected_.broken = {"a"};
  ASSERT_TRUE(Open().ok());
  Ingest("orders", 0, 10);
  Status status = engine_->RunOnce({}, nullptr);
  EXPECT_EQ(status.message(),
            "pipeline p: collect:a: a is broken; once that is put right: millstream pipeline resume p");
  EXPECT_EQ(engine_->TakeStatus().pipelines.at(0).state, "failed");
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_EQ(collected_.places["b"].size(), 5u);
  EXPECT_TRUE(collected_.places["a"].empty());
  collected_.broken.clear();
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(engine_->RunOnce({}, nullptr).ok());
  EXPECT_EQ(collected_.places["a"].size(), 5u);
  EXPECT_EQ(collected_.places["b"].size(), 5u);
}

TEST_F(EngineTest, ASinkThatDoesNotTakeTheColumnsFailsAlone) {
  collected_.unfit = {"a"};
  ASSERT_TRUE(Open().ok());
  Ingest("orders", 0, 10);
  EXPECT_FALSE(engine_->RunOnce({}, nullptr).ok());
  PipelineStatus shown = engine_->TakeStatus().pipelines.at(0);
  EXPECT_EQ(shown.state, "failed");
  EXPECT_TRUE(shown.reason.starts_with("collect:a: a takes no integers; once")) << shown.reason;
  EXPECT_EQ(shown.sinks.at(1).state, "live");
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_EQ(collected_.places["b"].size(), 5u);
}

TEST_F(EngineTest, ASinkThatIsAwayComesBackWithoutARestart) {
  collected_.away = {"a"};
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  Ingest("orders", 0, 10);
  auto wait_for = [&](const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(condition());
  };
  auto rows = [&](const std::string& name) {
    std::lock_guard lock(collected_.mutex);
    return collected_.places[name].size();
  };
  wait_for([&] { return rows("b") == 5 && engine_->TakeStatus().pipelines.at(0).state == "degraded"; });
  EXPECT_EQ(rows("a"), 0u);
  {
    std::lock_guard lock(collected_.mutex);
    collected_.away.clear();
  }
  wait_for([&] { return rows("a") == 5 && engine_->TakeStatus().pipelines.at(0).state == "live"; });
}

// While it is not known how far a sink has come, an old version owns all that the log holds.
TEST_F(EngineTest, AChangeBesideASinkThatIsAwayHoldsFromTheEndOfTheLog) {
  ASSERT_TRUE(Open().ok());
  Ingest("orders", 0, 10);
  ASSERT_TRUE(engine_->Stop().ok());  // nothing is delivered yet
  collected_.away = {"a"};
  std::string changed = kShop;
  changed.replace(changed.find("n % 2 = 0"), 9, "n % 5 = 0");
  Write(changed);
  ASSERT_TRUE(Open().ok());
  collected_.away.clear();
  Ingest("orders", 10, 20);
  Status status = engine_->RunOnce({}, nullptr);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_EQ(collected_.places["a"].size(), 5u + 2u);
  EXPECT_EQ(collected_.places["b"].size(), 5u + 2u);
}

TEST_F(EngineTest, AStopDoesNotWaitForASinkThatHangs) {
  collected_.hangs = {"a"};
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  IngestAnswer answer = Ingest("orders", 0, 10);
  for (int i = 0; i < 1000 && engine_->TakeStatus().pipelines.at(0).sinks.at(1).rows < 5; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  int64_t began_ns = clock_.MonotonicNs();
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_LT(clock_.MonotonicNs() - began_ns, 5'000'000'000);
  EXPECT_EQ(collected_.places["b"].size(), 5u);
  collected_.hangs.clear();
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(engine_->RunOnce({}, nullptr).ok());
  EXPECT_EQ(collected_.places["a"].size(), 5u);
}

TEST_F(EngineTest, ASinkBeyondTheLogStopsTheStart) {
  collected_.offsets["a"][0] = 7;  // of events that are not there
  Status status = Open();
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_NE(status.message().find("the log ends at 0"), std::string::npos) << status.message();
}

TEST_F(EngineTest, StartsDeliversStopsInTime) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  IngestAnswer answer = Ingest("orders", 0, 100);
  EXPECT_TRUE(engine_->Wait(answer.position, {}, 10'000'000, {}).ok());
  EXPECT_LT(engine_->SampledAgoUs(), 5'000'000);
  EXPECT_NE(engine_->MetricsText().find("millstream_fsync_seconds_count{stream=\"orders\"}"),
            std::string::npos);
  int64_t began_ns = clock_.MonotonicNs();
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_LT(clock_.MonotonicNs() - began_ns, 10'000'000'000);
  EXPECT_TRUE(engine_->Stop().ok()) << "a second one does nothing";
}

TEST_F(EngineTest, OneHoldsTheFolder) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Announce("http://127.0.0.1:9").ok());
  auto other = Engine::Open(Options());
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Code::kConflict);
  EXPECT_NE(other.error().message().find("http://127.0.0.1:9"), std::string::npos) << other.error().message();
  auto holder = FindLockHolder(directory_ + "/data");
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->pid, getpid());
  EXPECT_FALSE(holder->uuid.empty());
  ASSERT_TRUE(engine_->Stop().ok());
  EXPECT_FALSE(FindLockHolder(directory_ + "/data"));
  EXPECT_TRUE(Open().ok());
}

TEST_F(EngineTest, FilesAreAppliedOnceAndKeptAsTheyWere) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->TakeStatus().catalog_version, 1u);
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->TakeStatus().catalog_version, 1u) << "unchanged files are no new version";
  std::string changed = kShop;
  changed.replace(changed.find("n % 2 = 0"), 9, "n % 5 = 0");
  Write(changed);
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->TakeStatus().catalog_version, 2u);
  // What cannot be changed is refused, named, and left as it was.
  Ingest("orders", 0, 10);
  changed.replace(changed.find("partitions: 2"), 13, "partitions: 3");
  Write(changed);
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->project()->streams.at("orders").shape.partitions, 2u);
  std::string all;
  for (const std::string& notice : engine_->notices()) all += notice + "\n";
  EXPECT_NE(all.find("partitions"), std::string::npos) << all;
}

}  // namespace
}  // namespace millstream
