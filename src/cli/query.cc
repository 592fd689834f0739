// millstream query: SQL over tables and streams, by a server or over the data folder.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/text.h"
#include "cli/local_client.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

struct QueryOptions {
  std::string sql, format = "table", wait, timeout;
  std::vector<std::string> parameters;
};

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
    if (equals == std::string::npos)
      return Fail(Invalid("--param {}: expected NAME=VALUE", given.parameters[i]));
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
        for (const auto& [key, value] :
             JsonMembers(column).value_or(std::vector<std::pair<std::string, std::string_view>>{}))
          if (key == "name") heading.push_back(CellText(value));
    } else if (name == "rows") {
      for (std::string_view row : JsonElements(text).value_or(std::vector<std::string_view>{})) {
        std::vector<std::string>& line = lines.emplace_back();
        for (const auto& [key, value] :
             JsonMembers(row).value_or(std::vector<std::pair<std::string, std::string_view>>{}))
          line.push_back(CellText(value));
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
  std::string accept = given.format == "ndjson" ? "application/x-ndjson"
                       : given.format == "csv"  ? "text/csv"
                                                : "application/json";
  request.headers = {"Content-Type: application/json", "Accept: " + accept};
  if (given.format != "table")
    request.on_data = [](std::string_view bytes) {
      return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size();
    };
  ASSIGN_OR_RETURN(HttpAnswer answer, server.Send(request));
  if (answer.status != 200) return StatusOfProblem(answer);
  if (given.format == "json") std::fputc('\n', stdout);
  return given.format == "table" ? PrintAnswerAsTable(answer.body) : OkStatus();
}

/// Without a server the data folder is only read: says how far each table is behind.
void TellLag(const Engine& engine) {
  for (const Engine::TableLag& lag : engine.TableLags())
    if (lag.events > 0)
      std::fprintf(stderr, "table %s is %s events behind stream %s (no server runs)\n", lag.table.c_str(),
                   FormatCount(lag.events).c_str(), lag.stream.c_str());
}

}  // namespace

Verb QueryVerb() {
  auto given = std::make_shared<QueryOptions>();
  Verb verb("query", "ask with SQL: tables, _streams.NAME, _pipelines, _filters, _dead_letters, _segments");
  verb.Argument("SQL", &given->sql, "the query, @FILE, or - for stdin")
      .Option("--format", &given->format, "FORMAT", "table, json, ndjson or csv")
      .Option("--param", &given->parameters, "NAME=VALUE", "value of $NAME; may stand several times")
      .Option("--wait", &given->wait, "POSITION",
              "wait until the tables have this position, e.g. orders/0:17,1:9")
      .Option("--timeout", &given->timeout, "TIME", "of all of it, the wait too, e.g. 5s")
      .Example("millstream query \"SELECT * FROM revenue ORDER BY gross DESC LIMIT 10\"", "rows of a table")
      .Example("millstream query 'SELECT count(*) FROM _streams.orders WHERE _partition = 0' --format csv",
               "events of a stream as rows")
      .Run([given](const Everywhere& everywhere) {
        if (everywhere.json) given->format = "json";
        if (given->format != "table" && given->format != "json" && given->format != "ndjson" &&
            given->format != "csv") {
          Complain(Invalid("--format {}: expected table, json, ndjson or csv", given->format));
          return kExitUsage;
        }
        auto sql = ReadSql(given->sql);
        if (!sql) return Complain(sql.error());
        auto body = RequestJson(*given, *sql);
        if (!body) return Complain(body.error());
        auto api = OpenApi(everywhere);
        if (!api) return Complain(api.error());
        if (auto* local = dynamic_cast<LocalClient*>(api->get()); local != nullptr && !everywhere.quiet)
          TellLag(local->engine());
        return Complain(QueryServer(**api, *given, *body));
      });
  return verb;
}

}  // namespace millstream
