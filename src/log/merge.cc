#include "log/merge.h"

#include <algorithm>
#include <vector>

#include "log/segment_writer.h"

namespace millstream {
namespace {

// Neighbours that become one batch.
class Run {
 public:
  Run(SegmentWriter& writer, const LogOptions& options, const Contract& contract, Codec codec)
      : writer_(writer), options_(options), contract_(contract), codec_(codec) {}

  bool Takes(const BatchHeader& header) const {
    if (headers_.empty()) return true;
    return header.epoch == headers_.back().epoch && header.base_offset == headers_.back().end_offset() &&
           count_ + header.count <= options_.merged_events &&
           data_bytes_ + header.data_bytes <= kMergedBytesMax;
  }

  void Add(const BatchHeader& header, BatchPlace place, std::string payload) {
    count_ += header.count;
    data_bytes_ += header.data_bytes;
    headers_.push_back(header);
    places_.push_back(std::move(place));
    payloads_.push_back(std::move(payload));
  }

  Status Flush() {
    if (headers_.empty()) return OkStatus();
    Status status = headers_.size() == 1 ? Copy(headers_[0], payloads_[0]) : WriteMerged();
    headers_.clear();
    places_.clear();
    payloads_.clear();
    count_ = data_bytes_ = 0;
    return status;
  }

  Status Copy(const BatchHeader& header, std::string_view payload) {
    StampedBatch batch{header, payload};
    return writer_.Write({&batch, 1});
  }

 private:
  Status WriteMerged() {
    std::vector<std::unique_ptr<EventBatch>> opened;
    std::vector<EventBatch*> batches;
    for (size_t i = 0; i < headers_.size(); ++i) {
      ASSIGN_OR_RETURN(std::unique_ptr<EventBatch> batch,
                       EventBatch::Open(std::move(places_[i]), headers_[i].codec, std::move(payloads_[i])));
      batches.push_back(batch.get());
      opened.push_back(std::move(batch));
    }
    ASSIGN_OR_RETURN(EncodedBatch merged, MergeBatches(batches, contract_, codec_));
    if (merged.count != count_ || merged.data_bytes != data_bytes_) {
      return Internal("a merge of {} events made {}", count_, merged.count);
    }
    BatchHeader header = headers_.front();
    auto first = std::find_if(headers_.begin(), headers_.end(),
                              [](const BatchHeader& part) { return part.count > 0; });
    if (first != headers_.end()) header.first_us = first->first_us;
    for (const BatchHeader& part : headers_) header.flags |= part.flags;
    header.flags |= BatchHeader::kMerged;
    header.count = merged.count;
    header.max_us = headers_.back().max_us;
    header.payload_crc = merged.payload_crc;
    header.payload_bytes = static_cast<uint32_t>(merged.payload.size());
    header.data_bytes = static_cast<uint32_t>(data_bytes_);
    header.codec = merged.codec;
    return Copy(header, merged.payload);
  }

  SegmentWriter& writer_;
  const LogOptions& options_;
  const Contract& contract_;
  const Codec codec_;
  std::vector<BatchHeader> headers_;
  std::vector<BatchPlace> places_;
  std::vector<std::string> payloads_;
  uint64_t count_ = 0;
  uint64_t data_bytes_ = 0;
};

}  // namespace

Result<SegmentPtr> MergeSegment(LogContext& context, const SegmentPtr& segment, const std::string& stream,
                                uint32_t partition, const Contract& contract, Codec codec,
                                const std::stop_token& stop) {
  const std::string& path = segment->path;
  ASSIGN_OR_FAIL(std::unique_ptr<File> old, context.fs.Open(path, OpenMode::kRead));
  ASSIGN_OR_FAIL(SegmentHeader header, ReadSegmentHeader(*old, path, context.uuid));
  ASSIGN_OR_FAIL(SegmentFooter footer, ReadFooter(*old, path, context.uuid, true));
  SegmentCursor cursor(*old, path, context.uuid, header.header_bytes, footer.body_position);

  const std::string new_path = path + ".new";
  ASSIGN_OR_FAIL(std::shared_ptr<File> file, context.fs.Open(new_path, OpenMode::kCreate));
  FAIL_IF_ERROR(file->Truncate(0));
  header.flags |= SegmentHeader::kMerged;
  const std::string header_bytes = EncodeSegmentHeader(header, context.uuid);
  FAIL_IF_ERROR(file->WriteAt(0, header_bytes));
  // What bytes rather than events keep small stays so: the new segment never asks for a merge.
  LogOptions options = context.options;
  const uint32_t merge_below_events = std::exchange(options.merge_below_events, 0);
  SegmentWriter writer(file, new_path, context.uuid,
                       SegmentTally(options, header.first_offset, header.max_us), header_bytes.size());

  Run run(writer, options, contract, codec);
  while (true) {
    if (stop.stop_requested()) {
      FAIL_IF_ERROR(context.fs.Remove(new_path));
      return nullptr;
    }
    ASSIGN_OR_FAIL(std::optional<BatchHeader> batch, cursor.Header());
    if (!batch) break;
    ASSIGN_OR_FAIL(std::string payload, cursor.Payload(*batch));
    const bool small = batch->count < merge_below_events;
    if (!small || !run.Takes(*batch)) FAIL_IF_ERROR(run.Flush());
    if (small) {
      BatchPlace place{.stream = stream,
                       .partition = partition,
                       .epoch = batch->epoch,
                       .base_offset = batch->base_offset,
                       .count = batch->count,
                       .ingested_at_us = batch->first_us};
      run.Add(*batch, std::move(place), std::move(payload));
    } else {
      FAIL_IF_ERROR(run.Copy(*batch, payload));
    }
    cursor.Skip(*batch);
  }
  FAIL_IF_ERROR(run.Flush());
  const SegmentFooter& made = writer.tally().footer();
  if (made.end_offset != footer.end_offset || made.events != footer.events) {
    return Fail(Internal("{}: a merge of {} events made {}", path, footer.events, made.events));
  }
  auto merged = std::make_shared<Segment>(*segment);
  ASSIGN_OR_FAIL(merged->footer, writer.Seal(std::move(footer.receipts), context.uuid));
  merged->footer.index.clear();
  merged->footer.receipts.clear();
  merged->file_bytes = writer.position();
  FAIL_IF_ERROR(context.fs.Rename(new_path, path));
  FAIL_IF_ERROR(context.fs.SyncDirectory(DirectoryOf(path)));
  return merged;
}

}  // namespace millstream
