// millstream dead: the events that were refused, and why.
#include <array>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

constexpr std::array<std::string_view, 9> kCodes{"json", "utf8", "depth", "size",    "contract",
                                                 "sql",  "exec", "sink",  "resource"};

struct ListOptions {
  std::string stream, since, code, filter;
  int64_t limit = 100;
  bool all_states = false;
};

std::string ReasonOf(const JsonView& letter) {
  std::string path = letter["path"].text();
  return path.empty() ? letter["reason"].text() : path + ": " + letter["reason"].text();
}

/// "12:03:11", with the date if it was not today.
std::string ShortTime(int64_t us, int64_t now_us) {
  std::string time = FormatTime(us);
  bool is_today = time.substr(0, 10) == FormatTime(now_us).substr(0, 10);
  return is_today ? time.substr(11, 8) : time.substr(0, 10) + " " + time.substr(11, 8);
}

int ListOne(const Everywhere& everywhere, HttpClient& api, const ListOptions& given,
            const std::string& stream) {
  std::string path = fmt::format("/v1/dead/{}?limit={}", UrlEncode(stream), given.limit);
  if (!given.since.empty()) path += "&since=" + UrlEncode(given.since);
  if (!given.code.empty()) path += "&code=" + UrlEncode(given.code);
  if (!given.filter.empty()) path += "&filter=" + UrlEncode(given.filter);
  if (given.all_states) path += "&state=all";
  auto body = CallServer(api, "GET", path);
  if (!body) return Complain(body.error());
  if (everywhere.json) {
    std::printf("%s\n", body->c_str());
    return kExitDone;
  }
  JsonView document(*body);
  std::vector<JsonView> letters = document["letters"].items();
  std::vector<std::vector<std::string>> lines;
  SystemClock clock;
  bool has_sinks = std::any_of(letters.begin(), letters.end(),
                               [](const JsonView& letter) { return !letter["sink"].text().empty(); });
  for (const JsonView& letter : letters) {
    lines.push_back({letter["number"].text(),
                     ShortTime(static_cast<int64_t>(letter["time_us"].number()), clock.WallUs()),
                     letter["at"].text(), letter["code"].text(), letter["event"].text(), ReasonOf(letter)});
    if (has_sinks) lines.back().insert(lines.back().begin() + 3, letter["sink"].text());
    if (given.all_states) lines.back().insert(lines.back().begin() + 1, letter["state"].text());
  }
  std::vector<std::string> head{"N", "TIME", "AT", "CODE", "EVENT", "REASON"};
  if (has_sinks) head.insert(head.begin() + 3, "SINK");
  if (given.all_states) head.insert(head.begin() + 1, "STATE");
  if (!lines.empty()) std::fputs(LayOut(head, lines).c_str(), stdout);
  uint64_t of = document[given.all_states ? "total" : "open"].number();
  std::printf("%zu of %s.%s\n", lines.size(), FormatCount(of).c_str(),
              lines.empty()
                  ? ""
                  : fmt::format(" {} dead show {} {}", Command(everywhere), stream, lines.back()[0]).c_str());
  return kExitDone;
}

int List(const Everywhere& everywhere, const ListOptions& given) {
  if (!given.code.empty() && std::find(kCodes.begin(), kCodes.end(), given.code) == kCodes.end()) {
    (void)Complain(Invalid("--code {}: expected one of {}", given.code, fmt::join(kCodes, ", ")));
    return kExitUsage;
  }
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  if (!given.stream.empty()) return ListOne(everywhere, **api, given, given.stream);
  auto status = CallServer(**api, "GET", "/v1/status");
  if (!status) return Complain(status.error());
  for (const JsonView& stream : JsonView(*status)["streams"].items()) {
    if (!everywhere.json) std::printf("%s:\n", stream["name"].text().c_str());
    if (int code = ListOne(everywhere, **api, given, stream["name"].text()); code != kExitDone) return code;
  }
  return kExitDone;
}

int Show(const Everywhere& everywhere, const std::string& stream, int64_t number, bool data_only) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  auto body = CallServer(**api, "GET", fmt::format("/v1/dead/{}/{}", UrlEncode(stream), number));
  if (!body) return Complain(body.error());
  JsonView letter(*body);
  if (everywhere.json) {
    std::printf("%s\n", body->c_str());
    return kExitDone;
  }
  std::string data = letter["data"].text();
  if (data_only) {
    std::fwrite(data.data(), 1, data.size(), stdout);
    std::fputc('\n', stdout);
    return kExitDone;
  }
  std::printf("dead letter %s of %s, %s\n", letter["number"].text().c_str(), stream.c_str(),
              FormatTime(static_cast<int64_t>(letter["time_us"].number())).c_str());
  std::printf("  state   %s\n  at      %s\n  event   %s\n  code    %s\n  reason  %s\n",
              letter["state"].text().c_str(), letter["at"].text().c_str(), letter["event"].text().c_str(),
              letter["code"].text().c_str(), ReasonOf(letter).c_str());
  if (!letter["replay_of"].missing())
    std::printf("  replay  of letter %s\n", letter["replay_of"].text().c_str());
  std::printf("  data    %s\n", letter["data_base64"].missing()
                                    ? data.c_str()
                                    : ("(base64) " + letter["data_base64"].text()).c_str());
  return kExitDone;
}

struct ActOptions {
  std::string stream, since, code, filter;
  std::vector<std::string> numbers;
  bool all = false;
};

/// The body of POST /v1/dead/S/replay and drop; nothing, after a complaint, if it does not say which.
std::optional<std::string> BodyOf(const ActOptions& given) {
  bool filters = !given.since.empty() || !given.code.empty() || !given.filter.empty();
  if (int(!given.numbers.empty()) + int(filters) + int(given.all) != 1) {
    (void)Complain(Invalid("which letters? Numbers, or --since, --code and --filter, or --all"));
    return std::nullopt;
  }
  if (!given.code.empty() && std::find(kCodes.begin(), kCodes.end(), given.code) == kCodes.end()) {
    (void)Complain(Invalid("--code {}: expected one of {}", given.code, fmt::join(kCodes, ", ")));
    return std::nullopt;
  }
  std::string body = "{";
  for (const std::string& number : given.numbers) {
    if (number.find_first_not_of("0123456789") != std::string::npos || number.size() > 18) {
      (void)Complain(Invalid("'{}' is not the number of a dead letter", number));
      return std::nullopt;
    }
    body += (body.size() == 1 ? "\"ids\":[" : ",") + number;
  }
  if (!given.numbers.empty()) body += ']';
  if (given.all) body += "\"all\":true";
  for (const auto& [name, value] :
       {std::pair("since", given.since), {"code", given.code}, {"filter", given.filter}}) {
    if (value.empty()) continue;
    if (body.size() > 1) body += ',';
    body += fmt::format("\"{}\":", name);
    AppendJsonString(body, value);
  }
  return body + "}";
}

int Act(const Everywhere& everywhere, const ActOptions& given, const std::string& action) {
  auto body = BodyOf(given);
  if (!body) return kExitUsage;
  auto api = OpenApi(everywhere, false);
  if (!api) return Complain(api.error());
  auto answer =
      CallServer(**api, "POST", fmt::format("/v1/dead/{}/{}", UrlEncode(given.stream), action), *body);
  if (!answer) return Complain(answer.error());
  JsonView document(*answer);
  uint64_t letters = document["letters"].number(), left = document["left"].number();
  uint64_t refused = document["refused"].number();
  bool none_came = letters == 0 ? left > 0 : refused == letters;
  int code = none_came ? kExitNo : kExitDone;
  if (everywhere.json) {
    std::printf("%s\n", answer->c_str());
    return code;
  }
  std::string state = document["state"].text();
  std::string line = fmt::format("{} dead letter{} of {} {}", FormatCount(letters), letters == 1 ? "" : "s",
                                 given.stream, state);
  if (std::string position = document["position"].text(); !position.empty())
    line += ", appended up to " + position;
  if (refused > 0)
    line += fmt::format(", {} refused again ({} dead list {})", FormatCount(refused), Command(everywhere),
                        given.stream);
  if (std::string reason = document["reason"].text(); !reason.empty()) line += "; it waits: " + reason;
  std::printf("%s\n", line.c_str());
  for (const JsonView& sink : document["late"].items())
    std::printf("late: in %s they stand after newer events\n", sink.text().c_str());
  for (const JsonView& letter : document["left_letters"].items())
    std::printf("left: %s: %s\n", letter["number"].text().c_str(), letter["reason"].text().c_str());
  if (left > document["left_letters"].items().size())
    std::printf("left: %s more\n", FormatCount(left - document["left_letters"].items().size()).c_str());
  if (!document["more"].missing()) std::printf("there are more: call it again\n");
  return code;
}

Verb ActVerb(const std::string& action, const std::string& summary, const std::string& about) {
  auto given = std::make_shared<ActOptions>();
  return Verb(action, summary)
      .Argument("STREAM", &given->stream, "the stream")
      .Arguments("N", &given->numbers, "their numbers")
      .Option("--since", &given->since, "TIME", "those since then: RFC 3339, or a duration ago")
      .Option("--code", &given->code, "CODE", "those with this code")
      .Option("--filter", &given->filter, "P.F", "those of one filter, of P.SINK, or of ingest")
      .Flag("--all", &given->all, "all that are open")
      .About(about)
      .Example(fmt::format("millstream dead {} orders 41 42", action), "two of them")
      .Example(fmt::format("millstream dead {} orders --filter revenue.gross --since 1h", action),
               "what one filter refused in the last hour")
      .Run([given, action](const Everywhere& everywhere) { return Act(everywhere, *given, action); });
}

}  // namespace

Verb DeadVerb() {
  Verb verb("dead", "the events that were refused, and why");
  auto given = std::make_shared<ListOptions>();
  verb.Below(Verb("list", "the newest dead letters")
                 .Argument("STREAM", &given->stream, "of this stream (default: all)", false)
                 .Option("--since", &given->since, "TIME", "RFC 3339, or a duration ago, e.g. 1h")
                 .Option("--code", &given->code, "CODE",
                         "json, utf8, depth, size, contract, sql, exec, sink or resource")
                 .Option("--filter", &given->filter, "P.F", "those of one filter")
                 .Option("--limit", &given->limit, "N", "so many at most")
                 .Flag("--all", &given->all_states, "those that were sent again or dropped too")
                 .Example("millstream dead list orders --since 1h", "what was refused in the last hour")
                 .InSandbox()
                 .Run([given](const Everywhere& everywhere) { return List(everywhere, *given); }));
  auto stream = std::make_shared<std::string>();
  auto number = std::make_shared<int64_t>(0);
  auto data = std::make_shared<bool>(false);
  auto text = std::make_shared<std::string>();
  verb.Below(Verb("show", "one dead letter, with the event's bytes")
                 .Argument("STREAM", stream.get(), "the stream")
                 .Argument("N", text.get(), "its number")
                 .Flag("--bytes", data.get(), "only the event's bytes")
                 .Example("millstream dead show orders 42 --bytes", "the event as it came")
                 .InSandbox()
                 .Run([stream, number, data, text](const Everywhere& everywhere) {
                   if (text->empty() || text->find_first_not_of("0123456789") != std::string::npos) {
                     Complain(Invalid("'{}' is not the number of a dead letter", *text));
                     return kExitUsage;
                   }
                   return Show(everywhere, *stream, std::strtoll(text->c_str(), nullptr, 10), *data);
                 }));
  verb.Below(
      ActVerb("replay", "send dead letters again",
              "What ingest refused is appended anew at the end of the stream, through the contract as it "
              "is now. What a filter or a sink refused goes through the pipeline's live version to that "
              "sink alone, with the order that it had. What is refused again is a new letter."));
  verb.Below(
      ActVerb("drop", "count dead letters no more", "They stay in the log; `dead list --all` shows them."));
  return verb;
}

}  // namespace millstream
