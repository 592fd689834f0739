// millstream test: text cases for pipelines, run, and written from real history.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/test_case.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "stage/node.h"

namespace millstream {
namespace {

struct TestOptions {
  std::string directory, record;
  std::vector<std::string> cases;
  int64_t last = 100;
};

/// A folder that goes with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    std::string pattern =
        std::string(base == nullptr || *base == '\0' ? "/tmp" : base) + "/millstream-test-XXXXXX";
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~TemporaryFolder() {
    if (!path_.empty()) (void)fs_.RemoveAll(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  PosixFileSystem fs_;
  std::string path_;
};

/// The *.test files of a folder, or of `tests` in a project's folder; with their paths.
Result<std::vector<std::string>> FindCases(const Everywhere& everywhere, const TestOptions& given) {
  PosixFileSystem fs;
  std::string directory = given.directory;
  if (directory.ends_with(".test")) {  // files by name: a shell has spelt them out
    std::vector<std::string> files = given.cases;
    files.insert(files.begin(), directory);
    return files;
  }
  if (directory.empty()) directory = FindProject(everywhere);
  if (directory.empty()) directory = ".";
  if (fs.Exists(directory + "/millstream.yaml")) directory += "/tests";
  ASSIGN_OR_FAIL(std::vector<std::string> names, fs.List(directory));
  std::vector<std::string> cases;
  std::set<std::string> left(given.cases.begin(), given.cases.end());
  for (const std::string& name : names) {
    if (!name.ends_with(".test")) continue;
    std::string stem = name.substr(0, name.size() - 5);
    bool is_named = left.erase(stem) + left.erase(name) > 0;
    if (given.cases.empty() || is_named) cases.push_back(directory + "/" + name);
  }
  if (cases.empty() || !left.empty())
    return Fail(NotFound("no case{} in {} (NAME.test; `millstream test --record PIPELINE` writes one)",
                         left.empty() ? "" : fmt::format(" '{}'", fmt::join(left, "', '")), directory));
  return cases;
}

Status RunCase(const Everywhere& everywhere, const std::string& path) {
  PosixFileSystem fs;
  ASSIGN_OR_RETURN(std::string text, ReadFile(fs, path));
  std::string name = path.substr(path.rfind('/') + 1);
  ASSIGN_OR_RETURN(std::vector<TestSection> sections, ParseTestCase(name, text));
  TemporaryFolder folder;
  if (folder.path().empty()) return IoError("cannot make a temporary folder");
  TestRunner runner(everywhere, name, folder.path());
  for (const TestSection& section : sections) RETURN_IF_ERROR(runner.Run(section));
  return OkStatus();
}

int RunCases(const Everywhere& everywhere, const TestOptions& given) {
  auto cases = FindCases(everywhere, given);
  if (!cases) return Complain(cases.error());
  auto begun = std::chrono::steady_clock::now();
  size_t failed = 0;
  for (const std::string& path : *cases) {
    Status status = RunCase(everywhere, path);
    std::string name = path.substr(path.rfind('/') + 1);
    if (!status.ok()) ++failed;
    if (everywhere.json) {
      std::string line = "{\"case\":";
      AppendJsonString(line, name);
      line += fmt::format(",\"passed\":{}", status.ok());
      if (!status.ok()) {
        line += ",\"reason\":";
        AppendJsonString(line, status.message());
      }
      std::printf("%s}\n", line.c_str());
    } else if (!status.ok()) {
      std::printf("FAILED %s\n%s\n", name.c_str(), status.message().c_str());
    } else if (!everywhere.quiet) {
      std::printf("ok     %s\n", name.c_str());
    }
    std::fflush(stdout);
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (!everywhere.json)
    std::printf("%zu of %zu cases passed in %.1f s\n", cases->size() - failed, cases->size(), seconds);
  return failed == 0 ? kExitDone : kExitNo;
}

// ---- --record

void Member(Node& map, const std::string& name, Node value) {
  map.kind = Node::Kind::kMap;
  map.members.emplace_back(name, std::move(value));
}

/// The project of a case: the pipeline and its stream, what it writes as tables.
struct Recorded {
  std::string stream, yaml;
  std::vector<std::string> tables;
  Node streams, pipeline;
};

Result<Node> DefinitionOf(HttpClient& api, const std::string& path) {
  ASSIGN_OR_FAIL(std::string body, CallServer(api, "GET", path));
  JsonView document(body);
  Faults faults;
  Node node = ParseJson(document["definition"].raw(), "", faults);
  if (!faults.empty()) return Fail(Internal("{}: {}", path, faults[0].message));
  return node;
}

std::string MainOption(const Node& options, const char* name) {
  const Node* value = options.IsScalar() ? &options : options.Find(name);
  return value == nullptr ? "" : value->scalar;
}

Result<Recorded> ReadProject(HttpClient& api, const std::string& name) {
  Recorded recorded;
  ASSIGN_OR_FAIL(Node pipeline, DefinitionOf(api, "/v1/pipelines/" + UrlEncode(name)));
  const Node* from = pipeline.Find("from");
  recorded.stream = from == nullptr ? "" : from->scalar;
  ASSIGN_OR_FAIL(Node stream, DefinitionOf(api, "/v1/streams/" + UrlEncode(recorded.stream)));
  Node streams, sinks;
  Member(streams, recorded.stream, std::move(stream));
  sinks.kind = Node::Kind::kSequence;
  for (const auto& [option, value] : pipeline.members) {
    if (option == "start" || option == "max_dead_letters") continue;
    if (option != "to") {
      Member(recorded.pipeline, option, value);
      continue;
    }
    const std::vector<Node> one{value};
    for (const Node& sink : value.kind == Node::Kind::kSequence ? value.items : one) {
      const Node* table = sink.Find("table");
      if (table == nullptr) continue;
      recorded.tables.push_back(MainOption(*table, "name"));
      sinks.items.push_back(sink);
    }
  }
  if (sinks.items.empty()) {  // what goes elsewhere is kept as rows
    recorded.tables.push_back("recorded_rows");
    Node sink;
    Member(sink, "table", ScalarNode("recorded_rows"));
    sinks.items.push_back(std::move(sink));
  }
  Member(recorded.pipeline, "to", std::move(sinks));
  Node root, pipelines;
  Member(pipelines, name, recorded.pipeline);
  Member(root, "streams", std::move(streams));
  Member(root, "pipelines", std::move(pipelines));
  recorded.yaml = ToYaml(root);
  return recorded;
}

/// An event without what its place in the log gave it.
std::string WithoutPlace(std::string_view event) {
  std::string out = "{";
  for (const auto& [name, value] :
       JsonMembers(event).value_or(std::vector<std::pair<std::string, std::string_view>>{})) {
    if (name == "partition" || name == "offset" || name == "ingestedat") continue;
    if (out.size() > 1) out += ',';
    AppendJsonString(out, name);
    out += ':';
    out += value;
  }
  return out + "}";
}

Result<std::vector<std::string>> LastEvents(HttpClient& api, const std::string& stream, uint64_t last) {
  std::string body = "{\"sql\":";
  AppendJsonString(
      body, fmt::format("SELECT _partition AS p, min(first_offset) AS first, max(end_offset) AS stop FROM "
                        "_segments WHERE stream = '{}' GROUP BY ALL ORDER BY p",
                        stream));
  ASSIGN_OR_FAIL(std::string answered, CallServer(api, "POST", "/v1/query", body + "}"));
  std::vector<JsonView> partitions = JsonView(answered)["rows"].items();
  if (partitions.empty()) return std::vector<std::string>();
  uint64_t each = (last + partitions.size() - 1) / partitions.size();
  std::string from;
  for (const JsonView& row : partitions) {
    uint64_t stop = row["stop"].number(),
             first = std::max(row["first"].number(), stop - std::min(stop, each));
    from += fmt::format("{}{}:{}", from.empty() ? stream + "/" : ",", row["p"].number(), first);
  }
  ASSIGN_OR_FAIL(std::string events,
                 CallServer(api, "GET", "/v1/streams/" + stream + "/events?from=" + UrlEncode(from)));
  std::vector<std::string> lines;
  for (std::string_view line : Split(events, '\n'))
    if (!line.empty()) lines.push_back(WithoutPlace(line));
  return lines;
}

void Print(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) std::printf("%s\n", line.c_str());
  std::printf("\n");
}

Status RecordCase(const Everywhere& everywhere, const TestOptions& given) {
  ASSIGN_OR_RETURN(auto api, OpenApi(everywhere));
  ASSIGN_OR_RETURN(Recorded recorded, ReadProject(*api, given.record));
  ASSIGN_OR_RETURN(
      std::vector<std::string> events,
      LastEvents(*api, recorded.stream, static_cast<uint64_t>(std::max<int64_t>(1, given.last))));
  if (events.empty()) return NotFound("stream '{}' has no event", recorded.stream);
  // What is to come out is what comes out of these events alone.
  TemporaryFolder folder;
  if (folder.path().empty()) return IoError("cannot make a temporary folder");
  TestRunner runner(everywhere, given.record, folder.path());
  TestSection project{"project", "", 0, {recorded.yaml}};
  RETURN_IF_ERROR(runner.Run(project));
  RETURN_IF_ERROR(runner.TakeCloudEvents(recorded.stream, events));
  std::printf("Recorded from pipeline %s: the last events of stream %s, %zu in all.\n\n=== project\n%s\n",
              given.record.c_str(), recorded.stream.c_str(), events.size(), recorded.yaml.c_str());
  std::printf("=== cloudevents %s\n", recorded.stream.c_str());
  Print(events);
  for (const std::string& table : recorded.tables) {
    std::string sql =
        fmt::format("SELECT COLUMNS(c -> c NOT IN ('_partition', '_offset')) FROM {} ORDER BY ALL", table);
    ASSIGN_OR_RETURN(std::vector<std::string> rows, runner.RowLines(sql));
    std::printf("=== rows %s\n", sql.c_str());
    Print(rows);
  }
  ASSIGN_OR_RETURN(std::vector<std::string> letters, runner.DeadLines(recorded.stream));
  std::printf("=== dead %s\n", recorded.stream.c_str());
  Print(letters);
  return OkStatus();
}

}  // namespace

Verb TestVerb() {
  auto given = std::make_shared<TestOptions>();
  Verb verb("test", "run text cases for pipelines, or write one from real history");
  verb.Argument("DIR", &given->directory,
                "folder of NAME.test files, or one of them (default: the project's tests/)", false)
      .Arguments("CASE", &given->cases, "only these")
      .Option("--record", &given->record, "PIPELINE",
              "write a case from the pipeline's last events to stdout")
      .Option("--last", &given->last, "N", "with --record: so many events, as many of each partition (100)")
      .Example("millstream test", "all cases of the project")
      .Example("millstream test --record revenue --last 50 > tests/revenue.test",
               "a case from what has happened")
      .About(
          "A case is a project, events, and what must come out: rows, dead letters, files. Sections begin "
          "with "
          "`=== KIND ARGUMENT`; docs/time-travel.md lists them. Each case runs in a temporary folder of its "
          "own.")
      .Run([given](const Everywhere& everywhere) {
        if (given->record.empty()) return RunCases(everywhere, *given);
        return Complain(RecordCase(everywhere, *given));
      });
  return verb;
}

}  // namespace millstream
