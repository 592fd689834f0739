// POST /v1/query and GET /v1/wait.
#include <charconv>

#include "base/text.h"
#include "event/json_scan.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr int64_t kWaitDefaultUs = 30'000'000;
constexpr int64_t kWaitMaxUs = 3600ll * 1'000'000;

/// A parameter's value, of the type that it would have as a literal in SQL; an object or a list is JSON text.
SqlValue ValueOf(std::string_view json) {
  if (json == "null") return std::monostate();
  if (json == "true" || json == "false") return json == "true";
  if (json.starts_with('"')) {
    std::string scratch;
    return std::string(JsonStringValue(MakeJsonValue(json), scratch));
  }
  if (json.starts_with('{') || json.starts_with('[')) return std::string(json);
  return SqlNumber{std::string(json)};
}

/// {"id": 1} for $id, or [1, 2] for $1 and $2 (or two ?).
Status ReadParameters(std::string_view json, std::map<std::string, SqlValue>& parameters) {
  if (auto members = JsonMembers(json)) {
    for (const auto& [name, value] : *members) parameters[name] = ValueOf(value);
    return OkStatus();
  }
  auto elements = JsonElements(json);
  if (!elements) return Invalid("params: expected an object of name and value, or a list of values");
  size_t number = 0;
  for (std::string_view value : *elements) parameters[fmt::format("{}", ++number)] = ValueOf(value);
  return OkStatus();
}

Status ReadMember(const std::string& name, std::string_view value, QueryRequest& query) {
  std::string scratch;
  bool is_text = value.starts_with('"');
  std::string text = is_text ? std::string(JsonStringValue(MakeJsonValue(value), scratch)) : "";
  if (name == "params") return ReadParameters(value, query.parameters);
  if (name == "as_now" && (value == "true" || value == "false"))
    return query.as_now = value == "true", OkStatus();
  if (name != "sql" && name != "wait" && name != "timeout" && name != "as_of" && name != "as_now")
    return Invalid("'{}' is not known; there are sql, params, wait, timeout, as_of and as_now", name);
  if (name == "as_now") return Invalid("as_now: expected true or false");
  if (!is_text) return Invalid("{}: expected a string", name);
  if (name == "sql") query.sql = text;
  if (name == "as_of") query.as_of = text;
  if (name == "wait") {
    ASSIGN_OR_RETURN(query.wait, ParsePosition(text));
  }
  if (name == "timeout") {
    ASSIGN_OR_RETURN(query.timeout_us, ParseDurationUs(text));
  }
  return OkStatus();
}

Result<QueryRequest> ReadQuery(const HttpRequest& request) {
  std::string_view body = request.body.view();
  if (auto error = ValidateJson(body))
    return Fail(Invalid("the body is not JSON: {} at byte {}", error->message, error->position));
  auto members = JsonMembers(body);
  if (!members) return Fail(Invalid("expected an object: {{\"sql\":\"SELECT …\"}}"));
  QueryRequest query;
  for (const auto& [name, value] : *members) FAIL_IF_ERROR(ReadMember(name, value, query));
  if (query.sql.empty()) return Fail(Invalid("sql is missing"));
  return query;
}

void Query(Services& services, const HttpRequest& request, Responder responder) {
  auto format = RowFormatOf(request);
  if (!format)
    return responder.Send(
        Problem(406, "not_acceptable", "Accept: application/json, application/x-ndjson or text/csv"));
  auto query = ReadQuery(request);
  if (!query) return responder.Send(Problem(400, "bad_request", query.error().message()));
  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  query->stop = stop.get_token();
  QueryFault fault;
  auto running = services.queries.Start(*query, &fault);
  if (!running) return responder.Send(QueryProblem(running.error(), fault, query->sql));
  HttpHeaders headers;
  if (!(*running)->ground().empty()) headers.emplace_back("Millstream-As-Of", (*running)->ground());
  SendRows(**running, *format, RowsShape::kDocument, std::move(headers), std::move(responder));
}

void Wait(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string* text = request.Query("position");
  auto position = ParsePosition(text == nullptr ? "" : *text);
  if (!position)
    return responder.Send(Problem(400, "bad_request", "position: " + position.error().message()));
  int64_t timeout_us = kWaitDefaultUs;
  if (const std::string* timeout = request.Query("timeout")) {
    auto parsed = ParseDurationUs(*timeout);
    if (!parsed) return responder.Send(Problem(400, "bad_request", "timeout: " + parsed.error().message()));
    timeout_us = std::min(*parsed, kWaitMaxUs);
  }
  std::vector<std::string> tables;
  for (const auto& [name, value] : request.query) {
    if (name != "table") continue;
    std::vector<std::string> names;
    for (const TableInfo& table : engine.tables().List()) names.push_back(table.spec.name);
    if (std::find(names.begin(), names.end(), value) == names.end())
      return responder.Send(NotThere("table", value, names));
    tables.push_back(value);
  }
  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  std::stop_callback on_stop(responder.stop_token(), [stop]() mutable { stop.request_stop(); });
  Status status = engine.Wait(*position, tables, timeout_us, stop.get_token());
  if (status.code() == Code::kDeadline) {
    QueryFault fault;
    fault.reached = PositionReached(status);
    return responder.Send(QueryProblem(status, fault, ""));
  }
  if (!status.ok()) return responder.Send(Problem(status));
  HttpResponse response;
  JsonObject(response.body).Text("position", position->ToString());
  responder.Send(std::move(response));
}

}  // namespace

void AddQueryRoutes(Router& router, Services& services) {
  router.Add({"POST",
              "/v1/query",
              Role::kRead,
              Lane::kLong,
              "SQL over tables, _streams.NAME, _pipelines, _filters, _dead_letters, _segments: "
              "{\"sql\",\"params\",\"wait\",\"timeout\",\"as_of\",\"as_now\"}.",
              {},
              {"application/json"},
              kRowFormats,
              [&services](const HttpRequest& request, Responder responder) {
                Query(services, request, std::move(responder));
              }});
  router.Add({"GET",
              "/v1/wait",
              Role::kRead,
              Lane::kLong,
              "Wait until tables hold all events up to and with a position.",
              {{"position", "query", "as an ingest answered it, e.g. orders/0:17,1:9"},
               {"table", "query", "only this table; may stand several times"},
               {"timeout", "query", "e.g. 5s; default 30s"}},
              {},
              {"application/json"},
              [&services](const HttpRequest& request, Responder responder) {
                Wait(services.engine, request, std::move(responder));
              }});
}

}  // namespace millstream
