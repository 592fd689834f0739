#include <gtest/gtest.h>

#include "base/memory_file_system.h"
#include "base/text.h"
#include "sources/sources.h"

namespace millstream {
namespace {

/// Takes events as pipeline/ingest does: what is committed is durable, what is not is lost in a crash, and
/// what a stored position covers is skipped.
class MemoryTaker final : public EventTaker {
 public:
  Status Take(const SourceEvent& event) override {
    if (fail_take > 0 && --fail_take == 0) return Unavailable("asked for");
    std::string part(event.part);
    auto stored = positions.find(part);
    if (stored != positions.end() && event.sequence <= std::stoull(stored->second)) return OkStatus();
    std::string fault = event.fault.empty() ? "" : "(" + event.fault + ") ";
    gathered.push_back(fmt::format("{} {}{}", event.at, fault, event.data));
    subjects.push_back(std::string(event.envelope.subject.value_or("")));
    return OkStatus();
  }
  Status TakeLines(SourceLines lines) override {
    std::string_view text = lines.text;
    for (uint64_t number = lines.first_line; !text.empty(); ++number) {
      size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
      std::string_view line = Trim(text.substr(0, end));
      text.remove_prefix(end);
      if (line.empty()) continue;
      std::string at = fmt::format("{}#{}", lines.name, number);
      SourceEvent event;
      event.envelope.subject = lines.path;
      event.data = line;
      event.part = lines.part;
      event.at = at;
      event.sequence = lines.first_byte + lines.text.size() - text.size();
      RETURN_IF_ERROR(Take(event));
    }
    return Mark(lines.part, lines.position);
  }
  Status Mark(const std::string& part, const std::string& position) override {
    marked[part] = position;
    return OkStatus();
  }
  Status Commit() override {
    if (fail_commit > 0 && --fail_commit == 0) return Unavailable("asked for");
    for (auto& [part, position] : marked) positions[part] = position;
    marked.clear();
    events.insert(events.end(), gathered.begin(), gathered.end());
    gathered.clear();
    return OkStatus();
  }
  std::optional<std::string> Position(const std::string& part) override {
    auto stored = positions.find(part);
    return stored == positions.end() ? std::nullopt : std::optional(stored->second);
  }
  std::vector<std::pair<std::string, std::string>> Positions() override {
    std::vector<std::pair<std::string, std::string>> all(positions.begin(), positions.end());
    all.insert(all.end(), partial.begin(), partial.end());
    return all;
  }
  void Drop() {
    gathered.clear();
    marked.clear();
  }

  std::vector<std::string> events, gathered, subjects;
  std::map<std::string, std::string> positions, marked;
  std::map<std::string, std::string> partial;  // stored by one partition alone
  int fail_take = 0, fail_commit = 0;
};

using Lines = std::vector<std::string>;

class FileSourceTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(fs_.CreateDirectories("/project/in").ok()); }

  void Start(const std::string& options) {
    Faults faults;
    Node node = ParseYaml(options, "test.yaml", faults);
    SourceContext context;
    context.name = "files";
    context.stream = "lines";
    context.project_directory = "/project";
    context.fs = &fs_;
    context.clock = &clock_;
    context.taker = &taker_;
    auto source = FileSource().make(node, context);
    ASSERT_TRUE(source) << source.error().ToString();
    source_ = std::move(*source);
  }
  void Append(const std::string& name, const std::string& text) {
    auto file = std::move(*fs_.Open("/project/" + name, OpenMode::kCreate));
    ASSERT_TRUE(file->WriteAt(*file->Size(), text).ok());
  }
  void Replace(const std::string& name, const std::string& text) {
    auto file = std::move(*fs_.Open("/project/" + name, OpenMode::kCreate));
    ASSERT_TRUE(file->Truncate(0).ok());
    ASSERT_TRUE(file->WriteAt(0, text).ok());
  }
  /// Polls until nothing comes; with `ending` as `run --once` does. Answers what came.
  Lines Read(bool ending = false) {
    size_t before = taker_.events.size();
    for (int polls = 0; polls < 1000; ++polls) {
      auto worked = source_->Poll({});
      if (worked && !*worked && ending) worked = source_->Finish({});
      EXPECT_TRUE(worked) << worked.error().ToString();
      if (!worked || !*worked) break;
    }
    EXPECT_TRUE(taker_.Commit().ok());
    return Lines(taker_.events.begin() + static_cast<ptrdiff_t>(before), taker_.events.end());
  }
  void Quiet() { clock_.AdvanceUs(10'000'000); }

  MemoryFileSystem fs_;
  ManualClock clock_{0};  // as the files' stamps
  MemoryTaker taker_;
  std::unique_ptr<Source> source_;
};

TEST_F(FileSourceTest, ReadsLinesAndFollowsGrowth) {
  Append("in/b.ndjson", "{\"n\":3}\n");
  Append("in/a.ndjson", "{\"n\":1}\r\n\n{\"n\":2}\n");
  Append("in/c.txt", "no\n");
  Start("in/*.ndjson");
  EXPECT_EQ(Read(), (Lines{"in/a.ndjson#1 {\"n\":1}", "in/a.ndjson#3 {\"n\":2}", "in/b.ndjson#1 {\"n\":3}"}));
  EXPECT_EQ(taker_.subjects[0], "in/a.ndjson");
  EXPECT_EQ(Read(), Lines{});
  Append("in/a.ndjson", "{\"n\":4}\n{\"half\":");
  EXPECT_EQ(Read(), Lines{"in/a.ndjson#4 {\"n\":4}"});
  Append("in/a.ndjson", "1}\n");
  EXPECT_EQ(Read(), Lines{"in/a.ndjson#5 {\"half\":1}"});
}

TEST_F(FileSourceTest, ARestartGoesOnWhereItWas) {
  Append("in/a.ndjson", "1\n2\n");
  Start("in/*");
  Read();
  Append("in/a.ndjson", "3\n");
  Start("in/*");
  EXPECT_EQ(Read(), Lines{"in/a.ndjson#3 3"});
}

TEST_F(FileSourceTest, ARotatedFileGoesOnUnderItsNewName) {
  Append("in/a.log", "1\n2\n");
  Start("in/a.log*");
  Read();
  Append("in/a.log", "3\n");
  ASSERT_TRUE(fs_.Rename("/project/in/a.log", "/project/in/a.log.1").ok());
  Append("in/a.log", "4\n");
  EXPECT_EQ(Read(), (Lines{"in/a.log@2#1 4", "in/a.log#3 3"}));
  EXPECT_EQ(taker_.subjects.back(), "in/a.log.1");
  Start("in/a.log*");
  EXPECT_EQ(Read(), Lines{});
}

TEST_F(FileSourceTest, WhatIsRotatedOutOfThePatternIsReadToItsEnd) {
  Append("in/a.log", "1\n");
  Start("in/*.log");
  Read();
  Append("in/a.log", "2\n3");
  ASSERT_TRUE(fs_.Rename("/project/in/a.log", "/project/in/old").ok());
  Append("in/a.log", "4\n");
  EXPECT_EQ(Read(), (Lines{"in/a.log@2#1 4", "in/a.log#2 2", "in/a.log#3 3"}));
}

TEST_F(FileSourceTest, ATruncatedFileIsReadAnewEvenIfItBeginsAsBefore) {
  Append("in/a.ndjson", "1\n2\n3\n");
  Start("in/*");
  Read();
  Replace("in/a.ndjson", "1\n5\n");
  EXPECT_EQ(Read(), (Lines{"in/a.ndjson@2#1 1", "in/a.ndjson@2#2 5"}));
  Replace("in/a.ndjson", "1\n6\n7\n8\n");  // longer than what was read
  EXPECT_EQ(Read(),
            (Lines{"in/a.ndjson@3#1 1", "in/a.ndjson@3#2 6", "in/a.ndjson@3#3 7", "in/a.ndjson@3#4 8"}));
  Start("in/*");
  EXPECT_EQ(Read(), Lines{});
}

TEST_F(FileSourceTest, ALastLineWithoutItsEndIsTakenAtTheEndOfARun) {
  Append("in/a.ndjson", "{\"n\":1}\n{\"n\":2}");
  Start("in/*");
  EXPECT_EQ(Read(), Lines{"in/a.ndjson#1 {\"n\":1}"});
  EXPECT_EQ(Read(true), Lines{"in/a.ndjson#2 {\"n\":2}"});
  Append("in/a.ndjson", "\n{\"n\":3}\n{\"n\":");
  Start("in/*");
  EXPECT_EQ(Read(true), Lines{"in/a.ndjson#3 {\"n\":3}"});  // half a line is not taken
}

TEST_F(FileSourceTest, ManyPiecesAndLongLines) {
  std::string text;
  for (int i = 0; i < 200'000; ++i)
    text += fmt::format("{{\"n\":{},\"padding\":\"xxxxxxxxxxxxxxxxxxxx\"}}\n", i);
  text += "\"" + std::string(3 << 20, 'y') + "\"\n";
  Append("in/a.ndjson", text);
  Start("in/*");
  Lines lines = Read();
  ASSERT_EQ(lines.size(), 200'001u);
  EXPECT_EQ(lines[123'456], "in/a.ndjson#123457 {\"n\":123456,\"padding\":\"xxxxxxxxxxxxxxxxxxxx\"}");
  EXPECT_EQ(lines.back().size(), std::string("in/a.ndjson#200001 ").size() + (3 << 20) + 2);
}

TEST_F(FileSourceTest, AFailureTakesAgainWhatWasNotStored) {
  Append("in/a.ndjson", "1\n2\n3\n");
  Start("in/*");
  taker_.fail_take = 2;
  auto worked = source_->Poll({});
  ASSERT_FALSE(worked);
  EXPECT_EQ(worked.error().message(), "in/a.ndjson: asked for");
  taker_.Drop();
  taker_.fail_commit = 1;
  ASSERT_FALSE(source_->Poll({}));
  taker_.Drop();
  EXPECT_EQ(Read(), (Lines{"in/a.ndjson#1 1", "in/a.ndjson#2 2", "in/a.ndjson#3 3"}));
}

TEST_F(FileSourceTest, OrderByTime) {
  Append("in/z.ndjson", "1\n");
  Append("in/a.ndjson", "2\n");
  Start("{path: [\"in/a*\", \"in/z*\"], order: time}");
  Lines lines = Read();
  ASSERT_EQ(lines.size(), 2u);
  auto modified = [&](const char* path) { return fs_.Stat(path)->modified_us; };
  if (modified("/project/in/z.ndjson") < modified("/project/in/a.ndjson")) {
    EXPECT_EQ(lines[0], "in/z.ndjson#1 1");
  }
}

TEST_F(FileSourceTest, WithoutFollowEachFileIsReadOnce) {
  Append("in/a.ndjson", "1\n");
  Start("{path: in/a.ndjson, follow: false}");
  EXPECT_EQ(Read(), Lines{"in/a.ndjson#1 1"});
  Append("in/a.ndjson", "2\n");
  EXPECT_EQ(Read(), Lines{});
  Start("{path: in/a.ndjson, follow: false}");
  EXPECT_EQ(Read(true), Lines{});
}

TEST_F(FileSourceTest, CsvRowsBecomeObjectsAndMayGrow) {
  Append("in/a.csv", "id;name\n1;Ann\n");
  Start("{path: in/*.csv, csv: {delimiter: \";\"}}");
  Quiet();
  EXPECT_EQ(Read(), Lines{"in/a.csv#2 {\"id\":\"1\",\"name\":\"Ann\"}"});
  Append("in/a.csv", "2;\"Bob; B\"\n3;ha");
  Quiet();
  EXPECT_EQ(Read(), Lines{"in/a.csv#3 {\"id\":\"2\",\"name\":\"Bob; B\"}"});
  Append("in/a.csv", "lf\n");
  Quiet();
  Start("{path: in/*.csv, csv: {delimiter: \";\"}}");
  EXPECT_EQ(Read(), Lines{"in/a.csv#4 {\"id\":\"3\",\"name\":\"half\"}"});
  Append("in/a.csv", "4\n5;Eve\n");  // a row that is none keeps its bytes
  Quiet();
  Lines lines = Read();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "in/a.csv#5 (line 5 has 1 fields; the header has 2) 4");
  EXPECT_EQ(lines[1], "in/a.csv#6 {\"id\":\"5\",\"name\":\"Eve\"}");
}

TEST_F(FileSourceTest, DocumentsAreReadOnceTheyAreQuiet) {
  Append("in/a.json", "{\"entry\":[{\"resource\":{\"id\":1}},\n{\"resource\":{\"id\":2}}]}");
  Start("{path: in/*.json, records: /entry/*/resource}");
  EXPECT_EQ(Read(), Lines{});  // it may still be written
  Quiet();
  Lines lines = Read();
  // By their numbers: several may stand on one line, and an id must not name two.
  EXPECT_EQ(lines, (Lines{"in/a.json#1 {\"id\":1}", "in/a.json#2 {\"id\":2}"}));
  EXPECT_EQ(Read(), Lines{});
  Start("{path: in/*.json, records: /entry/*/resource}");
  EXPECT_EQ(Read(true), Lines{});
  // Another content under the same inode is another document.
  Replace("in/a.json", "{\"entry\":[{\"resource\":{\"id\":3}}]}");
  Quiet();
  EXPECT_EQ(Read(), Lines{"in/a.json@2#1 {\"id\":3}"});
}

TEST_F(FileSourceTest, NoTwoContentsOfAPathHaveOneName) {
  Append("in/a.log", "1\n");
  Start("in/a.log*");
  Read();
  for (int n = 2; n <= 4; ++n) {
    Append("in/a.log", fmt::format("rest of {}\n", n - 1));
    for (int k = n; k > 1; --k)
      (void)fs_.Rename(fmt::format("/project/in/a.log.{}", k - 1), fmt::format("/project/in/a.log.{}", k));
    ASSERT_TRUE(fs_.Rename("/project/in/a.log", "/project/in/a.log.1").ok());
    Append("in/a.log", fmt::format("{}\n", n));
    if (n == 3) Append("in/a.log@4", "x\n");  // a file may have that name itself
    Start("in/a.log*");
    Lines lines = Read();
    std::string before = n == 2 ? "in/a.log" : fmt::format("in/a.log@{}", n - 1);
    std::string now = fmt::format("in/a.log@{}#1 {}", n == 4 ? 5 : n, n);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), now), 1) << n;
    EXPECT_EQ(std::count(lines.begin(), lines.end(), fmt::format("{}#2 rest of {}", before, n - 1)), 1) << n;
  }
}

TEST_F(FileSourceTest, AContentThatOnePartitionKnowsKeepsItsName) {
  Append("in/a.log", "1\n");
  Start("in/*");
  Read();
  Replace("in/a.log", "two\n");
  Read();
  // A crash left the second content's receipt in one partition, not in all.
  for (auto it = taker_.positions.begin(); it != taker_.positions.end();) {
    if (!it->second.ends_with("@2")) {
      ++it;
      continue;
    }
    taker_.partial.insert(*it);
    it = taker_.positions.erase(it);
  }
  ASSERT_EQ(taker_.partial.size(), 1u);
  Start("in/*");
  EXPECT_EQ(Read(), Lines{"in/a.log@2#1 two"});
}

TEST_F(FileSourceTest, PlacesOfAnEarlierVersionGoOnUnderThePath) {
  Append("in/a.log", "1\n");
  Start("in/*");
  Read();
  for (auto& [part, position] : taker_.positions) position.resize(position.find(" open"));
  Append("in/a.log", "2\n");
  Start("in/*");
  EXPECT_EQ(Read(), Lines{"in/a.log#2 2"});
  Replace("in/a.log", "3\n");
  EXPECT_EQ(Read(), Lines{"in/a.log@2#1 3"});
}

TEST_F(FileSourceTest, ADocumentThatBreaksOffBecomesOneBadEvent) {
  Append("in/a.json", "[{\"id\":1},{\"id\":");
  Append("in/b.ndjson.gz", "this is not gzip");
  Start("in/*");
  Lines lines = Read(true);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0].ends_with("{\"id\":1}")) << lines[0];
  EXPECT_TRUE(lines[2].starts_with("in/b.ndjson.gz#1 (not ")) << lines[2];
  EXPECT_EQ(Read(true), Lines{});
}

TEST_F(FileSourceTest, FaultsOfTheSettingsAreTold) {
  Faults faults;
  Node node = ParseYaml("{path: a.csv, csv: {delimiter: ab}}", "test.yaml", faults);
  FileSource().check(node, ParseContext{"sources.s.from.file", "", &faults});
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "sources.s.from.file.csv");
}

}  // namespace
}  // namespace millstream
