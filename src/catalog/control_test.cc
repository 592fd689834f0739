#include "catalog/control.h"

#include <gtest/gtest.h>

#include "catalog/digest.h"
#include "catalog/kinds_for_test.h"

namespace millstream {
namespace {

constexpr int64_t kNow = 1'700'000'000'000'000;

Project FromYaml(const std::string& yaml) {
  Faults faults;
  Node root = ParseYaml(yaml, "millstream.yaml", faults);
  Project project = ParseProject(root, "/nowhere", TestKinds(), faults);
  EXPECT_TRUE(faults.empty()) << faults.front().ToString();
  project.hash = Sha256Hex(yaml);
  return project;
}

const std::string kStreams = "streams:\n  orders: {key: id, partitions: 2}\n  clicks: {}\n";
const std::string kPipeline =
    "pipelines:\n  revenue:\n    from: orders\n    filters:\n      - a: SELECT * FROM input\n"
    "      - b: SELECT data FROM input\n    to:\n      - table: revenue\n";

// A `_control` in memory.
struct Control {
  Catalog catalog;
  std::vector<std::string> events;

  void Append(const ControlEvent& event) {
    std::string json = catalog.Seal(event);
    Status status = catalog.Replay(json);
    ASSERT_TRUE(status.ok()) << status.message();
    events.push_back(std::move(json));
  }
  std::vector<std::string_view> views() const { return {events.begin(), events.end()}; }

  Project Live() const { return FromYaml(catalog.version() == 0 ? "{}" : ToYaml(catalog.root())); }

  StartDecision Start(const Project& files) {
    StartDecision decision = DecideStart(files, Live(), catalog);
    if (!decision.apply) return decision;
    ControlEvent apply;
    apply.who = "ann@host", apply.when_us = kNow;
    apply.version = decision.version, apply.files_hash = files.hash, apply.root = decision.root;
    apply.generations = decision.generations, apply.changes = decision.changes;
    for (const auto& [name, record] : catalog.pipelines()) apply.starts[name] = record.start;
    for (const std::string& name : decision.new_pipelines) apply.starts[name] = {"orders", {{0, 17}, {1, 9}}};
    Append(apply);
    return decision;
  }
};

ControlEvent Event(ControlKind kind, std::string name) {
  ControlEvent event;
  event.kind = kind, event.name = std::move(name), event.who = "ann@host", event.when_us = kNow;
  return event;
}

std::string Text(const std::vector<Change>& changes) {
  std::string text;
  for (const Change& change : changes)
    text += fmt::format("{} {} {}\n", change.path, change.change, change.how);
  return text;
}

TEST(Control, EventsReadBackWhatTheyWrite) {
  ControlEvent event = Event(ControlKind::kActivated, "revenue");
  event.version = 3, event.generation = 2, event.boundary = {{0, 17}, {1, 18'000'000'000'000'000'000ull}};
  EXPECT_EQ(
      event.ToJson("ab"),
      R"({"kind":"activated","prev":"ab","who":"ann@host","when":"2023-11-14T22:13:20Z","name":"revenue",)"
      R"("version":3,"generation":2,"boundary":{"0":17,"1":18000000000000000000}})");
  auto back = ParseControlEvent(event.ToJson("ab"));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->boundary, event.boundary);
  EXPECT_EQ(back->when_us, kNow);
  EXPECT_EQ(back->ToJson("ab"), event.ToJson("ab"));
}

TEST(Control, ACatalogIsTheSumOfItsEvents) {
  Control control;
  control.Append(Event(ControlKind::kStarted, ""));
  control.Start(FromYaml(kStreams + kPipeline + "sources:\n  s: {from: {file: x}, to: orders}\n"));
  ControlEvent activated = Event(ControlKind::kActivated, "revenue");
  activated.version = 1, activated.generation = 1, activated.boundary = {{0, 17}};
  control.Append(activated);
  control.Append(Event(ControlKind::kPipelinePaused, "revenue"));
  control.Append(Event(ControlKind::kSourcePaused, "s"));
  Catalog again;
  for (const std::string& event : control.events) ASSERT_TRUE(again.Replay(event).ok());
  EXPECT_EQ(again.version(), 1u);
  EXPECT_EQ(again.events(), 5u);
  EXPECT_TRUE(again.running());
  const PipelineRecord& record = again.pipelines().at("revenue");
  EXPECT_EQ(record.generation, 1u);
  EXPECT_EQ(record.start.ToString(), "orders/0:17,1:9");
  EXPECT_EQ(record.active_version, 1u);
  EXPECT_EQ(record.boundary, (std::map<uint32_t, uint64_t>{{0, 17}}));
  EXPECT_TRUE(record.paused);
  EXPECT_EQ(again.paused_sources(), std::set<std::string>{"s"});
  EXPECT_TRUE(again.root() == control.catalog.root());

  control.Append(Event(ControlKind::kPipelineResumed, "revenue"));
  control.Append(Event(ControlKind::kSourceResumed, "s"));
  control.Append(Event(ControlKind::kTableDropped, "old"));
  control.Append(Event(ControlKind::kStopped, ""));
  EXPECT_FALSE(control.catalog.pipelines().at("revenue").paused);
  EXPECT_TRUE(control.catalog.paused_sources().empty());
  EXPECT_FALSE(control.catalog.running());
}

TEST(Control, TheChainShowsWhatWasTamperedWith) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  for (int i = 0; i < 3; ++i) {
    control.Append(Event(ControlKind::kPipelinePaused, "revenue"));
    control.Append(Event(ControlKind::kPipelineResumed, "revenue"));
  }
  ASSERT_TRUE(VerifyChain(control.views()).ok());

  // Every single byte of every event but the last is guarded by the event after it.
  for (size_t i = 0; i + 1 < control.events.size(); ++i) {
    for (size_t byte = 0; byte < control.events[i].size(); byte += 7) {
      std::vector<std::string> changed = control.events;
      changed[i][byte] = static_cast<char>(changed[i][byte] ^ 1);
      EXPECT_EQ(VerifyChain({changed.begin(), changed.end()}).code(), Code::kCorrupt) << i << " " << byte;
    }
  }
  std::vector<std::string> left_out = control.events;
  left_out.erase(left_out.begin() + 2);
  Status status = VerifyChain({left_out.begin(), left_out.end()});
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_NE(status.message().find("event 2: it does not continue the chain"), std::string::npos)
      << status.message();
  std::vector<std::string> twice = control.events;
  twice.insert(twice.begin() + 2, twice[2]);
  EXPECT_FALSE(VerifyChain({twice.begin(), twice.end()}).ok());
  std::vector<std::string> swapped = control.events;
  std::swap(swapped[1], swapped[2]);
  EXPECT_FALSE(VerifyChain({swapped.begin(), swapped.end()}).ok());
  std::vector<std::string> beheaded(control.events.begin() + 1, control.events.end());
  EXPECT_FALSE(VerifyChain({beheaded.begin(), beheaded.end()}).ok());
}

TEST(Control, ABadEventChangesNothing) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  EXPECT_EQ(control.catalog.Replay("{}").code(), Code::kCorrupt);
  EXPECT_EQ(control.catalog.Replay("not json").code(), Code::kCorrupt);
  ControlEvent stale = Event(ControlKind::kApply, "");
  stale.version = 1;
  EXPECT_EQ(control.catalog.Replay(control.catalog.Seal(stale)).code(), Code::kCorrupt);
  EXPECT_EQ(control.catalog.events(), 1u);
  control.Append(Event(ControlKind::kPipelinePaused, "revenue"));  // and the chain goes on
}

TEST(DecideStart, TheFirstStartAppliesAll) {
  Control control;
  StartDecision decision = control.Start(FromYaml(kStreams + kPipeline));
  EXPECT_TRUE(decision.apply);
  EXPECT_EQ(decision.version, 1u);
  EXPECT_EQ(decision.new_pipelines, std::vector<std::string>{"revenue"});
  EXPECT_EQ(decision.generations, (std::map<std::string, uint64_t>{{"revenue", 1}}));
  EXPECT_EQ(Text(decision.changes),
            "streams.clicks add live\nstreams.orders add live\npipelines.revenue add backfill\n");
}

TEST(DecideStart, TheSameFilesLeaveTheCatalogAsItIs) {
  Control control;
  Project files = FromYaml(kStreams + kPipeline);
  control.Start(files);
  StartDecision decision = control.Start(files);
  EXPECT_FALSE(decision.apply);
  EXPECT_EQ(decision.version, 1u);
  EXPECT_TRUE(decision.root == files.root);
  EXPECT_EQ(control.events.size(), 1u);
}

TEST(DecideStart, WhatFilesLackIsKept) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  StartDecision decision = control.Start(FromYaml("streams:\n  orders: {key: id, partitions: 2}\n"));
  EXPECT_TRUE(decision.apply);
  EXPECT_EQ(Text(decision.changes), "streams.clicks remove kept\npipelines.revenue remove kept\n");
  EXPECT_EQ(decision.notices,
            (std::vector<std::string>{"streams.clicks is not in the files and goes on as it is",
                                      "pipelines.revenue is not in the files and goes on as it is"}));
  EXPECT_NE(control.catalog.root().Find("streams")->Find("clicks"), nullptr);
  EXPECT_EQ(control.catalog.pipelines().at("revenue").generation, 1u);
  EXPECT_EQ(control.catalog.pipelines().at("revenue").start.ToString(), "orders/0:17,1:9");
}

TEST(DecideStart, APipelineThatComesBackIsANewGeneration) {
  Control control;
  Project files = FromYaml(kStreams + kPipeline);
  control.Start(files);
  ControlEvent prune = Event(ControlKind::kApply, "");
  prune.version = 2, prune.root = FromYaml(kStreams).root, prune.files_hash = "other";
  control.Append(prune);
  EXPECT_TRUE(control.catalog.pipelines().empty());
  StartDecision decision = control.Start(files);
  EXPECT_EQ(decision.generations.at("revenue"), 2u);
  EXPECT_EQ(decision.new_pipelines, std::vector<std::string>{"revenue"});
  EXPECT_FALSE(control.catalog.pipelines().at("revenue").paused);
}

TEST(DecideStart, WhatCannotBeChangedIsRefusedAndKept) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  Project files = FromYaml(
      "streams:\n  orders: {key: id, partitions: 4}\n  clicks: {ack: written}\n"
      "pipelines:\n  revenue:\n    from: orders\n    to:\n      - table: {name: revenue, key: id}\n");
  StartDecision decision = DecideStart(files, control.Live(), control.catalog);
  EXPECT_EQ(Text(decision.changes),
            "streams.clicks edit live\nstreams.orders.partitions edit refused\n"
            "pipelines.revenue.filters.a remove live\npipelines.revenue.filters.b remove live\n"
            "pipelines.revenue.to.table:revenue edit rebuild\n");
  ASSERT_EQ(decision.refused.size(), 2u);
  EXPECT_EQ(decision.refused[0].ToString(),
            "millstream.yaml:2:33: streams.orders.partitions: cannot be changed; 2 → 4; fixed once the "
            "stream is made: "
            "declare a new stream and send the events there");
  EXPECT_EQ(decision.root.Find("streams")->Find("orders")->Find("partitions")->scalar, "2");
  EXPECT_EQ(decision.root.Find("streams")->Find("clicks")->Find("ack")->scalar, "written");
}

TEST(DiffProjects, NamesEachItem) {
  Project before = FromYaml(kStreams + kPipeline);
  Project after = FromYaml(
      "server: {memory: 2GiB}\nstreams:\n  orders: {key: id, partitions: 2, contract: {id: varchar}}\n  "
      "clicks: {}\n  new: {}\n"
      "pipelines:\n  revenue:\n    from: clicks\n    start: latest\n    filters:\n      - b: SELECT data "
      "FROM input\n"
      "      - a: SELECT data, 1 AS x FROM input\n      - c: SELECT * FROM input\n    to:\n      - table: "
      "revenue\n"
      "      - {file: {path: x, format: csv}}\n");
  EXPECT_EQ(Text(DiffProjects(before, after)),
            "server edit live\nstreams.new add live\nstreams.orders.contract edit live\n"
            "pipelines.revenue.from edit refused\npipelines.revenue.start edit kept\n"
            "pipelines.revenue.filters.a edit live\npipelines.revenue.filters.c add live\n"
            "pipelines.revenue.filters edit live\npipelines.revenue.to.file:x add backfill\n");
  EXPECT_TRUE(DiffProjects(before, before).empty());
}

TEST(Digest, IsSha256) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace millstream
