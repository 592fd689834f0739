#include "cli/demo_show.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "base/text.h"
#include "cli/demo_files.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "event/csv.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr int kRounds = 20;                            // how often the bundled webhooks arrive
constexpr int kRoundsAfter = 2;                        // and after a filter was changed
constexpr auto kPause = std::chrono::milliseconds(1);  // between two of them, so that it can be watched
constexpr size_t kColumns = 80;
constexpr int64_t kWaitUs = 10'000'000;
constexpr auto kDemoLookEvery = std::chrono::milliseconds(20);

constexpr char kChanged[] =
    "SELECT ce_type AS event, sender, repository, stars, split_part(repository, '/', 1) AS owner, "
    "split_part(ce_type, '.', 1) AS kind FROM input";
constexpr char kReplayed[] = "SELECT split_part(ce_type, '.', 1) AS kind, stars FROM input";
constexpr char kInto[] = "{table: {name: by_kind, key: kind, values: {events: count(*), stars: max(stars)}}}";
constexpr char kPastQuestion[] =
    "SELECT count(*) AS events, count(DISTINCT event) AS kinds_of_event FROM activity";

}  // namespace

Screen::Screen(const std::string& color) : color_(WantsColor(color, STDOUT_FILENO)) {}

void Screen::Title(const std::string& text) const {
  std::printf("\n%s%s%s\n", color_ ? "\033[1m" : "", text.c_str(), color_ ? "\033[0m" : "");
}

void Screen::Text(std::string_view text) const {
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    size_t gap = end > kColumns - 2 ? text.rfind("  ", kColumns - 2) : std::string_view::npos;
    size_t shown = gap == std::string_view::npos || gap == 0 ? end : gap;
    std::printf("  %.*s\n", static_cast<int>(shown), text.data());
    text.remove_prefix(std::min(shown + (shown == end ? 1 : 2), text.size()));
  }
  std::fflush(stdout);
}

void Screen::Typed(std::string_view text) const {
  std::string lines, line = ">";
  for (std::string_view word : Split(text, ' ')) {
    if (line.size() + 1 + word.size() > kColumns - 2) {
      lines += line + "\n";
      line = "   ";
    }
    line += ' ';
    line += word;
  }
  Text(lines + line);
}

Result<IngestAnswer> DemoShow::Send(const std::string& stream, BodyFormat format, std::string_view body) {
  std::string padded(body);
  padded.append(kJsonPadding, '\0');
  IngestRequest request;
  request.stream = stream;
  request.format = format;
  request.body = std::string_view(padded.data(), body.size());
  auto answer = engine_.IngestAndWait(request);
  if (!answer) return Fail(answer.error().status);
  return std::move(*answer);
}

/// The users file, row by row as JSON.
Result<std::string> DemoShow::UsersAsJson() {
  CsvReader reader({}, engine_.project()->streams.at("users").shape.contract);
  std::string lines;
  size_t at = 0;
  while (auto row = reader.Next(DemoUsers(), &at, true)) {
    if (!row->fault.empty()) return Fail(Invalid("users.csv: {}", row->fault));
    lines += row->json;
    lines += '\n';
  }
  return lines;
}

Result<std::string> DemoShow::Ask(std::string_view sql, std::string_view more, std::string* answer) {
  std::string body = fmt::format("{{\"sql\":{}{}}}", JsonString(sql), more);
  ASSIGN_OR_FAIL(std::string text, CallServer(api_, "POST", "/v1/query", body));
  JsonView document(text);
  std::vector<std::string> heading;
  for (const JsonView& column : document["columns"].items()) heading.push_back(column["name"].text());
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& row : document["rows"].items()) {
    std::vector<std::string>& line = lines.emplace_back();
    for (const std::string& name : heading) line.push_back(row[name].text());
  }
  if (answer != nullptr) *answer = text;
  return LayOut(heading, lines);
}

/// Sends the webhooks round after round, one request each; `sent` learns of each.
Status DemoShow::SendWebhooks(int rounds, const std::function<void(uint64_t, std::string_view)>& sent) {
  uint64_t count = 0;
  for (int round = 0; round < rounds && !signals_.received(); ++round) {
    for (std::string_view line : Split(DemoWebhooks(), '\n')) {
      if (line.empty() || signals_.received()) continue;
      ASSIGN_OR_RETURN(IngestAnswer answer, Send("webhooks", BodyFormat::kCloudEvent, line));
      count += answer.accepted;
      for (const auto& [partition, offset] : answer.position.offsets) sent_.offsets[partition] = offset;
      sent_.stream = "webhooks";
      sent(count, line);
    }
  }
  return OkStatus();
}

Status DemoShow::Arrive() {
  screen_.Title("1  Events arrive");
  ProgressLine progress(false);
  uint64_t all = 0;
  int64_t begun_ns = clock_.MonotonicNs();
  RETURN_IF_ERROR(SendWebhooks(kRounds, [&](uint64_t count, std::string_view line) {
    all = count;
    auto table = engine_.tables().Find("activity");
    progress.Show(fmt::format("  {} events in, table activity {} rows   {}", FormatCount(count),
                              FormatCount(table ? table->rows : 0), JsonView(line)["type"].text()));
    if (progress.visible()) std::this_thread::sleep_for(kPause);
  }));
  double seconds = static_cast<double>(clock_.MonotonicNs() - begun_ns) / 1e9;
  progress.Clear();
  screen_.Text(fmt::format(
      "{} webhooks, one request each, every one durable before its answer:\n"
      "{:.1f} s, {}/s",
      FormatCount(all), seconds, FormatCount(static_cast<uint64_t>(static_cast<double>(all) / seconds))));
  if (signals_.received()) return OkStatus();
  ASSIGN_OR_RETURN(std::string users, UsersAsJson());
  ASSIGN_OR_RETURN(IngestAnswer answer, Send("users", BodyFormat::kNdjson, users));
  screen_.Text(fmt::format("{} users from users.csv", answer.accepted));
  ASSIGN_OR_RETURN(IngestAnswer bad, Send("users", BodyFormat::kNdjson, "{\"firstName\":\"nobody\"}\n"));
  screen_.Text(fmt::format("{} that breaks the contract, kept as a dead letter:\n{}", bad.quarantined,
                           bad.faults.at(0).message));
  RETURN_IF_ERROR(engine_.Wait(sent_, {}, kWaitUs, signals_.token()));
  return engine_.Wait(answer.position, {}, kWaitUs, signals_.token());
}

Status DemoShow::Filters() {
  screen_.Title("2  Filters work while events flow");
  std::vector<std::vector<std::string>> lines;
  for (const PipelineStatus& pipeline : engine_.TakeStatus().pipelines)
    for (const FilterStatus& filter : pipeline.filters)
      lines.push_back({pipeline.name + "." + filter.name, FormatCount(filter.in), FormatCount(filter.out)});
  screen_.Text(LayOut({"FILTER", "IN", "OUT"}, lines));
  return OkStatus();
}

Status DemoShow::Tables() {
  screen_.Title("3  Tables answer");
  for (const char* sql : {"SELECT event, count(*) AS n, max(stars) AS stars FROM activity GROUP BY event "
                          "ORDER BY n DESC, event LIMIT 4",
                          "SELECT sender, events FROM by_sender ORDER BY events DESC, sender LIMIT 3",
                          "SELECT * FROM people ORDER BY id"}) {
    screen_.Typed(sql);
    ASSIGN_OR_RETURN(std::string rows, Ask(sql));
    screen_.Text(rows);
  }
  return OkStatus();
}

/// A filter gets another column while a thread sends events; afterwards each row tells which version made it.
Status DemoShow::Change() {
  screen_.Title("4  A filter changes while events flow");
  screen_.Typed(fmt::format("millstream filter set activity named \"{}\"", kChanged));
  std::atomic<bool> flows{false}, changed{false};
  Status flow;
  Result<std::string> answer;
  {
    std::jthread sender([&] {
      while (flow.ok() && !changed && !signals_.received()) {
        flow = SendWebhooks(1, [](uint64_t, std::string_view) {});
        flows = true;
      }
      flows = true;
      if (flow.ok()) flow = SendWebhooks(kRoundsAfter, [](uint64_t, std::string_view) {});
    });
    while (!flows) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    answer = CallServer(api_, "PUT", "/v1/pipelines/activity/filters/named", kChanged, "application/sql");
    changed = true;
  }
  RETURN_IF_ERROR(flow);
  if (signals_.received()) return OkStatus();
  if (!answer) return answer.error();
  JsonView change = JsonView(*answer)["changes"].items().at(0);
  ASSIGN_OR_RETURN(boundary_, ParsePosition(change["from"].text()));
  screen_.Text(fmt::format("~ {}  {}  from {} on\ncommits were held for {:.1f} ms", change["path"].text(),
                           change["how"].text(), boundary_.ToString(), change["held_us"].real() / 1000));
  RETURN_IF_ERROR(engine_.Wait(sent_, {}, kWaitUs, signals_.token()));
  std::string is_new = "false";
  for (const auto& [partition, offset] : boundary_.offsets)
    is_new += fmt::format(" OR _partition = {} AND _offset >= {}", partition, offset);
  ASSIGN_OR_RETURN(std::string rows,
                   Ask(fmt::format("SELECT CASE WHEN {} THEN {} ELSE 1 END AS version, count(*) AS rows, "
                                   "count(kind) AS with_kind FROM activity GROUP BY 1 ORDER BY 1",
                                   is_new, JsonView(*answer)["version"].number())));
  screen_.Text("rows by the version that owns their event's offset:");
  screen_.Text(rows);
  return OkStatus();
}

Status DemoShow::Replay() {
  screen_.Title("5  History runs through a new filter, into another table");
  screen_.Typed(
      fmt::format("millstream replay start activity --set \"named={}\" --into \"{}\"", kReplayed, kInto));
  Faults faults;
  std::string into = ToJson(ParseYaml(kInto, "into", faults));
  ASSIGN_OR_RETURN(
      std::string started,
      CallServer(api_, "POST", "/v1/replays",
                 fmt::format("{{\"pipeline\":\"activity\",\"set\":{{\"named\":{}}},\"into\":{}}}",
                             JsonString(kReplayed), into)));
  std::string path = "/v1/replays/" + JsonView(started)["id"].text();
  int64_t begun_ns = clock_.MonotonicNs();
  std::string text;
  for (std::string state = "running"; state == "running" && !signals_.received();) {
    ASSIGN_OR_RETURN(text, CallServer(api_, "GET", path));
    state = JsonView(text)["state"].text();
    if (state == "failed") return Internal("the replay: {}", JsonView(text)["reason"].text());
    if (state == "running") std::this_thread::sleep_for(kDemoLookEvery);
  }
  if (signals_.received()) return OkStatus();
  screen_.Text(fmt::format("{} of {} events, {:.1f} s, beside the live pipelines",
                           FormatCount(JsonView(text)["done"].number()),
                           FormatCount(JsonView(text)["total"].number()),
                           static_cast<double>(clock_.MonotonicNs() - begun_ns) / 1e9));
  const char* sql = "SELECT kind, events, stars FROM by_kind ORDER BY events DESC, kind LIMIT 4";
  screen_.Typed(sql);
  ASSIGN_OR_RETURN(std::string rows, Ask(sql));
  screen_.Text(rows);
  return OkStatus();
}

/// The same question, of now and of the moment before the filter changed.
Status DemoShow::Past() {
  screen_.Title("6  The past answers");
  Position before = boundary_;
  for (auto& [partition, offset] : before.offsets) --offset;  // both partitions had events by then
  screen_.Typed(fmt::format("millstream query \"{}\"", kPastQuestion));
  ASSIGN_OR_RETURN(std::string now, Ask(kPastQuestion));
  screen_.Text(now);
  screen_.Typed(fmt::format("millstream query \"{}\" --as-of {}", kPastQuestion, before.ToString()));
  std::string answer;
  ASSIGN_OR_RETURN(std::string then,
                   Ask(kPastQuestion, ",\"as_of\":" + JsonString(before.ToString()), &answer));
  screen_.Text(then);
  JsonView ground = JsonView(answer)["as_of"];
  screen_.Text(fmt::format("made again from {} events by version {} of activity",
                           FormatCount(ground["events"].number()),
                           ground["versions"]["activity"].items().at(0).text()));
  return OkStatus();
}

Status DemoShow::Run() {
  for (auto act : {&DemoShow::Arrive, &DemoShow::Filters, &DemoShow::Tables, &DemoShow::Change,
                   &DemoShow::Replay, &DemoShow::Past}) {
    if (signals_.received()) return OkStatus();
    RETURN_IF_ERROR((this->*act)());
  }
  screen_.Title("7  How it runs");
  screen_.Text(TopText(engine_.TakeStatus()));
  return OkStatus();
}

}  // namespace millstream
