// POST /v1/streams/{stream}/events, and where an origin stands.
#include "event/cloudevents.h"
#include "event/json_scan.h"
#include "server/http_text.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

/// A header that may hold any text, percent-encoded.
std::string DecodedHeader(const HttpRequest& request, std::string_view name) {
  const std::string* value = request.Header(name);
  if (value == nullptr) return "";
  return PercentDecode(*value, false).value_or(*value);
}

Faults ToFaults(const std::vector<IngestFault>& faults) {
  Faults list;
  for (const IngestFault& each : faults) {
    Fault fault;
    fault.index = static_cast<long long>(each.index);
    fault.line = static_cast<int>(each.line);
    fault.path = each.path;
    fault.message = each.path.empty() ? each.message : each.path + ": " + each.message;
    list.push_back(std::move(fault));
  }
  return list;
}

HttpResponse ToResponse(const tl::expected<IngestAnswer, IngestRefusal>& answer) {
  if (!answer) {
    if (answer.error().status.code() == Code::kExhausted) return Problem(507, "disk_full", answer.error().status.message());
    return Problem(answer.error().status, ToFaults(answer.error().faults));
  }
  HttpResponse response;
  response.body = answer->ToJson();
  if (answer->replayed) response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

void PostEvents(Services& services, const HttpRequest& request, Responder responder) {
  IngestRequest ingest;
  ingest.stream = request.PathValue("stream");
  ingest.body = request.body.view();
  const std::string* type = request.Header("content-type");
  std::string media = type == nullptr ? "" : MediaType(*type);
  Result<CloudEvent> binary = Fail(NotFound("not one"));
  if (media == "application/x-ndjson") {
    ingest.format = BodyFormat::kNdjson;
  } else if (media == "application/cloudevents+json") {
    ingest.format = BodyFormat::kCloudEvent;
  } else if (media == "application/cloudevents-batch+json") {
    ingest.format = BodyFormat::kCloudEventBatch;
  } else if (request.Header("ce-specversion") != nullptr) {
    HeaderList headers;
    for (const auto& [name, value] : request.headers) headers.emplace_back(name, value);
    binary = ReadCloudEventHeaders(headers, request.body.view());
    if (!binary) return responder.Send(binary.error().code() == Code::kConflict ? Problem(415, "unsupported_media_type", binary.error().message()) : Problem(400, "bad_request", binary.error().message()));
    ingest.format = BodyFormat::kCloudEventBinary;
    ingest.envelope = binary->envelope;
  }
  if (const std::string* key = request.Header("idempotency-key")) ingest.idempotency_key = *key;
  ingest.subject = DecodedHeader(request, "millstream-subject");
  if (const std::string* line = request.Header("millstream-line")) ingest.first_line = std::strtoull(line->c_str(), nullptr, 10);
  if (request.Header("millstream-origin") != nullptr) {
    OriginRange origin;
    origin.origin = DecodedHeader(request, "millstream-origin");
    origin.part = DecodedHeader(request, "millstream-origin-part");
    origin.position = DecodedHeader(request, "millstream-origin-position");
    if (const std::string* first = request.Header("millstream-origin-first")) origin.first = std::strtoull(first->c_str(), nullptr, 10);
    if (!origin.origin.starts_with("file/")) return responder.Send(Problem(400, "bad_request", "Millstream-Origin: expected file/NAME"));
    ingest.origin = std::move(origin);
    ingest.reject = false;
  }
  auto shared = std::make_shared<Responder>(std::move(responder));
  services.engine.Ingest(ingest, [shared](tl::expected<IngestAnswer, IngestRefusal> answer) { shared->Send(ToResponse(answer)); });
}

void GetOrigin(Services& services, const HttpRequest& request, Responder responder) {
  const std::string* origin = request.Query("origin");
  const std::string* part = request.Query("part");
  if (origin == nullptr || part == nullptr) return responder.Send(Problem(400, "bad_request", "origin and part are wanted"));
  auto found = services.engine.FindOrigin(request.PathValue("stream"), *origin, *part);
  if (!found) return responder.Send(Problem(found.error()));
  HttpResponse response;
  if (*found) {
    response.body = fmt::format("{{\"events\":{},\"position\":", (*found)->events);
    AppendJsonString(response.body, (*found)->position);
    response.body += '}';
  } else {
    response.body = "{\"events\":0,\"position\":null}";
  }
  responder.Send(std::move(response));
}

}  // namespace

void AddIngestRoutes(Router& router, Services& services) {
  router.Add({.method = "POST",
              .path = "/v1/streams/{stream}/events",
              .role = Role::kWrite,
              .lane = Lane::kQuick,
              .summary = "Append events. Answers once they are durable.",
              .parameters = {{"Idempotency-Key", "header", "a retry with the same key and body gets the first answer"},
                             {"Millstream-Origin", "header", "file/NAME: exactly-once ingest of what can be read again"},
                             {"Millstream-Origin-Part", "header", "which file"},
                             {"Millstream-Origin-First", "header", "events of it before this body"},
                             {"Millstream-Origin-Position", "header", "where to go on after this body"},
                             {"Millstream-Subject", "header", "ce_subject of events that have none"},
                             {"Millstream-Line", "header", "line of the body's first event in its file"}},
              .takes = {"application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"},
              .handler = [&services](const HttpRequest& request, Responder responder) { PostEvents(services, request, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/streams/{stream}/origins",
              .role = Role::kRead,
              .summary = "Where an origin (a file) stands in a stream.",
              .parameters = {{"origin", "query", "file/NAME"}, {"part", "query", "which file"}},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetOrigin(services, request, std::move(responder)); }});
}

}  // namespace millstream
