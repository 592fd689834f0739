// Events out: GET /v1/streams/{stream}/events as NDJSON or server-sent events.
#include <algorithm>

#include "base/text.h"
#include "server/event_feed.h"
#include "server/http_text.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr size_t kEventsPieceBytes = 64 << 10;
constexpr int64_t kKeepAliveUs = 15'000'000;  // server-sent events: a comment after so long without one

/// The first offset of each partition at or after a place: POSITION (inclusive), time, earliest, latest.
Status ReadPlace(Engine& engine, Stream& stream, const std::string& text,
                 std::map<uint32_t, uint64_t>& offsets) {
  if (text == "earliest") return OkStatus();
  if (std::count(text.begin(), text.end(), '/') > 0) {
    ASSIGN_OR_RETURN(Position position, ParsePosition(text));
    if (position.stream != stream.name()) return Invalid("'{}' is a position of another stream", text);
    for (const auto& [partition, offset] : position.offsets) {
      if (partition >= stream.partitions())
        return Invalid("stream '{}' has {} partitions", stream.name(), stream.partitions());
      offsets[partition] = offset;
    }
    return OkStatus();
  }
  std::optional<int64_t> time_us;
  if (text != "latest") {
    ASSIGN_OR_RETURN(time_us, ParseTimeOrAgo(text, engine.clock()));
  }
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    if (!time_us) {
      offsets[p] = stream.partition(p).bounds().durable_end;
      continue;
    }
    ASSIGN_OR_RETURN(offsets[p], stream.partition(p).OffsetForTime(*time_us - 1));
  }
  return OkStatus();
}

Result<FeedRange> ReadRange(Engine& engine, Stream& stream, const HttpRequest& request, bool is_sse) {
  FeedRange range;
  if (const std::string* from = request.Query("from"))
    FAIL_IF_ERROR(ReadPlace(engine, stream, *from, range.from));
  if (const std::string* to = request.Query("to")) FAIL_IF_ERROR(ReadPlace(engine, stream, *to, range.to));
  if (const std::string* last = request.Header("last-event-id");
      is_sse && last != nullptr && !last->empty()) {
    range.from.clear();  // up to and with these the client has them; of the others it has none
    FAIL_IF_ERROR(ReadPlace(engine, stream, *last, range.from));
    for (auto& [partition, offset] : range.from) ++offset;
  }
  // Server-sent events are for who stays.
  const std::string* follow = request.Query("follow");
  bool follows = follow == nullptr ? is_sse : *follow != "false";
  if (!follows)
    for (uint32_t p = 0; p < stream.partitions(); ++p)
      range.to.try_emplace(p, stream.partition(p).bounds().durable_end);
  return range;
}

/// Writes events until the end, the limit, or the client's leave.
class FeedAnswer {
 public:
  FeedAnswer(EventFeed& feed, uint64_t limit, bool is_sse, Responder& responder)
      : feed_(feed), left_(limit), is_sse_(is_sse), responder_(responder) {
    responder_.OnGone([stop = stop_]() mutable { stop.request_stop(); });
    on_stop_.emplace(responder_.stop_token(), [stop = stop_]() mutable { stop.request_stop(); });
  }

  /// kOk: the answer is whole.
  Status Run() {
    while (left_ > 0 && !stop_.stop_requested()) {
      std::string out;
      RETURN_IF_ERROR(Gather(out));
      if (out.empty()) {
        if (feed_.AtEnd()) break;
        auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kKeepAliveUs);
        feed_.Wait(kKeepAliveUs, stop_.get_token());
        if (!is_sse_ || std::chrono::steady_clock::now() < until) continue;
        out = ": still here\n\n";
      }
      RETURN_IF_ERROR(responder_.Write(std::move(out)));
    }
    return OkStatus();
  }

 private:
  /// The events that are there, up to a piece.
  Status Gather(std::string& out) {
    while (left_ > 0 && out.size() < kEventsPieceBytes) {
      event_.clear();
      ASSIGN_OR_RETURN(bool is_there, feed_.Append(event_));
      if (!is_there) return OkStatus();
      --left_;
      if (is_sse_) out += "id: " + feed_.position().ToString() + "\ndata: ";
      for (char& c : event_)
        if (c == '\n' || c == '\r')
          c = ' ';  // white space between JSON's tokens; inside a string it is escaped
      out += event_;
      out += is_sse_ ? "\n\n" : "\n";
    }
    return OkStatus();
  }

  EventFeed& feed_;
  uint64_t left_;
  const bool is_sse_;
  Responder& responder_;
  std::stop_source stop_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;
  std::string event_;
};

void Events(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& name = request.PathValue("stream");
  Stream* stream = engine.FindStream(name);
  if (stream == nullptr) return responder.Send(NotThere("stream", name, StreamNames(engine)));
  auto format = Negotiate(request.Header("accept"), {"application/x-ndjson", "text/event-stream"});
  if (!format)
    return responder.Send(
        Problem(406, "not_acceptable", "Accept: application/x-ndjson or text/event-stream"));
  bool is_sse = *format == 1;
  auto limit = CountOf(request, "limit", UINT64_MAX);
  if (!limit) return responder.Send(Problem(400, "bad_request", limit.error().message()));
  auto range = ReadRange(engine, *stream, request, is_sse);
  if (!range)
    return responder.Send(range.error().code() == Code::kInvalid
                              ? Problem(400, "bad_request", range.error().message())
                              : Problem(range.error()));
  auto feed = EventFeed::Open(*stream, std::move(*range));
  if (!feed) return responder.Send(Problem(feed.error()));

  HttpResponse head{200, is_sse ? "text/event-stream" : "application/x-ndjson", {}};
  head.headers.emplace_back("Cache-Control", "no-store");
  responder.Begin(std::move(head));
  Status status = FeedAnswer(**feed, *limit, is_sse, responder).Run();
  if (status.ok()) return responder.End();
  if (is_sse && status.code() != Code::kCancelled) {  // a reader of events can be told why
    std::string out = "event: problem\ndata: " + Problem(status).body + "\n\n";
    if (!responder.Write(std::move(out)).ok()) return;
  }
  responder.Abort();
}

}  // namespace

void AddEventRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"GET",
              "/v1/streams/{stream}/events",
              Role::kRead,
              Lane::kFeed,
              "Events as CloudEvents with partition, offset, ingestedat; NDJSON, or server-sent events whose "
              "id is the position.",
              {{"from", "query", "position, time, duration ago, earliest (default) or latest; inclusive"},
               {"to", "query", "the same; exclusive"},
               {"limit", "query", "at most so many", "integer"},
               {"follow", "query", "true: go on with what comes; server-sent events do unless it is false",
                "boolean"},
               {"Last-Event-ID", "header", "server-sent events: resume behind this id"}},
              {},
              {"application/x-ndjson", "text/event-stream"},
              [&engine](const HttpRequest& request, Responder responder) {
                Events(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
