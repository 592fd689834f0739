// millstream top: what runs, how fast, how far behind.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

std::vector<FilterStatus> ReadFilters(const JsonView& pipeline) {
  std::vector<FilterStatus> filters;
  for (const JsonView& f : pipeline["filters"].items())
    filters.push_back({f["name"].text(), f["in"].number(), f["out"].number(), f["dead"].number(),
                       f["in_per_s"].real(), f["out_per_s"].real()});
  return filters;
}

EngineStatus ReadStatus(const JsonView& document) {
  EngineStatus status;
  status.version = document["version"].text();
  status.url = document["url"].text();
  status.up_us = static_cast<int64_t>(document["up_us"].number());
  status.data_bytes = document["data_bytes"].number();
  status.free_bytes = document["free_bytes"].number();
  status.rss_bytes = document["rss_bytes"].number();
  for (const JsonView& s : document["streams"].items())
    status.streams.push_back({.name = s["name"].text(),
                              .partitions = {},
                              .events = s["events"].number(),
                              .bytes = s["bytes"].number(),
                              .dead = s["dead_open"].number(),
                              .in_per_s = s["in_per_s"].real(),
                              .bytes_per_s = s["bytes_per_s"].real()});
  for (const JsonView& s : document["sources"].items())
    status.sources.push_back({s["name"].text(), s["kind"].text(), s["stream"].text(), s["state"].text(),
                              s["reason"].text(), s["events"].number(), s["events_per_s"].real()});
  for (const JsonView& p : document["pipelines"].items()) {
    PipelineStatus& pipeline = status.pipelines.emplace_back();
    pipeline.name = p["name"].text();
    pipeline.stream = p["stream"].text();
    pipeline.state = p["state"].text();
    pipeline.reason = p["reason"].text();
    pipeline.lag_events = p["lag_events"].number();
    pipeline.lag_seconds = p["lag_seconds"].real();
    pipeline.in_per_s = p["in_per_s"].real();
    pipeline.out_per_s = p["out_per_s"].real();
    pipeline.dead = p["dead"].number();
    pipeline.p99_us = std::strtoll(p["p99_us"].text().c_str(), nullptr, 10);
    pipeline.filters = ReadFilters(p);
    for (const JsonView& s : p["sinks"].items()) {
      SinkStatus& sink = pipeline.sinks.emplace_back();
      sink.id = s["id"].text();
      sink.state = s["state"].text();
      sink.lag_events = s["lag_events"].number();
      sink.lag_seconds = s["lag_seconds"].real();
      sink.rows_per_s = s["rows_per_s"].real();
    }
  }
  return status;
}

int Top(const Everywhere& everywhere, bool once, int64_t every_us) {
  StopSignals signals;
  bool screen = !once && !everywhere.json && isatty(STDOUT_FILENO) == 1;
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  (*api)->EndOn(signals.token());
  while (true) {
    auto body = CallServer(**api, "GET", "/v1/status");
    if (!body && signals.received()) return kExitDone;
    if (!body) return Complain(body.error());
    if (screen) std::fputs("\033[H\033[2J", stdout);
    std::fputs(everywhere.json ? (*body + "\n").c_str() : TopText(ReadStatus(JsonView(*body))).c_str(),
               stdout);
    std::fflush(stdout);
    if (once) return kExitDone;
    for (int64_t slept_us = 0; slept_us < every_us && !signals.received(); slept_us += 50'000)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (signals.received()) return kExitDone;
    if (!screen && !everywhere.json) std::fputc('\n', stdout);
  }
}

}  // namespace

Verb TopVerb() {
  auto once = std::make_shared<bool>(false);
  auto every = std::make_shared<std::string>("1s");
  Verb verb("top", "what runs, how fast, how far behind");
  verb.Flag("--once", once.get(), "once, then exit")
      .Option("--every", every.get(), "TIME", "time between two looks")
      .About(
          "EVENTS and DEAD of a stream are what the log keeps, letters without those that were sent again or "
          "dropped. EVENTS of a source and DEAD of a pipeline or a filter count since the start, `up`; "
          "`dead list STREAM` has all letters.")
      .Example("millstream top --once", "one look")
      .InSandbox()
      .Run([once, every](const Everywhere& everywhere) {
        auto every_us = ParseDurationUs(*every);
        if (!every_us) {
          Complain(every_us.error());
          return kExitUsage;
        }
        return Top(everywhere, *once, *every_us);
      });
  return verb;
}

}  // namespace millstream
