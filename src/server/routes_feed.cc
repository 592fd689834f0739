// GET /v1/streams/{stream}/events: events from the log, as NDJSON of CloudEvents or as server-sent events.
#include <algorithm>

#include "event/cloudevents.h"
#include "server/http_text.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr int64_t kKeepAliveUs = 10'000'000;  // a comment line so often, so that a dead client is noticed
constexpr int64_t kLookUs = 200'000;
constexpr size_t kPieceBytes = 64 << 10;

struct FeedRequest {
  std::map<uint32_t, uint64_t> from, to;  // next offsets; `to` exclusive
  uint64_t limit = UINT64_MAX;
  bool follow = false, sse = false;
};

Result<FeedRequest> ReadFeedRequest(Engine& engine, Stream& stream, const HttpRequest& request) {
  FeedRequest feed;
  const std::string* from = request.Query("from");
  ASSIGN_OR_FAIL(feed.from, ResolvePlace(engine, stream, from == nullptr ? "earliest" : *from, false));
  for (uint32_t p = 0; p < stream.partitions(); ++p)
    if (!feed.from.contains(p)) feed.from[p] = stream.partition(p).bounds().start;
  if (const std::string* last = request.Header("last-event-id"); last != nullptr && !last->empty()) {
    ASSIGN_OR_FAIL(auto resumed, ResolvePlace(engine, stream, *last, true));
    for (const auto& [partition, next] : resumed) feed.from[partition] = next;
  }
  if (const std::string* to = request.Query("to")) {
    ASSIGN_OR_FAIL(feed.to, ResolvePlace(engine, stream, *to, false));
  }
  ASSIGN_OR_FAIL(feed.limit, NumberParameter(request, "limit", UINT64_MAX));
  const std::string* follow = request.Query("follow");
  auto accepted = Negotiate(request.Header("accept"), {"application/x-ndjson", "text/event-stream", "application/json"});
  feed.sse = accepted == 1u;
  feed.follow = feed.sse ? follow == nullptr || *follow != "false" : follow != nullptr && *follow == "true";
  return feed;
}

/// Sends events of all partitions in turns; ends at the durable end unless it follows.
class Feed {
 public:
  Feed(Stream& stream, FeedRequest request, Responder& responder) : stream_(stream), request_(std::move(request)), responder_(responder) {}

  Status Run() {
    for (uint32_t p = 0; p < stream_.partitions(); ++p) {
      ASSIGN_OR_RETURN(auto reader, stream_.partition(p).Read(request_.from[p]));
      readers_.push_back(std::move(reader));
    }
    int64_t quiet_us = 0;
    while (sent_ < request_.limit && !responder_.stop_token().stop_requested()) {
      bool moved = false;
      for (uint32_t p = 0; p < stream_.partitions() && sent_ < request_.limit; ++p) {
        ASSIGN_OR_RETURN(bool some, SendBatch(p));
        moved = moved || some;
      }
      RETURN_IF_ERROR(Flush());
      if (moved) {
        quiet_us = 0;
        continue;
      }
      if (!request_.follow) return OkStatus();
      stream_.partition(0).WaitBeyond(request_.from[0], kLookUs, responder_.stop_token());
      if ((quiet_us += kLookUs) < kKeepAliveUs) continue;
      quiet_us = 0;
      RETURN_IF_ERROR(responder_.Write(request_.sse ? ": nothing new\n\n" : "\n"));
    }
    return OkStatus();
  }

 private:
  Result<bool> SendBatch(uint32_t p) {
    auto to = request_.to.find(p);
    uint64_t end = to == request_.to.end() ? UINT64_MAX : to->second;
    if (request_.from[p] >= end) return false;
    ASSIGN_OR_FAIL(auto batch, readers_[p]->Next());
    if (!batch || batch->count() == 0) return batch != nullptr;
    ASSIGN_OR_FAIL(CloudEventWriter writer, CloudEventWriter::Make(*batch, "/v1/streams/" + stream_.name(), stream_.name()));
    for (uint32_t row = 0; row < batch->count() && sent_ < request_.limit; ++row) {
      uint64_t offset = batch->place().base_offset + row;
      if (offset < request_.from[p]) continue;
      if (offset >= end) break;
      request_.from[p] = offset + 1;
      if (request_.sse) out_ += "id: " + Place() + "\ndata: ";
      writer.Append(out_, row);
      out_ += request_.sse ? "\n\n" : "\n";
      ++sent_;
      if (out_.size() >= kPieceBytes) FAIL_IF_ERROR(Flush());
    }
    return true;
  }

  /// The id to resume with: the last event of every partition that has sent one.
  std::string Place() const {
    Position position{stream_.name(), {}};
    for (const auto& [partition, next] : request_.from)
      if (next > 0) position.offsets[partition] = next - 1;
    return position.ToString();
  }

  Status Flush() {
    if (out_.empty()) return OkStatus();
    Status status = responder_.Write(std::move(out_));
    out_.clear();
    return status;
  }

  Stream& stream_;
  FeedRequest request_;
  Responder& responder_;
  std::vector<std::unique_ptr<PartitionReader>> readers_;
  std::string out_;
  uint64_t sent_ = 0;
};

void GetEvents(Services& services, const HttpRequest& request, Responder responder) {
  Stream* stream = services.engine.log().Find(request.PathValue("stream"));
  if (stream == nullptr) return responder.Send(Problem(NotFound("no stream '{}'", request.PathValue("stream"))));
  auto feed = ReadFeedRequest(services.engine, *stream, request);
  if (!feed) return responder.Send(Problem(feed.error()));
  bool sse = feed->sse;
  responder.Begin({200, sse ? "text/event-stream" : "application/x-ndjson", "", {{"Cache-Control", "no-store"}}});
  Status status = Feed(*stream, std::move(*feed), responder).Run();
  if (status.ok()) return responder.End();
  responder.Abort();
}

}  // namespace

void AddFeedRoutes(Router& router, Services& services) {
  router.Add({.method = "GET",
              .path = "/v1/streams/{stream}/events",
              .role = Role::kRead,
              .lane = Lane::kLong,
              .summary = "Events of a stream as CloudEvents with the extensions partition, offset and ingestedat.",
              .parameters = {{"from", "query", "earliest, latest, a position, a time, or a duration ago; inclusive"},
                             {"to", "query", "the same; exclusive"},
                             {"limit", "query", "so many at most", "integer"},
                             {"follow", "query", "wait for more", "boolean"},
                             {"Last-Event-ID", "header", "resume after this position (server-sent events)"}},
              .gives = {"application/x-ndjson", "text/event-stream"},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetEvents(services, request, std::move(responder)); }});
}

}  // namespace millstream
