// Tables: what there is, rows by PostgREST's parameters, drop.
#include "base/text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

std::string PositionText(const std::vector<Position>& positions) {
  std::string text;
  for (const Position& position : positions)
    if (!position.offsets.empty()) text += (text.empty() ? "" : " ") + position.ToString();
  return text;
}

std::vector<std::string> TableNames(Engine& engine) {
  std::vector<std::string> names;
  for (const TableInfo& table : engine.tables().List()) names.push_back(table.spec.name);
  return names;
}

void ListTables(Engine& engine, Responder responder) {
  HttpResponse response;
  std::string& out = response.body;
  out = "[";
  for (const TableInfo& table : engine.tables().List()) {
    if (out.size() > 1) out += ',';
    JsonObject object(out);
    object.Text("name", table.spec.name);
    object.Array("key", table.spec.key, [&](const std::string& column) { AppendJsonString(out, column); });
    object.Number("rows", table.rows);
    object.Array("writers", table.writers, [&](const std::string& writer) { AppendJsonString(out, writer); });
    object.Text("position", PositionText(engine.TablePositions(table.spec.name)));
  }
  out += ']';
  responder.Send(std::move(response));
}

void Schema(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& name = request.PathValue("table");
  auto table = engine.tables().Find(name);
  if (!table) return responder.Send(NotThere("table", name, TableNames(engine)));
  HttpResponse response;
  {
    std::string& out = response.body;
    JsonObject object(out);
    object.Text("name", name);
    object.Array("columns", table->columns, [&](const ColumnInfo& column) {
      JsonObject(out).Text("name", column.name).Text("type", column.type);
    });
    object.Array("key", table->spec.key, [&](const std::string& column) { AppendJsonString(out, column); });
  }
  responder.Send(std::move(response));
}

/// "Prefer: count=exact", perhaps among others.
bool WantsCount(const HttpRequest& request) {
  for (const auto& [name, value] : request.headers)
    if (name == "prefer" && value.find("count=exact") != std::string::npos) return true;
  return false;
}

Result<uint64_t> CountRows(QueryRunner& queries, const QueryRequest& query) {
  ASSIGN_OR_FAIL(std::unique_ptr<RunningQuery> running, queries.Start(query));
  ASSIGN_OR_FAIL(std::optional<Chunk> chunk, running->Next());
  return chunk && chunk->rows() > 0 ? static_cast<uint64_t>(chunk->Int64(0, 0)) : 0;
}

void GetRows(Services& services, const HttpRequest& request, Responder responder) {
  TableRequest asked{request.PathValue("table"), request.query};
  if (!services.engine.tables().Find(asked.table))
    return responder.Send(NotThere("table", asked.table, TableNames(services.engine)));
  auto format = RowFormatOf(request);
  if (!format)
    return responder.Send(
        Problem(406, "not_acceptable", "Accept: application/json, application/x-ndjson or text/csv"));
  auto query = services.queries.MakeTableQuery(asked);
  if (!query) return responder.Send(Problem(400, "bad_request", query.error().message()));
  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  query->rows.stop = query->count.stop = stop.get_token();
  HttpHeaders headers;
  if (WantsCount(request)) {
    auto total = CountRows(services.queries, query->count);
    if (!total)
      return responder.Send(QueryProblem(services.queries.WhyRefused(*query, total.error()), {}, ""));
    uint64_t end = std::min(*total, query->limit ? query->offset + *query->limit : *total);
    std::string range = end > query->offset ? fmt::format("{}-{}", query->offset, end - 1) : "*";
    headers.emplace_back("Content-Range", fmt::format("{}/{}", range, *total));
  }
  QueryFault fault;
  auto running = services.queries.StartTable(asked, *query, &fault);
  if (!running) {  // the SQL is ours, and no place in it says anything to the caller
    fault.sql = {};
    return responder.Send(QueryProblem(services.queries.WhyRefused(*query, running.error()), fault, ""));
  }
  SendRows(**running, *format, RowsShape::kBare, std::move(headers), std::move(responder));
}

void Drop(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& name = request.PathValue("table");
  if (!engine.tables().Find(name)) return responder.Send(NotThere("table", name, TableNames(engine)));
  if (Status status = engine.DropTable(name, request.who); !status.ok())
    return responder.Send(Problem(status));
  HttpResponse response;
  JsonObject(response.body).Text("dropped", name);
  responder.Send(std::move(response));
}

}  // namespace

void AddTableRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  const std::vector<std::string> json{"application/json"};
  router.Add(
      {"GET",
       "/v1/tables",
       Role::kRead,
       Lane::kQuick,
       "Tables: key, rows, writers, position.",
       {},
       {},
       json,
       [&engine](const HttpRequest&, Responder responder) { ListTables(engine, std::move(responder)); }});
  router.Add({"GET",
              "/v1/tables/{table}",
              Role::kRead,
              Lane::kLong,
              "Rows of a table. Beside these parameters: COLUMN=[not.]op.value with eq neq gt gte lt lte "
              "like ilike in is, and or=(…), and=(…).",
              {{"select", "query", "columns: a,b or alias:a"},
               {"order", "query", "a.desc,b.asc.nullslast"},
               {"limit", "query", "at most so many rows", "integer"},
               {"offset", "query", "leave out so many rows", "integer"},
               {"wait", "query", "until the table holds this position"},
               {"timeout", "query", "of all of it, e.g. 5s"},
               {"Prefer", "header", "count=exact: Content-Range tells the number of all rows"}},
              {},
              kRowFormats,
              [&services](const HttpRequest& request, Responder responder) {
                GetRows(services, request, std::move(responder));
              },
              true});
  router.Add({"GET",
              "/v1/tables/{table}/schema",
              Role::kRead,
              Lane::kQuick,
              "Columns, types and key of a table.",
              {},
              {},
              json,
              [&engine](const HttpRequest& request, Responder responder) {
                Schema(engine, request, std::move(responder));
              }});
  router.Add({"DELETE",
              "/v1/tables/{table}",
              Role::kAdmin,
              Lane::kLong,
              "Drop a table that no pipeline writes.",
              {},
              {},
              json,
              [&engine](const HttpRequest& request, Responder responder) {
                Drop(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
