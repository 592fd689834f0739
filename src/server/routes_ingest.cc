// Events in: POST /v1/streams/{stream}/events, and where an origin stands.
#include "event/cloudevents.h"
#include "pipeline/idempotency.h"
#include "server/http_text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr char kNdjson[] = "application/x-ndjson";
constexpr char kCloudEvent[] = "application/cloudevents+json";
constexpr char kCloudEventBatch[] = "application/cloudevents-batch+json";

BodyFormat FormatOf(const HttpRequest& request) {
  const std::string* type = request.Header("content-type");
  std::string media = type == nullptr ? kJsonType : MediaType(*type);
  if (media == kNdjson || media == "application/ndjson" || media == "application/jsonl")
    return BodyFormat::kNdjson;
  if (media == kCloudEvent) return BodyFormat::kCloudEvent;
  if (media == kCloudEventBatch) return BodyFormat::kCloudEventBatch;
  return request.Header("ce-specversion") != nullptr ? BodyFormat::kCloudEventBinary : BodyFormat::kJson;
}

Result<std::string> HeaderText(const HttpRequest& request, std::string_view name) {
  const std::string* value = request.Header(name);
  auto decoded = PercentDecode(value == nullptr ? "" : *value, false);
  if (!decoded) return Fail(Invalid("{}: not percent-encoded UTF-8", name));
  return std::move(*decoded);
}

Result<uint64_t> HeaderCount(const HttpRequest& request, std::string_view name, uint64_t missing) {
  const std::string* value = request.Header(name);
  if (value == nullptr) return missing;
  char* end = nullptr;
  uint64_t count = std::strtoull(value->c_str(), &end, 10);
  if (value->empty() || *end != '\0' || value->front() == '-')
    return Fail(Invalid("{}: '{}' is not a count", name, *value));
  return count;
}

/// The headers of `ingest`: where the piece stands in its file, so that it is taken exactly once.
Status ReadOrigin(const HttpRequest& request, IngestRequest& ingest) {
  ASSIGN_OR_RETURN(ingest.subject, HeaderText(request, "millstream-subject"));
  ASSIGN_OR_RETURN(ingest.first_line, HeaderCount(request, "millstream-line", 1));
  if (request.Header("millstream-origin") == nullptr) return OkStatus();
  OriginRange& origin = ingest.origin.emplace();
  ASSIGN_OR_RETURN(origin.origin, HeaderText(request, "millstream-origin"));
  ASSIGN_OR_RETURN(origin.part, HeaderText(request, "millstream-origin-part"));
  ASSIGN_OR_RETURN(origin.first, HeaderCount(request, "millstream-origin-first", 0));
  ASSIGN_OR_RETURN(origin.position, HeaderText(request, "millstream-origin-position"));
  if (!origin.origin.starts_with("file/"))
    return Invalid("Millstream-Origin: '{}' does not begin with 'file/'", origin.origin);
  if (origin.part.empty() || origin.position.empty())
    return Invalid("Millstream-Origin needs Millstream-Origin-Part and -Position beside it");
  return OkStatus();
}

Faults FaultsOf(const IngestRefusal& refusal) {
  Faults faults;
  for (const IngestFault& each : refusal.faults) {
    Fault& fault = faults.emplace_back();
    fault.index = static_cast<long long>(each.index);
    fault.line = static_cast<int>(each.line);
    fault.path = each.path;
    fault.message = each.message;
  }
  return faults;
}

HttpResponse ProblemOf(const IngestRefusal& refusal) {
  const Status& status = refusal.status;
  switch (status.code()) {
    case Code::kInvalid:  // faults by event, or a body that cannot be split into events
      if (refusal.faults.empty() && !status.message().starts_with("this Idempotency-Key"))
        return Problem(400, "bad_request", status.message());
      return Problem(422, "invalid", status.message(), FaultsOf(refusal));
    case Code::kConflict:
      return Problem(415, "unsupported_media_type", status.message());
    default:
      return AppendProblem(status);
  }
}

void Ingest(Engine& engine, const HttpRequest& request, Responder responder) {
  IngestRequest ingest;
  ingest.stream = request.PathValue("stream");
  ingest.body = request.body.view();
  ingest.format = FormatOf(request);
  if (engine.project()->FindStream(ingest.stream) == nullptr)
    return responder.Send(NotThere("stream", ingest.stream, StreamNames(engine)));
  if (ingest.body.empty() && ingest.format != BodyFormat::kNdjson &&
      ingest.format != BodyFormat::kCloudEventBinary)
    return responder.Send(Problem(400, "bad_request", "the body is empty: an event is expected"));
  CloudEvent event;
  if (ingest.format == BodyFormat::kCloudEventBinary) {
    HeaderList headers(request.headers.begin(), request.headers.end());
    auto read = ReadCloudEventHeaders(headers, ingest.body);
    if (!read) {
      bool is_conflict = read.error().code() == Code::kConflict;
      return responder.Send(Problem(is_conflict ? 415 : 400,
                                    is_conflict ? "unsupported_media_type" : "bad_request",
                                    read.error().message()));
    }
    event = std::move(*read);
    ingest.envelope = event.envelope;
    ingest.body = event.data;
  }
  if (const std::string* key = request.Header("idempotency-key")) {
    if (key->empty() || key->size() > IdempotencyTable::kKeyBytesMax)
      return responder.Send(Problem(400, "bad_request", "Idempotency-Key: 1 to 1024 characters"));
    ingest.idempotency_key = *key;
  }
  if (Status status = ReadOrigin(request, ingest); !status.ok())
    return responder.Send(Problem(400, "bad_request", status.message()));
  auto shared = std::make_shared<Responder>(std::move(responder));
  engine.Ingest(ingest, [shared](tl::expected<IngestAnswer, IngestRefusal> answer) {
    if (!answer) return shared->Send(ProblemOf(answer.error()));
    HttpResponse response{200, kJsonType, answer->ToJson()};
    if (answer->replayed) response.headers.emplace_back("Idempotent-Replayed", "true");
    shared->Send(std::move(response));
  });
}

void FindOrigin(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string* origin = request.Query("origin");
  const std::string* part = request.Query("part");
  if (origin == nullptr || part == nullptr)
    return responder.Send(Problem(400, "bad_request", "needs origin= and part="));
  const std::string& stream = request.PathValue("stream");
  if (engine.project()->FindStream(stream) == nullptr)
    return responder.Send(NotThere("stream", stream, StreamNames(engine)));
  auto found = engine.FindOrigin(stream, *origin, *part);
  if (!found) return responder.Send(Problem(found.error()));
  HttpResponse response;
  {
    JsonObject object(response.body);
    object.Number("events", *found ? (*found)->events : 0);
    *found ? object.Text("position", (*found)->position) : object.Json("position", "null");
  }
  responder.Send(std::move(response));
}

}  // namespace

void AddIngestRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add(
      {"POST",
       "/v1/streams/{stream}/events",
       Role::kWrite,
       Lane::kQuick,
       "Take events in: JSON object or array, NDJSON, CloudEvents (binary, structured, batched). Answered "
       "when they are durable.",
       {{"Idempotency-Key", "header", "a retry with the same key and body gets the first answer"},
        {"Millstream-Subject", "header", "path of the file that the events come from"},
        {"Millstream-Line", "header", "line of the body's first event in its file", "integer"},
        {"Millstream-Origin", "header",
         "file/NAME: an origin that can be read again; its events are taken exactly once"},
        {"Millstream-Origin-Part", "header", "part of the origin, e.g. a file's identity"},
        {"Millstream-Origin-First", "header", "how many events of the part lie before this body", "integer"},
        {"Millstream-Origin-Position", "header",
         "where to resume after this body; begins with the count of events so far"}},
       {kJsonType, kNdjson, kCloudEvent, kCloudEventBatch, "application/ndjson", "application/jsonl"},
       {kJsonType},
       [&engine](const HttpRequest& request, Responder responder) {
         Ingest(engine, request, std::move(responder));
       }});
  router.Add({"GET",
              "/v1/streams/{stream}/origins",
              Role::kWrite,
              Lane::kQuick,
              "Where a part of an origin stands in a stream.",
              {{"origin", "query", "e.g. file/orders"}, {"part", "query", "its part"}},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                FindOrigin(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
