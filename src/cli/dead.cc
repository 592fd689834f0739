// millstream dead: the events that were refused, and why.
#include <array>
#include <cstdio>
#include <memory>

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
  for (const JsonView& letter : letters)
    lines.push_back({letter["number"].text(),
                     ShortTime(static_cast<int64_t>(letter["time_us"].number()), clock.WallUs()),
                     letter["at"].text(), letter["code"].text(), letter["event"].text(), ReasonOf(letter)});
  if (!lines.empty())
    std::fputs(LayOut({"N", "TIME", "AT", "CODE", "EVENT", "REASON"}, lines).c_str(), stdout);
  std::printf("%zu of %s.%s\n", lines.size(), FormatCount(document["total"].number()).c_str(),
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
  std::printf("  at      %s\n  event   %s\n  code    %s\n  reason  %s\n", letter["at"].text().c_str(),
              letter["event"].text().c_str(), letter["code"].text().c_str(), ReasonOf(letter).c_str());
  std::printf("  data    %s\n", letter["data_base64"].missing()
                                    ? data.c_str()
                                    : ("(base64) " + letter["data_base64"].text()).c_str());
  return kExitDone;
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
                 .Example("millstream dead list orders --since 1h", "what was refused in the last hour")
                 .Run([given](const Everywhere& everywhere) { return List(everywhere, *given); }));
  auto stream = std::make_shared<std::string>();
  auto number = std::make_shared<int64_t>(0);
  auto data = std::make_shared<bool>(false);
  auto text = std::make_shared<std::string>();
  verb.Below(Verb("show", "one dead letter, with the event's bytes")
                 .Argument("STREAM", stream.get(), "the stream")
                 .Argument("N", text.get(), "its number")
                 .Flag("--data", data.get(), "only the event's bytes")
                 .Example("millstream dead show orders 42 --data", "the event as it came")
                 .Run([stream, number, data, text](const Everywhere& everywhere) {
                   if (text->empty() || text->find_first_not_of("0123456789") != std::string::npos) {
                     Complain(Invalid("'{}' is not the number of a dead letter", *text));
                     return kExitUsage;
                   }
                   return Show(everywhere, *stream, std::strtoll(text->c_str(), nullptr, 10), *data);
                 }));
  return verb;
}

}  // namespace millstream
