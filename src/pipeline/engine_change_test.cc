// What runs changes while events flow: who made which row, and what a change says of itself.
#include "pipeline/control_log.h"
#include "pipeline/engine_test_support.h"

namespace millstream {
namespace {

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
  void WaitForRows(size_t rows, const std::vector<std::string>& sinks = {"a", "b"}) {
    auto all_there = [&] {
      std::lock_guard lock(collected_.mutex);
      return std::all_of(sinks.begin(), sinks.end(),
                         [&](const std::string& sink) { return collected_.places[sink].size() >= rows; });
    };
    for (int i = 0; i < 4000 && !all_there(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(all_there());
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
  WaitForRows(static_cast<size_t>(sent));
  ASSERT_TRUE(engine_->Stop().ok());
  CheckVersions(boundaries, static_cast<size_t>(sent));
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
    WaitForRows(static_cast<size_t>(number) * 100, {"a"});
  }
  collected_.waits = false;
  WaitForRows(400);
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
  Ingest("orders", 0, 50);
  WaitForRows(50);
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
  Ingest("orders", 50, 60);
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
  EXPECT_EQ(Ingest("orders", 10, 30).accepted, 20u);
  WaitForRows(30);
  std::lock_guard lock(collected_.mutex);
  EXPECT_EQ(collected_.places["a"].size(), 30u);
}

TEST_F(ChangeTest, APurgedStreamIsGoneAndItsNameIsFree) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(engine_->Start().ok());
  Ingest("orders", 0, 50);
  WaitForRows(50);
  auto is_there = [&] { return std::filesystem::exists(directory_ + "/data/log/orders"); };
  ASSERT_TRUE(is_there());
  ChangeRequest removal = Request("streams:\n  clicks: {}\n");
  removal.options.prune = true, removal.options.purge = {"orders"};
  auto removed = engine_->Apply(removal);
  ASSERT_TRUE(removed) << removed.error().status.ToString();
  for (int i = 0; i < 1000 && is_there(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(is_there());
  for (int i = 0; i < 1000 && engine_->History()->back().kind != ControlKind::kPurged; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/data/log/_dead_orders"));
  {
    std::lock_guard lock(collected_.mutex);
    collected_.offsets.clear(), collected_.places.clear();
  }
  std::string other = Stamped(1);
  other.replace(other.find("partitions: 2"), 13, "partitions: 3");
  Apply(other);
  EXPECT_EQ(Ingest("orders", 0, 10).accepted, 10u);
  EXPECT_EQ(engine_->log().Find("orders")->partitions(), 3u);
  WaitForRows(10);
}

TEST_F(ChangeTest, AStartFinishesAPurge) {
  ASSERT_TRUE(Open().ok());
  Ingest("orders", 0, 50);
  ASSERT_TRUE(engine_->Stop().ok());
  engine_.reset();
  {
    // As a crash leaves it that comes after the event and before its effect.
    auto log = Log::Open(fs_, clock_, random_, directory_ + "/data/log", {}, [](Status) {});
    ASSERT_TRUE(log) << log.error().ToString();
    auto control = ControlLog::Open(**log, clock_);
    ControlEvent event;
    event.kind = ControlKind::kApply, event.version = 2, event.purges = {"orders"};
    event.root.kind = Node::Kind::kMap;
    ASSERT_TRUE((*control)->Append(event).ok());
    ASSERT_TRUE((*log)->Close().ok());
  }
  Write("streams:\n  clicks: {}\n");
  Status status = Open();
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/data/log/orders"));
  EXPECT_EQ(engine_->History()->at(3).kind, ControlKind::kPurged);
}

}  // namespace
}  // namespace millstream
