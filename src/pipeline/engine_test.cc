// The engine as a whole over real folders: lock, start, stop, what a start makes of the files, runs in a row.
#include "pipeline/engine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

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
  std::map<std::string, std::map<uint32_t, std::map<uint64_t, int64_t>>> versions;  // of each row: column v
  std::map<std::string, std::map<uint32_t, uint64_t>> offsets;
  std::set<std::string> broken;    // cannot be opened, ever
  std::set<std::string> away;      // cannot be opened now
  std::set<std::string> hangs;     // answer only when interrupted
  std::set<std::string> unfit;     // do not take the columns
  std::atomic<bool> waits{false};  // `b` does not come back from a delivery
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
    while (name_ == "b" && collected_.waits && !interrupted_)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::unique_lock lock(collected_.mutex);
    if (collected_.hangs.contains(name_)) {
      lock.unlock();
      while (!interrupted_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Cancelled("interrupted");
    }
    auto column = static_cast<uint32_t>(rows.columns.size()) - 2;
    int version = rows.Find("v");
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row) {
        int64_t offset = chunk.Int64(column, row);
        collected_.places[name_].push_back(fmt::format("{}:{}", rows.partition, offset));
        if (version >= 0)
          collected_.versions[name_][rows.partition][static_cast<uint64_t>(offset)] =
              chunk.Int64(static_cast<uint32_t>(version), row);
      }
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

/// The project with a filter that stamps a number into each row.
std::string Stamped(int64_t number) {
  std::string yaml = kShop;
  yaml.replace(yaml.find("SELECT id, n FROM input WHERE n % 2 = 0"), 39,
               fmt::format("SELECT id, n, {}::BIGINT AS v FROM input", number));
  return yaml;
}

class ChangeTest : public EngineTest {
 protected:
  ChangeTest() { Write(Stamped(1)); }
  ChangeRequest Request(const std::string& yaml) {
    Write(yaml);
    ChangeRequest request;
    request.files = Options().project;
    request.who = "test";
    return request;
  }
  ChangePlan Apply(const std::string& yaml) {
    auto applied = engine_->Apply(Request(yaml));
    EXPECT_TRUE(applied) << applied.error().status.ToString();
    return applied ? *applied : ChangePlan();
  }
  /// Each row was made by the version that the control log names as its owner.
  void CheckVersions(const std::map<int64_t, Boundary>& boundaries, size_t rows_each) {
    std::lock_guard lock(collected_.mutex);
    for (std::string sink : {"a", "b"}) {
      size_t rows = 0;
      for (const auto& [partition, places] : collected_.versions[sink]) {
        for (const auto& [offset, version] : places) {
          int64_t owner = 1;
          for (const auto& [number, boundary] : boundaries)
            if (boundary.contains(partition) && boundary.at(partition) <= offset) owner = number;
          EXPECT_EQ(version, owner) << sink << " " << partition << ":" << offset;
          ++rows;
        }
      }
      EXPECT_EQ(rows, rows_each) << sink;
      EXPECT_EQ(collected_.places[sink].size(), rows_each) << sink << " has doubled some";
    }
  }
  static Boundary BoundaryOf(const ChangePlan& plan) {
    for (const PlannedChange& change : plan.changes)
      if (!change.from.empty()) return ParsePosition(change.from)->offsets;
    return {};
  }
};

TEST_F(ChangeTest, VersionsTakeOverWhileEventsFlow) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  std::map<int64_t, Boundary> boundaries;
  std::atomic<bool> done{false};
  std::atomic<int> sent{0};
  std::jthread producer([&] {
    while (!done) {
      Ingest("orders", sent, sent + 100);
      sent += 100;
    }
  });
  for (int64_t number = 2; number <= 10; ++number) {
    ChangePlan plan = Apply(Stamped(number));
    ASSERT_EQ(plan.changes.size(), 1u);
    EXPECT_EQ(plan.changes[0].what.how, "live");
    boundaries[number] = BoundaryOf(plan);
  }
  done = true;
  producer.join();
  IngestAnswer last = Ingest("orders", sent, sent + 100);
  EXPECT_TRUE(engine_->Wait(last.position, {}, 20'000'000, {}).ok());
  ASSERT_TRUE(engine_->Stop().ok());
  CheckVersions(boundaries, static_cast<size_t>(sent) + 100);
}

TEST_F(ChangeTest, ASinkThatHangsDelaysNoChange) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  collected_.waits = true;
  Ingest("orders", 0, 100);
  std::map<int64_t, Boundary> boundaries;
  for (int64_t number = 2; number <= 4; ++number) {
    boundaries[number] = BoundaryOf(Apply(Stamped(number)));
    Ingest("orders", static_cast<int>(number - 1) * 100, static_cast<int>(number) * 100);
    for (int i = 0; i < 2000 && collected_.places["a"].size() < static_cast<size_t>(number) * 100; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  collected_.waits = false;
  for (int i = 0; i < 2000 && collected_.places["b"].size() < 400; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_TRUE(engine_->Stop().ok());
  CheckVersions(boundaries, 400);
}

TEST_F(ChangeTest, ARestartKnowsWhoOwnedWhat) {
  ASSERT_TRUE(Open().ok());
  Ingest("orders", 0, 100);
  ASSERT_TRUE(engine_->RunOnce({}, nullptr).ok());
  ChangePlan plan = Apply(Stamped(2));
  EXPECT_EQ(plan.version, 2u);
  Ingest("orders", 100, 200);
  ASSERT_TRUE(engine_->Stop().ok());
  // Another sink, which stored nothing, takes everything from its owners.
  {
    std::lock_guard lock(collected_.mutex);
    collected_.offsets.erase("b");
    collected_.places.erase("b");
    collected_.versions.erase("b");
  }
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->RunOnce({}, nullptr).ok());
  CheckVersions({{2, BoundaryOf(plan)}}, 200);
}

TEST_F(ChangeTest, PipelinesSinksAndStreamsComeAndGo) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  IngestAnswer first = Ingest("orders", 0, 50);
  ASSERT_TRUE(engine_->Wait(first.position, {}, 10'000'000, {}).ok());
  std::string more = Stamped(1);
  more.replace(more.find("      - collect: b"), 18, "      - collect: c\n");
  more +=
      "  q:\n    from: fresh\n    to:\n      - collect: d\n  r:\n    from: orders\n    to:\n      - collect: "
      "e\n";
  more.replace(more.find("pipelines:"), 10, "  fresh: {contract: {id: varchar, n: integer}}\npipelines:");
  auto planned = engine_->Plan(Request(more));
  ASSERT_TRUE(planned) << planned.error().status.ToString();
  std::string text;
  for (const PlannedChange& change : planned->changes)
    text += fmt::format("{} {} {} {}\n", change.what.path, change.what.change, change.what.how,
                        change.events.value_or(999));
  EXPECT_EQ(
      text,
      "streams.fresh add live 0\npipelines.p.to.collect:c add backfill 50\n"
      "pipelines.p.to.collect:b remove live 0\npipelines.q add backfill 0\npipelines.r add backfill 50\n");
  EXPECT_GT(planned->changes[1].seconds.value_or(-1), 0) << "a rate was measured";
  EXPECT_EQ(engine_->TakeStatus().catalog_version, 1u) << "a plan changes nothing";

  ChangePlan applied = Apply(more);
  EXPECT_EQ(applied.version, 2u);
  IngestAnswer second = Ingest("orders", 50, 60);
  Ingest("fresh", 0, 7);
  auto count = [&](const std::string& sink) {
    std::lock_guard lock(collected_.mutex);
    return collected_.places[sink].size();
  };
  for (int i = 0; i < 2000 && count("c") + count("d") + count("e") < 60 + 7 + 60; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(count("a"), 60u);
  EXPECT_EQ(count("b"), 50u) << "it was taken out";
  EXPECT_EQ(count("c"), 60u) << "it caught up from the pipeline's start";
  EXPECT_EQ(count("d"), 7u);
  EXPECT_EQ(count("e"), 60u);

  // What the files lack goes on, until it is asked to go.
  ChangeRequest prune = Request(Stamped(1));
  EXPECT_EQ(engine_->Plan(prune)->changes.front().what.how, "kept");
  prune.options.prune = true;
  auto pruned = engine_->Apply(prune);
  ASSERT_TRUE(pruned) << pruned.error().status.ToString();
  EXPECT_EQ(engine_->project()->pipelines.size(), 1u);
  EXPECT_TRUE(engine_->project()->streams.contains("fresh")) << "it holds events";
  ASSERT_TRUE(engine_->Stop().ok());
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->project()->pipelines.size(), 1u);
}

TEST_F(ChangeTest, WhatDoesNotBindOrIsStaleIsRefused) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  std::string bad = Stamped(1);
  bad.replace(bad.find("SELECT id, n,"), 13, "SELECT id, nope,");
  auto refused = engine_->Apply(Request(bad));
  ASSERT_FALSE(refused);
  ASSERT_EQ(refused.error().faults.size(), 1u);
  EXPECT_NE(refused.error().faults[0].ToString().find("nope"), std::string::npos);

  auto planned = engine_->Plan(Request(Stamped(2)));
  ASSERT_TRUE(planned);
  Apply(Stamped(3));
  ChangeRequest stale = Request(Stamped(2));
  stale.plan = planned->hash;
  auto answer = engine_->Apply(stale);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().status.code(), Code::kConflict);
  ASSERT_TRUE(answer.error().plan);
  stale.plan = answer.error().plan->hash;
  EXPECT_TRUE(engine_->Apply(stale)) << "the new plan's hash is good";
  stale.plan.clear();
  EXPECT_TRUE(engine_->Apply(stale)->changes.empty()) << "nothing is left to do";
  EXPECT_EQ(engine_->TakeStatus().catalog_version, 3u);
}

TEST_F(ChangeTest, AContractChangesForEventsToCome) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  Ingest("orders", 0, 10);
  std::string wider = Stamped(1);
  wider.replace(wider.find("{id: varchar, n: integer}"), 25,
                "{id: varchar, n: integer, extra: varchar default 'x'}");
  wider.replace(wider.find("SELECT id, n,"), 13, "SELECT id, n, extra,");
  ChangePlan plan = Apply(wider);
  EXPECT_FALSE(BoundaryOf(plan).empty());
  IngestAnswer answer = Ingest("orders", 10, 30);
  EXPECT_EQ(answer.accepted, 20u);
  ASSERT_TRUE(engine_->Wait(answer.position, {}, 10'000'000, {}).ok());
  std::lock_guard lock(collected_.mutex);
  EXPECT_EQ(collected_.places["a"].size(), 30u);
}

}  // namespace
}  // namespace millstream
