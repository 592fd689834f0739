// A part of history run again: its bounds, its versions, its letters, a stop.
#include "pipeline/history_run.h"

#include "pipeline/engine_test_support.h"

namespace millstream {
namespace {

class HistoryRunTest : public EngineTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(Open().ok());
    for (int n = 0; n < 1000; n += 10) Ingest("orders", n, n + 10);
    HistoryRun::Options options;
    options.log = &engine_->log();
    options.fs = &fs_, options.clock = &clock_, options.random = &random_, options.registry = &registry_;
    run_ = std::move(*HistoryRun::Open(std::move(options)));
  }
  HistoryPart Part(const std::string& sink) {
    HistoryPart part;
    part.pipeline = "p", part.stream = "orders";
    part.sinks = engine_->project()->pipelines.at("p").sinks;
    std::erase_if(part.sinks, [&](const SinkConfig& each) { return each.id != "collect:" + sink; });
    for (uint32_t p = 0; p < 2; ++p) {
      uint64_t end = engine_->log().Find("orders")->partition(p).bounds().durable_end;
      part.from[p] = end / 4, part.to[p] = end / 2;
    }
    return part;
  }
  PipelineRuntime::Version Version(uint64_t number, const std::string& sql, Boundary from = {}) {
    auto version = std::make_shared<PipelineVersion>();
    auto project = engine_->project();
    version->number = number, version->from = std::move(from);
    version->config = project->pipelines.at("p"), version->stream = project->streams.at("orders");
    version->config.filters.at(0).sql = sql;
    return version;
  }
  std::unique_ptr<HistoryRun> run_;
};

TEST_F(HistoryRunTest, RunsEachOffsetOnceWithTheVersionThatOwnsIt) {
  HistoryPart part = Part("a");
  Boundary middle;
  for (auto& [p, from] : part.from) middle[p] = (from + part.to[p]) / 2;
  part.versions = {Version(1, "SELECT id, n, 1::BIGINT AS v FROM input"),
                   Version(2, "SELECT id, n, 2::BIGINT AS v FROM input", middle)};
  HistoryRun::Done last;
  Status status = run_->Run({part}, {}, [&](const HistoryRun::Done& done) { last = done; });
  ASSERT_TRUE(status.ok()) << status.ToString();
  for (uint32_t p = 0; p < 2; ++p) {
    const auto& versions = collected_.versions["a"][p];
    ASSERT_EQ(versions.size(), part.to[p] - part.from[p]);
    ASSERT_FALSE(versions.empty());
    EXPECT_EQ(versions.begin()->first, part.from[p]);
    EXPECT_EQ(versions.rbegin()->first, part.to[p] - 1);
    for (auto& [offset, version] : versions) EXPECT_EQ(version, offset < middle[p] ? 1 : 2) << offset;
  }
  EXPECT_EQ(collected_.places["a"].size(), last.total);
  EXPECT_EQ(last.events, last.total);
  EXPECT_EQ(run_->statuses().at(0).state, "done");
  EXPECT_EQ(run_->work().at(0).events, last.total);
  EXPECT_EQ(collected_.places.count("b"), 0u);
}

TEST_F(HistoryRunTest, LettersAreCollectedAndLeaveNoTrace) {
  HistoryPart part = Part("a");
  part.versions = {
      Version(1, "SELECT id, CASE WHEN n % 10 = 7 THEN error('seven') ELSE n END AS n FROM input")};
  ASSERT_TRUE(run_->Run({part}, {}).ok());
  EXPECT_GT(run_->letters().count(), 0u);
  EXPECT_EQ(run_->letters().letters().at(0).at, "p.even");
  uint64_t events = part.to[0] - part.from[0] + part.to[1] - part.from[1];
  EXPECT_EQ(collected_.places["a"].size() + run_->letters().count(), events);
  EXPECT_EQ(engine_->dead_letters().Count("orders"), 0u);
}

TEST_F(HistoryRunTest, FiltersThatDoNotBindAndSinksThatFailAreTold) {
  HistoryPart part = Part("a");
  part.versions = {Version(1, "SELECT nothing FROM input")};
  Status status = run_->Run({part}, {});
  EXPECT_EQ(status.code(), Code::kInvalid) << status.ToString();
  part.versions = {Version(1, "SELECT id, n FROM input")};
  collected_.broken = {"a"};
  EXPECT_TRUE(run_->Run({part}, {}).message().starts_with("pipeline p: collect:a: a is broken"));
}

TEST_F(HistoryRunTest, AStopEndsIt) {
  HistoryPart part = Part("b");
  part.versions = {Version(1, "SELECT id, n FROM input")};
  collected_.waits = true;
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop.request_stop();
  });
  EXPECT_EQ(run_->Run({part}, stop.get_token()).code(), Code::kCancelled);
}

}  // namespace
}  // namespace millstream
