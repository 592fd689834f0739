// millstream preview: what other filters would make of the same history.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

struct PreviewOptions {
  std::string pipeline, since, timeout;
  std::vector<std::string> set;
  int64_t last = 10'000, rows = 20;
  bool expect_same = false;
};

Result<std::string> BodyOf(const PreviewOptions& given) {
  std::string body = "{\"pipeline\":";
  AppendJsonString(body, given.pipeline);
  body += ",\"set\":{";
  std::string_view separator;
  for (const std::string& each : given.set) {
    size_t equals = each.find('=');
    if (equals == std::string::npos)
      return Fail(Invalid("--set {}: expected FILTER=SQL or FILTER=@FILE", each));
    std::string sql = each.substr(equals + 1);
    if (sql.starts_with('@')) {
      PosixFileSystem fs;
      ASSIGN_OR_FAIL(sql, ReadFile(fs, sql.substr(1)));
    } else if (sql == "-") {
      sql = std::string(std::istreambuf_iterator<char>(std::cin), {});
    }
    body += std::exchange(separator, ",");
    AppendJsonString(body, each.substr(0, equals));
    body += ':';
    AppendJsonString(body, sql);
  }
  body += fmt::format("}},\"last\":{},\"rows\":{}", std::max<int64_t>(0, given.last),
                      std::max<int64_t>(0, given.rows));
  if (!given.since.empty()) {
    body += ",\"since\":";
    AppendJsonString(body, given.since);
  }
  if (!given.timeout.empty()) {
    body += ",\"timeout\":";
    AppendJsonString(body, given.timeout);
  }
  return body + "}";
}

void PrintRows(const char* sign, const JsonView& side) {
  for (const JsonView& row : side["rows"].items())
    std::printf("%s %s\n", sign, std::string(row.raw()).c_str());
}

std::string Names(const JsonView& list) {
  std::string names;
  for (const JsonView& name : list.items()) names += (names.empty() ? "" : ", ") + name.text();
  return names;
}

void PrintTable(const JsonView& table) {
  std::printf("%s: %s added, %s removed, %s changed\n", table["table"].text().c_str(),
              FormatCount(table["added"]["count"].number()).c_str(),
              FormatCount(table["removed"]["count"].number()).c_str(),
              FormatCount(table["changed"]["count"].number()).c_str());
  if (std::string names = Names(table["columns_added"]); !names.empty())
    std::printf("new columns: %s\n", names.c_str());
  if (std::string names = Names(table["columns_removed"]); !names.empty())
    std::printf("columns that go: %s\n", names.c_str());
  PrintRows("+", table["added"]);
  PrintRows("-", table["removed"]);
  for (const JsonView& row : table["changed"]["rows"].items())
    std::printf("~ %s %s\n", std::string(row["key"].raw()).c_str(),
                std::string(row["columns"].raw()).c_str());
}

int Preview(const Everywhere& everywhere, const PreviewOptions& given) {
  auto body = BodyOf(given);
  if (!body) return Complain(body.error()), kExitUsage;
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto answered = CallServer(**api, "POST", "/v1/preview", *body);
  if (!answered) return Complain(answered.error());
  JsonView answer(*answered);
  int code = given.expect_same && answer["same"].text() != "true" ? kExitNo : kExitDone;
  if (everywhere.json) {
    std::printf("%s\n", answered->c_str());
    return code;
  }
  std::printf("%s over %s events, %s to before %s\n", given.pipeline.c_str(),
              FormatCount(answer["events"].number()).c_str(), answer["from"].text().c_str(),
              answer["to"].text().c_str());
  for (const JsonView& table : answer["tables"].items()) PrintTable(table);
  const JsonView letters = answer["dead_letters"];
  std::printf("dead letters: %s before, %s now\n", FormatCount(letters["old"].number()).c_str(),
              FormatCount(letters["new"].number()).c_str());
  for (const JsonView& letter : letters["rows"].items())
    std::printf("! %s %s: %s\n", letter["at"].text().c_str(), letter["event"].text().c_str(),
                letter["reason"].text().c_str());
  std::printf("cost of an event: %s ns before, %s ns now\n", answer["cost"]["old_ns"].text().c_str(),
              answer["cost"]["new_ns"].text().c_str());
  for (const JsonView& note : answer["not_reproducible"].items())
    std::fprintf(stderr, "not reproducible: %s\n", note.text().c_str());
  return code;
}

}  // namespace

Verb PreviewVerb() {
  auto given = std::make_shared<PreviewOptions>();
  Verb verb("preview", "what other filters would make of the same history: rows, dead letters, cost");
  verb.Argument("PIPELINE", &given->pipeline, "the pipeline")
      .Option("--set", &given->set, "FILTER=SQL",
              "a filter's new SQL, @FILE, or - for stdin; may stand several times")
      .Option("--last", &given->last, "N", "over the last so many events, as many of each partition (10000)")
      .Option("--since", &given->since, "TIME|POSITION", "over the events since then, in place of --last")
      .Option("--rows", &given->rows, "N", "rows that are shown of each kind (20)")
      .Option("--timeout", &given->timeout, "TIME", "of all of it, e.g. 5m (server.query.deadline)")
      .Flag("--expect-same", &given->expect_same, "exit with 1 if anything differs")
      .Example("millstream preview revenue --set \"gross=SELECT *, amount * 1.2 AS gross FROM input\"",
               "before it is applied")
      .Example("millstream preview revenue --set gross=@filters/gross.sql --since 24h --expect-same",
               "that a rewritten filter does the same")
      .Run([given](const Everywhere& everywhere) { return Preview(everywhere, *given); });
  return verb;
}

}  // namespace millstream
