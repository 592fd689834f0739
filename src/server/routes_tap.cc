// GET /v1/tap: a sample of what passes a place, with a reader and filters of its own, so that it never slows the pipeline.
#include <algorithm>

#include "base/text.h"
#include "event/json_scan.h"
#include "server/problem.h"
#include "server/routes.h"
#include "sql/chunk_json.h"
#include "sql/filter_chain.h"

namespace millstream {
namespace {

constexpr uint64_t kDefaultRate = 100;       // rows a second
constexpr uint64_t kSampleEvents = 1'000;    // looked at in one go; what came beyond it is left out
constexpr int64_t kLookUs = 100'000;

struct TapPlace {
  std::string text;
  StreamConfig stream;
  std::vector<SqlFilter> filters;
};

Result<TapPlace> FindPlace(const Project& project, const std::string& text) {
  TapPlace place;
  place.text = text;
  if (text.starts_with("stream:")) {
    const StreamConfig* stream = project.FindStream(text.substr(7));
    if (stream == nullptr) return Fail(NotFound("no stream '{}'", text.substr(7)));
    place.stream = *stream;
    return place;
  }
  size_t dot = text.find('.');
  auto pipeline = project.pipelines.find(text.substr(0, dot));
  if (pipeline == project.pipelines.end()) {
    std::vector<std::string> names;
    for (const auto& [name, config] : project.pipelines) names.push_back(name);
    std::string nearest = Nearest(text.substr(0, dot), names);
    return Fail(NotFound("no pipeline '{}'{}; for a stream: stream:NAME", text.substr(0, dot), nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest)));
  }
  place.stream = project.streams.at(pipeline->second.stream);
  std::string part = dot == std::string::npos ? "" : text.substr(dot + 1);
  bool found = part.empty();
  for (const SinkConfig& sink : pipeline->second.sinks) found = found || sink.id == part;
  bool is_filter = !found;
  for (const FilterConfig& filter : pipeline->second.filters) {
    if (filter.kind != "sql") return Fail(Invalid("{} runs '{}', which is no SQL: a tap cannot run it beside", pipeline->first, filter.name));
    place.filters.push_back({filter.name, filter.sql});
    if (is_filter && filter.name == part) {
      found = true;
      break;
    }
  }
  if (!found) return Fail(NotFound("pipeline '{}' has no filter or sink '{}'", pipeline->first, part));
  return place;
}

/// Follows one place from now on.
class Tap {
 public:
  Tap(Engine& engine, TapPlace place, Stream& stream) : engine_(engine), place_(std::move(place)), stream_(stream) {}

  Status Open(const std::string& where) {
    if (!where.empty()) place_.filters.push_back({"where", "SELECT * FROM input WHERE " + where});
    ChainInput input{place_.stream.shape.name, place_.stream.shape.contract, {"/v1/streams/" + place_.stream.shape.name, place_.stream.shape.name}, {}};
    ASSIGN_OR_RETURN(chain_, FilterChain::Make(engine_.database(), input, place_.filters, {}));
    for (uint32_t p = 0; p < stream_.partitions(); ++p) next_.push_back(stream_.partition(p).bounds().durable_end);
    return OkStatus();
  }

  /// Rows of what came since the last call, at most `most`; counts what it left out.
  Status Look(uint64_t most, uint64_t& left_out, const std::function<Status(std::string)>& give) {
    for (uint32_t p = 0; p < stream_.partitions(); ++p) {
      uint64_t end = stream_.partition(p).bounds().durable_end;
      if (next_[p] >= end) continue;
      if (end - next_[p] > kSampleEvents) {
        left_out += end - next_[p] - kSampleEvents;
        next_[p] = end - kSampleEvents;
      }
      ASSIGN_OR_RETURN(auto reader, stream_.partition(p).Read(next_[p]));
      while (next_[p] < end) {
        ASSIGN_OR_RETURN(auto batch, reader->Next());
        if (!batch) break;
        if (batch->count() == 0) continue;
        uint64_t base = batch->place().base_offset;
        BatchRange range{batch.get(), next_[p] > base ? static_cast<uint32_t>(next_[p] - base) : 0, batch->count()};
        next_[p] = batch->end_offset();
        std::vector<uint64_t> counts(place_.filters.size());
        auto rows = chain_->Run(std::span(&range, 1), counts);
        if (!rows) {
          // The pipeline itself makes dead letters of these; a sample passes them over.
          left_out += range.end - range.begin;
          continue;
        }
        RETURN_IF_ERROR(Give(*rows, most, left_out, give));
      }
    }
    return OkStatus();
  }

 private:
  Status Give(const RowBatch& rows, uint64_t& most, uint64_t& left_out, const std::function<Status(std::string)>& give) {
    for (const Chunk& chunk : rows.chunks) {
      JsonWriter json = MakeJsonWriter(chunk);
      for (uint32_t row = 0; row < chunk.rows(); ++row) {
        if (most == 0) {
          ++left_out;
          continue;
        }
        --most;
        std::string text = "{";
        for (uint32_t c = 0; c < chain_->columns().size(); ++c) {
          if (c > 0) text += ',';
          AppendJsonString(text, chain_->columns()[c].name);
          text += ':';
          json.Append(text, chunk, c, row);
        }
        RETURN_IF_ERROR(give(text + "}"));
      }
    }
    return OkStatus();
  }

  Engine& engine_;
  TapPlace place_;
  Stream& stream_;
  std::unique_ptr<FilterChain> chain_;
  std::vector<uint64_t> next_;
};

void GetTap(Services& services, const HttpRequest& request, Responder responder) {
  std::shared_ptr<const Project> project = services.engine.project();
  auto limit = NumberParameter(request, "limit", UINT64_MAX);
  if (!limit) return responder.Send(Problem(400, "bad_request", limit.error().message()));
  uint64_t rate = kDefaultRate;
  if (const std::string* text = request.Query("rate")) {
    rate = std::strtoull(text->c_str(), nullptr, 10);
    if (rate == 0) return responder.Send(Problem(400, "bad_request", fmt::format("rate={}: expected rows a second, e.g. 100/s", *text)));
  }
  const std::string* where = request.Query("where");
  std::vector<std::pair<std::string, std::unique_ptr<Tap>>> taps;
  for (const auto& [name, value] : request.query) {
    if (name != "at") continue;
    auto place = FindPlace(*project, value);
    if (!place) return responder.Send(Problem(place.error()));
    Stream* stream = services.engine.log().Find(place->stream.shape.name);
    if (stream == nullptr) return responder.Send(Problem(NotFound("no stream '{}'", place->stream.shape.name)));
    taps.emplace_back(value, std::make_unique<Tap>(services.engine, std::move(*place), *stream));
    if (Status status = taps.back().second->Open(where == nullptr ? "" : *where); !status.ok()) return responder.Send(Problem(status));
  }
  if (taps.empty()) return responder.Send(Problem(400, "bad_request", "at is wanted: stream:S, PIPELINE, PIPELINE.FILTER or PIPELINE.SINK"));
  responder.Begin({200, "text/event-stream", "", {{"Cache-Control", "no-store"}}});
  if (!responder.Write(": tapping\n\n").ok()) return responder.Abort();
  uint64_t sent = 0;
  double allowance = static_cast<double>(rate);
  int64_t last_ns = services.engine.clock().MonotonicNs(), told_ns = last_ns;
  uint64_t left_out = 0, told = 0;
  while (sent < *limit && !responder.stop_token().stop_requested()) {
    int64_t now_ns = services.engine.clock().MonotonicNs();
    allowance = std::min(static_cast<double>(rate), allowance + static_cast<double>(now_ns - last_ns) * 1e-9 * static_cast<double>(rate));
    last_ns = now_ns;
    for (auto& [text, tap] : taps) {
      uint64_t most = std::min<uint64_t>(static_cast<uint64_t>(allowance), *limit - sent);
      Status status = tap->Look(most, left_out, [&](std::string row) {
        ++sent;
        allowance -= 1;
        return responder.Write("data: " + row + "\n\n");
      });
      if (!status.ok()) return responder.Abort();
    }
    if (left_out > told && now_ns - told_ns > 1'000'000'000) {
      if (!responder.Write(fmt::format("event: left_out\ndata: {}\n\n", left_out - told)).ok()) return responder.Abort();
      told = left_out;
      told_ns = now_ns;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(kLookUs));
  }
  responder.End();
}

}  // namespace

void AddTapRoutes(Router& router, Services& services) {
  router.Add({.method = "GET",
              .path = "/v1/tap",
              .lane = Lane::kLong,
              .summary = "A sample of what passes a place, as server-sent events; `left_out` events say what the sample lacks.",
              .parameters = {{"at", "query", "stream:S, PIPELINE, PIPELINE.FILTER or PIPELINE.SINK; may stand several times"},
                             {"limit", "query", "rows, then the end", "integer"},
                             {"rate", "query", "rows a second at most, e.g. 100/s"},
                             {"where", "query", "SQL condition over the rows"}},
              .gives = {"text/event-stream"},
              .handler = [&services](const HttpRequest& request, Responder responder) { GetTap(services, request, std::move(responder)); }});
}

}  // namespace millstream
