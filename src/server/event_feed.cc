#include "server/event_feed.h"

#include <thread>

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
  const uint64_t durable_end = part.partition->bounds().durable_end;
  do {
    ASSIGN_OR_RETURN(part.batch, part.reader->Next());
  } while (part.batch && part.batch->end_offset() <= part.next);
  if (!part.batch) {
    if (part.to <= durable_end) part.next = part.to;  // nothing but a gap lies between
    return OkStatus();
  }
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
  std::stop_source over;  // one partition has something, or the feed is to stop
  std::stop_callback on_stop(stop, [&over] { over.request_stop(); });
  auto wait = [&over, timeout_us](const Part& part) {
    if (part.partition->WaitBeyond(part.next, timeout_us, over.get_token())) over.request_stop();
  };
  // A partition wakes one thread: each other partition is waited for by a thread of this wait.
  std::vector<std::jthread> others;
  const Part* mine = nullptr;
  for (const Part& part : parts_) {
    if (part.next >= part.to) continue;
    if (mine != nullptr) others.emplace_back([&wait, &part] { wait(part); });
    mine = mine == nullptr ? &part : mine;
  }
  if (mine != nullptr) wait(*mine);
}

Position EventFeed::position() const {
  Position position{stream_, {}};
  for (uint32_t p = 0; p < parts_.size(); ++p)
    if (parts_[p].next > 0) position.offsets[p] = parts_[p].next - 1;
  return position;
}

}  // namespace millstream
