// millstream query: SQL over tables and streams, by a server or over the data folder.
#include <boost/json.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/text.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "query/query.h"

namespace millstream {
namespace {

struct QueryOptions {
  std::string sql, format = "table", wait, timeout;
  std::vector<std::string> parameters;
};

constexpr size_t kTableRows = 100'000;  // laid out at once; beyond it: ndjson or csv

/// The text of a query: itself, @FILE, or - for stdin.
Result<std::string> ReadSql(const std::string& given) {
  if (given == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  if (given.starts_with("@")) {
    PosixFileSystem fs;
    return ReadFile(fs, given.substr(1));
  }
  return given;
}

/// The body of POST /v1/query.
Result<std::string> RequestJson(const QueryOptions& given, const std::string& sql) {
  std::string json = "{\"sql\":";
  AppendJsonString(json, sql);
  json += ",\"params\":{";
  for (size_t i = 0; i < given.parameters.size(); ++i) {
    size_t equals = given.parameters[i].find('=');
    if (equals == std::string::npos) return Fail(Invalid("--param {}: expected NAME=VALUE", given.parameters[i]));
    if (i > 0) json += ',';
    AppendJsonString(json, given.parameters[i].substr(0, equals));
    json += ':';
    AppendJsonString(json, given.parameters[i].substr(equals + 1));
  }
  json += '}';
  if (!given.wait.empty()) {
    json += ",\"wait\":";
    AppendJsonString(json, given.wait);
  }
  if (!given.timeout.empty()) {
    json += ",\"timeout\":";
    AppendJsonString(json, given.timeout);
  }
  return json + "}";
}

/// The text of a JSON value in a table: strings without quotes, null as nothing.
std::string CellText(std::string_view json) {
  if (json == "null") return "";
  if (!json.starts_with('"')) return std::string(json);
  std::string scratch;
  JsonValue value{JsonKind::kString, json.find('\\') != std::string_view::npos, json};
  return std::string(JsonStringValue(value, scratch));
}

/// Lays out {"columns":[…],"rows":[…]} as a table of text.
Status PrintAnswerAsTable(const std::string& answer) {
  auto members = JsonMembers(answer);
  if (!members) return Internal("the answer is not a JSON object");
  std::vector<std::string> heading;
  std::vector<std::vector<std::string>> lines;
  for (const auto& [name, text] : *members) {
    if (name == "columns") {
      for (std::string_view column : JsonElements(text).value_or(std::vector<std::string_view>{}))
        for (const auto& [key, value] : JsonMembers(column).value_or(std::vector<std::pair<std::string, std::string_view>>{}))
          if (key == "name") heading.push_back(CellText(value));
    } else if (name == "rows") {
      for (std::string_view row : JsonElements(text).value_or(std::vector<std::string_view>{})) {
        std::vector<std::string>& line = lines.emplace_back();
        for (const auto& [key, value] : JsonMembers(row).value_or(std::vector<std::pair<std::string, std::string_view>>{})) line.push_back(CellText(value));
      }
    }
  }
  std::fputs(LayOut(heading, lines).c_str(), stdout);
  return OkStatus();
}

Status QueryServer(HttpClient& server, const QueryOptions& given, const std::string& body) {
  HttpClient::Request request;
  request.method = "POST";
  request.path = "/v1/query";
  request.body = body;
  std::string accept = given.format == "ndjson" ? "application/x-ndjson" : given.format == "csv" ? "text/csv" : "application/json";
  request.headers = {"Content-Type: application/json", "Accept: " + accept};
  if (given.format != "table")
    request.on_data = [](std::string_view bytes) { return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size(); };
  ASSIGN_OR_RETURN(HttpAnswer answer, server.Send(request));
  if (answer.status != 200) return StatusOfProblem(answer);
  if (given.format == "json") std::fputc('\n', stdout);
  return given.format == "table" ? PrintAnswerAsTable(answer.body) : OkStatus();
}

Status PrintRows(RunningQuery& query, const std::string& format) {
  JsonWriter writer = query.MakeJsonWriter();
  const std::vector<ColumnInfo>& columns = query.columns();
  std::vector<std::string> heading;
  std::vector<std::vector<std::string>> lines;
  for (const ColumnInfo& column : columns) heading.push_back(column.name);
  std::string out;
  if (format == "csv") {
    for (size_t i = 0; i < columns.size(); ++i) out += (i > 0 ? "," : "") + CsvCell(columns[i].name);
    out += '\n';
  } else if (format == "json") {
    out += "{\"columns\":[";
    for (size_t i = 0; i < columns.size(); ++i) {
      out += i > 0 ? ",{\"name\":" : "{\"name\":";
      AppendJsonString(out, columns[i].name);
      out += ",\"type\":";
      AppendJsonString(out, columns[i].type);
      out += '}';
    }
    out += "],\"rows\":[";
  }
  bool is_first = true;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Chunk> chunk, query.Next());
    if (!chunk) break;
    for (uint32_t row = 0; row < chunk->rows(); ++row) {
      if (format == "table") {
        if (lines.size() == kTableRows) return Exhausted("more than {} rows; use --format ndjson or csv, or a LIMIT", kTableRows);
        std::vector<std::string>& line = lines.emplace_back(columns.size());
        for (uint32_t c = 0; c < columns.size(); ++c) writer.AppendText(line[c], *chunk, c, row);
      } else if (format == "csv") {
        for (uint32_t c = 0; c < columns.size(); ++c) {
          std::string cell;
          writer.AppendText(cell, *chunk, c, row);
          out += (c > 0 ? "," : "") + CsvCell(cell);
        }
        out += '\n';
      } else {
        if (format == "json" && !is_first) out += ',';
        for (uint32_t c = 0; c < columns.size(); ++c) {
          out += c > 0 ? ',' : '{';
          AppendJsonString(out, columns[c].name);
          out += ':';
          writer.Append(out, *chunk, c, row);
        }
        out += format == "json" ? "}" : "}\n";
      }
      is_first = false;
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
    out.clear();
  }
  if (format == "table") out = LayOut(heading, lines);
  if (format == "json") out += "]}\n";
  std::fwrite(out.data(), 1, out.size(), stdout);
  return OkStatus();
}

/// Without a server the data folder is only read: says how far each table is behind.
void TellLag(Engine& engine) {
  for (const Engine::TableLag& lag : engine.TableLags())
    if (lag.events > 0) std::fprintf(stderr, "table %s is %s events behind stream %s (no server runs)\n", lag.table.c_str(), FormatCount(lag.events).c_str(), lag.stream.c_str());
}

Status QueryHere(const Everywhere& everywhere, const QueryOptions& given, const std::string& sql, const std::string& project_directory) {
  Machine machine;
  Logger logger;
  ASSIGN_OR_RETURN(auto engine, OpenEngine(everywhere, machine, logger, project_directory, true));
  if (!everywhere.quiet) TellLag(*engine);
  QueryRequest request;
  request.sql = sql;
  for (const std::string& parameter : given.parameters) request.parameters[parameter.substr(0, parameter.find('='))] = parameter.substr(parameter.find('=') + 1);
  if (!given.timeout.empty()) {
    ASSIGN_OR_RETURN(request.timeout_us, ParseDurationUs(given.timeout));
  }
  QueryRunner runner(*engine);
  SqlFault fault;
  auto query = runner.Start(request, &fault);
  if (!query) return query.error();
  return PrintRows(**query, given.format);
}

}  // namespace

Verb QueryVerb() {
  auto given = std::make_shared<QueryOptions>();
  Verb verb("query", "ask with SQL: tables, _streams.NAME, _pipelines, _filters, _dead_letters, _segments");
  verb.Argument("SQL", &given->sql, "the query, @FILE, or - for stdin")
      .Option("--format", &given->format, "FORMAT", "table, json, ndjson or csv")
      .Option("--param", &given->parameters, "NAME=VALUE", "value of $NAME; may stand several times")
      .Option("--wait", &given->wait, "POSITION", "wait until the tables have this position, e.g. orders/0:17,1:9")
      .Option("--timeout", &given->timeout, "TIME", "of all of it, the wait too, e.g. 5s")
      .Example("millstream query \"SELECT * FROM revenue ORDER BY gross DESC LIMIT 10\"", "rows of a table")
      .Example("millstream query 'SELECT count(*) FROM _streams.orders WHERE _partition = 0' --format csv", "events of a stream as rows")
      .Run([given](const Everywhere& everywhere) {
        if (everywhere.json) given->format = "json";
        if (given->format != "table" && given->format != "json" && given->format != "ndjson" && given->format != "csv") {
          Complain(Invalid("--format {}: expected table, json, ndjson or csv", given->format));
          return kExitUsage;
        }
        auto sql = ReadSql(given->sql);
        if (!sql) return Complain(sql.error());
        auto body = RequestJson(*given, *sql);
        if (!body) return Complain(body.error());
        auto target = FindTarget(everywhere);
        if (!target) return Complain(target.error());
        if (target->server) return Complain(QueryServer(*target->server, *given, *body));
        return Complain(QueryHere(everywhere, *given, *sql, target->project_directory));
      });
  return verb;
}

}  // namespace millstream
