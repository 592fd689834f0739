// GET /v1/tap: server-sent events with a sample of what passes some places.
#include <charconv>

#include "base/text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"
#include "server/tap.h"

namespace millstream {
namespace {

constexpr uint64_t kRateDefault = 100;  // rows a second
constexpr uint64_t kRateMax = 10'000;
constexpr int kTurnsPerSecond = 10;
constexpr auto kTurn = std::chrono::milliseconds(1000 / kTurnsPerSecond);
constexpr size_t kPlacesMax = 16;

/// "100/s" or "100".
Result<uint64_t> ReadRate(const HttpRequest& request) {
  const std::string* text = request.Query("rate");
  if (text == nullptr) return kRateDefault;
  std::string_view number = *text;
  if (number.ends_with("/s")) number.remove_suffix(2);
  uint64_t rate = 0;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rate);
  if (error != std::errc() || end != number.data() + number.size() || rate == 0)
    return Fail(Invalid("rate: '{}' is not a rate, e.g. 100/s", *text));
  return std::min(rate, kRateMax);
}

struct OpenTap {
  std::string place;
  std::unique_ptr<Tap> tap;
  uint64_t events_left_out = 0, rows_left_out = 0;
};

Result<std::vector<OpenTap>> OpenTaps(Engine& engine, const HttpRequest& request) {
  std::vector<OpenTap> taps;
  const std::string* where = request.Query("where");
  for (const auto& [name, value] : request.query) {
    if (name != "at") continue;
    if (taps.size() >= kPlacesMax) return Fail(Invalid("at: at most {} places", kPlacesMax));
    ASSIGN_OR_FAIL(auto tap, Tap::Open(engine, value, where == nullptr ? "" : *where));
    taps.push_back({value, std::move(tap)});
  }
  if (taps.empty())
    return Fail(Invalid("at: which place? stream:S, PIPELINE, PIPELINE.FILTER or PIPELINE.SINK"));
  return taps;
}

void AppendLeftOut(std::string& out, OpenTap& tap) {
  if (tap.events_left_out == 0 && tap.rows_left_out == 0) return;
  out += "event: left_out\ndata: ";
  JsonObject(out)
      .Text("at", tap.place)
      .Number("events", tap.events_left_out)
      .Number("rows", tap.rows_left_out);
  out += "\n\n";
  tap.events_left_out = tap.rows_left_out = 0;
}

/// One look at every place.
Status TakeTurn(std::vector<OpenTap>& taps, size_t most, uint64_t& limit, std::stop_token stop,
                std::string& out) {
  for (OpenTap& tap : taps) {
    ASSIGN_OR_RETURN(Tap::Sample sample, tap.tap->Take(std::min<uint64_t>(most, limit), stop));
    tap.events_left_out += sample.events_left_out;
    tap.rows_left_out += sample.rows_left_out;
    for (const std::string& row : sample.rows) {
      out += "event: row\n";
      if (taps.size() > 1) out += "id: " + tap.place + "\n";
      out += "data: " + row + "\n\n";
    }
    limit -= sample.rows.size();
    if (!sample.fault.empty()) {
      out += "event: fault\ndata: ";
      AppendJsonString(out, sample.fault);
      out += "\n\n";
    }
  }
  return OkStatus();
}

void Watch(Engine& engine, const HttpRequest& request, Responder responder) {
  auto bad = [&](const Status& status) {
    responder.Send(status.code() == Code::kInvalid ? Problem(400, "bad_request", status.message())
                                                   : Problem(status));
  };
  auto rate = ReadRate(request);
  if (!rate) return bad(rate.error());
  auto limit = CountOf(request, "limit", UINT64_MAX);
  if (!limit) return bad(limit.error());
  auto taps = OpenTaps(engine, request);
  if (!taps) return bad(taps.error());

  std::stop_source stop;
  responder.OnGone([stop]() mutable { stop.request_stop(); });
  std::stop_callback on_stop(responder.stop_token(), [stop]() mutable { stop.request_stop(); });
  responder.Begin({200, "text/event-stream", {}, {{"Cache-Control", "no-store"}}});
  if (!responder.Write(": tapping\n\n").ok()) return;
  size_t most = std::max<size_t>(1, *rate / kTurnsPerSecond);
  std::mutex mutex;
  std::condition_variable_any wake;
  for (uint64_t turn = 1; *limit > 0 && !stop.stop_requested(); ++turn) {
    std::string out;
    Status status = TakeTurn(*taps, most, *limit, stop.get_token(), out);
    if (!status.ok()) {
      out += "event: problem\ndata: " + Problem(status).body + "\n\n";
      *limit = 0;
    }
    if (turn % kTurnsPerSecond == 0 || *limit == 0)
      for (OpenTap& tap : *taps) AppendLeftOut(out, tap);
    if (turn % (15 * kTurnsPerSecond) == 0) out += ": still here\n\n";
    if (!responder.Write(std::move(out)).ok()) return;
    std::unique_lock lock(mutex);
    wake.wait_for(lock, stop.get_token(), kTurn, [] { return false; });
  }
  responder.End();
}

}  // namespace

void AddTapRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add(
      {"GET",
       "/v1/tap",
       Role::kRead,
       Lane::kFeed,
       "A sample of what passes: server-sent events `row`, `left_out`, `fault`. Never slows the pipeline.",
       {{"at", "query", "stream:S, PIPELINE, PIPELINE.FILTER or PIPELINE.SINK; may stand several times"},
        {"rate", "query", "at most so many rows, e.g. 100/s"},
        {"limit", "query", "so many rows, then the end", "integer"},
        {"where", "query", "SQL condition over the rows"}},
       {},
       {"text/event-stream"},
       [&engine](const HttpRequest& request, Responder responder) {
         Watch(engine, request, std::move(responder));
       }});
}

}  // namespace millstream
