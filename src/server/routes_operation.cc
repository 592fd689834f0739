// Health, status, metrics, dead letters, and the description of the API itself.
#include "base/metrics.h"
#include "base/text.h"
#include "event/json_scan.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

void GetReady(Services& services, Responder responder) {
  EngineStatus status = services.engine.TakeStatus();
  std::string reasons;
  for (const PipelineStatus& pipeline : status.pipelines) {
    if (pipeline.state != "degraded" && pipeline.state != "failed" && pipeline.state != "starting") continue;
    reasons += reasons.empty() ? "{\"pipeline\":" : ",{\"pipeline\":";
    AppendJsonString(reasons, pipeline.name);
    reasons += ",\"state\":";
    AppendJsonString(reasons, pipeline.state);
    reasons += ",\"reason\":";
    AppendJsonString(reasons, pipeline.reason);
    fmt::format_to(std::back_inserter(reasons), ",\"lag_events\":{}}}", pipeline.lag_events);
  }
  bool ready = reasons.empty();
  responder.Send({.status = ready ? 200 : 503, .body = fmt::format("{{\"ready\":{},\"reasons\":[{}]}}", ready, reasons)});
}

/// The status as metrics: absolute values of counters that the engine keeps.
std::string MetricsText(const EngineStatus& status) {
  Metrics metrics;
  auto total = [&](const char* name, const char* help, const Metrics::Labels& labels, uint64_t value) {
    metrics.GetCounter(name, help, labels).Increment(static_cast<double>(value));
  };
  auto gauge = [&](const char* name, const char* help, const Metrics::Labels& labels, double value) { metrics.GetGauge(name, help, labels).Set(value); };
  for (const StreamStatus& stream : status.streams) {
    uint64_t events = 0;
    for (const Bounds& bounds : stream.partitions) events += bounds.durable_end;
    total("millstream_stream_events_total", "Events ever appended to a stream.", {{"stream", stream.name}}, events);
    gauge("millstream_stream_bytes", "Bytes of a stream on disk.", {{"stream", stream.name}}, static_cast<double>(stream.bytes));
    total("millstream_dead_letters_total", "Dead letters of a stream.", {{"stream", stream.name}}, stream.dead);
  }
  for (const PipelineStatus& pipeline : status.pipelines) {
    Metrics::Labels of{{"pipeline", pipeline.name}};
    gauge("millstream_pipeline_lag_events", "Events that a pipeline has not delivered yet.", of, static_cast<double>(pipeline.lag_events));
    gauge("millstream_pipeline_lag_seconds", "Age of the first event that waits.", of, pipeline.lag_seconds);
    for (const char* state : {"starting", "catching_up", "live", "paused", "degraded", "failed"})
      gauge("millstream_pipeline_state", "1 for the state that a pipeline is in.", {{"pipeline", pipeline.name}, {"state", state}}, pipeline.state == state);
    for (const FilterStatus& filter : pipeline.filters) {
      Metrics::Labels labels{{"pipeline", pipeline.name}, {"filter", filter.name}};
      total("millstream_filter_in_total", "Rows into a filter since the start.", labels, filter.in);
      total("millstream_filter_out_total", "Rows out of a filter since the start.", labels, filter.out);
    }
    for (const SinkStatus& sink : pipeline.sinks) {
      Metrics::Labels labels{{"pipeline", pipeline.name}, {"sink", sink.id}};
      total("millstream_sink_rows_total", "Rows delivered to a sink since the start.", labels, sink.rows);
      total("millstream_sink_retries_total", "Deliveries that were tried again.", labels, sink.retries);
    }
  }
  gauge("millstream_disk_used_bytes", "Bytes of the data folder.", {}, static_cast<double>(status.data_bytes));
  gauge("millstream_disk_free_bytes", "Bytes free on its disk.", {}, static_cast<double>(status.free_bytes));
  gauge("millstream_resident_bytes", "Memory of the process.", {}, static_cast<double>(status.rss_bytes));
  return metrics.Text();
}

Result<int64_t> ReadSince(Engine& engine, const std::string& text) {
  if (auto time = ParseTimeUs(text)) return *time;
  auto ago = ParseDurationUs(text);
  if (!ago) return Fail(Invalid("since={}: expected a time (RFC 3339) or a duration ago (1h)", text));
  return engine.clock().WallUs() - *ago;
}

void GetDead(Services& services, const HttpRequest& request, Responder responder) {
  DeadLetters::Selection selection;
  if (const std::string* since = request.Query("since")) {
    auto since_us = ReadSince(services.engine, *since);
    if (!since_us) return responder.Send(Problem(400, "bad_request", since_us.error().message()));
    selection.since_us = *since_us;
  }
  if (const std::string* code = request.Query("code")) selection.code = *code;
  if (const std::string* filter = request.Query("filter")) selection.at = *filter;
  auto limit = NumberParameter(request, "limit", selection.limit);
  if (!limit) return responder.Send(Problem(400, "bad_request", limit.error().message()));
  selection.limit = *limit;
  auto listing = services.engine.dead_letters().List(request.PathValue("stream"), selection);
  if (!listing) return responder.Send(Problem(listing.error()));
  std::string json = fmt::format("{{\"total\":{},\"letters\":[", listing->total);
  for (size_t i = 0; i < listing->letters.size(); ++i) {
    if (i > 0) json += ',';
    json += listing->letters[i].ToJson(false);
  }
  responder.Send({.body = json + "]}"});
}

void GetDeadLetter(Services& services, const HttpRequest& request, Responder responder) {
  const std::string& text = request.PathValue("number");
  if (text.find_first_not_of("0123456789") != std::string::npos) return responder.Send(Problem(400, "bad_request", fmt::format("'{}' is not the number of a dead letter", text)));
  auto letter = services.engine.dead_letters().Get(request.PathValue("stream"), std::strtoull(text.c_str(), nullptr, 10));
  responder.Send(letter ? HttpResponse{.body = letter->ToJson(true)} : Problem(letter.error()));
}

}  // namespace

void AddOperationRoutes(Router& router, Services& services) {
  router.Add({.method = "GET",
              .path = "/health/live",
              .role = Role::kNone,
              .lane = Lane::kInline,
              .summary = "Whether the process answers.",
              .handler = [](const HttpRequest&, Responder responder) { responder.Send({.body = "{\"live\":true}"}); }});
  router.Add({.method = "GET",
              .path = "/health/ready",
              .role = Role::kNone,
              .summary = "Whether every pipeline makes progress; 503 with the reasons if not.",
              .handler = [&services](const HttpRequest&, Responder responder) { GetReady(services, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/metrics",
              .summary = "Metrics in Prometheus' text format.",
              .gives = {"text/plain"},
              .handler = [&services](const HttpRequest&, Responder responder) {
                responder.Send({.content_type = Metrics::kContentType, .body = MetricsText(services.engine.TakeStatus())});
              }});
  router.Add({.method = "GET",
              .path = "/v1/status",
              .summary = "What runs, how fast, how far behind: what `top` shows.",
              .handler = [&services](const HttpRequest&, Responder responder) { responder.Send({.body = services.engine.TakeStatus().ToJson()}); }});
  router.Add({.method = "GET",
              .path = "/v1/dead/{stream}",
              .summary = "The newest dead letters of a stream, without their data.",
              .parameters = {{"since", "query", "a time or a duration ago"}, {"code", "query", "json utf8 depth size contract sql exec sink resource"},
                             {"filter", "query", "PIPELINE.FILTER"}, {"limit", "query", "so many at most", "integer"}},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetDead(services, request, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/dead/{stream}/{number}",
              .summary = "One dead letter, with the event's bytes.",
              .handler = [&services](const HttpRequest& request, Responder responder) { GetDeadLetter(services, request, std::move(responder)); }});
  // Last: it describes all routes, itself too.
  router.Add({.method = "GET",
              .path = "/openapi.json",
              .role = Role::kRead,
              .summary = "This API as OpenAPI 3.1.",
              .handler = [&router](const HttpRequest&, Responder responder) { responder.Send({.body = OpenApiJson(router.routes(), MILLSTREAM_VERSION)}); }});
}

}  // namespace millstream
