// millstream plan, apply, filter add|set|move|remove, history: changes of what runs, and those of the past.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/replay.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

struct ChangeOptionsGiven {
  std::string directory, plan;
  std::vector<std::string> purge, rebuild;
  int64_t at_version = 0;
  bool detach = false;
  bool prune = false, force = false, yes = false, expect_same = false;
};

/// A server's API, or that of an Engine here which leaves what is live as it is.
Result<std::unique_ptr<HttpClient>> OpenLive(const Everywhere& everywhere, bool read_only) {
  ASSIGN_OR_FAIL(Target target, FindTarget(everywhere));
  if (target.server) return std::move(target.server);
  return LocalClient::Open(everywhere, target.project_directory, read_only, false);
}

/// {"files":{…},…}: the texts of the project as they are on disk.
Result<std::string> BodyOf(const Everywhere& everywhere, const ChangeOptionsGiven& given) {
  std::string body = "{";
  if (given.at_version > 0) {
    body += fmt::format("\"at_version\":{}", given.at_version);
  } else {
    ASSIGN_OR_FAIL(std::string files, ProjectFilesJson(everywhere));
    body += "\"files\":" + files;
  }
  body += fmt::format(",\"prune\":{},\"force\":{}", given.prune, given.force);
  for (const auto& [name, list] : {std::pair("purge", &given.purge), {"rebuild", &given.rebuild}}) {
    if (list->empty()) continue;
    body += fmt::format(",\"{}\":[", name);
    std::string_view separator;
    for (const std::string& item : *list) {
      body += std::exchange(separator, ",");
      AppendJsonString(body, item);
    }
    body += ']';
  }
  if (!given.plan.empty()) {
    body += ",\"plan\":";
    AppendJsonString(body, given.plan);
  }
  return body + "}";
}

std::string CostOf(const JsonView& change) {
  const bool is_at_once = change["how"].text() == "live" && change["events"].number() == 0;
  if (is_at_once || change["events"].missing()) return "";
  std::string cost = FormatCount(change["events"].number()) + " events";
  if (!change["seconds"].missing()) {
    double seconds = change["seconds"].real();
    cost += seconds < 1 ? ", less than a second" : fmt::format(", about {:.0f} s", seconds);
  }
  return cost;
}

std::string EndTrimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

const char* SignOf(const JsonView& change) {
  std::string what = change["change"].text();
  return what == "add" ? "+" : what == "remove" ? "-" : "~";
}

/// A line each: "~ pipelines.revenue.filters.gross  live  note".
void PrintChanges(const JsonView& plan) {
  std::vector<std::vector<std::string>> lines;
  size_t paths = 0, hows = 0;
  for (const JsonView& change : plan["changes"].items()) {
    std::string note = CostOf(change);
    std::string_view separator = note.empty() ? "" : "; ";
    if (!change["note"].text().empty()) note += std::string(separator) + change["note"].text();
    if (!change["from"].missing())
      note = fmt::format("from {} on, commits held {:.1f} ms", change["from"].text(),
                         change["held_us"].real() / 1000);
    lines.push_back({std::string(SignOf(change)) + " " + change["path"].text(), change["how"].text(), note});
    paths = std::max(paths, lines.back()[0].size());
    hows = std::max(hows, lines.back()[1].size());
  }
  for (const auto& line : lines)
    std::printf(
        "%s\n",
        EndTrimmed(fmt::format("{:<{}}  {:<{}}  {}", line[0], paths, line[1], hows, line[2])).c_str());
}

/// True if something in it cannot be done as it is asked.
bool HasRefused(const JsonView& plan) {
  if (!plan["held"].missing()) return true;
  for (const JsonView& change : plan["changes"].items())
    if (change["how"].text() == "refused" || change["how"].text() == "conflict") return true;
  return false;
}

/// Removes or rebuilds something.
bool Removes(const JsonView& plan) {
  if (!plan["rebuild"].missing()) return true;
  for (const JsonView& change : plan["changes"].items()) {
    std::string path = change["path"].text();
    if (change["change"].text() == "remove" && change["how"].text() == "live" &&
        std::count(path.begin(), path.end(), '.') == 1)
      return true;
  }
  return false;
}

std::string TotalsOf(const JsonView& plan) {
  size_t added = 0, changed = 0, removed = 0, rebuilt = plan["rebuild"].items().size();
  for (const JsonView& change : plan["changes"].items()) {
    std::string how = change["how"].text();
    if (how != "live" && how != "backfill") continue;
    std::string what = change["change"].text();
    ++(what == "add" ? added : what == "remove" ? removed : changed);
  }
  std::string text;
  for (const auto& [count, word] :
       {std::pair(added, "add"), {changed, "change"}, {removed, "remove"}, {rebuilt, "rebuild"}})
    if (count > 0) text += fmt::format("{}{} to {}", text.empty() ? "" : ", ", count, word);
  return text;
}

std::string Rebuilds(const ChangeOptionsGiven& given) {
  std::string options;
  for (const std::string& table : given.rebuild) options += " --rebuild " + table;
  return options;
}

int Plan(const Everywhere& everywhere, const ChangeOptionsGiven& given) {
  auto body = BodyOf(everywhere, given);
  if (!body) return Complain(body.error());
  auto api = OpenLive(everywhere, true);
  if (!api) return Complain(api.error());
  auto answer = CallServer(**api, "POST", "/v1/plan", *body, "application/json");
  if (!answer) return Complain(answer.error());
  JsonView plan(*answer);
  bool is_same = plan["changes"].items().empty();
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
  } else if (is_same) {
    std::printf("no changes\n");
  } else {
    PrintChanges(plan);
    std::string totals = TotalsOf(plan);
    if (totals.empty())
      std::printf("nothing of it can be done in place\n");
    else
      std::printf("%s. Nothing is changed yet: %s apply%s --plan %s\n", totals.c_str(),
                  Command(everywhere).c_str(), Rebuilds(given).c_str(), plan["plan"].text().c_str());
  }
  return given.expect_same && !is_same ? kExitNo : kExitDone;
}

/// Asks on a terminal; elsewhere only --yes and --plan say that it is meant.
bool IsMeant(const Everywhere& everywhere, const ChangeOptionsGiven& given, const JsonView& plan) {
  if (given.yes || !given.plan.empty() || !Removes(plan)) return true;
  PrintChanges(plan);
  if (isatty(STDIN_FILENO) == 0) {
    std::fprintf(stderr, "millstream: this removes or rebuilds something; %s apply%s --plan %s, or --yes\n",
                 Command(everywhere).c_str(), Rebuilds(given).c_str(), plan["plan"].text().c_str());
    return false;
  }
  std::fprintf(stderr, "Do it? [y/N] ");
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

/// A change that makes tables anew is done when they are, unless nobody waits for it.
int Ended(const Everywhere& everywhere, HttpClient& api, const JsonView& applied, bool detach) {
  int code = HasRefused(applied) ? kExitNo : kExitDone;
  if (applied["replay"].missing()) return code;
  uint64_t id = applied["replay"].number();
  bool is_local = dynamic_cast<LocalClient*>(&api) != nullptr;
  if (!detach) {
    StopSignals signals;
    int followed = FollowReplay(everywhere, api, id, signals, is_local);
    return followed == kExitDone ? code : followed;
  }
  if (!everywhere.json)
    std::printf("replay %lu makes it: %s replay show %lu\n", id, Command(everywhere).c_str(), id);
  return code;
}

int Apply(const Everywhere& everywhere, ChangeOptionsGiven given) {
  auto body = BodyOf(everywhere, given);
  if (!body) return Complain(body.error());
  auto api = OpenLive(everywhere, false);
  if (!api) return Complain(api.error());
  if (given.plan.empty() && !given.yes) {
    auto planned = CallServer(**api, "POST", "/v1/plan", *body, "application/json");
    if (!planned) return Complain(planned.error());
    JsonView plan(*planned);
    if (!IsMeant(everywhere, given, plan)) return kExitNo;
    given.plan = plan["plan"].text();
    body = BodyOf(everywhere, given);
    if (!body) return Complain(body.error());
  }
  auto answer = CallServer(**api, "POST", "/v1/apply", *body, "application/json");
  if (!answer) return Complain(answer.error());
  JsonView applied(*answer);
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
  } else if (applied["changes"].items().empty()) {
    std::printf("no changes\n");
  } else {
    PrintChanges(applied);
    if (!applied["version"].missing()) std::printf("version %s\n", applied["version"].text().c_str());
  }
  return Ended(everywhere, **api, applied, given.detach);
}

struct FilterGiven {
  std::string pipeline, filter, value, before, after;
  bool dry_run = false, rebuild = false, detach = false;
};

int EditFilter(const Everywhere& everywhere, const std::string& action, const FilterGiven& given) {
  std::string body, type = "application/sql";
  if (action == "add" || action == "set") {
    auto value = FilterValueOf(everywhere, given.value);
    if (!value) return Complain(value.error());
    body = std::move(*value);
    if (body.starts_with('{')) type = "application/yaml";
  }
  auto api = OpenLive(everywhere, false);
  if (!api) return Complain(api.error());
  std::string path = "/v1/pipelines/" + UrlEncode(given.pipeline) + "/filters/" + UrlEncode(given.filter);
  if (action == "set") {  // what is not there is not made by the way
    auto there = CallServer(**api, "GET", path, "", "");
    if (!there) return Complain(there.error());
  }
  if (action == "move") path += "/move";
  std::string_view separator = "?";
  auto add = [&](const char* name, const std::string& text) {
    if (text.empty()) return;
    path += std::string(separator) + name + "=" + UrlEncode(text);
    separator = "&";
  };
  add("before", given.before);
  add("after", given.after);
  if (action == "add") add("new", "true");
  if (given.dry_run) add("dry_run", "true");
  if (given.rebuild) add("rebuild", "true");
  std::string method = action == "move" ? "POST" : action == "remove" ? "DELETE" : "PUT";
  auto answer = CallServer(**api, method, path, body, type);
  if (!answer) return Complain(answer.error());
  JsonView change(*answer);
  if (everywhere.json)
    std::printf("%s\n", answer->c_str());
  else if (change["changes"].items().empty())
    std::printf("no changes\n");
  else
    PrintChanges(change);
  return Ended(everywhere, **api, change, given.detach);
}

std::string WhatOf(const JsonView& event) {
  std::string kind = event["kind"].text(), what;
  if (kind == "apply" || kind == "cutover") {
    for (const JsonView& change : event["changes"].items()) {
      what += fmt::format("{}{} {}", what.empty() ? "" : ", ", SignOf(change), change["path"].text());
      if (change["how"].text() == "kept" || change["how"].text() == "refused" ||
          change["how"].text() == "conflict")
        what += " (" + change["how"].text() + ")";
    }
    return what.empty() ? "nothing that runs" : what;
  }
  what = event["name"].text();
  if (!event["replay"].missing())
    what += fmt::format("{}{}", what.empty() ? "" : " by ", event["replay"].text());
  if (!event["into"].missing()) what += " into " + event["into"].text();
  const std::string sink = event["sink"].text();
  if (!sink.empty()) what += ", " + sink;
  std::string_view separator = sink.empty() ? " from " : " up to ";
  for (const JsonView& each : event["boundary"].items()) {
    what += fmt::format("{}{}:{}", separator, each["partition"].text(), each["offset"].text());
    separator = ",";
  }
  return what;
}

int History(const Everywhere& everywhere, const std::string& item, const std::string& since) {
  auto api = OpenLive(everywhere, true);
  if (!api) return Complain(api.error());
  std::string path = "/v1/history?item=" + UrlEncode(item);
  if (!since.empty()) path += "&since=" + UrlEncode(since);
  auto answer = CallServer(**api, "GET", path, "", "");
  if (!answer) return Complain(answer.error());
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& event : JsonView(*answer).items())
    lines.push_back({event["version"].text(), event["when"].text().substr(0, 19) + "Z", event["who"].text(),
                     event["kind"].text(), WhatOf(event)});
  std::fputs(LayOut({"VERSION", "WHEN", "WHO", "EVENT", "WHAT"}, lines).c_str(), stdout);
  return kExitDone;
}

int HistoryDiff(const Everywhere& everywhere, const std::string& from, const std::string& to) {
  auto api = OpenLive(everywhere, true);
  if (!api) return Complain(api.error());
  auto answer =
      CallServer(**api, "GET", "/v1/history/diff?from=" + UrlEncode(from) + "&to=" + UrlEncode(to), "", "");
  if (!answer) return Complain(answer.error());
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
    return kExitDone;
  }
  for (const JsonView& change : JsonView(*answer)["changes"].items()) {
    std::printf("%s %s\n", change["path"].text().c_str(), change["change"].text().c_str());
    for (const auto& [sign, side] : {std::pair("-", "before"), {"+", "after"}}) {
      std::string text = change[side].text();
      for (std::string_view line : Split(Trim(text), '\n'))
        if (!text.empty()) std::printf("  %s %s\n", sign, std::string(line).c_str());
    }
  }
  return kExitDone;
}

}  // namespace

Result<std::string> FilterValueOf(const Everywhere& everywhere, const std::string& value) {
  Machine machine;
  if (value == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  bool is_path = value.ends_with(".sql") && value.find_first_of(" \t\n") == std::string::npos;
  if (!value.starts_with('@') && !is_path) return value;
  std::string path = value.starts_with('@') ? value.substr(1) : value;
  std::string directory = FindProject(everywhere);
  if (is_path && !path.starts_with('/') && !machine.fs.Exists(path) && !directory.empty())
    path = directory + "/" + path;
  return ReadFile(machine.fs, path, uint64_t{16} << 20);
}

Verb PlanVerb() {
  auto given = std::make_shared<ChangeOptionsGiven>();
  Verb verb("plan", "what the files would change in what runs, and what that costs");
  verb.Argument("DIR", &given->directory, "project folder (default: here or above)", false)
      .Flag("--expect-same", &given->expect_same, "exit 1 if there is anything to change")
      .Option("--rebuild", &given->rebuild, "TABLE", "with this table made anew from history")
      .Flag("--prune", &given->prune, "with what the files lack removed")
      .Option("--purge", &given->purge, "STREAM", "with this stream removed although it holds events")
      .Flag("--force", &given->force, "with the files' side taken in conflicts")
      .About(
          "live: from the next batch on, rows already made stay. backfill: new, catches up from its start. "
          "kept: not "
          "in the files, goes on. rebuild: needs the table made anew (--rebuild TABLE). refused: cannot be "
          "changed. conflict: changed in the files and live.")
      .Example("millstream plan", "before apply")
      .Example("millstream plan --expect-same", "in CI: does what runs match the files?")
      .Run([given](const Everywhere& everywhere) { return Plan(everywhere.In(given->directory), *given); });
  return verb;
}

Verb ApplyVerb() {
  auto given = std::make_shared<ChangeOptionsGiven>();
  Verb verb("apply", "make what runs equal to the files, while events flow");
  verb.Argument("DIR", &given->directory, "project folder (default: here or above)", false)
      .Option("--plan", &given->plan, "HASH", "only if this is still what would happen")
      .Option("--rebuild", &given->rebuild, "TABLE", "make this table anew from history, then switch to it")
      .Flag("--detach", &given->detach, "with --rebuild: do not wait for its end")
      .Flag("--yes", &given->yes, "do not ask before something is removed or rebuilt")
      .Flag("--prune", &given->prune, "remove what the files lack")
      .Option("--purge", &given->purge, "STREAM", "with --prune: also this stream, although it holds events")
      .Flag("--force", &given->force, "in a conflict take the files")
      .Option("--at-version", &given->at_version, "N", "the definitions of an earlier version, not the files")
      .Example("millstream apply", "after an edit of the files")
      .Example("millstream apply --plan 9f2c61d0", "just what plan has shown")
      .Example("millstream apply --at-version 41", "back to what ran then")
      .Run([given](const Everywhere& everywhere) {
        Everywhere here = everywhere.In(given->directory);
        return Apply(here, *given);
      });
  return verb;
}

std::vector<Verb> FilterChangeVerbs() {
  struct Action {
    const char *name, *summary, *example, *what;
  };
  static constexpr Action kActions[] = {
      {"add", "add a filter while events flow",
       "millstream filter add revenue big \"SELECT * FROM input WHERE amount > 100\" --before gross",
       "SQL, or @FILE, or -"},
      {"set", "change a filter while events flow", "millstream filter set revenue gross @gross.sql",
       "from the next batch on"},
      {"move", "move a filter before or after another", "millstream filter move revenue big --after gross",
       "while events flow"},
      {"remove", "remove a filter while events flow", "millstream filter remove revenue big",
       "rows already made stay"},
  };
  std::vector<Verb> verbs;
  for (const Action& action : kActions) {
    auto given = std::make_shared<FilterGiven>();
    std::string name = action.name;
    Verb verb(name, action.summary);
    verb.Argument("PIPELINE", &given->pipeline, "the pipeline")
        .Argument("NAME", &given->filter, "the filter");
    if (name == "add" || name == "set")
      verb.Argument("VALUE", &given->value, "SQL, @FILE, - for standard input, or {KIND: …}");
    if (name == "add" || name == "move")
      verb.Option("--before", &given->before, "FILTER", "put it before this one")
          .Option("--after", &given->after, "FILTER", "put it after this one");
    verb.Flag("--rebuild", &given->rebuild, "make the pipeline's tables anew with it, then switch to them")
        .Flag("--detach", &given->detach, "with --rebuild: do not wait for its end")
        .Flag("--dry-run", &given->dry_run, "say what would happen")
        .Example(action.example, action.what)
        .Run([given, name](const Everywhere& everywhere) { return EditFilter(everywhere, name, *given); });
    verbs.push_back(std::move(verb));
  }
  return verbs;
}

Verb HistoryVerb() {
  auto item = std::make_shared<std::string>(), since = std::make_shared<std::string>();
  auto from = std::make_shared<std::string>(), to = std::make_shared<std::string>();
  Verb verb("history", "every change of the configuration: who, when, what, from where on");
  verb.Option("--item", item.get(), "PATH", "only of this: pipelines.revenue.filters.gross")
      .Option("--since", since.get(), "TIME", "a time, or a duration ago")
      .Example("millstream history --item pipelines.revenue", "one pipeline's")
      .InSandbox()
      .Run([item, since](const Everywhere& everywhere) { return History(everywhere, *item, *since); })
      .Below(
          Verb("diff", "what differs between two versions")
              .Argument("A", from.get(), "version")
              .Argument("B", to.get(), "version")
              .Example("millstream history diff 41 42", "texts before and after")
              .Run([from, to](const Everywhere& everywhere) { return HistoryDiff(everywhere, *from, *to); }));
  return verb;
}

}  // namespace millstream
