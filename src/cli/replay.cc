// millstream replay: history through filters into other places, and tables made anew.
#include "cli/replay.h"

#include <chrono>
#include <cstdio>
#include <iterator>
#include <memory>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

constexpr auto kReplayLookEvery = std::chrono::milliseconds(200);

struct StartGiven {
  std::string pipeline, from, to, filters, into, share;
  std::vector<std::string> set;
  bool cutover = false, effects = false, detach = false;
};

/// KIND:VALUE, KIND, or {KIND: options} as YAML.
Result<std::string> IntoJson(const std::string& into) {
  if (into.starts_with('{')) {
    Faults faults;
    Node node = ParseYaml(into, "--into", faults);
    if (!faults.empty()) return Fail(Invalid("--into: {}", faults[0].message));
    return ToJson(node);
  }
  size_t colon = into.find(':');
  std::string value = colon == std::string::npos ? "{}" : JsonString(into.substr(colon + 1));
  return fmt::format("{{{}:{}}}", JsonString(into.substr(0, colon)), value);
}

Result<std::string> SetJson(const Everywhere& everywhere, const std::vector<std::string>& set) {
  std::string out = "{";
  for (const std::string& each : set) {
    size_t sign = each.find('=');
    if (sign == std::string::npos) return Fail(Invalid("--set: expected FILTER=SQL, found '{}'", each));
    ASSIGN_OR_FAIL(std::string value, FilterValueOf(everywhere, each.substr(sign + 1)));
    if (out.size() > 1) out += ',';
    out += JsonString(each.substr(0, sign)) + ":";
    if (!value.starts_with('{')) {
      out += JsonString(value);
      continue;
    }
    Faults faults;
    Node node = ParseYaml(value, "--set", faults);
    if (!faults.empty()) return Fail(Invalid("--set: {}", faults[0].message));
    out += ToJson(node);
  }
  return out + "}";
}

Result<std::string> BodyOf(const Everywhere& everywhere, const StartGiven& given) {
  std::string body = "{\"pipeline\":" + JsonString(given.pipeline);
  if (!given.from.empty()) body += ",\"from\":" + JsonString(given.from);
  if (!given.to.empty()) body += ",\"to\":" + JsonString(given.to);
  if (!given.share.empty()) body += ",\"share\":" + JsonString(given.share);
  if (!given.set.empty()) {
    ASSIGN_OR_FAIL(std::string set, SetJson(everywhere, given.set));
    body += ",\"set\":" + set;
  }
  if (!given.filters.empty()) {
    Machine machine;
    ASSIGN_OR_FAIL(std::string text, ReadFile(machine.fs, given.filters, uint64_t{16} << 20));
    Faults faults;
    Node filters = ParseYaml(text, given.filters, faults);
    if (!faults.empty()) return Fail(Invalid("{}", faults[0].ToString()));
    if (const Node* inner = filters.Find("filters")) filters = Node(*inner);
    body += ",\"filters\":" + ToJson(filters);
  }
  if (!given.into.empty()) {
    ASSIGN_OR_FAIL(std::string into, IntoJson(given.into));
    body += ",\"into\":" + into;
  }
  return body + fmt::format(",\"cutover\":{},\"effects\":{}}}", given.cutover, given.effects);
}

std::string ReplayLine(const JsonView& replay) {
  uint64_t done = replay["done"].number(), total = replay["total"].number();
  std::string text =
      fmt::format("replay {}: {} of {} events", replay["id"].text(), FormatCount(done), FormatCount(total));
  double rate = replay["events_per_second"].real();
  if (rate > 0) text += fmt::format(", {}/s", FormatCount(static_cast<uint64_t>(rate)));
  if (!replay["seconds_left"].missing())
    text +=
        fmt::format(", {} left", FormatDuration(static_cast<int64_t>(replay["seconds_left"].real() * 1e6)));
  if (!replay["reason"].missing()) text += ", " + replay["reason"].text();
  return text;
}

void PrintOne(const JsonView& replay) {
  std::printf("replay %s of %s into %s: %s\n", replay["id"].text().c_str(), replay["pipeline"].text().c_str(),
              replay["into"].text().c_str(), replay["state"].text().c_str());
  if (!replay["reason"].missing()) std::printf("  %s\n", replay["reason"].text().c_str());
  std::printf("  %s of %s events", FormatCount(replay["done"].number()).c_str(),
              FormatCount(replay["total"].number()).c_str());
  if (replay["events_per_second"].real() > 0)
    std::printf(", %s/s", FormatCount(static_cast<uint64_t>(replay["events_per_second"].real())).c_str());
  std::printf(", %s refused\n", FormatCount(replay["dead_letters"].number()).c_str());
  for (const JsonView& letter : replay["letters"].items())
    std::printf("  refused: %s at %s: %s\n", letter["event"].text().c_str(), letter["at"].text().c_str(),
                letter["reason"].text().c_str());
}

int Start(const Everywhere& everywhere, const StartGiven& given) {
  if (given.into.empty() == !given.cutover) {
    (void)Complain(Invalid("name one of --into KIND:VALUE and --cutover"));
    return kExitUsage;
  }
  StopSignals signals;
  auto body = BodyOf(everywhere, given);
  if (!body) return Complain(body.error());
  auto target = FindTarget(everywhere);
  if (!target) return Complain(target.error());
  bool is_local = !target->server;
  std::unique_ptr<HttpClient> api = std::move(target->server);
  if (is_local) {
    auto local = LocalClient::Open(everywhere, target->project_directory, false, false);
    if (!local) return Complain(local.error());
    api = std::move(*local);
  }
  api->EndOn(signals.token());
  auto answer = CallServer(*api, "POST", "/v1/replays", *body);
  if (!answer) return Complain(answer.error());
  uint64_t id = JsonView(*answer)["id"].number();
  if (given.detach) {
    if (everywhere.json)
      std::printf("%s\n", answer->c_str());
    else
      std::printf("replay %lu runs%s: %s replay show %lu\n", id, is_local ? " when a server does" : "",
                  Command(everywhere).c_str(), id);
    return kExitDone;
  }
  return FollowReplay(everywhere, *api, id, signals, is_local);
}

int ListReplays(const Everywhere& everywhere) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto answer = CallServer(**api, "GET", "/v1/replays");
  if (!answer) return Complain(answer.error());
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& replay : JsonView(*answer).items())
    lines.push_back({replay["id"].text(), replay["pipeline"].text(), replay["into"].text(),
                     replay["state"].text(), FormatCount(replay["done"].number()),
                     FormatCount(replay["total"].number()), replay["dead_letters"].text(),
                     replay["started"].text().substr(0, 19) + "Z"});
  std::fputs(LayOut({"ID", "PIPELINE", "INTO", "STATE", "DONE", "OF", "REFUSED", "STARTED"}, lines).c_str(),
             stdout);
  return kExitDone;
}

int Act(const Everywhere& everywhere, const std::string& action, const std::string& id) {
  if (id.empty() || id.find_first_not_of("0123456789") != std::string::npos) {
    (void)Complain(Invalid("'{}' is not the number of a replay", id));
    return kExitUsage;
  }
  bool shows = action == "show";
  auto api = OpenApi(everywhere, shows);
  if (!api) return Complain(api.error());
  auto answer =
      CallServer(**api, shows ? "GET" : "POST", "/v1/replays/" + id + (shows ? std::string() : "/" + action));
  if (!answer) return Complain(answer.error());
  if (everywhere.json)
    std::printf("%s\n", answer->c_str());
  else
    PrintOne(JsonView(*answer));
  return kExitDone;
}

}  // namespace

int FollowReplay(const Everywhere& everywhere, HttpClient& api, uint64_t id, const StopSignals& signals,
                 bool is_local) {
  ProgressLine progress(everywhere.quiet || everywhere.json);
  while (true) {
    auto answer = CallServer(api, "GET", fmt::format("/v1/replays/{}", id));
    if (!answer) return Complain(answer.error());
    JsonView replay(*answer);
    std::string state = replay["state"].text();
    if (state == "finished" || state == "cancelled" || state == "failed") {
      progress.Clear();
      if (everywhere.json)
        std::printf("%s\n", answer->c_str());
      else
        PrintOne(replay);
      return state == "finished" ? kExitDone : kExitNo;
    }
    if (signals.received()) {
      progress.Clear();
      std::fprintf(stderr, "millstream: replay %lu goes on%s; %s replay cancel %lu ends it\n", id,
                   is_local ? " when a server runs" : "", Command(everywhere).c_str(), id);
      return kExitInterrupted;
    }
    progress.Show(ReplayLine(replay));
    std::this_thread::sleep_for(kReplayLookEvery);
  }
}

Verb ReplayVerb() {
  Verb verb("replay", "run history through filters into another place, or make a table anew");
  auto given = std::make_shared<StartGiven>();
  verb.Below(
      Verb("start", "run a part of history beside the live pipelines")
          .Argument("PIPELINE", &given->pipeline, "whose filters run")
          .Option("--into", &given->into, "KIND:VALUE",
                  "a sink that nothing live writes: table:r2, or {table: {name: r2, key: id}}")
          .Flag("--cutover", &given->cutover,
                "instead of --into: make the pipeline's tables anew, then switch to them in one step")
          .Option("--from", &given->from, "POS", "a position, a time, a duration ago, or earliest")
          .Option("--to", &given->to, "POS", "up to here (default: the end of the log now)")
          .Option("--set", &given->set, "FILTER=SQL", "with this filter changed: SQL or @FILE")
          .Option("--filters", &given->filters, "FILE", "with these filters: a YAML list as in the project")
          .Option("--share", &given->share, "PERCENT", "of a core, at most, for each partition")
          .Flag("--effects", &given->effects, "also into a stream that live pipelines read")
          .Flag("--detach", &given->detach, "do not wait for its end")
          .About("Without --set and --filters each event is run by the version that was live for it. Ctrl-C "
                 "leaves the replay running; `replay cancel` ends it. It goes on by itself after a restart.")
          .Example("millstream replay start revenue --into table:revenue_2", "what the filters made, again")
          .Example("millstream replay start revenue --set gross=@gross.sql --into table:what_if --from 24h",
                   "a day through another filter")
          .Run([given](const Everywhere& everywhere) { return Start(everywhere, *given); }));
  verb.Below(Verb("list", "all replays")
                 .Example("millstream replay list", "also those that have ended")
                 .Run(ListReplays));
  struct Action {
    const char *name, *summary, *what;
  };
  static constexpr Action kActions[] = {
      {"show", "one replay: how far, how fast, what was refused", "with the first refusals"},
      {"pause", "let a replay wait", "also over a restart"},
      {"resume", "let it go on", "one that failed tries again"},
      {"cancel", "end a replay", "what it has written stays, but a table that was being made anew"},
  };
  for (const Action& action : kActions) {
    auto id = std::make_shared<std::string>();
    std::string name = action.name;
    verb.Below(Verb(name, action.summary)
                   .Argument("ID", id.get(), "its number")
                   .Example(fmt::format("millstream replay {} 7", name), action.what)
                   .Run([name, id](const Everywhere& everywhere) { return Act(everywhere, name, *id); }));
  }
  return verb;
}

}  // namespace millstream
