// millstream sandbox: isolated copies of what is live.
#include "cli/sandbox.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

constexpr auto kSandboxLookEvery = std::chrono::milliseconds(100);

struct CreateGiven {
  std::string name, as_of, with, expires, disk;
  bool allow_exec = false, detach = false;
};

Result<std::string> BodyOf(const Everywhere& everywhere, const CreateGiven& given) {
  std::string body = "{\"name\":";
  AppendJsonString(body, given.name);
  for (const auto& [name, value] :
       {std::pair("as_of", &given.as_of), {"expires", &given.expires}, {"disk", &given.disk}}) {
    if (value->empty()) continue;
    body += fmt::format(",\"{}\":", name);
    AppendJsonString(body, *value);
  }
  if (!given.with.empty()) {
    ASSIGN_OR_FAIL(std::string files, ProjectFilesJson(everywhere.In(given.with)));
    body += ",\"files\":" + files;
  }
  return body + fmt::format(",\"allow_exec\":{}}}", given.allow_exec);
}

std::string SandboxLine(const JsonView& sandbox) {
  std::string text =
      fmt::format("sandbox {}: {} of {} events", sandbox["name"].text(),
                  FormatCount(sandbox["done"].number()), FormatCount(sandbox["total"].number()));
  if (double rate = sandbox["events_per_second"].real(); rate > 0)
    text += fmt::format(", {}/s", FormatCount(static_cast<uint64_t>(rate)));
  if (!sandbox["seconds_left"].missing())
    text +=
        fmt::format(", {} left", FormatDuration(static_cast<int64_t>(sandbox["seconds_left"].real() * 1e6)));
  return text;
}

void PrintMade(const Everywhere& everywhere, const JsonView& sandbox) {
  std::string name = sandbox["name"].text(), state = sandbox["state"].text();
  std::printf("sandbox %s is %s: as of %s, %s events", name.c_str(), state.c_str(),
              sandbox["as_of"].text().c_str(), FormatCount(sandbox["total"].number()).c_str());
  if (!sandbox["filled_seconds"].missing()) std::printf(" in %.1f s", sandbox["filled_seconds"].real());
  std::printf("\n");
  if (!sandbox["reason"].missing()) std::printf("  %s\n", sandbox["reason"].text().c_str());
  for (const JsonView& sink : sandbox["outside"].items())
    std::printf("  rows for %s of %s stay here: they are counted and dropped\n", sink["sink"].text().c_str(),
                sink["pipeline"].text().c_str());
  if (state == "ready" && !everywhere.quiet)
    std::printf("  until %s: %s query SQL --sandbox %s\n", sandbox["expires"].text().c_str(),
                Command(everywhere).c_str(), name.c_str());
}

/// Follows it until its tables are made.
int Follow(const Everywhere& everywhere, HttpClient& api, const std::string& name, const StopSignals& signals,
           bool is_local) {
  ProgressLine progress(everywhere.quiet || everywhere.json);
  while (true) {
    auto answer = CallServer(api, "GET", "/v1/sandboxes/" + UrlEncode(name));
    if (!answer) return Complain(answer.error());
    JsonView sandbox(*answer);
    std::string state = sandbox["state"].text();
    if (state != "filling" && state != "starting") {
      progress.Clear();
      if (everywhere.json)
        std::printf("%s\n", answer->c_str());
      else
        PrintMade(everywhere, sandbox);
      return state == "ready" ? kExitDone : kExitNo;
    }
    if (signals.received()) {
      progress.Clear();
      std::fprintf(
          stderr,
          "millstream: sandbox %s is there, and its tables are made%s; %s sandbox drop %s removes it\n",
          name.c_str(), is_local ? " when a server runs" : "", Command(everywhere).c_str(), name.c_str());
      return kExitInterrupted;
    }
    progress.Show(SandboxLine(sandbox));
    std::this_thread::sleep_for(kSandboxLookEvery);
  }
}

struct Api {
  std::unique_ptr<HttpClient> client;
  bool is_local = false;
};

/// Of a server, or in this process; the project's files are not applied.
Result<Api> OpenForChange(const Everywhere& everywhere) {
  ASSIGN_OR_FAIL(Target target, FindTarget(everywhere));
  if (target.server) return Api{std::move(target.server), false};
  ASSIGN_OR_FAIL(auto local, LocalClient::Open(everywhere, target.project_directory, false, false));
  return Api{std::move(local), true};
}

int Create(const Everywhere& everywhere, const CreateGiven& given) {
  StopSignals signals;
  auto body = BodyOf(everywhere, given);
  if (!body) return Complain(body.error());
  auto api = OpenForChange(everywhere);
  if (!api) return Complain(api.error());
  api->client->EndOn(signals.token());
  auto answer = CallServer(*api->client, "POST", "/v1/sandboxes", *body);
  if (!answer) return Complain(answer.error());
  if (!given.detach) return Follow(everywhere, *api->client, given.name, signals, api->is_local);
  if (everywhere.json)
    std::printf("%s\n", answer->c_str());
  else
    PrintMade(everywhere, JsonView(*answer));
  return kExitDone;
}

int ListSandboxes(const Everywhere& everywhere) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto answer = CallServer(**api, "GET", "/v1/sandboxes");
  if (!answer) return Complain(answer.error());
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& s : JsonView(*answer).items()) {
    const bool rests = s["state"].text() == "stopped";  // nobody looks how far it is
    lines.push_back({s["name"].text(), s["state"].text(), s["as_of"].text(),
                     rests ? "" : FormatCount(s["done"].number()),
                     rests ? "" : FormatCount(s["total"].number()), FormatBytes(s["disk_bytes"].number()),
                     FormatBytes(s["disk_max_bytes"].number()), s["expires"].text().substr(0, 19) + "Z",
                     s["reason"].text()});
  }
  std::fputs(
      LayOut({"SANDBOX", "STATE", "AS OF", "DONE", "OF", "DISK", "AT MOST", "EXPIRES", ""}, lines).c_str(),
      stdout);
  return kExitDone;
}

int Drop(const Everywhere& everywhere, const std::string& name) {
  auto api = OpenForChange(everywhere);
  if (!api) return Complain(api.error());
  auto answer = CallServer(*api->client, "DELETE", "/v1/sandboxes/" + UrlEncode(name));
  if (!answer) return Complain(answer.error());
  if (everywhere.json)
    std::printf("%s\n", answer->c_str());
  else if (!everywhere.quiet)
    std::fprintf(stderr, "dropped\n");
  return kExitDone;
}

}  // namespace

Status AwaitDelivered(const Everywhere& everywhere, HttpClient& inside, const StopSignals& signals) {
  ProgressLine progress(everywhere.quiet);
  bool was_at_end = false;  // twice: a stream sink may have appended behind a reader that was looked at
  while (!signals.received()) {
    ASSIGN_OR_RETURN(std::string answer, CallServer(inside, "GET", "/v1/status"));
    uint64_t lag = 0;
    bool starts = false;
    for (const JsonView& pipeline : JsonView(answer)["pipelines"].items()) {
      std::string state = pipeline["state"].text();
      if (state == "failed" || (state == "paused" && !pipeline["reason"].text().empty()))
        return Invalid("pipeline {}: {}", pipeline["name"].text(), pipeline["reason"].text());
      if (state == "paused") continue;
      lag += pipeline["lag_events"].number();
      starts |= state == "starting";
    }
    bool at_end = lag == 0 && !starts;
    if (at_end && was_at_end) return OkStatus();
    was_at_end = at_end;
    progress.Show(fmt::format("{} events to deliver", FormatCount(lag)));
    std::this_thread::sleep_for(kSandboxLookEvery / 5);
  }
  return OkStatus();
}

Verb SandboxVerb() {
  Verb verb("sandbox", "isolated copies of what is live: to try things that must not reach it");
  auto given = std::make_shared<CreateGiven>();
  verb.Below(
      Verb("create", "make a copy as of now, or of a point of the past")
          .Argument("NAME", &given->name, "its name")
          .Option("--as-of", &given->as_of, "TIME|POSITION",
                  "RFC 3339, a duration ago (2h), or up to and with an event (orders/0:17); default: now")
          .Option("--with", &given->with, "DIR",
                  "with the project of this folder: its filters run over all of the history")
          .Option("--expires", &given->expires, "TIME", "it goes by itself after this time (default: 7d)")
          .Option("--disk", &given->disk, "SIZE",
                  "what it may hold beside what it shares (default: server.sandboxes.disk, 10GiB)")
          .Flag("--allow-exec", &given->allow_exec,
                "filters that run programs do so here too; what those do is not kept inside")
          .Flag("--detach", &given->detach, "do not wait until its tables are made")
          .About("Events that are sent to it stay in it, and later events of the live streams never appear. "
                 "Rows for files, PostgreSQL and standard output are counted and dropped; sources are not "
                 "read. Work in it with --sandbox NAME.")
          .Example("millstream sandbox create what_if", "as of now")
          .Example("millstream sandbox create march --as-of 2026-04-01T00:00:00Z --expires 24h",
                   "what was there then, for a day")
          .Example("millstream sandbox create next --with ../next", "history through the filters of a folder")
          .Run([given](const Everywhere& everywhere) { return Create(everywhere, *given); }));
  verb.Below(Verb("list", "all of them: how far, how large, until when")
                 .Example("millstream sandbox list", "a line each")
                 .Run(ListSandboxes));
  auto name = std::make_shared<std::string>();
  verb.Below(Verb("drop", "remove one with all that is in it")
                 .Argument("NAME", name.get(), "its name")
                 .Example("millstream sandbox drop what_if", "requests in it are ended")
                 .Run([name](const Everywhere& everywhere) { return Drop(everywhere, *name); }));
  return verb;
}

}  // namespace millstream
