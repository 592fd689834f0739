// millstream trace: which events, filters and versions a row comes from.
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

struct TraceOptions {
  std::string table, key;
  std::string timeout;
  int64_t events = 20;
};

void PrintEvent(const JsonView& event, int depth) {
  std::string indent(static_cast<size_t>(depth) * 2, ' ');
  std::string line = indent + event["position"].text();
  if (!event["time"].missing()) line += "  " + event["time"].text();
  if (!event["pipeline"].missing()) {
    line += fmt::format("  {} {} version {}", depth == 0 ? "by pipeline" : "from here by pipeline",
                        event["pipeline"].text(), event["version"].text());
    std::string_view separator = ": ";
    for (const JsonView& filter : event["filters"].items())
      line += fmt::format("{}{}", std::exchange(separator, ", "), filter["name"].text());
  }
  std::printf("%s\n", line.c_str());
  std::string bytes =
      event["event"].missing() ? "(retention has removed it)" : std::string(event["event"].raw());
  std::printf("%s  %s\n", indent.c_str(), bytes.c_str());
  if (!event["cause"].missing()) PrintEvent(event["cause"], depth + 1);
}

int Trace(const Everywhere& everywhere, const TraceOptions& given) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto body = CallServer(**api, "GET",
                         fmt::format("/v1/trace/{}/{}?events={}{}{}", UrlEncode(given.table),
                                     UrlEncode(given.key), std::max<int64_t>(0, given.events),
                                     given.timeout.empty() ? "" : "&timeout=", UrlEncode(given.timeout)));
  if (!body) return Complain(body.error());
  if (everywhere.json) {
    std::printf("%s\n", body->c_str());
    return kExitDone;
  }
  JsonView answer(*body);
  std::printf("%s %s\n  %s\n", given.table.c_str(), given.key.c_str(),
              std::string(answer["row"].raw()).c_str());
  std::vector<JsonView> events = answer["events"].items();
  for (const JsonView& event : events) PrintEvent(event, 0);
  if (events.size() < answer["total"].number())
    std::printf("the newest %zu of %s events\n", events.size(),
                FormatCount(answer["total"].number()).c_str());
  for (const JsonView& note : answer["not_reproducible"].items())
    std::fprintf(stderr, "not reproducible: %s\n", note.text().c_str());
  return kExitDone;
}

}  // namespace

Verb TraceVerb() {
  auto given = std::make_shared<TraceOptions>();
  Verb verb("trace", "the events, filters and versions behind a row, through chains of pipelines");
  verb.Argument("TABLE", &given->table, "the table")
      .Argument("KEY", &given->key,
                "the row's key; of several columns a JSON list; of a table without a key PARTITION:OFFSET")
      .Option("--events", &given->events, "N", "the newest so many events (20)")
      .Option("--timeout", &given->timeout, "TIME", "of all of it, e.g. 5m (server.query.deadline)")
      .Example("millstream trace revenue o-17", "where the row of key o-17 comes from")
      .Example("millstream trace by_city Ulm --events 3", "the newest events that are summed up in a row")
      .About(
          "A row that one pipeline wrote names its event. For rows of aggregate tables, and of tables that "
          "several pipelines write, history is run again, which takes as long as a replay.")
      .InSandbox()
      .Run([given](const Everywhere& everywhere) { return Trace(everywhere, *given); });
  return verb;
}

}  // namespace millstream
