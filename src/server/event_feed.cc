#include "server/event_feed.h"

namespace millstream {

Result<std::unique_ptr<EventFeed>> EventFeed::Open(Stream& stream, FeedRange range) {
  std::unique_ptr<EventFeed> feed(new EventFeed);
  feed->stream_ = stream.name();
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    Part& part = feed->parts_.emplace_back();
    part.partition = &stream.partition(p);
    Bounds bounds = part.partition->bounds();
    part.next = bounds.start;
    if (auto from = range.from.find(p); from != range.from.end()) part.next = from->second;
    if (auto to = range.to.find(p); to != range.to.end()) part.to = to->second;
    if (part.next < bounds.start)
      return Fail(NotFound("{}/{}:{} is not kept any more; the earliest is {}", stream.name(), p, part.next,
                           bounds.start));
    ASSIGN_OR_FAIL(part.reader, part.partition->Read(part.next));
  }
  return feed;
}

/// Makes `batch` hold the event at `next`, or null if there is none yet.
Status EventFeed::Load(Part& part) {
  if (part.batch && part.next < part.batch->end_offset()) return OkStatus();
  if (part.next >= part.to) {
    part.batch.reset();
    return OkStatus();
  }
  part.writer.reset();
  do {
    ASSIGN_OR_RETURN(part.batch, part.reader->Next());
  } while (part.batch && part.batch->end_offset() <= part.next);
  if (!part.batch) return OkStatus();
  part.next = std::max(part.next, part.batch->place().base_offset);
  ASSIGN_OR_RETURN(part.writer, CloudEventWriter::Make(*part.batch, "/v1/streams/" + stream_, stream_));
  return OkStatus();
}

Result<bool> EventFeed::Append(std::string& out) {
  Part* first = nullptr;
  for (Part& part : parts_) {
    FAIL_IF_ERROR(Load(part));
    if (!part.batch || part.next >= part.to) continue;
    part.stamp_us =
        part.batch->IngestedAtUs(static_cast<uint32_t>(part.next - part.batch->place().base_offset));
    if (first == nullptr || part.stamp_us < first->stamp_us) first = &part;
  }
  if (first == nullptr) return false;
  first->writer->Append(out, static_cast<uint32_t>(first->next - first->batch->place().base_offset));
  ++first->next;
  return true;
}

bool EventFeed::AtEnd() const {
  return std::all_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.next >= part.to; });
}

void EventFeed::Wait(int64_t timeout_us, std::stop_token stop) {
  // One partition can be waited for at a time: with several, short turns.
  constexpr int64_t kTurnUs = 10'000;
  Part& part = parts_[waits_++ % parts_.size()];
  for (const Part& each : parts_)
    if (each.next < each.to && each.partition->bounds().durable_end > each.next) return;
  part.partition->WaitBeyond(part.next, parts_.size() == 1 ? timeout_us : std::min(timeout_us, kTurnUs),
                             std::move(stop));
}

Position EventFeed::position() const {
  Position position{stream_, {}};
  for (uint32_t p = 0; p < parts_.size(); ++p)
    if (parts_[p].next > 0) position.offsets[p] = parts_[p].next - 1;
  return position;
}

}  // namespace millstream
