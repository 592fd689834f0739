#include "server/tap.h"

#include "event/cloudevents.h"
#include "sql/chunk_builder.h"

namespace millstream {
namespace {

// A filter may pass few of many: so many more events are read than rows are shown.
constexpr size_t kEventsPerRow = 20;

struct TapPlace {
  std::string stream;
  PipelineConfig pipeline;  // its filters up to the place; none: the stream itself
};

Result<TapPlace> FindPlace(const Project& project, const std::string& text) {
  TapPlace place;
  if (text.starts_with("stream:")) {
    place.stream = text.substr(7);
    if (project.FindStream(place.stream) == nullptr) return Fail(NotFound("no stream '{}'", place.stream));
    place.pipeline.name = "tap";
    place.pipeline.stream = place.stream;
    return place;
  }
  std::string name = text.substr(0, text.find('.'));
  auto found = project.pipelines.find(name);
  if (found == project.pipelines.end()) {
    std::vector<std::string> names;
    for (const auto& [each, config] : project.pipelines) names.push_back(each);
    std::string nearest = Nearest(name, names);
    return Fail(NotFound("no pipeline '{}'{}; a stream is stream:NAME", name,
                         nearest.empty() ? "" : fmt::format(", perhaps '{}'", nearest)));
  }
  place.stream = found->second.stream;
  place.pipeline = found->second;
  if (name.size() == text.size()) return place;
  std::string rest = text.substr(name.size() + 1);
  std::vector<FilterConfig>& filters = place.pipeline.filters;
  for (size_t i = 0; i < filters.size(); ++i) {
    if (filters[i].name != rest) continue;
    filters.resize(i + 1);
    return place;
  }
  for (const SinkConfig& sink : place.pipeline.sinks)
    if (sink.id == rest) return place;
  return Fail(NotFound("pipeline '{}' has no filter or sink '{}'", name, rest));
}

}  // namespace

Result<std::unique_ptr<Tap>> Tap::Open(Engine& engine, const std::string& text, const std::string& where) {
  std::shared_ptr<const Project> project = engine.project();
  ASSIGN_OR_FAIL(TapPlace place, FindPlace(*project, text));
  Stream* stream = engine.log().Find(place.stream);
  if (stream == nullptr) return Fail(NotFound("no stream '{}'", place.stream));
  for (const FilterConfig& filter : place.pipeline.filters)
    if (filter.kind != "sql")
      return Fail(
          Invalid("filter '{}' is of kind {}: a tap would run it a second time; tap a place before it",
                  filter.name, filter.kind));
  if (!where.empty()) {
    FilterConfig& filter = place.pipeline.filters.emplace_back();
    filter.name = "where";
    filter.kind = "sql";
    filter.sql = "SELECT * FROM input WHERE (" + where + "\n)";
  }
  std::unique_ptr<Tap> tap(new Tap);
  tap->stream_ = place.stream;
  for (uint32_t p = 0; p < stream->partitions(); ++p)
    tap->parts_.push_back({&stream->partition(p), stream->partition(p).bounds().durable_end});
  if (text.starts_with("stream:") && where.empty()) return tap;
  RunnerContext context;
  context.database = &engine.database();
  context.registry = &engine.registry();
  context.clock = &engine.clock();
  context.project_directory = project->directory;
  ASSIGN_OR_FAIL(tap->runner_,
                 PipelineRunner::Make(context, place.pipeline, *project->FindStream(place.stream)));
  return tap;
}

Status Tap::Sift(EventBatch& batch, uint32_t begin, uint32_t end, size_t most, std::stop_token stop,
                 Sample& sample) {
  if (!runner_) {
    ASSIGN_OR_RETURN(CloudEventWriter writer,
                     CloudEventWriter::Make(batch, "/v1/streams/" + stream_, stream_));
    for (uint32_t row = begin; row < end; ++row) {
      if (sample.rows.size() >= most)
        ++sample.rows_left_out;
      else
        writer.Append(sample.rows.emplace_back(), row);
    }
    return OkStatus();
  }
  BatchRange range{&batch, begin, end};
  auto rows = runner_->Run({&range, 1}, stop);
  if (!rows && rows.error().code() == Code::kInvalid && end - begin > 1) {  // the bad event alone is told
    uint32_t middle = begin + (end - begin) / 2;
    RETURN_IF_ERROR(Sift(batch, begin, middle, most, stop, sample));
    return Sift(batch, middle, end, most, stop, sample);
  }
  if (!rows && rows.error().code() == Code::kInvalid) {
    sample.fault = fmt::format("{}/{}:{}: {}", stream_, batch.place().partition,
                               batch.place().base_offset + begin, rows.error().message());
    return OkStatus();
  }
  if (!rows) return rows.error();
  for (const Chunk& chunk : rows->chunks) {
    if (chunk.rows() == 0) continue;
    std::string lines;
    MakeJsonWriter(chunk).AppendObjects(lines, chunk, rows->columns, rows->visible, "\n");
    size_t start = 0;
    for (uint32_t row = 0; row < chunk.rows(); ++row) {
      size_t line_end = std::min(lines.find('\n', start), lines.size());
      if (sample.rows.size() >= most)
        ++sample.rows_left_out;
      else
        sample.rows.push_back(lines.substr(start, line_end - start));
      start = line_end + 1;
    }
  }
  return OkStatus();
}

Result<Tap::Sample> Tap::Take(size_t most, std::stop_token stop) {
  Sample sample;
  size_t events_most = most * kEventsPerRow;
  for (Part& part : parts_) {
    uint64_t end = part.partition->bounds().durable_end;
    if (end <= part.next) continue;
    uint64_t from = end - std::min<uint64_t>(end - part.next, events_most);
    sample.events_left_out += from - part.next;
    part.next = end;
    ASSIGN_OR_FAIL(auto reader, part.partition->Read(from));
    while (from < end) {
      ASSIGN_OR_FAIL(auto batch, reader->Next());
      if (!batch) break;
      uint64_t base = batch->place().base_offset;
      uint64_t first = std::max(from, base), last = std::min(end, batch->end_offset());
      if (first < last)
        FAIL_IF_ERROR(Sift(*batch, static_cast<uint32_t>(first - base), static_cast<uint32_t>(last - base),
                           most, stop, sample));
      from = batch->end_offset();
    }
  }
  return sample;
}

}  // namespace millstream
