#include "query/stream_feed.h"

namespace millstream {
namespace {

struct Part {
  Partition* partition = nullptr;
  uint64_t first = 0, end = 0;
};

class StreamFeed {
 public:
  explicit StreamFeed(std::vector<Part> parts) : parts_(std::move(parts)) {}

  Result<StreamScan::Piece> Next() {
    while (part_ < parts_.size()) {
      const Part& part = parts_[part_];
      if (!reader_) {
        ASSIGN_OR_FAIL(reader_, part.partition->Read(part.first));
      }
      ASSIGN_OR_FAIL(std::unique_ptr<EventBatch> batch, reader_->Next());
      if (batch == nullptr || batch->place().base_offset >= part.end) {
        reader_.reset();
        ++part_;
        continue;
      }
      uint64_t base = batch->place().base_offset;
      StreamScan::Piece piece;
      piece.begin = static_cast<uint32_t>(std::max(part.first, base) - base);
      piece.end = static_cast<uint32_t>(std::min<uint64_t>(part.end, batch->end_offset()) - base);
      piece.batch = std::move(batch);
      return piece;
    }
    return StreamScan::Piece{};
  }

 private:
  const std::vector<Part> parts_;
  size_t part_ = 0;
  std::unique_ptr<PartitionReader> reader_;
};

}  // namespace

Result<StreamScan::Feed> MakeStreamFeed(Stream& stream, const StreamBounds& bounds,
                                        const std::optional<Boundary>& end) {
  std::vector<Part> parts;
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    if (bounds.partition.first.value_or(0) > static_cast<int64_t>(p) ||
        bounds.partition.last.value_or(INT64_MAX) < static_cast<int64_t>(p))
      continue;
    Partition& partition = stream.partition(p);
    Bounds kept = partition.bounds();
    Part part{&partition, kept.start, kept.durable_end};
    if (end) part.end = end->contains(p) ? std::min(part.end, end->at(p)) : 0;
    if (bounds.offset.first)
      part.first = std::max(part.first, static_cast<uint64_t>(std::max<int64_t>(0, *bounds.offset.first)));
    if (bounds.offset.last)
      part.end =
          *bounds.offset.last < 0 ? 0 : std::min(part.end, static_cast<uint64_t>(*bounds.offset.last) + 1);
    // OffsetForTime: the first whose stamp exceeds a time.
    if (bounds.ingested_at_us.first && part.first < part.end) {
      ASSIGN_OR_FAIL(uint64_t from, partition.OffsetForTime(*bounds.ingested_at_us.first - 1));
      part.first = std::max(part.first, from);
    }
    if (bounds.ingested_at_us.last && part.first < part.end) {
      ASSIGN_OR_FAIL(uint64_t to, partition.OffsetForTime(*bounds.ingested_at_us.last));
      part.end = std::min(part.end, to);
    }
    if (part.first < part.end) parts.push_back(part);
  }
  auto feed = std::make_shared<StreamFeed>(std::move(parts));
  return StreamScan::Feed([feed] { return feed->Next(); });
}

}  // namespace millstream
