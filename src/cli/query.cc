// millstream query: SQL over tables and streams, by a server or over the data folder.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

struct QueryOptions {
  std::string sql, format = "table", wait, timeout, as_of;
  bool as_now = false, quiet = false;
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
  if (!given.as_of.empty()) {
    json += ",\"as_of\":";
    AppendJsonString(json, given.as_of);
  }
  if (given.as_now) json += ",\"as_now\":true";
  return json + "}";
}

/// Says on a terminal how far the history is that runs to answer, until the answer comes. A thread of its
/// own.
class PastProgress {
 public:
  PastProgress(const Everywhere& everywhere, HttpClient& api) : line_(everywhere.quiet) {
    auto* inside = dynamic_cast<SandboxClient*>(&api);
    auto* local = dynamic_cast<LocalClient*>(inside != nullptr ? &inside->client() : &api);
    // A sandbox without a server is opened by the question itself.
    if (!line_.visible() || (local != nullptr && inside != nullptr)) return;
    std::shared_ptr<const Engine> engine = local == nullptr ? nullptr : local->engine("");
    thread_ = std::jthread([this, everywhere, engine](std::stop_token stop) {
      std::unique_ptr<HttpClient> own;  // one connection asks one thing at a time
      while (Pause(stop)) {
        std::pair<uint64_t, uint64_t> sum;
        if (engine) {
          sum = Sum(*engine);
        } else {
          if (!own)
            if (auto opened = OpenApi(everywhere)) own = std::move(*opened);
          if (own)
            if (auto body = CallServer(*own, "GET", "/v1/past")) sum = Sum(JsonView(*body));
        }
        auto [done, total] = sum;
        if (stop.stop_requested()) return;
        if (total == 0)
          line_.Clear();
        else
          line_.Show(done < total
                         ? fmt::format("the past: {} of {} events, {:.0f} %", FormatCount(done),
                                       FormatCount(total),
                                       100.0 * static_cast<double>(done) / static_cast<double>(total))
                         : fmt::format("the past: {} events; putting rows together", FormatCount(total)));
      }
    });
  }
  ~PastProgress() {
    thread_ = {};
    line_.Clear();
  }
  PastProgress(const PastProgress&) = delete;
  PastProgress& operator=(const PastProgress&) = delete;

 private:
  static constexpr auto kEvery = std::chrono::milliseconds(250);

  bool Pause(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, kEvery, [] { return false; });
    return !stop.stop_requested();
  }
  static std::pair<uint64_t, uint64_t> Sum(const Engine& engine) {
    std::pair<uint64_t, uint64_t> sum;
    for (const auto& place : engine.PastPlaces())
      if (!place->is_answered) sum.first += place->done, sum.second += place->total;
    return sum;
  }
  static std::pair<uint64_t, uint64_t> Sum(const JsonView& places) {
    std::pair<uint64_t, uint64_t> sum;
    for (const JsonView& place : places.items())
      sum.first += place["done"].number(), sum.second += place["total"].number();
    return sum;
  }

  ProgressLine line_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

std::string CellText(std::string_view json);

/// What an answer about the past stands on, for people.
void TellGround(const std::string& ground) {
  std::string line = "as of ";
  std::vector<std::string> notes;
  for (const auto& [name, value] :
       JsonMembers(ground).value_or(std::vector<std::pair<std::string, std::string_view>>{})) {
    if (name == "time") line += CellText(value);
    if (name == "run") line += CellText(value) == "as_now" ? ", by the pipelines of today" : "";
    if (name == "positions" || name == "versions") {
      for (const auto& [of, what] :
           JsonMembers(value).value_or(std::vector<std::pair<std::string, std::string_view>>{})) {
        if (name == "positions")
          line += fmt::format(", {}", what == "\"\"" ? "no event of " + of : CellText(what));
        else
          line += fmt::format(", {} by version {}", of, what.substr(1, what.size() - 2));
      }
    }
    if (name == "not_reproducible")
      for (std::string_view note : JsonElements(value).value_or(std::vector<std::string_view>{}))
        notes.push_back(CellText(note));
    if (name == "events")
      line += fmt::format("; {} events", FormatCount(std::strtoull(std::string(value).c_str(), nullptr, 10)));
    if (name == "dead_letters" && value != "0") line += fmt::format(", {} refused", value);
    if (name == "seconds") line += fmt::format(" in {} s", value);
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  for (const std::string& note : notes) std::fprintf(stderr, "not reproducible: %s\n", note.c_str());
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

Status QueryServer(const Everywhere& everywhere, HttpClient& server, const QueryOptions& given,
                   const std::string& body) {
  HttpClient::Request request;
  request.method = "POST";
  request.path = "/v1/query";
  request.body = body;
  std::string accept = given.format == "ndjson" ? "application/x-ndjson"
                       : given.format == "csv"  ? "text/csv"
                                                : "application/json";
  request.headers = {"Content-Type: application/json", "Accept: " + accept};
  std::optional<PastProgress> progress;
  if (given.format != "table")
    request.on_data = [&progress](std::string_view bytes) {
      progress.reset();
      return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size();
    };
  if (!given.as_of.empty()) progress.emplace(everywhere, server);
  auto sent = server.Send(request);
  progress.reset();
  if (!sent) return sent.error();
  HttpAnswer answer = std::move(*sent);
  if (answer.status != 200) return StatusOfProblem(answer);
  if (auto ground = answer.headers.find("millstream-as-of"); ground != answer.headers.end() && !given.quiet)
    TellGround(ground->second);
  if (given.format == "json") std::fputc('\n', stdout);
  return given.format == "table" ? PrintAnswerAsTable(answer.body) : OkStatus();
}

/// Without a server the data folder is only read: says how far each table is behind.
void TellLag(const Engine& engine) {
  for (const Engine::TableLag& lag : engine.TableLags())
    if (lag.events > 0)
      std::fprintf(stderr, "table %s is %s event%s behind stream %s (no server runs)\n", lag.table.c_str(),
                   FormatCount(lag.events).c_str(), lag.events == 1 ? "" : "s", lag.stream.c_str());
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
      .Option("--as-of", &given->as_of, "TIME|POSITION",
              "answer from the past: RFC 3339, a duration ago (2h), or up to and with an event (orders/0:17)")
      .Flag("--as-now", &given->as_now, "with --as-of: tables as today's pipelines make them of those events")
      .Example("millstream query 'SELECT count(*) FROM revenue' --as-of 2h",
               "what the table held two hours ago")
      .Example("millstream query 'SELECT count(*) FROM _streams.orders WHERE _partition = 0' --format csv",
               "events of a stream as rows")
      .InSandbox()
      .Run([given](const Everywhere& everywhere) {
        if (everywhere.json) given->format = "json";
        given->quiet = everywhere.quiet;
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
        auto* inside = dynamic_cast<SandboxClient*>(api->get());
        if (auto* local = dynamic_cast<LocalClient*>(inside != nullptr ? &inside->client() : api->get());
            local != nullptr && !everywhere.quiet && given->as_of.empty())
          if (auto engine = local->engine(everywhere.sandbox)) TellLag(*engine);
        return Complain(QueryServer(everywhere, **api, *given, *body));
      });
  return verb;
}

}  // namespace millstream
