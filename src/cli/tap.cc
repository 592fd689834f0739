// millstream tap: a sample of what passes a place.
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

struct TapOptions {
  std::vector<std::string> places;
  int64_t limit = 0;
  std::string rate, where;
};

/// Takes server-sent events apart: what follows `data:` is a row, `event: left_out` says what the sample
/// lacks.
class EventLines {
 public:
  explicit EventLines(int64_t limit) : limit_(limit) {}

  /// False: enough.
  bool Take(std::string_view bytes) {
    pending_.append(bytes);
    size_t begin = 0;
    for (size_t end; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string_view line(pending_.data() + begin, end - begin);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (line.starts_with("event:")) kind_ = Trim(line.substr(6));
      if (line.empty()) kind_.clear();
      if (!line.starts_with("data:")) continue;
      std::string text(Trim(line.substr(5)));
      if (!kind_.empty() && kind_ != "message" && kind_ != "row") {
        std::fprintf(stderr, "%s: %s\n", kind_.c_str(), text.c_str());
        continue;
      }
      std::printf("%s\n", text.c_str());
      std::fflush(stdout);
      if (limit_ > 0 && ++shown_ >= limit_) return false;
    }
    pending_.erase(0, begin);
    return true;
  }

 private:
  const int64_t limit_;
  int64_t shown_ = 0;
  std::string pending_, kind_;
};

int Tap(const Everywhere& everywhere, const TapOptions& given) {
  auto target = FindTarget(everywhere);
  if (!target) return Complain(target.error());
  if (!target->server)
    return Complain(Unavailable("nothing flows: no server runs for this project (millstream run)"));
  HttpClient::Request request;
  request.path = "/v1/tap?";
  for (const std::string& place : given.places) request.path += "at=" + UrlEncode(place) + "&";
  if (given.limit > 0) request.path += fmt::format("limit={}&", given.limit);
  if (!given.rate.empty()) request.path += "rate=" + UrlEncode(given.rate) + "&";
  if (!given.where.empty()) request.path += "where=" + UrlEncode(given.where) + "&";
  request.path.pop_back();
  request.headers = {"Accept: text/event-stream"};
  EventLines lines(given.limit);
  request.on_data = [&](std::string_view bytes) { return lines.Take(bytes); };
  auto answer = target->server->Send(request);
  if (!answer) return Complain(answer.error());
  return answer->status == 200 ? kExitDone : Complain(StatusOfProblem(*answer));
}

}  // namespace

Verb TapVerb() {
  auto given = std::make_shared<TapOptions>();
  Verb verb("tap", "watch a sample of what passes a place");
  verb.Arguments("PLACE", &given->places, "stream:S, PIPELINE, PIPELINE.FILTER or PIPELINE.SINK", true)
      .Option("--limit", &given->limit, "N", "so many rows, then exit")
      .Option("--rate", &given->rate, "RATE", "at most so many, e.g. 100/s")
      .Option("--where", &given->where, "SQL", "only rows for which this holds")
      .About("Never slows the pipeline; says on stderr what it left out.")
      .Example("millstream tap revenue.gross --limit 10",
               "ten rows that the filter gross of the pipeline revenue gives")
      .InSandbox()
      .Run([given](const Everywhere& everywhere) { return Tap(everywhere, *given); });
  return verb;
}

}  // namespace millstream
