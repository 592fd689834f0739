#include "log/recovery.h"

#include <algorithm>

#include "base/planted.h"

namespace millstream {
namespace {

constexpr size_t kEpochsKept = 1000;
constexpr uint64_t kRewriteBytes = 1 << 20;

std::string StreamPlace(const std::string& stream, uint32_t partition) {
  return fmt::format("{}/{}", stream, partition);
}

// True if some batch after `position` says that it was written when `position` had been synced.
Result<bool> WasSynced(SegmentCursor& cursor, uint64_t position) {
  cursor.Seek(position);
  while (true) {
    ASSIGN_OR_FAIL(bool found, cursor.FindNext());
    if (!found) return false;
    ASSIGN_OR_FAIL(std::optional<BatchHeader> header, cursor.Header());
    if (header->synced_bytes > position) return true;
  }
}

struct Folder {
  std::vector<uint64_t> segments;  // first offsets, ascending
  std::optional<PartitionState> state;
};

Result<Folder> ReadFolder(LogContext& context, const std::string& directory) {
  Folder folder;
  ASSIGN_OR_FAIL(std::vector<std::string> names, context.fs.List(directory));
  for (const std::string& name : names) {
    if (name.ends_with(".new")) {
      FAIL_IF_ERROR(context.fs.Remove(directory + "/" + name));
    } else if (Result<uint64_t> first = ParseSegmentName(name)) {
      folder.segments.push_back(*first);
    }
  }
  const std::string path = directory + "/state";
  Result<std::string> bytes = ReadFile(context.fs, path);
  if (bytes) {
    Result<PartitionState> state = DecodeState(*bytes, context.uuid);
    if (!state) return Fail(state.error().Within(path + ": byte 0"));
    folder.state = std::move(*state);
  } else if (bytes.error().code() != Code::kNotFound) {
    return Fail(bytes.error());
  }
  if (!folder.state && !folder.segments.empty()) return Fail(Corrupt("{}: missing beside segments", path));
  return folder;
}

// `whole`: the footer's body is checked too. Of the last segment the trailer may have reached the disk and
// the body not.
Result<SegmentPtr> OpenSealed(LogContext& context, const std::string& path, uint64_t first_offset, bool whole,
                              ReceiptIndex& receipts) {
  ASSIGN_OR_FAIL(std::unique_ptr<File> file, context.fs.Open(path, OpenMode::kRead));
  auto segment = std::make_shared<Segment>();
  segment->path = path;
  segment->name = path.substr(context.directory.size() + 1);
  segment->first_offset = first_offset;
  segment->sealed = true;
  ASSIGN_OR_FAIL(segment->file_bytes, file->Size());
  ASSIGN_OR_FAIL(segment->footer, ReadFooter(*file, path, context.uuid, whole));
  if (segment->footer.end_offset < first_offset)
    return Fail(
        DamagedAt(path, segment->file_bytes - kTrailerBytes,
                  Corrupt("the footer ends at offset {}, before the segment", segment->footer.end_offset)));
  segment->footer.index.clear();
  segment->footer.receipts.clear();
  // Idempotency keys of the window lie in the footers.
  const bool in_window =
      segment->footer.max_us >= context.clock.WallUs() - context.options.key_receipt_window_us;
  if (in_window && segment->footer.receipt_count > 0) {
    ASSIGN_OR_FAIL(SegmentFooter footer, ReadFooter(*file, path, context.uuid, true));
    for (PlacedReceipt& receipt : footer.receipts) receipts.Add(std::move(receipt));
  }
  return segment;
}

// Writes [from, end) of a file once more, cuts the rest off, syncs.
Status Rewrite(File& file, uint64_t from, uint64_t end) {
  std::string buffer;
  for (uint64_t at = from; at < end; at += buffer.size()) {
    buffer.resize(std::min(kRewriteBytes, end - at));
    ASSIGN_OR_RETURN(size_t got, file.ReadAt(at, buffer.data(), buffer.size()));
    if (got < buffer.size()) return IoError("the file shrank while it was recovered");
    RETURN_IF_ERROR(file.WriteAt(at, buffer));
  }
  RETURN_IF_ERROR(file.Truncate(end));
  return file.Sync();
}

// A process that ended while it sealed the last segment may have left a footer that the page cache has and
// the disk has not; nothing would sync it any more, and the next segment relies on it.
Status RewriteFooter(FileSystem& fs, const std::string& path, const Uuid& log) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kReadWrite));
  ASSIGN_OR_RETURN(SegmentFooter footer, ReadFooter(*file, path, log, true));
  ASSIGN_OR_RETURN(uint64_t size, file->Size());
  return Rewrite(*file, footer.body_position, size);
}

Status TakeReceipts(SegmentCursor& cursor, const TailScan& scan, const std::string& stream,
                    ReceiptIndex& receipts) {
  for (const auto& [position, header] : scan.with_receipts) {
    cursor.Seek(position);
    ASSIGN_OR_RETURN(std::string payload, cursor.Payload(header));
    BatchPlace place{.stream = stream,
                     .epoch = header.epoch,
                     .base_offset = header.base_offset,
                     .count = header.count,
                     .ingested_at_us = header.first_us};
    auto batch = EventBatch::Open(std::move(place), header.codec, std::move(payload));
    if (!batch) return cursor.Damaged(position, batch.error());
    receipts.AddBatch((*batch)->receipts(), header.base_offset, header.epoch, header.first_us);
  }
  return OkStatus();
}

}  // namespace

bool Covered(const std::vector<OffsetGap>& gaps, uint64_t first, uint64_t end) {
  // A gap may be made of several that touch.
  for (bool moved = true; moved && first < end;) {
    moved = false;
    for (const OffsetGap& gap : gaps) {
      if (gap.first <= first && first < gap.end) first = gap.end, moved = true;
    }
  }
  return first >= end;
}

Result<TailScan> ScanTail(File& file, const std::string& path, const Uuid& log, const LogOptions& options,
                          const std::vector<OffsetGap>& gaps, bool check_all) {
  ASSIGN_OR_FAIL(SegmentHeader segment, ReadSegmentHeader(file, path, log));
  ASSIGN_OR_FAIL(uint64_t size, file.Size());
  SegmentTally tally(options, segment.first_offset, segment.max_us);
  TailScan scan{.header = segment, .tally = tally};
  scan.end = scan.synced = segment.header_bytes;
  SegmentCursor cursor(file, path, log, segment.header_bytes, size);

  // First the headers. Only batches that were perhaps not synced need their payload read.
  std::vector<std::pair<uint64_t, BatchHeader>> batches;
  auto take = [&](const std::pair<uint64_t, BatchHeader>& batch) {
    tally.Add(batch.second, batch.first);
    scan.end = batch.first + batch.second.total_bytes();
    if (batch.second.flags & BatchHeader::kHasReceipts) scan.with_receipts.push_back(batch);
  };
  uint64_t next = segment.first_offset;
  uint32_t epoch = segment.epoch;
  while (true) {
    Result<std::optional<BatchHeader>> header = cursor.Header();
    if (!header && header.error().code() != Code::kCorrupt) return Fail(header.error());
    if (!header) scan.damage = header.error();
    if (!header || !*header) break;
    const BatchHeader& found = **header;
    if (found.base_offset < next || !Covered(gaps, next, found.base_offset) || found.epoch < epoch) {
      scan.damage = cursor.Damaged(cursor.position(),
                                   Corrupt("a batch at offset {} of epoch {} where offset {} was expected",
                                           found.base_offset, found.epoch, next));
      break;
    }
    if (found.synced_bytes > scan.synced) {
      scan.synced = found.synced_bytes;
      size_t known = 0;
      while (!check_all && known < batches.size() && batches[known].first < scan.synced)
        take(batches[known++]);
      batches.erase(batches.begin(), batches.begin() + static_cast<ptrdiff_t>(known));
    }
    batches.emplace_back(cursor.position(), found);
    next = found.end_offset();
    epoch = found.epoch;
    cursor.Skip(found);
  }
  for (const auto& batch : batches) {
    cursor.Seek(batch.first);
    Status payload = cursor.CheckPayload(batch.second);
    if (!payload.ok() && payload.code() != Code::kCorrupt) return Fail(payload);
    if (!payload.ok()) {
      scan.damage = payload;
      break;
    }
    take(batch);
  }
  scan.tally = std::move(tally);
  if (!scan.damage.ok()) {
    scan.damage_was_synced = scan.end < scan.synced;
    if (!scan.damage_was_synced) {
      ASSIGN_OR_FAIL(scan.damage_was_synced, WasSynced(cursor, scan.end));
    }
  }
  return scan;
}

Result<RecoveredPartition> RecoverPartition(LogContext& context, const std::string& directory,
                                            const std::string& stream, uint32_t partition,
                                            ReceiptIndex& receipts) {
  FileSystem& fs = context.fs;
  FAIL_IF_ERROR(fs.CreateDirectories(directory));
  ASSIGN_OR_FAIL(Folder folder, ReadFolder(context, directory));
  const bool fresh = !folder.state;
  PartitionState old = folder.state.value_or(PartitionState{.clean = true, .epochs = {{.epoch = 1}}});
  RecoveredPartition recovered;
  recovered.unclean = !old.clean;
  recovered.max_us = old.max_us;
  const std::string place = StreamPlace(stream, partition);

  uint64_t next = folder.segments.empty() ? 0 : folder.segments.front();
  std::unique_ptr<File> tail;
  std::optional<TailScan> scan;
  std::string tail_path;
  for (size_t i = 0; i < folder.segments.size(); ++i) {
    const uint64_t first = folder.segments[i];
    const std::string path = directory + "/" + SegmentName(first);
    if (first < next || !Covered(old.gaps, next, first)) {
      return Fail(Corrupt("{}: byte 0: the segment before it ends at offset {}", path, next));
    }
    const bool last = i + 1 == folder.segments.size();
    Result<SegmentPtr> sealed = OpenSealed(context, path, first, last && !old.clean, receipts);
    if (sealed) {
      next = (*sealed)->footer.end_offset;
      recovered.max_us = (*sealed)->footer.max_us;
      recovered.sealed.push_back(std::move(*sealed));
      continue;
    }
    if (sealed.error().code() != Code::kCorrupt || !last) return Fail(sealed.error());
    tail_path = path;
    ASSIGN_OR_FAIL(tail, fs.Open(path, OpenMode::kReadWrite));
    ASSIGN_OR_FAIL(scan, ScanTail(*tail, path, context.uuid, context.options, old.gaps, false));
    if (!scan->damage.ok() && (scan->damage_was_synced || old.clean) && !IsPlanted(Planted::truncate_mid))
      return Fail(scan->damage);
    if (scan->header.first_offset != first)
      return Fail(DamagedAt(path, 0, Corrupt("the segment begins at offset {}", scan->header.first_offset)));
    next = scan->tally.footer().end_offset;
    recovered.max_us = scan->tally.footer().max_us;
  }
  const uint64_t tail_bytes = scan                       ? scan->end
                              : recovered.sealed.empty() ? 0
                                                         : recovered.sealed.back()->file_bytes;
  if (old.clean && !fresh && (tail_bytes != old.tail_bytes || next > old.next_offset)) {
    return Fail(Corrupt("{}: ends at offset {}, but offset {} was stored at the last stop", place, next,
                        old.next_offset));
  }
  if (next < old.next_offset && !Covered(old.gaps, next, old.next_offset)) {
    return Fail(Corrupt("{}: offsets {} to {} are missing", place, next, old.next_offset - 1));
  }

  // Receipts: where all stood when the last segment began, then its own.
  if (scan) {
    for (const PlacedReceipt& receipt : scan->header.receipts) receipts.Add(receipt);
    ASSIGN_OR_FAIL(uint64_t size, tail->Size());
    SegmentCursor cursor(*tail, tail_path, context.uuid, scan->header.header_bytes, size);
    FAIL_IF_ERROR(TakeReceipts(cursor, *scan, stream, receipts));
    recovered.truncated_bytes = size - scan->end;
    if (!old.clean) FAIL_IF_ERROR(Rewrite(*tail, scan->synced, scan->end));
  } else if (!recovered.sealed.empty()) {
    const Segment& last = *recovered.sealed.back();
    if (!old.clean) FAIL_IF_ERROR(RewriteFooter(fs, last.path, context.uuid));
    ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs.Open(last.path, OpenMode::kRead));
    ASSIGN_OR_FAIL(SegmentHeader header, ReadSegmentHeader(*file, last.path, context.uuid));
    ASSIGN_OR_FAIL(SegmentFooter footer, ReadFooter(*file, last.path, context.uuid, true));
    for (PlacedReceipt& receipt : header.receipts) receipts.Add(std::move(receipt));
    for (PlacedReceipt& receipt : footer.receipts) receipts.Add(std::move(receipt));
  }

  recovered.next_offset = std::max(next, old.next_offset);
  PartitionState& state = recovered.state;
  state = old;
  state.clean = false;
  state.next_offset = recovered.next_offset;
  state.max_us = recovered.max_us;
  if (recovered.unclean) {
    state.epochs.back().end_offset = recovered.next_offset;
    state.epochs.push_back({.epoch = state.epochs.back().epoch + 1, .first_offset = recovered.next_offset});
    if (state.epochs.size() > kEpochsKept) state.epochs.erase(state.epochs.begin());
  }
  std::erase_if(state.gaps, [&](const OffsetGap& gap) {
    return !folder.segments.empty() && gap.end <= folder.segments.front();
  });
  FAIL_IF_ERROR(WriteFileDurably(fs, directory + "/state", EncodeState(state, context.uuid)));

  if (scan) {
    recovered.writer = std::make_unique<SegmentWriter>(std::move(tail), tail_path, context.uuid,
                                                       std::move(scan->tally), scan->end);
  } else {
    SegmentHeader header{.first_offset = recovered.next_offset,
                         .epoch = state.epochs.back().epoch,
                         .partition = partition,
                         .max_us = recovered.max_us,
                         .stream = stream,
                         .receipts = receipts.Lasting()};
    ASSIGN_OR_FAIL(recovered.writer,
                   SegmentWriter::Create(fs, directory + "/" + SegmentName(recovered.next_offset), header,
                                         context.uuid, context.options));
  }
  return recovered;
}

}  // namespace millstream
