#include "catalog/change_plan.h"

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
  std::map<std::string, uint64_t> events_of{{"clicks", 7}};

  void Append(const ControlEvent& event) {
    std::string json = catalog.Seal(event);
    Status status = catalog.Replay(json);
    ASSERT_TRUE(status.ok()) << status.message();
    events.push_back(std::move(json));
  }
  std::vector<std::string_view> views() const { return {events.begin(), events.end()}; }

  Project Live() const { return FromYaml(catalog.version() == 0 ? "{}" : ToYaml(catalog.root())); }

  /// What a start does with changed files.
  ChangeDecision Start(const Project& files) { return Carry(files, Decide(files), false); }
  ChangeDecision Decide(const Project& files) const {
    ChangeOptions options;
    options.keep_live = true;
    return DecideChange(files, Live(), catalog, TestKinds(), options, {});
  }
  /// What is live, with one text in place of another.
  ChangeDecision Edit(const std::string& from, const std::string& to) {
    std::string yaml = ToYaml(catalog.root());
    yaml.replace(yaml.find(from), from.size(), to);
    Project edited = FromYaml(yaml);
    ChangeOptions options;
    options.is_edit = options.prune = true;
    return Carry(edited, DecideChange(edited, Live(), catalog, TestKinds(), options, {}), true);
  }
  ChangeDecision Apply(const Project& files, const ChangeOptions& options) {
    return Carry(files, DecideChange(files, Live(), catalog, TestKinds(), options, events_of), false);
  }
  ChangeDecision Carry(const Project& files, ChangeDecision decision, bool is_edit) {
    EXPECT_TRUE(decision.faults.empty()) << decision.faults[0].ToString();
    ControlEvent apply = ApplyEvent(decision, files, catalog, is_edit);
    apply.who = "ann@host", apply.when_us = kNow;
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

Status VerifyChain(const std::vector<std::string_view>& events) {
  ChainCheck chain;
  for (std::string_view event : events) RETURN_IF_ERROR(chain.Take(event));
  return OkStatus();
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

TEST(Control, RatesAreThoseOfTheLastStopThatHadSome) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  ControlEvent stop = Event(ControlKind::kStopped, "");
  stop.rates = {{"revenue", 1'240'000}};
  control.Append(stop);
  stop.rates.clear();
  control.Append(stop);
  EXPECT_EQ(control.catalog.rates(), (std::map<std::string, uint64_t>{{"revenue", 1'240'000}}));
}

TEST(Control, ACutoverTakesObsoleteLettersOffTheList) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  ControlEvent started = Event(ControlKind::kReplayStarted, "revenue");
  started.replay.id = 1, started.replay.tables = {"revenue"};
  started.replay.starts["revenue"] = {"orders", {{0, 17}, {1, 9}}};
  control.Append(started);
  EXPECT_TRUE(started.replay.Remakes("table:revenue"));
  EXPECT_FALSE(started.replay.Remakes("table:rev"));
  ControlEvent cutover = Event(ControlKind::kCutover, "revenue");
  cutover.version = 2, cutover.replay.id = 1, cutover.root = control.catalog.root();
  cutover.generations = {{"revenue", 1}}, cutover.rebuilt = {{"revenue", {"table:revenue"}}};
  cutover.letters_before = {{"orders", 9}}, cutover.obsolete["orders"] = *LetterSet::Parse("2-3,8");
  control.Append(cutover);
  EXPECT_EQ(control.catalog.letters().StateOf("orders", 3), LetterState::kDropped);
  EXPECT_EQ(control.catalog.letters().StateOf("orders", 4), LetterState::kOpen);
  EXPECT_EQ(control.catalog.letters().OpenOf("orders", 9), 6u);
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
  EXPECT_NE(status.message().find("event 2 (pipeline_paused at "), std::string::npos) << status.message();
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

TEST(DecideChange, TheFirstStartAppliesAll) {
  Control control;
  ChangeDecision decision = control.Start(FromYaml(kStreams + kPipeline));
  EXPECT_EQ(decision.version, 1u);
  EXPECT_EQ(decision.new_pipelines, std::vector<std::string>{"revenue"});
  EXPECT_EQ(decision.generations, (std::map<std::string, uint64_t>{{"revenue", 1}}));
  EXPECT_EQ(Text(decision.changes),
            "streams.clicks add live\nstreams.orders add live\npipelines.revenue add backfill\n");
}

TEST(DecideChange, WhatFilesLackIsKept) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  ChangeDecision decision = control.Start(FromYaml("streams:\n  orders: {key: id, partitions: 2}\n"));
  EXPECT_EQ(Text(decision.changes), "streams.clicks remove kept\npipelines.revenue remove kept\n");
  EXPECT_EQ(decision.notices,
            (std::vector<std::string>{"streams.clicks is not in the files and goes on as it is",
                                      "pipelines.revenue is not in the files and goes on as it is"}));
  EXPECT_NE(control.catalog.root().Find("streams")->Find("clicks"), nullptr);
  EXPECT_EQ(control.catalog.pipelines().at("revenue").generation, 1u);
  EXPECT_EQ(control.catalog.pipelines().at("revenue").start.ToString(), "orders/0:17,1:9");
}

TEST(DecideChange, APipelineThatComesBackIsANewGeneration) {
  Control control;
  Project files = FromYaml(kStreams + kPipeline);
  control.Start(files);
  ControlEvent prune = Event(ControlKind::kApply, "");
  prune.version = 2, prune.root = FromYaml(kStreams).root, prune.files_hash = "other";
  control.Append(prune);
  EXPECT_TRUE(control.catalog.pipelines().empty());
  ChangeDecision decision = control.Start(files);
  EXPECT_EQ(decision.generations.at("revenue"), 2u);
  EXPECT_EQ(decision.new_pipelines, std::vector<std::string>{"revenue"});
  EXPECT_FALSE(control.catalog.pipelines().at("revenue").paused);
}

TEST(DecideChange, APipelineThatAdoptsIsTheOneThatWasRemoved) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  const ActivatedVersion first = {1, {{0, 17}}, std::make_shared<const Node>()};
  ControlEvent activated = Event(ControlKind::kActivated, "revenue");
  activated.version = 1, activated.generation = 1, activated.boundary = first.boundary;
  control.Append(activated);
  control.Append(Event(ControlKind::kPipelinePaused, "revenue"));
  ControlEvent prune = Event(ControlKind::kApply, "");
  prune.version = 2, prune.root = FromYaml(kStreams).root, prune.files_hash = "other";
  control.Append(prune);
  ChangeDecision decision = control.Start(FromYaml(kStreams + kPipeline + "    adopt: true\n"));
  EXPECT_EQ(Text(decision.changes), "pipelines.revenue add live\n");
  EXPECT_EQ(decision.generations.at("revenue"), 1u);
  const PipelineRecord& record = control.catalog.pipelines().at("revenue");
  ASSERT_EQ(record.versions.size(), 1u);
  EXPECT_EQ(record.versions[0].boundary, first.boundary);
  EXPECT_FALSE(record.paused);
  EXPECT_TRUE(control.catalog.IsPending("revenue"))
      << "the new definitions take over where the old ones stood";
}

TEST(DecideChange, WhatCannotBeChangedIsRefusedAndKept) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  Project files = FromYaml(
      "streams:\n  orders: {key: id, partitions: 4}\n  clicks: {ack: written}\n"
      "pipelines:\n  revenue:\n    from: orders\n    to:\n      - table: {name: revenue, key: id}\n");
  ChangeDecision decision = control.Decide(files);
  EXPECT_EQ(Text(decision.changes),
            "streams.clicks edit live\nstreams.orders.partitions edit refused\n"
            "pipelines.revenue.filters.a remove refused\npipelines.revenue.filters.b remove refused\n"
            "pipelines.revenue.to.table:revenue edit rebuild\n");
  ASSERT_EQ(decision.refused.size(), 2u);
  EXPECT_EQ(decision.refused[0].ToString(),
            "millstream.yaml:2:33: streams.orders.partitions: cannot be changed; 2 → 4; fixed once the "
            "stream is made: "
            "declare a new stream and send the events there");
  EXPECT_EQ(decision.root.Find("streams")->Find("orders")->Find("partitions")->scalar, "2");
  EXPECT_EQ(decision.root.Find("streams")->Find("clicks")->Find("ack")->scalar, "written");
}

TEST(DecideChange, AContractChangesWithTheTablesThatAreMadeAnew) {
  const std::string more =
      "  reader:\n    from: orders\n    filters:\n      - r: SELECT * FROM input\n    to: [stdout]\n"
      "  other:\n    from: clicks\n    filters:\n      - o: SELECT * FROM input\n    to: [stdout]\n";
  Control control;
  control.Start(FromYaml(kStreams + kPipeline + more));
  std::string yaml = kStreams + kPipeline + more;
  for (const auto& [from, to] : {std::pair("partitions: 2", "partitions: 2, contract: {id: varchar}"),
                                 {"clicks: {}", "clicks: {contract: {id: varchar}}"},
                                 {"r: SELECT *", "r: SELECT id"},
                                 {"o: SELECT *", "o: SELECT id"}})
    yaml.replace(yaml.find(from), std::string(from).size(), to);
  const Project files = FromYaml(yaml);
  ChangeOptions options;
  options.rebuild = {"revenue"};
  ChangeDecision decision = control.Apply(files, options);
  EXPECT_EQ(Text(decision.changes),
            "streams.clicks.contract edit live\nstreams.orders.contract edit rebuild\n"
            "pipelines.other.filters.o edit live\npipelines.reader.filters.r edit rebuild\n"
            "pipelines.revenue.to.table:revenue edit rebuild\n");
  EXPECT_TRUE(decision.refused.empty());
  EXPECT_EQ(decision.root.Find("streams")->Find("orders")->Find("contract"), nullptr) << "not yet";
  EXPECT_NE(decision.root.Find("streams")->Find("clicks")->Find("contract"), nullptr);
  EXPECT_EQ(WithDefinitions(decision.root, decision.rebuilt), files.root);
  ReplaySpec spec;
  spec.tables = {"revenue"}, spec.definitions = decision.rebuilt;
  Faults faults;
  auto back = ReplaySpec::FromNode(ParseJson(spec.ToJson(), "", faults));
  ASSERT_TRUE(back && faults.empty());
  EXPECT_EQ(WithDefinitions(decision.root, back->definitions), files.root);
}

const std::string kEditedPipeline =
    "pipelines:\n  revenue:\n    from: orders\n    filters:\n      - a: SELECT * FROM input WHERE true\n"
    "      - b: SELECT data FROM input\n    to:\n      - table: revenue\n";

const Node& FilterIn(const Node& root, size_t index) {
  return root.Find("pipelines")->Find("revenue")->Find("filters")->items[index].members[0].second;
}

TEST(DecideChange, ANewItemThatIsHeldBackIsNotMade) {
  Control control;
  control.Start(FromYaml(kStreams));
  Project files = FromYaml(kStreams + kPipeline);
  ChangeDecision decision = control.Decide(files);
  HoldBack(decision, files, control.catalog, {"pipelines.revenue", "add", "refused", "its table is taken"});
  EXPECT_EQ(Text(decision.changes), "pipelines.revenue add refused\n");
  ASSERT_EQ(decision.refused.size(), 1u);
  EXPECT_EQ(decision.refused[0].ToString(),
            "millstream.yaml:6:5: pipelines.revenue: cannot be added; its table is taken");
  EXPECT_TRUE(decision.new_pipelines.empty() && decision.generations.empty());
  EXPECT_TRUE(decision.root.Find("pipelines")->members.empty());
  control.Carry(files, decision, false);
  EXPECT_EQ(Text(control.Decide(files).changes), "pipelines.revenue add backfill\n")
      << "it is asked for again";
}

TEST(DecideChange, WhatWasChangedLiveSurvivesAStart) {
  Control control;
  Project files = FromYaml(kStreams + kPipeline);
  control.Start(files);
  ChangeDecision edit = control.Edit("SELECT * FROM input", "SELECT * FROM input WHERE true");
  EXPECT_EQ(Text(edit.changes), "pipelines.revenue.filters.a edit live\n");
  EXPECT_EQ(edit.version, 2u);
  EXPECT_EQ(Text(control.Decide(files).changes), "") << "the files are as they were";

  // The files change elsewhere, over and over: the edit stays, and is named.
  for (const char* more : {"  more: {}\n", "  most: {}\n"}) {
    ChangeDecision start = control.Start(FromYaml(kStreams + more + kPipeline));
    EXPECT_EQ(FilterIn(control.catalog.root(), 0).scalar, "SELECT * FROM input WHERE true");
    EXPECT_NE(std::find(start.notices.begin(), start.notices.end(),
                        "pipelines.revenue.filters.a was changed live and stays so; the files have another"),
              start.notices.end())
        << fmt::format("{}", fmt::join(start.notices, "\n"));
  }
  // `apply` makes what runs equal to the files.
  ChangeDecision apply = control.Apply(files, {});
  EXPECT_EQ(Text(apply.changes),
            "streams.most remove kept\nstreams.more remove kept\npipelines.revenue.filters.a edit live\n");
  EXPECT_EQ(FilterIn(control.catalog.root(), 0).scalar, "SELECT * FROM input");
}

TEST(DecideChange, OnePipelineChangedOnBothSidesIsMergedByFilters) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  control.Edit("SELECT * FROM input", "SELECT * FROM input WHERE true");
  std::string files = kStreams + kPipeline;
  files.replace(files.find("SELECT data"), 11, "SELECT data, 1 AS x");
  ChangeDecision start = control.Start(FromYaml(files));
  EXPECT_EQ(Text(start.changes), "pipelines.revenue.filters.b edit live\n");
  EXPECT_EQ(FilterIn(control.catalog.root(), 0).scalar, "SELECT * FROM input WHERE true");
  EXPECT_EQ(FilterIn(control.catalog.root(), 1).scalar, "SELECT data, 1 AS x FROM input");
}

TEST(DecideChange, OneFilterChangedOnBothSidesIsAConflict) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  control.Edit("SELECT * FROM input", "SELECT * FROM input WHERE true");
  std::string text = kStreams + kPipeline;
  text.replace(text.find("SELECT * FROM input"), 19, "SELECT * FROM input WHERE 1 = 1");
  Project files = FromYaml(text);
  ChangeDecision start = control.Decide(files);
  EXPECT_EQ(Text(start.changes), "pipelines.revenue.filters.a edit conflict\n");
  EXPECT_EQ(FilterIn(start.root, 0).scalar, "SELECT * FROM input WHERE true");
  ChangeOptions options;
  EXPECT_EQ(Text(control.Apply(files, options).changes), "pipelines.revenue.filters.a edit conflict\n");
  options.force = true;
  EXPECT_EQ(Text(control.Apply(files, options).changes), "pipelines.revenue.filters.a edit live\n");
  EXPECT_EQ(FilterIn(control.catalog.root(), 0).scalar, "SELECT * FROM input WHERE 1 = 1");
}

TEST(DecideChange, PruneRemovesWhatTheFilesLack) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  Project files = FromYaml("streams:\n  orders: {key: id, partitions: 2}\n");
  ChangeOptions options;
  options.prune = true;
  ChangeDecision kept = control.Apply(files, options);
  EXPECT_EQ(Text(kept.changes), "streams.clicks remove kept\npipelines.revenue remove live\n");
  EXPECT_EQ(kept.changes[0].note, "holds 7 events; --purge clicks removes them");
  EXPECT_TRUE(control.catalog.pipelines().empty());
  options.purge = {"clicks"};
  EXPECT_EQ(Text(control.Apply(files, options).changes), "streams.clicks remove live\n");
  EXPECT_EQ(control.catalog.root().Find("streams")->members.size(), 1u);
  // Its name is free once its events are gone.
  EXPECT_EQ(control.catalog.purges(), std::set<std::string>{"clicks"});
  ChangeDecision again =
      DecideChange(FromYaml(kStreams), control.Live(), control.catalog, TestKinds(), options, {});
  ASSERT_EQ(again.faults.size(), 1u);
  EXPECT_EQ(again.faults[0].path, "streams.clicks");
  control.Append(Event(ControlKind::kPurged, "clicks"));
  EXPECT_EQ(Text(control.Apply(FromYaml(kStreams), options).changes), "streams.clicks add live\n");
}

TEST(DecideChange, WhatIsLeftMustParse) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  ChangeOptions options;
  options.prune = true, options.purge = {"orders"};
  // The pipeline reads a stream that is to go.
  std::string yaml = kPipeline + "streams:\n  clicks: {}\n";
  Faults faults;
  Project files = ParseProject(ParseYaml(yaml, "millstream.yaml", faults), "/nowhere", TestKinds(), faults);
  EXPECT_FALSE(faults.empty());
  EXPECT_FALSE(DecideChange(files, control.Live(), control.catalog, TestKinds(), options, {{"orders", 3}})
                   .faults.empty());
}

TEST(DecideChange, TheHashStandsOnAllThatWasDecided) {
  Control control;
  control.Start(FromYaml(kStreams + kPipeline));
  Project files = FromYaml(kStreams + kEditedPipeline);
  auto decide = [&] {
    return DecideChange(files, control.Live(), control.catalog, TestKinds(), {}, {}).Hash(control.catalog);
  };
  std::string hash = decide();
  EXPECT_EQ(hash.size(), 8u);
  EXPECT_EQ(decide(), hash);
  control.Append(Event(ControlKind::kPipelinePaused, "revenue"));
  EXPECT_EQ(decide(), hash) << "a pause changes no definition";
  control.Edit("SELECT data FROM input", "SELECT data, 2 AS y FROM input");
  EXPECT_NE(decide(), hash);
}

TEST(Catalog, APipelineIsPendingUntilItsVersionIsActivated) {
  Control control;
  Project files = FromYaml(kStreams + kPipeline);
  control.Start(files);
  EXPECT_TRUE(control.catalog.IsPending("revenue"));
  ControlEvent activated = Event(ControlKind::kActivated, "revenue");
  activated.version = 1, activated.generation = 1;
  control.Append(activated);
  EXPECT_FALSE(control.catalog.IsPending("revenue"));
  control.Edit("clicks: {}", "clicks: {ack: written}");
  EXPECT_FALSE(control.catalog.IsPending("revenue")) << "it reads another stream";
  control.Edit("SELECT * FROM input", "SELECT * FROM input WHERE true");
  EXPECT_TRUE(control.catalog.IsPending("revenue"));
  EXPECT_FALSE(control.catalog.IsPending("nothing"));
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
