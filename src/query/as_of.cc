#include "query/as_of.h"

#include "base/text.h"
#include "query/query.h"

namespace millstream {
namespace {

bool IsPosition(const std::string& when) { return when.find('/') != std::string::npos; }

Result<int64_t> ReadTime(Engine& engine, const std::string& when) {
  int64_t now_us = engine.clock().WallUs();
  if (auto ago = ParseDurationUs(when)) return now_us - *ago;
  auto time = ParseTimeUs(when);
  if (!time)
    return Fail(
        Invalid("'{}' is neither a time (2026-11-01T00:00:00Z), nor a duration ago (2h), nor a "
                "position (orders/0:17,1:9)",
                when));
  if (*time > now_us) return Fail(Invalid("{} lies in the future", when));
  return *time;
}

Result<Stream*> FindStream(Engine& engine, const std::string& name) {
  Stream* stream = engine.log().Find(name);
  if (stream != nullptr) return stream;
  std::vector<std::string> names;
  for (Stream* each : engine.log().streams()) names.push_back(each->name());
  std::string nearest = Nearest(name, names);
  return Fail(NotFound("no stream '{}'{}", name,
                       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

Status CheckPartition(const Stream& stream, uint32_t partition) {
  if (partition < stream.partitions()) return OkStatus();
  return Invalid("stream '{}' has {} partitions", stream.name(), stream.partitions());
}

/// When an event was appended.
Result<int64_t> AppendTimeOf(Stream& stream, uint32_t index, uint64_t offset) {
  FAIL_IF_ERROR(CheckPartition(stream, index));
  Partition& partition = stream.partition(index);
  Bounds bounds = partition.bounds();
  if (offset >= bounds.durable_end)
    return Fail(Invalid("{}/{}:{} is not there: the partition ends before offset {}", stream.name(), index,
                        offset, bounds.durable_end));
  ASSIGN_OR_FAIL(auto reader, partition.Read(offset));
  ASSIGN_OR_FAIL(auto batch, reader->Next());
  if (batch == nullptr) return Fail(Internal("{}/{}:{} could not be read", stream.name(), index, offset));
  uint64_t base = batch->place().base_offset;
  return batch->IngestedAtUs(static_cast<uint32_t>(std::max(offset, base) - base));
}

}  // namespace

std::string AsOf::PositionsOf(const std::vector<std::string>& only) const {
  std::string text;
  for (const std::string& name : only) {
    auto stream = streams.find(name);
    if (stream == streams.end()) continue;
    Position position{name, {}};
    for (const auto& [partition, end] : stream->second)
      if (end > 0) position.offsets[partition] = end - 1;
    if (!position.offsets.empty()) text += (text.empty() ? "" : " ") + position.ToString();
  }
  return text;
}

Result<AsOf> ResolveAsOf(Engine& engine, const std::string& when) {
  AsOf as_of;
  Position position;
  if (IsPosition(when)) {
    ASSIGN_OR_FAIL(position, ParsePosition(when));
    ASSIGN_OR_FAIL(Stream * stream, FindStream(engine, position.stream));
    for (const auto& [partition, offset] : position.offsets) {
      ASSIGN_OR_FAIL(int64_t time_us, AppendTimeOf(*stream, partition, offset));
      as_of.time_us = std::max(as_of.time_us, time_us);
    }
  } else {
    ASSIGN_OR_FAIL(as_of.time_us, ReadTime(engine, when));
  }
  for (Stream* stream : engine.log().streams()) {
    if (stream->name().starts_with('_')) continue;
    Boundary& ends = as_of.streams[stream->name()];
    for (uint32_t p = 0; p < stream->partitions(); ++p) {
      if (stream->name() != position.stream) {
        ASSIGN_OR_FAIL(ends[p], stream->partition(p).OffsetForTime(as_of.time_us));
      } else if (auto named = position.offsets.find(p); named != position.offsets.end()) {
        ends[p] = named->second + 1;
      } else {
        ends[p] = stream->partition(p).bounds().durable_end;
      }
    }
  }
  return as_of;
}

namespace {

/// All streams at one moment: an event that followed another's answer is not there without that other.
ForkPoint ForkNow(Engine& engine) {
  ForkPoint point;
  point.time_us = engine.clock().WallUs();
  for (const PartitionSegments& partition : engine.log().SegmentsNow())
    point.ends[partition.stream][partition.partition] =
        partition.segments.empty() ? 0 : partition.segments.back().end_offset;
  return point;
}

}  // namespace

Result<ForkPoint> ResolveFork(Engine& engine, const std::string& when) {
  if (when.empty()) return ForkNow(engine);
  ASSIGN_OR_FAIL(AsOf as_of, ResolveAsOf(engine, when));
  ForkPoint point{as_of.time_us, {}};
  std::string own;
  if (IsPosition(when)) {
    ASSIGN_OR_FAIL(Position position, ParsePosition(when));
    own = position.stream;
    ASSIGN_OR_FAIL(Stream * stream, FindStream(engine, own));
    for (const auto& [partition, offset] : position.offsets) {
      if (offset + 1 >= stream->partition(partition).bounds().durable_end) continue;
      ASSIGN_OR_FAIL(int64_t left_out_us, AppendTimeOf(*stream, partition, offset + 1));
      point.time_us = std::min(point.time_us, left_out_us - 1);
    }
    point.ends[own] = as_of.streams.at(own);
  }
  for (Stream* stream : engine.log().streams()) {
    if (stream->name() == own) continue;
    Boundary& ends = point.ends[stream->name()];
    for (uint32_t p = 0; p < stream->partitions(); ++p) {
      ASSIGN_OR_FAIL(ends[p], stream->partition(p).OffsetForTime(point.time_us));
    }
  }
  return point;
}

Result<Boundary> ResolveFrom(Engine& engine, Stream& stream, const std::string& when) {
  Boundary from;
  if (IsPosition(when)) {
    ASSIGN_OR_FAIL(Position position, ParsePosition(when));
    if (position.stream != stream.name())
      return Fail(Invalid("'{}' is a position of another stream than '{}'", when, stream.name()));
    for (const auto& [partition, offset] : position.offsets) {
      FAIL_IF_ERROR(CheckPartition(stream, partition));
      from[partition] = offset;
    }
    for (uint32_t p = 0; p < stream.partitions(); ++p)
      from.try_emplace(p, stream.partition(p).bounds().start);
    return from;
  }
  ASSIGN_OR_FAIL(int64_t time_us, ReadTime(engine, when));
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    ASSIGN_OR_FAIL(from[p], stream.partition(p).OffsetForTime(time_us - 1));
  }
  return from;
}

std::string PositionReached(const Status& status) {
  constexpr std::string_view kReached = "reached ";
  size_t at = status.code() == Code::kDeadline ? status.message().rfind(kReached) : std::string::npos;
  std::string text = at == std::string::npos ? "" : status.message().substr(at + kReached.size());
  return ParsePosition(text) ? text : "";
}

}  // namespace millstream
