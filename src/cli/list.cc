// millstream stream|source|pipeline|table|command|filter: list, show, pause, resume, drop.
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

/// GETs a document and prints it.
int Get(const Everywhere& everywhere, const std::string& path,
        const std::function<void(const JsonView&)>& print) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto body = CallServer(**api, "GET", path);
  if (!body) return Complain(body.error());
  print(JsonView(*body));
  return kExitDone;
}

void PrintJson(const JsonView& document) { std::printf("%s\n", std::string(document.raw()).c_str()); }

int Post(const Everywhere& everywhere, const std::string& method, const std::string& path,
         const std::string& done) {
  auto api = OpenApi(everywhere, false);
  if (!api) return Complain(api.error());
  auto body = CallServer(**api, method, path);
  if (!body) return Complain(body.error());
  if (everywhere.json) {
    std::printf("%s\n", body->c_str());
  } else if (!everywhere.quiet) {
    std::fprintf(stderr, "%s\n", done.c_str());
  }
  return kExitDone;
}

void Print(const std::vector<std::string>& heading, const std::vector<std::vector<std::string>>& lines) {
  std::fputs(LayOut(heading, lines).c_str(), stdout);
}

std::string Count(const JsonView& view) { return FormatCount(view.number()); }

void PrintStreams(const JsonView& status) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& s : status["streams"].items())
    lines.push_back({s["name"].text(), FormatCount(s["partitions"].items().size()), Count(s["events"]),
                     FormatBytes(s["bytes"].number()), Count(s["dead_open"])});
  Print({"STREAM", "PARTITIONS", "EVENTS", "SIZE", "DEAD"}, lines);
}

void PrintSources(const JsonView& status) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& s : status["sources"].items())
    lines.push_back({s["name"].text(), s["kind"].text(), s["stream"].text(), s["state"].text(),
                     Count(s["events"]), s["reason"].text()});
  Print({"SOURCE", "KIND", "STREAM", "STATE", "EVENTS", ""}, lines);
}

void PrintPipelines(const JsonView& status) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& p : status["pipelines"].items()) {
    std::string sinks;
    for (const JsonView& sink : p["sinks"].items()) sinks += (sinks.empty() ? "" : ", ") + sink["id"].text();
    lines.push_back({p["name"].text(), p["stream"].text(), p["state"].text(), Count(p["lag_events"]),
                     Count(p["dead"]), sinks, p["reason"].text()});
  }
  Print({"PIPELINE", "STREAM", "STATE", "LAG", "DEAD", "SINKS", ""}, lines);
}

void PrintCommands(const JsonView& commands) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& c : commands.items()) {
    const JsonView definition = c["definition"];
    std::string key = definition["key"].text();
    for (const JsonView& part : definition["key"].items()) key += (key.empty() ? "" : ", ") + part.text();
    lines.push_back({c["name"].text(), key, FormatCount(definition["require"].items().size())});
  }
  Print({"COMMAND", "KEY", "RULES"}, lines);
}

void PrintFilters(const JsonView& status) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& p : status["pipelines"].items())
    for (const JsonView& f : p["filters"].items())
      lines.push_back(
          {p["name"].text() + "." + f["name"].text(), Count(f["in"]), Count(f["out"]), Count(f["dead"])});
  Print({"FILTER", "IN", "OUT", "DEAD"}, lines);
}

/// What the status has of each, under the name of its pipeline.
void PrintFiltersJson(const JsonView& status) {
  std::string out;
  for (const JsonView& p : status["pipelines"].items())
    for (const JsonView& f : p["filters"].items()) {
      out.append(out.empty() ? "" : ",").append("{\"pipeline\":").append(p["name"].raw());
      out.append(",").append(f.raw().substr(1));
    }
  std::printf("[%s]\n", out.c_str());
}

void PrintTables(const JsonView& tables) {
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& t : tables.items()) {
    std::string key, writers;
    for (const JsonView& column : t["key"].items()) key += (key.empty() ? "" : ", ") + column.text();
    for (const JsonView& writer : t["writers"].items())
      writers += (writers.empty() ? "" : ", ") + writer.text();
    lines.push_back({t["name"].text(), key, Count(t["rows"]), writers, t["position"].text()});
  }
  Print({"TABLE", "KEY", "ROWS", "WRITERS", "POSITION"}, lines);
}

void PrintYaml(std::string_view json) {
  Faults faults;
  std::fputs(ToYaml(ParseJson(json, "", faults)).c_str(), stdout);
}

/// {"NAME":VALUE}
std::string Member(std::string_view name, std::string_view value) {
  std::string out = "{";
  AppendJsonString(out, name);
  out += ':';
  return out.append(value) + '}';
}

/// All that is live as one file of a project: {"streams":{"orders":{…}},"sources":{…},…}.
Result<std::string> LiveDefinitions(HttpClient& api) {
  std::string out = "{";
  for (const char* section : {"streams", "sources", "pipelines", "commands"}) {
    ASSIGN_OR_FAIL(std::string body, CallServer(api, "GET", std::string("/v1/") + section));
    std::string items;
    for (const JsonView& item : JsonView(body).items()) {
      items += items.empty() ? '{' : ',';
      AppendJsonString(items, item["name"].text());
      items.append(":").append(item["definition"].raw());
    }
    if (items.empty()) continue;
    out += fmt::format("{}\"{}\":{}}}", out.size() == 1 ? "" : ",", section, items);
  }
  return out + "}";
}

struct Noun {
  const char* name;
  const char* path;  // of one item
  const char* list_path;
  void (*print)(const JsonView&);
  const char* summary;
  const char* example;
  const char* about = "";  // of the list
};

constexpr Noun kNouns[] = {
    {"stream", "/v1/streams/", "/v1/status", PrintStreams, "streams: what was ever taken in", "orders"},
    {"source", "/v1/sources/", "/v1/status", PrintSources, "sources: what brings events in", "old_orders",
     "EVENTS counts since the server's start."},
    {"pipeline", "/v1/pipelines/", "/v1/status", PrintPipelines, "pipelines: filters from a stream to sinks",
     "revenue", "DEAD counts since the server's start; `dead list STREAM` has all letters."},
    {"table", "/v1/tables/", "/v1/tables", PrintTables, "tables: what queries read", "revenue"},
    {"command", "/v1/commands/", "/v1/commands", PrintCommands, "commands: decisions that become events",
     "place_order"},
    {"filter", "/v1/pipelines/", "/v1/status", PrintFilters, "filters of all pipelines", "revenue.gross",
     "All counts are since the server's start."},
};

/// The item's definition as a file of a project has it; a table's columns.
void PrintDefinition(const Noun& noun, const std::string& name, const JsonView& document) {
  std::string_view definition = document["definition"].raw();
  const size_t dot = name.find('.');
  if (definition.empty())
    PrintYaml(document.raw());
  else if (std::string_view(noun.name) == "filter")
    PrintYaml(
        Member("pipelines", Member(name.substr(0, dot),
                                   Member("filters", '[' + Member(name.substr(dot + 1), definition) + ']'))));
  else
    PrintYaml(Member(noun.name + std::string("s"), Member(name, definition)));
}

int List(const Everywhere& everywhere, const Noun& noun) {
  if (!everywhere.json) return Get(everywhere, noun.list_path, noun.print);
  if (std::string_view(noun.name) == "filter") return Get(everywhere, noun.list_path, PrintFiltersJson);
  return Get(everywhere, fmt::format("/v1/{}s", noun.name), PrintJson);
}

std::string ItemPath(const Noun& noun, const std::string& name) {
  std::string kind = noun.name;
  if (kind == "table") return noun.path + UrlEncode(name) + "/schema";
  size_t dot = name.find('.');
  if (kind == "filter" && dot != std::string::npos)
    return noun.path + UrlEncode(name.substr(0, dot)) + "/filters/" + UrlEncode(name.substr(dot + 1));
  return noun.path + UrlEncode(name);
}

/// `pipeline skip`: what a sink cannot take becomes dead letters.
Verb SkipVerb() {
  struct Options {
    std::string pipeline, sink;
    int64_t events = 1, partition = -1;
  };
  auto given = std::make_shared<Options>();
  return Verb("skip", "set events aside as dead letters that a sink cannot take, so that it goes on")
      .Argument("NAME", &given->pipeline, "the pipeline")
      .Option("--sink", &given->sink, "ID", "the sink, as `pipeline show` names it")
      .Option("--events", &given->events, "N", "the next N of each partition that is stuck (default: 1)")
      .Option("--partition", &given->partition, "P", "only of this partition, stuck or not")
      .About("They can be sent again later: `dead replay`.")
      .Example("millstream pipeline skip revenue --sink postgres:revenue --events 10", "ten events, by hand")
      .Run([given](const Everywhere& everywhere) {
        if (given->sink.empty() || given->events < 1) {
          (void)Complain(Invalid("name the sink with --sink ID, and at least one event"));
          return kExitUsage;
        }
        std::string body = "{\"sink\":";
        AppendJsonString(body, given->sink);
        body += fmt::format(",\"events\":{}", given->events);
        if (given->partition >= 0) body += fmt::format(",\"partition\":{}", given->partition);
        auto api = OpenApi(everywhere, false);
        if (!api) return Complain(api.error());
        auto answer =
            CallServer(**api, "POST", "/v1/pipelines/" + UrlEncode(given->pipeline) + "/skip", body + "}");
        if (!answer) return Complain(answer.error());
        if (everywhere.json)
          std::printf("%s\n", answer->c_str());
        else
          std::printf("set aside up to %s: they become dead letters\n",
                      JsonView(*answer)["position"].text().c_str());
        return kExitDone;
      });
}

Verb NounVerb(const Noun& noun) {
  std::string kind = noun.name;
  Verb verb(kind, noun.summary);
  verb.Below(Verb("list", "all of them, a line each")
                 .About(noun.about)
                 .Example(fmt::format("millstream {} list", kind), "where they stand")
                 .InSandbox()
                 .Run([&noun](const Everywhere& everywhere) { return List(everywhere, noun); }));
  auto name = std::make_shared<std::string>();
  auto yaml = std::make_shared<bool>(false);
  verb.Below(Verb("show", "one of them: what it is and how it stands")
                 .Argument("NAME", name.get(), kind == "filter" ? "PIPELINE.FILTER" : "its name")
                 .Flag("--yaml", yaml.get(), "only its definition, to be put into a file of the project")
                 .Example(fmt::format("millstream {} show {}", kind, noun.example), "all there is to know")
                 .InSandbox()
                 .Run([&noun, kind, name, yaml](const Everywhere& everywhere) {
                   if (kind == "filter" && name->find('.') == std::string::npos) {
                     (void)Complain(Invalid("'{}' names no filter; expected PIPELINE.FILTER", *name));
                     return kExitUsage;
                   }
                   return Get(everywhere, ItemPath(noun, *name), [&](const JsonView& document) {
                     if (everywhere.json) return PrintJson(document);
                     *yaml ? PrintDefinition(noun, *name, document) : PrintYaml(document.raw());
                   });
                 }));
  if (kind == "source" || kind == "pipeline") {
    for (std::string action : {"pause", "resume"}) {
      verb.Below(Verb(action, action == "pause" ? "stop after what is under way; it stays so over a restart"
                                                : "go on")
                     .Argument("NAME", name.get(), "its name")
                     .Example(fmt::format("millstream {} {} {}", kind, action, noun.example), "by name")
                     .Run([&noun, name, action](const Everywhere& everywhere) {
                       return Post(everywhere, "POST", noun.path + UrlEncode(*name) + "/" + action,
                                   fmt::format("{} {}: {}d", noun.name, *name, action));
                     }));
    }
  }
  if (kind == "pipeline") verb.Below(SkipVerb());
  if (kind == "filter")
    for (Verb& change : FilterChangeVerbs()) verb.Below(std::move(change));
  if (kind == "table") {
    verb.Below(Verb("drop", "drop a table that no pipeline writes")
                   .Argument("NAME", name.get(), "its name")
                   .Example("millstream table drop revenue_2025", "after its sink was removed")
                   .Run([name](const Everywhere& everywhere) {
                     return Post(everywhere, "DELETE", "/v1/tables/" + UrlEncode(*name), "dropped");
                   }));
  }
  return verb;
}

}  // namespace

std::vector<Verb> NounVerbs() {
  std::vector<Verb> verbs;
  for (const Noun& noun : kNouns) verbs.push_back(NounVerb(noun));
  return verbs;
}

Verb ShowVerb() {
  auto yaml = std::make_shared<bool>(false);
  return Verb("show", "all that is live, as one file of a project")
      .Flag("--yaml", yaml.get(), "as YAML, as without it")
      .About("Settings of `server` are not among it: they are the files' alone.")
      .Example("millstream show", "what `filter set` and the API made of the files")
      .Example("millstream show --yaml > live.yaml", "to keep it")
      .InSandbox()
      .Run([yaml](const Everywhere& everywhere) {  // which keeps the flag's place
        auto api = OpenApi(everywhere);
        if (!api) return Complain(api.error());
        auto definitions = LiveDefinitions(**api);
        if (!definitions) return Complain(definitions.error());
        everywhere.json ? (void)std::printf("%s\n", definitions->c_str()) : PrintYaml(*definitions);
        return kExitDone;
      });
}

}  // namespace millstream
