// What stands on history run again: GET /v1/trace/{table}/{key}, POST /v1/preview.
#include <charconv>

#include "base/text.h"
#include "query/preview.h"
#include "query/trace.h"
#include "server/problem.h"
#include "server/routes.h"
#include "stage/node.h"

namespace millstream {
namespace {

constexpr uint64_t kTraceEvents = 20, kTraceEventsMax = 1000;
constexpr uint64_t kPreviewRowsMax = 1000;

void SendAnswer(Result<std::string> answer, Responder responder) {
  if (!answer) return responder.Send(Problem(answer.error()));
  responder.Send({200, "application/json", std::move(*answer)});
}

void TraceRow(Engine& engine, const HttpRequest& request, Responder responder) {
  TraceRequest trace{request.PathValue("table"), request.PathValue("key")};
  auto events = CountOf(request, "events", kTraceEvents);
  if (!events) return responder.Send(Problem(400, "bad_request", events.error().message()));
  trace.events = std::min(*events, kTraceEventsMax);
  if (const std::string* timeout = request.Query("timeout")) {
    auto parsed = ParseDurationUs(*timeout);
    if (!parsed) return responder.Send(Problem(400, "bad_request", "timeout: " + parsed.error().message()));
    trace.timeout_us = *parsed;
  }
  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  std::stop_callback on_stop(responder.stop_token(), [stop]() mutable { stop.request_stop(); });
  trace.stop = stop.get_token();
  SendAnswer(Trace(engine, trace), std::move(responder));
}

void SendPast(Engine& engine, Responder responder) {
  std::string body = "[";
  for (const auto& place : engine.PastPlaces()) {
    if (place->is_answered) continue;
    body += fmt::format("{}{{\"done\":{},\"total\":{}}}", body.size() > 1 ? "," : "", place->done.load(),
                        place->total.load());
  }
  responder.Send({200, "application/json", body + "]"});
}

Result<PreviewRequest> ReadPreview(const HttpRequest& request) {
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  if (!faults.empty()) return Fail(Invalid("the body is not JSON: {}", faults[0].message));
  PreviewRequest preview;
  for (const auto& [name, value] : body.members) {
    if (name == "pipeline") {
      preview.pipeline = value.scalar;
    } else if (name == "since") {
      preview.since = value.scalar;
    } else if (name == "set") {
      for (const auto& [filter, sql] : value.members) preview.set[filter] = sql.scalar;
    } else if (name == "timeout") {
      ASSIGN_OR_FAIL(preview.timeout_us, ParseDurationUs(value.scalar));
    } else if (name == "last" || name == "rows") {
      auto count = ParseNumber<uint64_t>(value.scalar);
      if (!count || value.quoted) return Fail(Invalid("{}: expected a count", name));
      (name == "last" ? preview.last : preview.rows) = *count;
    } else {
      return Fail(Invalid("'{}' is not known; there are pipeline, set, last, since, rows and timeout", name));
    }
  }
  if (preview.pipeline.empty()) return Fail(Invalid("pipeline is missing"));
  if (preview.set.empty()) return Fail(Invalid("set is missing: {{\"set\":{{\"FILTER\":\"SELECT …\"}}}}"));
  preview.rows = std::min(preview.rows, kPreviewRowsMax);
  return preview;
}

void PreviewChange(Engine& engine, const HttpRequest& request, Responder responder) {
  auto preview = ReadPreview(request);
  if (!preview) return responder.Send(Problem(400, "bad_request", preview.error().message()));
  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  std::stop_callback on_stop(responder.stop_token(), [stop]() mutable { stop.request_stop(); });
  preview->stop = stop.get_token();
  SendAnswer(Preview(engine, *preview), std::move(responder));
}

}  // namespace

void AddPastRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add(
      {"GET",
       "/v1/past",
       Role::kRead,
       Lane::kQuick,
       "How far the questions about the past are that are being answered.",
       {},
       {},
       {"application/json"},
       [&engine](const HttpRequest&, Responder responder) { SendPast(engine, std::move(responder)); }});
  router.Add({"GET",
              "/v1/trace/{table}/{key}",
              Role::kRead,
              Lane::kLong,
              "The events, filters and versions behind a row, through chains. Of several key columns a JSON "
              "list; of a table without a key PARTITION:OFFSET.",
              {{"events", "query", "the newest so many (20)", "integer"},
               {"timeout", "query", "of all of it, e.g. 5s (server.query.deadline)"}},
              {},
              {"application/json"},
              [&engine](const HttpRequest& request, Responder responder) {
                TraceRow(engine, request, std::move(responder));
              }});
  router.Add(
      {"POST",
       "/v1/preview",
       Role::kAdmin,
       Lane::kLong,
       "What other filters would make of the same history: {\"pipeline\",\"set\":{FILTER: SQL},\"last\","
       "\"since\",\"rows\",\"timeout\"}.",
       {},
       {"application/json"},
       {"application/json"},
       [&engine](const HttpRequest& request, Responder responder) {
         PreviewChange(engine, request, std::move(responder));
       }});
}

}  // namespace millstream
