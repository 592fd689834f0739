#include "log/fork.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "event/head.h"
#include "log/segment_writer.h"

namespace millstream {
namespace {

constexpr char kPipelineOrigin[] = "pipeline/";

Status CopyFile(FileSystem& fs, const std::string& from_path, const std::string& to_path) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> from, fs.Open(from_path, OpenMode::kRead));
  ASSIGN_OR_RETURN(std::unique_ptr<File> to, fs.Open(to_path, OpenMode::kCreate));
  std::string buffer(kCopyBytes, '\0');
  for (uint64_t at = 0;;) {
    ASSIGN_OR_RETURN(size_t got, from->ReadAt(at, buffer.data(), buffer.size()));
    if (got == 0) return to->Sync();
    RETURN_IF_ERROR(to->WriteAt(at, std::string_view(buffer).substr(0, got)));
    at += got;
  }
}

/// The same content under another name. The folder's sync is the caller's.
Status LinkOrCopy(FileSystem& fs, const std::string& from, const std::string& to) {
  if (dynamic_cast<PosixFileSystem*>(&fs) == nullptr) return CopyFile(fs, from, to);
  if (::link(from.c_str(), to.c_str()) == 0) return OkStatus();
  if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == ENOTSUP) return CopyFile(fs, from, to);
  if (errno == ENOENT) return NotFound("{}: it is gone", from);
  return IoError("cannot link {} to {}: {}", from, to, std::strerror(errno));
}

/// One partition of the fork.
class PartitionFork {
 public:
  PartitionFork(FileSystem& fs, const Uuid& log, std::string stream, uint32_t partition, uint64_t end,
                std::string source, std::string destination)
      : fs_(fs),
        log_(log),
        stream_(std::move(stream)),
        partition_(partition),
        end_(end),
        source_(std::move(source)),
        destination_(std::move(destination)) {}

  Status Make(const std::vector<SegmentInfo>& segments) {
    ASSIGN_OR_RETURN(std::string bytes, ReadFile(fs_, source_ + "/state"));
    ASSIGN_OR_RETURN(state_, DecodeState(bytes, log_));
    state_.max_us = 0, state_.tail_bytes = 0;
    RETURN_IF_ERROR(fs_.CreateDirectories(destination_));
    for (const SegmentInfo& segment : segments) {
      if (segment.first_offset >= end_) break;
      if (segment.sealed && segment.end_offset <= end_)
        RETURN_IF_ERROR(Link(segment.first_offset));
      else
        RETURN_IF_ERROR(CopyPart(segment));
    }
    if (!has_segment_ && end_ > 0) RETURN_IF_ERROR(MakeEmpty());
    return WriteState();
  }

 private:
  std::string In(const std::string& folder, uint64_t first_offset) const {
    return folder + "/" + SegmentName(first_offset);
  }

  Status Link(uint64_t first_offset) {
    const std::string path = In(destination_, first_offset);
    RETURN_IF_ERROR(LinkOrCopy(fs_, In(source_, first_offset), path));
    // A merge may have replaced it since: what counts is the file that is here now.
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path, OpenMode::kRead));
    ASSIGN_OR_RETURN(SegmentFooter footer, ReadFooter(*file, path, log_, false));
    ASSIGN_OR_RETURN(state_.tail_bytes, file->Size());
    state_.max_us = footer.max_us;
    has_segment_ = true;
    return OkStatus();
  }

  /// The batches below the end, in a segment that is not sealed.
  Status CopyPart(const SegmentInfo& segment) {
    const std::string path = In(source_, segment.first_offset);
    ASSIGN_OR_RETURN(std::unique_ptr<File> from, fs_.Open(path, OpenMode::kRead));
    ASSIGN_OR_RETURN(SegmentHeader header, ReadSegmentHeader(*from, path, log_));
    uint64_t limit = segment.bytes;
    // It may have been sealed, or merged, since its place was noted.
    if (auto footer = ReadFooter(*from, path, log_, false)) limit = footer->body_position;
    SegmentCursor cursor(*from, path, log_, header.header_bytes, limit);
    ASSIGN_OR_RETURN(auto writer, SegmentWriter::Create(fs_, In(destination_, segment.first_offset), header,
                                                        log_, LogOptions()));
    while (true) {
      ASSIGN_OR_RETURN(std::optional<BatchHeader> batch, cursor.Header());
      if (!batch || batch->base_offset >= end_) break;
      ASSIGN_OR_RETURN(std::string payload, cursor.Payload(*batch));
      if (batch->end_offset() > end_) RETURN_IF_ERROR(Cut(*batch, payload, writer->tally().footer().max_us));
      StampedBatch stamped{*batch, payload};
      RETURN_IF_ERROR(writer->Write({&stamped, 1}));
      cursor.Skip(*batch);
      if (batch->end_offset() == end_) break;
    }
    return Finish(*writer);
  }

  /// Leaves the events below the end in a batch. `max_us`: the largest stamp before it.
  Status Cut(BatchHeader& header, std::string& payload, int64_t max_us) const {
    BatchPlace place{.stream = stream_,
                     .partition = partition_,
                     .epoch = header.epoch,
                     .base_offset = header.base_offset,
                     .count = header.count,
                     .ingested_at_us = header.first_us};
    ASSIGN_OR_RETURN(auto batch, EventBatch::Open(std::move(place), header.codec, std::move(payload)));
    const auto count = static_cast<uint32_t>(end_ - header.base_offset);
    Receipts receipts;
    for (const Receipt& receipt : batch->receipts()) {
      if (receipt.first_event + receipt.events <= count) {
        receipts.push_back(receipt);
      } else if (receipt.first_event < count && receipt.origin.starts_with(kPipelineOrigin)) {
        const uint64_t first = header.base_offset + receipt.first_event;
        return Invalid(
            "{0}/{1}:{2} lies within {0}/{1}:{3} to {4}, which a pipeline wrote at once: name one of these "
            "ends, or a position of the stream that it reads",
            stream_, partition_, end_ - 1, first == 0 ? 0 : first - 1, first + receipt.events - 1);
      }
    }
    ASSIGN_OR_RETURN(EncodedBatch head, HeadOf(*batch, count, receipts, header.codec));
    header.count = count;
    header.max_us = std::max(max_us, batch->IngestedAtUs(count - 1));
    header.payload_crc = head.payload_crc;
    header.payload_bytes = static_cast<uint32_t>(head.payload.size());
    header.data_bytes = static_cast<uint32_t>(head.data_bytes);
    header.codec = head.codec;
    if (receipts.empty()) header.flags &= static_cast<uint8_t>(~BatchHeader::kHasReceipts);
    payload = std::move(head.payload);
    return OkStatus();
  }

  /// Retention has removed all of it: the offsets go on.
  Status MakeEmpty() {
    SegmentHeader header{.first_offset = end_,
                         .epoch = state_.epochs.back().epoch,
                         .partition = partition_,
                         .stream = stream_,
                         .receipts = {}};
    ASSIGN_OR_RETURN(auto writer,
                     SegmentWriter::Create(fs_, In(destination_, end_), header, log_, LogOptions()));
    return Finish(*writer);
  }

  Status Finish(SegmentWriter& writer) {
    // Gives back what was reserved ahead.
    RETURN_IF_ERROR(writer.file()->Truncate(writer.position()));
    RETURN_IF_ERROR(writer.Sync());
    state_.tail_bytes = writer.position();
    state_.max_us = std::max(state_.max_us, writer.tally().footer().max_us);
    has_segment_ = true;
    return OkStatus();
  }

  Status WriteState() {
    state_.clean = true;
    state_.next_offset = end_;
    std::erase_if(state_.gaps, [this](const OffsetGap& gap) { return gap.first >= end_; });
    for (OffsetGap& gap : state_.gaps) gap.end = std::min(gap.end, end_);
    while (state_.epochs.size() > 1 && state_.epochs.back().first_offset >= end_) state_.epochs.pop_back();
    state_.epochs.back().end_offset = EpochEnd().end_offset;
    RETURN_IF_ERROR(WriteFileDurably(fs_, destination_ + "/state", EncodeState(state_, log_)));
    return fs_.SyncDirectory(destination_);
  }

  FileSystem& fs_;
  const Uuid& log_;
  const std::string stream_;
  const uint32_t partition_;
  const uint64_t end_;
  const std::string source_, destination_;
  PartitionState state_;
  bool has_segment_ = false;
};

}  // namespace

Status ForkLog(FileSystem& fs, Log& log, const std::string& directory, const ForkEnds& ends,
               const std::string& destination) {
  if (fs.Exists(destination)) return Conflict("{} is there already", destination);
  RETURN_IF_ERROR(fs.CreateDirectories(destination));
  RETURN_IF_ERROR(WriteFileDurably(fs, destination + "/log.id", EncodeIdentity({.log = log.uuid()})));
  for (const auto& [name, partitions] : ends) {
    Stream* stream = log.Find(name);
    if (stream == nullptr) return NotFound("no stream '{}'", name);
    const std::string from = directory + "/" + name, to = destination + "/" + name;
    RETURN_IF_ERROR(fs.CreateDirectories(to));
    RETURN_IF_ERROR(WriteFileDurably(
        fs, to + "/stream.id", EncodeIdentity({.partitions = stream->partitions(), .log = log.uuid()})));
    for (const auto& [index, end] : partitions) {
      if (index >= stream->partitions())
        return Invalid("stream '{}' has {} partitions", name, stream->partitions());
      PartitionFork fork(fs, log.uuid(), name, index, end, fmt::format("{}/{}", from, index),
                         fmt::format("{}/{}", to, index));
      Status status = fork.Make(stream->partition(index).segments());
      if (status.code() == Code::kNotFound) return Conflict("{}/{}: {}", name, index, status.message());
      RETURN_IF_ERROR(status);
    }
  }
  return OkStatus();
}

}  // namespace millstream
