// Status, health, metrics, OpenAPI; and what the groups of routes share.
#include <charconv>

#include "base/fault.h"
#include "base/text.h"
#include "server/json_object.h"
#include "server/metrics_text.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr double kReadyLagSecondsMax = 60;         // older than that: answers of tables are stale
constexpr int64_t kLiveSilenceUsMax = 60'000'000;  // without a look of the sampler

void AppendReason(std::string& out, const char* kind, const std::string& name, const std::string& state,
                  const std::string& reason, uint64_t lag_events) {
  if (!out.empty()) out += ',';
  JsonObject object(out);
  object.Text(kind, name).Text("state", state).Text("reason", reason);
  if (std::string_view(kind) == "pipeline") object.Number("lag_events", lag_events);
}

/// Not ready: what is degraded, failed, too late, or has not started yet; ingest that has no room.
HttpResponse Readiness(Engine& engine) {
  const EngineStatus status = engine.TakeStatus();
  auto is_bad = [](const std::string& state) {
    return state == "degraded" || state == "failed" || state == "starting";
  };
  std::string reasons;
  for (const PipelineStatus& p : status.pipelines) {
    bool is_late = p.state != "paused" && p.lag_seconds > kReadyLagSecondsMax;
    bool is_stopped = p.state == "paused" && !p.reason.empty();  // not because somebody asked for it
    if (!is_bad(p.state) && !is_late && !is_stopped) continue;
    std::string reason = p.reason;
    if (reason.empty() && is_late) reason = fmt::format("{:.0f} s behind", p.lag_seconds);
    for (const SinkStatus& sink : p.sinks)
      if (reason.empty() && is_bad(sink.state)) reason = sink.reason;
    AppendReason(reasons, "pipeline", p.name, p.state, reason, p.lag_events);
  }
  for (const SourceStatus& s : status.sources)
    if (is_bad(s.state)) AppendReason(reasons, "source", s.name, s.state, s.reason, 0);
  if (Status room = engine.CheckRoom(); !room.ok())
    AppendReason(reasons, "ingest", "all streams", "refused", room.message(), 0);
  return {reasons.empty() ? 200 : 503, kJsonType,
          fmt::format("{{\"ready\":{},\"reasons\":[{}]}}", reasons.empty(), reasons)};
}

}  // namespace

void AddAllRoutes(Router& router, Services& services) {
  AddIngestRoutes(router, services);
  AddEventRoutes(router, services);
  AddQueryRoutes(router, services);
  AddTableRoutes(router, services);
  AddCatalogRoutes(router, services);
  AddCommandRoutes(router, services);
  AddChangeRoutes(router, services);
  AddReplayRoutes(router, services);
  AddDeadRoutes(router, services);
  AddPastRoutes(router, services);
  AddSandboxRoutes(router, services);
  AddTapRoutes(router, services);
  AddOperationRoutes(router, services);
}

void AddOperationRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"GET",
              "/v1/status",
              Role::kRead,
              Lane::kQuick,
              "What top shows.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest&, Responder responder) {
                responder.Send({200, kJsonType, engine.TakeStatus().ToJson()});
              }});
  router.Add({"GET",
              "/health/live",
              Role::kNone,
              Lane::kInline,
              "Whether the process goes forward: it answers, and nothing in it hangs.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest&, Responder responder) {
                bool is_live = engine.SampledAgoUs() < kLiveSilenceUsMax;
                responder.Send({is_live ? 200 : 503, kJsonType, fmt::format("{{\"live\":{}}}", is_live)});
              }});
  router.Add({"GET",
              "/health/ready",
              Role::kNone,
              Lane::kQuick,
              "Whether everything goes forward; 503 and the reasons if not.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest&, Responder responder) { responder.Send(Readiness(engine)); }});
  router.Add({"GET",
              "/metrics",
              Role::kRead,
              Lane::kQuick,
              "Metrics for Prometheus.",
              {},
              {},
              {"text/plain"},
              [&engine, sandboxes = services.sandboxes](const HttpRequest&, Responder responder) {
                std::string text = MetricsText(engine.TakeStatus()) + engine.MetricsText();
                if (sandboxes != nullptr) text += MetricsText(sandboxes->List());
                responder.Send({200, "text/plain; version=0.0.4; charset=utf-8", std::move(text)});
              }});
  router.Add({"GET",
              "/openapi.json",
              Role::kNone,
              Lane::kQuick,
              "This API.",
              {},
              {},
              {kJsonType},
              [&router](const HttpRequest&, Responder responder) {
                responder.Send({200, kJsonType, OpenApiJson(router.routes(), MILLSTREAM_VERSION)});
              }});
}

Result<int64_t> ParseTimeOrAgo(const std::string& text, Clock& clock) {
  auto ago = ParseDurationUs(text);
  if (ago) return clock.WallUs() - *ago;
  auto time = ParseTimeUs(text);
  if (!time)
    return Fail(Invalid("'{}' is neither a time (2026-11-22T10:00:00Z) nor a duration ago (2h)", text));
  return time;
}

Result<uint64_t> CountOf(const HttpRequest& request, std::string_view name, uint64_t missing) {
  const std::string* text = request.Query(name);
  if (text == nullptr) return missing;
  uint64_t count = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), count);
  if (error != std::errc() || end != text->data() + text->size())
    return Fail(Invalid("{}: '{}' is not a count", name, *text));
  return count;
}

HttpResponse NotThere(std::string_view kind, const std::string& name, const std::vector<std::string>& names) {
  std::string nearest = Nearest(name, names);
  return Problem(404, "not_found",
                 fmt::format("no {} '{}'{}", kind, name,
                             nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

std::vector<std::string> StreamNames(Engine& engine) {
  std::vector<std::string> names;
  for (const auto& [name, config] : engine.project()->streams) names.push_back(name);
  return names;
}

}  // namespace millstream
