// millstream demo: real events arriving, filters at work, tables filling, a query's answer, rates.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/text.h"
#include "cli/demo_files.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/csv.h"
#include "server/server.h"

namespace millstream {
namespace {

constexpr int kRounds = 20;                            // how often the bundled webhooks arrive
constexpr auto kPause = std::chrono::milliseconds(4);  // between two of them, so that it can be watched
constexpr size_t kReadablePast = 64;
constexpr int64_t kWaitUs = 10'000'000;

/// Text on stdout, in bold where the terminal has it.
class Screen {
 public:
  explicit Screen(const std::string& color) : color_(WantsColor(color, STDOUT_FILENO)) {}
  void Title(const std::string& text) const {
    std::printf("\n%s%s%s\n", color_ ? "\033[1m" : "", text.c_str(), color_ ? "\033[0m" : "");
  }
  void Text(const std::string& text) const {
    std::string_view rest = text;
    while (!rest.empty()) {
      size_t end = std::min(rest.find('\n'), rest.size());
      std::printf("  %.*s\n", static_cast<int>(end), rest.data());
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    std::fflush(stdout);
  }

 private:
  const bool color_;
};

/// A folder for this run, removed at its end.
class TemporaryProject {
 public:
  TemporaryProject() {
    std::string pattern = (std::filesystem::temp_directory_path() / "millstream-demo-XXXXXX").string();
    path_ = mkdtemp(pattern.data()) == nullptr ? "" : pattern;
  }
  ~TemporaryProject() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<IngestAnswer> Send(Engine& engine, const std::string& stream, BodyFormat format,
                          std::string_view body) {
  std::string padded(body);
  padded.append(kReadablePast, '\0');
  IngestRequest request;
  request.stream = stream;
  request.format = format;
  request.body = std::string_view(padded.data(), body.size());
  auto answer = engine.IngestAndWait(request);
  if (!answer) return Fail(answer.error().status);
  return std::move(*answer);
}

/// The users file, row by row as JSON.
Result<std::string> UsersAsJson(Engine& engine) {
  CsvReader reader({}, engine.project()->streams.at("users").shape.contract);
  std::string lines;
  size_t at = 0;
  while (auto row = reader.Next(DemoUsers(), &at, true)) {
    if (!row->fault.empty()) return Fail(Invalid("users.csv: {}", row->fault));
    lines += row->json;
    lines += '\n';
  }
  return lines;
}

/// Runs a query through the server's own route and lays its rows out.
Result<std::string> Ask(HttpClient& api, const std::string& sql) {
  std::string body = "{\"sql\":\"" + sql + "\"}";
  ASSIGN_OR_FAIL(std::string answer, CallServer(api, "POST", "/v1/query", body));
  JsonView document(answer);
  std::vector<std::string> heading;
  for (const JsonView& column : document["columns"].items()) heading.push_back(column["name"].text());
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& row : document["rows"].items()) {
    std::vector<std::string>& line = lines.emplace_back();
    for (const std::string& name : heading) line.push_back(row[name].text());
  }
  return LayOut(heading, lines);
}

/// Sends the webhooks round after round; shows the last event of each beat on one line.
Status SendWebhooks(Engine& engine, Clock& clock, StopSignals& signals, const Screen& screen, uint64_t& sent,
                    double& seconds, Position& position) {
  ProgressLine progress(false);
  std::string_view webhooks = DemoWebhooks();
  int64_t begun_ns = clock.MonotonicNs();
  for (int round = 0; round < kRounds && !signals.received(); ++round) {
    for (std::string_view line : Split(webhooks, '\n')) {
      if (line.empty() || signals.received()) continue;
      ASSIGN_OR_RETURN(IngestAnswer answer, Send(engine, "webhooks", BodyFormat::kCloudEvent, line));
      sent += answer.accepted;
      for (const auto& [partition, offset] : answer.position.offsets) position.offsets[partition] = offset;
      position.stream = "webhooks";
      progress.Show(fmt::format(
          "  {} events in, table activity {} rows   {}", FormatCount(sent),
          FormatCount(engine.tables().Find("activity") ? engine.tables().Find("activity")->rows : 0),
          JsonView(line)["type"].text()));
      if (progress.visible()) std::this_thread::sleep_for(kPause);
    }
  }
  seconds = static_cast<double>(clock.MonotonicNs() - begun_ns) / 1e9;
  progress.Clear();
  screen.Text(fmt::format(
      "{} webhooks, one request each, every one durable before its answer: {:.1f} s, {}/s", FormatCount(sent),
      seconds, FormatCount(static_cast<uint64_t>(static_cast<double>(sent) / seconds))));
  return OkStatus();
}

Status Show(Engine& engine, HttpClient& api, Clock& clock, StopSignals& signals, const Screen& screen) {
  screen.Title("1  Events arrive");
  uint64_t sent = 0;
  double seconds = 0;
  Position position;
  RETURN_IF_ERROR(SendWebhooks(engine, clock, signals, screen, sent, seconds, position));
  if (signals.received()) return OkStatus();
  ASSIGN_OR_RETURN(std::string users, UsersAsJson(engine));
  ASSIGN_OR_RETURN(IngestAnswer answer, Send(engine, "users", BodyFormat::kNdjson, users));
  screen.Text(fmt::format("{} users from users.csv", answer.accepted));
  auto bad = Send(engine, "users", BodyFormat::kNdjson, "{\"firstName\":\"nobody\"}\n");
  if (bad)
    screen.Text(fmt::format("{} that breaks the contract, kept as a dead letter: {}", bad->quarantined,
                            bad->faults[0].message));
  RETURN_IF_ERROR(engine.Wait(position, {}, kWaitUs, signals.token()));
  RETURN_IF_ERROR(engine.Wait(answer.position, {}, kWaitUs, signals.token()));

  screen.Title("2  Filters work while events flow");
  std::vector<std::vector<std::string>> lines;
  for (const PipelineStatus& pipeline : engine.TakeStatus().pipelines)
    for (const FilterStatus& filter : pipeline.filters)
      lines.push_back({pipeline.name + "." + filter.name, FormatCount(filter.in), FormatCount(filter.out)});
  screen.Text(LayOut({"FILTER", "IN", "OUT"}, lines));

  screen.Title("3  Tables answer");
  for (const char* sql : {"SELECT event, count(*) AS n, max(stars) AS stars FROM activity GROUP BY event "
                          "ORDER BY n DESC, event LIMIT 6",
                          "SELECT sender, events FROM by_sender ORDER BY events DESC, sender LIMIT 4",
                          "SELECT * FROM people ORDER BY id"}) {
    screen.Text(std::string("> ") + sql);
    ASSIGN_OR_RETURN(std::string answer_text, Ask(api, sql));
    screen.Text(answer_text);
  }

  screen.Title("4  How it runs");
  screen.Text(TopText(engine.TakeStatus()));
  return OkStatus();
}

int Demo(const Everywhere& everywhere) {
  StopSignals signals;
  Machine machine;
  Logger logger;
  Screen screen(everywhere.color);
  TemporaryProject folder;
  if (folder.path().empty()) return Complain(IoError("cannot make a folder for the demo"));
  if (Status status = WriteFileDurably(machine.fs, folder.path() + "/millstream.yaml", DemoProject());
      !status.ok())
    return Complain(status);
  Everywhere here = everywhere;
  here.project = folder.path();
  here.data.clear();
  auto engine = OpenEngine(here, machine, logger, folder.path(), false);
  if (!engine) return Complain(engine.error());
  if (Status status = (*engine)->Start(); !status.ok()) return Complain(status);
  ServerOptions options;
  auto server = Server::Start(**engine, options, logger);
  if (!server) {
    options.listen = "127.0.0.1:0";
    server = Server::Start(**engine, options, logger);
  }
  if (!server) return Complain(server.error());
  if (Status status = (*engine)->Announce((*server)->url()); !status.ok()) return Complain(status);
  std::printf("Millstream %s, project in %s, serving %s\n", MILLSTREAM_VERSION, folder.path().c_str(),
              (*server)->url().c_str());
  CurlClient api((*server)->url(), "");
  Status status = Show(**engine, api, machine.clock, signals, screen);
  bool stays = status.ok() && !signals.received() && isatty(STDOUT_FILENO) == 1;
  if (stays) {
    screen.Title("It goes on serving until Ctrl-C. From another terminal:");
    screen.Text(
        fmt::format("millstream -C {0} query \"SELECT * FROM activity LIMIT 5\"\nmillstream -C {0} top\ncurl "
                    "{1}/v1/tables/by_sender?order=events.desc",
                    folder.path(), (*server)->url()));
    signals.Wait();
  }
  signals.ExitOnNext();
  (*server)->Stop(2'000'000);
  Status stopped = (*engine)->Stop();
  if (status.ok() && status.code() != Code::kCancelled) status = stopped;
  if (!status.ok()) return Complain(status);
  std::printf("\nDone.\n");
  return kExitDone;
}

}  // namespace

Verb DemoVerb() {
  Verb verb("demo", "see it work: real events, filters, tables, a query");
  verb.About(
          "Makes a project of its own in a temporary folder. On a terminal it goes on serving until Ctrl-C, "
          "elsewhere it ends.")
      .Example("millstream demo", "a minute with it")
      .Run(Demo);
  return verb;
}

}  // namespace millstream
