// SQL, tables and waits.
#include <boost/json.hpp>

#include "base/text.h"
#include "event/json_scan.h"
#include "server/http_text.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr size_t kPieceBytes = 64 << 10;

HttpResponse SqlProblem(const Status& status, const SqlFault& fault, const std::string& sql) {
  if (fault.message.empty()) return Problem(status);
  Fault shown;
  shown.message = fault.message;
  if (fault.position >= 0) {
    std::string_view before = std::string_view(sql).substr(0, static_cast<size_t>(fault.position));
    shown.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    shown.column = fault.position - static_cast<int>(before.rfind('\n') + 1) + 1;
  }
  if (!fault.nearest.empty()) shown.hint = fmt::format("did you mean '{}'?", fault.nearest);
  return Problem(status, {shown});
}

Result<SqlValue> ToSqlValue(const boost::json::value& value) {
  if (value.is_null()) return SqlValue(std::monostate());
  if (value.is_bool()) return SqlValue(value.as_bool());
  if (value.is_int64()) return SqlValue(value.as_int64());
  if (value.is_double()) return SqlValue(value.as_double());
  if (value.is_string()) return SqlValue(std::string(value.as_string()));
  return SqlValue(boost::json::serialize(value));
}

Result<QueryRequest> ReadQuery(std::string_view body) {
  boost::json::error_code error;
  boost::json::value root = boost::json::parse(body, error);
  if (error || !root.is_object()) return Fail(Invalid("the body is not a JSON object: expected {{\"sql\":\"…\"}}"));
  QueryRequest query;
  for (const auto& [name, value] : root.as_object()) {
    if (name == "sql" && value.is_string()) {
      query.sql = value.as_string();
    } else if (name == "params" && value.is_object()) {
      for (const auto& [parameter, given] : value.as_object()) {
        ASSIGN_OR_FAIL(query.parameters[std::string(parameter)], ToSqlValue(given));
      }
    } else if (name == "wait" && value.is_string()) {
      ASSIGN_OR_FAIL(query.wait, ParsePosition(std::string_view(value.as_string())));
    } else if (name == "timeout" && value.is_string()) {
      ASSIGN_OR_FAIL(query.timeout_us, ParseDurationUs(std::string_view(value.as_string())));
    } else {
      std::string given(name);
      std::string nearest = Nearest(given, {"sql", "params", "wait", "timeout"});
      return Fail(Invalid("'{}': expected sql (text), params (object), wait (position) or timeout (duration){}", given,
                          nearest.empty() || nearest == given ? "" : fmt::format("; did you mean '{}'?", nearest)));
    }
  }
  if (query.sql.empty()) return Fail(Invalid("sql is missing: expected {{\"sql\":\"…\"}}"));
  return query;
}

enum class Shape : uint8_t { kObject, kNdjson, kCsv, kArray };

void AppendCsv(std::string& out, const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) {
    out += cell;
    return;
  }
  out += '"';
  for (char c : cell) out += c == '"' ? "\"\"" : std::string(1, c);
  out += '"';
}

/// Writes a running query's rows in one of the shapes, a piece at a time.
class AnswerWriter {
 public:
  AnswerWriter(RunningQuery& query, Shape shape) : query_(query), shape_(shape), json_(query.MakeJsonWriter()) {
    for (const ColumnInfo& column : query.columns()) {
      std::string name;
      AppendJsonString(name, column.name);
      names_.push_back(name + ":");
    }
  }

  void Head() {
    const std::vector<ColumnInfo>& columns = query_.columns();
    if (shape_ == Shape::kArray) out_ += '[';
    if (shape_ == Shape::kCsv) {
      for (size_t i = 0; i < columns.size(); ++i) {
        if (i > 0) out_ += ',';
        AppendCsv(out_, columns[i].name);
      }
      out_ += '\n';
    }
    if (shape_ != Shape::kObject) return;
    out_ += "{\"columns\":[";
    for (size_t i = 0; i < columns.size(); ++i) {
      out_ += i > 0 ? ",{\"name\":" : "{\"name\":";
      AppendJsonString(out_, columns[i].name);
      out_ += ",\"type\":";
      AppendJsonString(out_, columns[i].type);
      out_ += '}';
    }
    out_ += "],\"position\":{";
    bool is_first = true;
    for (const auto& [pipeline, position] : query_.positions()) {
      if (!is_first) out_ += ',';
      is_first = false;
      AppendJsonString(out_, pipeline);
      out_ += ':';
      AppendJsonString(out_, position);
    }
    out_ += "},\"rows\":[";
  }

  void Rows(const Chunk& chunk) {
    for (uint32_t row = 0; row < chunk.rows(); ++row) {
      if (!is_first_ && (shape_ == Shape::kObject || shape_ == Shape::kArray)) out_ += ',';
      is_first_ = false;
      if (shape_ == Shape::kCsv) {
        for (uint32_t c = 0; c < names_.size(); ++c) {
          if (c > 0) out_ += ',';
          cell_.clear();
          json_.AppendText(cell_, chunk, c, row);
          AppendCsv(out_, cell_);
        }
        out_ += '\n';
        continue;
      }
      out_ += '{';
      for (uint32_t c = 0; c < names_.size(); ++c) {
        if (c > 0) out_ += ',';
        out_ += names_[c];
        json_.Append(out_, chunk, c, row);
      }
      out_ += '}';
      if (shape_ == Shape::kNdjson) out_ += '\n';
    }
  }

  void Tail() {
    if (shape_ == Shape::kObject) out_ += "]}";
    if (shape_ == Shape::kArray) out_ += ']';
  }

  std::string Take() { return std::exchange(out_, {}); }
  size_t size() const { return out_.size(); }

 private:
  RunningQuery& query_;
  const Shape shape_;
  JsonWriter json_;
  std::vector<std::string> names_;
  std::string out_, cell_;
  bool is_first_ = true;
};

/// Runs a query to its end. A fault before the first byte is a problem; after it the connection is closed without the last chunk.
void Answer(Services& services, const QueryRequest& request, Shape shape, const char* content_type, HttpHeaders headers, Responder& responder) {
  SqlFault fault;
  auto query = services.queries.Start(request, &fault);
  if (!query) return responder.Send(SqlProblem(query.error(), fault, request.sql));
  std::shared_ptr<RunningQuery> running(std::move(*query));
  responder.OnGone([weak = std::weak_ptr(running)] {
    if (auto alive = weak.lock()) alive->Cancel();
  });
  AnswerWriter writer(*running, shape);
  writer.Head();
  while (true) {
    auto chunk = running->Next();
    if (!chunk) return responder.begun() ? responder.Abort() : responder.Send(Problem(chunk.error()));
    if (!*chunk) break;
    writer.Rows(**chunk);
    if (writer.size() < kPieceBytes) continue;
    if (!responder.begun()) responder.Begin({200, content_type, "", headers});
    if (!responder.Write(writer.Take()).ok()) return responder.Abort();
  }
  writer.Tail();
  if (!responder.begun()) return responder.Send({200, content_type, writer.Take(), std::move(headers)});
  if (!responder.Write(writer.Take()).ok()) return responder.Abort();
  responder.End();
}

void PostQuery(Services& services, const HttpRequest& request, Responder responder) {
  auto query = ReadQuery(request.body.view());
  if (!query) return responder.Send(Problem(400, "bad_request", query.error().message()));
  static constexpr const char* kTypes[] = {"application/json", "application/x-ndjson", "text/csv"};
  auto offer = Negotiate(request.Header("accept"), {kTypes[0], kTypes[1], kTypes[2]});
  if (!offer) return responder.Send(Problem(406, "not_acceptable", "the rows come as application/json, application/x-ndjson or text/csv"));
  constexpr Shape kShapes[] = {Shape::kObject, Shape::kNdjson, Shape::kCsv};
  Answer(services, *query, kShapes[*offer], kTypes[*offer], {}, responder);
}

std::string TableJson(Services& services, const TableInfo& table) {
  std::string json = "{\"name\":";
  AppendJsonString(json, table.spec.name);
  auto list = [&json](const char* name, const std::vector<std::string>& values) {
    json += fmt::format(",\"{}\":[", name);
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) json += ',';
      AppendJsonString(json, values[i]);
    }
    json += ']';
  };
  list("key", table.spec.key);
  fmt::format_to(std::back_inserter(json), ",\"rows\":{}", table.rows);
  list("writers", table.writers);
  std::string position;
  for (const Position& each : services.engine.TablePositions(table.spec.name))
    if (!each.offsets.empty()) position += (position.empty() ? "" : " ") + each.ToString();
  json += ",\"position\":";
  AppendJsonString(json, position);
  return json + "}";
}

std::optional<TableInfo> FindTable(Services& services, const HttpRequest& request, Responder& responder) {
  const std::string& name = request.PathValue("table");
  auto table = services.engine.tables().Find(name);
  if (table) return table;
  std::vector<std::string> names;
  for (const TableInfo& each : services.engine.tables().List()) names.push_back(each.spec.name);
  std::string nearest = Nearest(name, names);
  responder.Send(Problem(NotFound("no table '{}'{}", name, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest))));
  return std::nullopt;
}

void GetTables(Services& services, Responder responder) {
  std::string json = "[";
  for (const TableInfo& table : services.engine.tables().List()) {
    if (json.size() > 1) json += ',';
    json += TableJson(services, table);
  }
  responder.Send({.body = json + "]"});
}

void GetSchema(Services& services, const HttpRequest& request, Responder responder) {
  auto table = FindTable(services, request, responder);
  if (!table) return;
  std::string json = "{\"table\":" + TableJson(services, *table) + ",\"columns\":[";
  for (size_t i = 0; i < table->columns.size(); ++i) {
    json += i > 0 ? ",{\"name\":" : "{\"name\":";
    AppendJsonString(json, table->columns[i].name);
    json += ",\"type\":";
    AppendJsonString(json, table->columns[i].type);
    json += '}';
  }
  responder.Send({.body = json + "]}"});
}

void GetTable(Services& services, const HttpRequest& request, Responder responder) {
  if (!FindTable(services, request, responder)) return;
  TableRequest table{request.PathValue("table"), request.query};
  const std::string* prefer = request.Header("prefer");
  bool counted = prefer != nullptr && prefer->find("count=exact") != std::string::npos;
  QueryRequest count;
  auto query = services.queries.TableQuery(table, counted ? &count : nullptr);
  if (!query) return responder.Send(query.error().code() == Code::kInvalid ? Problem(400, "bad_request", query.error().message()) : Problem(query.error()));
  HttpHeaders headers;
  if (counted) {
    auto running = services.queries.Start(count);
    auto chunk = running ? (*running)->Next() : Result<std::optional<Chunk>>(Fail(running.error()));
    if (!chunk) return responder.Send(Problem(chunk.error()));
    uint64_t total = *chunk && (*chunk)->rows() == 1 ? static_cast<uint64_t>((*chunk)->Int64(0, 0)) : 0;
    auto limit = NumberParameter(request, "limit", total);
    auto offset = NumberParameter(request, "offset", 0);
    uint64_t first = offset.value_or(0);
    uint64_t end = std::min(total, first + limit.value_or(total));
    headers.emplace_back("Content-Range", first < end ? fmt::format("{}-{}/{}", first, end - 1, total) : fmt::format("*/{}", total));
  }
  Answer(services, *query, Shape::kArray, "application/json", std::move(headers), responder);
}

void DeleteTable(Services& services, const HttpRequest& request, Responder responder) {
  if (!FindTable(services, request, responder)) return;
  Status status = services.engine.DropTable(request.PathValue("table"), request.who);
  responder.Send(status.ok() ? HttpResponse{.body = "{\"dropped\":true}"} : Problem(status));
}

void GetWait(Services& services, const HttpRequest& request, Responder responder) {
  const std::string* text = request.Query("position");
  auto position = ParsePosition(text == nullptr ? "" : *text);
  if (!position) return responder.Send(Problem(400, "bad_request", position.error().message()));
  const std::string* timeout = request.Query("timeout");
  auto timeout_us = ParseDurationUs(timeout == nullptr ? "30s" : *timeout);
  if (!timeout_us) return responder.Send(Problem(400, "bad_request", timeout_us.error().message()));
  std::vector<std::string> tables;
  if (const std::string* table = request.Query("table")) tables.push_back(*table);
  std::stop_source gone;
  responder.OnGone([gone]() mutable { gone.request_stop(); });
  std::stop_callback stopping(responder.stop_token(), [gone]() mutable { gone.request_stop(); });
  Status status = services.engine.Wait(*position, tables, *timeout_us, gone.get_token());
  if (!status.ok()) return responder.Send(Problem(status));
  HttpResponse response;
  response.body = "{\"position\":";
  AppendJsonString(response.body, position->ToString());
  response.body += '}';
  responder.Send(std::move(response));
}

}  // namespace

void AddQueryRoutes(Router& router, Services& services) {
  router.Add({.method = "POST",
              .path = "/v1/query",
              .lane = Lane::kLong,
              .summary = "Rows of one SELECT over tables, streams and system tables.",
              .takes = {"application/json"},
              .gives = {"application/json", "application/x-ndjson", "text/csv"},
              .handler = [&services](const HttpRequest& request, Responder responder) { PostQuery(services, request, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/tables",
              .summary = "All tables.",
              .handler = [&services](const HttpRequest&, Responder responder) { GetTables(services, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/tables/{table}",
              .lane = Lane::kLong,
              .summary = "Rows of a table. COLUMN=op.value filters: eq neq gt gte lt lte like ilike in is, not.*, or=(…).",
              .parameters = {{"select", "query", "columns"},
                             {"order", "query", "COLUMN.asc or COLUMN.desc, several by commas"},
                             {"limit", "query", "rows at most", "integer"},
                             {"offset", "query", "rows to pass over", "integer"},
                             {"wait", "query", "a position that the table must have reached"},
                             {"Prefer", "header", "count=exact: Content-Range tells the total"}},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetTable(services, request, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/tables/{table}/schema",
              .summary = "A table's columns, types and key.",
              .handler = [&services](const HttpRequest& request, Responder responder) { GetSchema(services, request, std::move(responder)); }});
  router.Add({.method = "DELETE",
              .path = "/v1/tables/{table}",
              .role = Role::kAdmin,
              .summary = "Drop a table that no pipeline writes.",
              .handler = [&services](const HttpRequest& request, Responder responder) { DeleteTable(services, request, std::move(responder)); }});
  router.Add({.method = "GET",
              .path = "/v1/wait",
              .lane = Lane::kLong,
              .summary = "Waits until what was taken in up to a position is delivered.",
              .parameters = {{"position", "query", "orders/0:17,1:9"}, {"table", "query", "only into this table"}, {"timeout", "query", "30s"}},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetWait(services, request, std::move(responder)); }});
}

}  // namespace millstream
