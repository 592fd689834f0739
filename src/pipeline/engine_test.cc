// The engine as a whole over real folders: lock, start, stop, what a start makes of the files, runs in a row.
#include "pipeline/engine_test_support.h"

namespace millstream {
namespace {

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
  // The other one goes on, and may have only begun.
  auto other = [&] { return engine_->TakeStatus().pipelines.at(0).sinks.at(1); };
  auto has_all = [&] { return other().state == "live" && other().lag_events == 0; };
  for (int i = 0; i < 1000 && !has_all(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(other().state, "live");
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
