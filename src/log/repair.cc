#include <algorithm>

#include "log/receipt_index.h"
#include "log/segment_writer.h"
#include "log/verify.h"

namespace millstream {
namespace {

// Keeps a damaged range as a file of its own.
Status Quarantine(FileSystem& fs, const std::string& path, const DamagedRange& range) {
  if (range.end <= range.begin) return OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  std::string bytes(range.end - range.begin, '\0');
  ASSIGN_OR_RETURN(size_t got, file->ReadAt(range.begin, bytes.data(), bytes.size()));
  bytes.resize(got);
  return WriteFileDurably(fs, fmt::format("{}.damaged-{}", path, range.begin), bytes);
}

// The repair of one partition: what is sound is copied into new segments, the rest is put aside and its
// offsets become gaps.
class PartitionRepair {
 public:
  PartitionRepair(FileSystem& fs, std::string directory, const Uuid& log, PartitionFindings findings)
      : fs_(fs), directory_(std::move(directory)), log_(log), findings_(std::move(findings)) {}

  Status Run() {
    for (const SegmentFindings& segment : findings_.segments) {
      for (const DamagedRange& range : segment.damaged) RETURN_IF_ERROR(Quarantine(fs_, segment.path, range));
    }
    RETURN_IF_ERROR(WriteState());
    for (size_t i = 0; i < findings_.segments.size(); ++i) RETURN_IF_ERROR(RewriteSegment(i));
    return OkStatus();
  }

 private:
  // Before any segment changes: a gap that is not one yet does no harm, and a repair that was cut short can
  // be run again.
  Status WriteState() {
    PartitionState state = findings_.state.value_or(PartitionState{});
    state.clean = false;
    uint64_t first = UINT64_MAX, end = 0;
    for (const SegmentFindings& segment : findings_.segments) {
      first = std::min(first, segment.first_offset);
      end = std::max({end, segment.first_offset, segment.ends_seen, segment.end_offset});
      state.max_us = std::max(state.max_us, segment.max_us);
      for (const auto& [position, header] : segment.sound) {
        if (findings_.state || (!state.epochs.empty() && state.epochs.back().epoch == header.epoch)) continue;
        if (!state.epochs.empty()) state.epochs.back().end_offset = header.base_offset;
        state.epochs.push_back({.epoch = header.epoch, .first_offset = header.base_offset});
      }
    }
    if (state.epochs.empty()) state.epochs.push_back({.epoch = 1});
    for (const OffsetGap& gap : findings_.missing) state.gaps.push_back(gap);
    // Offsets that were given once are never given again, even if their events are lost.
    state.next_offset = std::max(state.next_offset, end);
    uint64_t kept = findings_.segments.empty() ? 0 : findings_.segments.back().end_offset;
    if (kept < state.next_offset) state.gaps.push_back({kept, state.next_offset});
    return WriteFileDurably(fs_, directory_ + "/state", EncodeState(state, log_));
  }

  // Where all origins stood at the start of segment `index`, from what lies before it.
  Result<std::vector<PlacedReceipt>> ReceiptsBefore(size_t index) const {
    KeyReceiptBudget budget{.window_us = INT64_MAX / 2, .receipts_max = UINT64_MAX};
    ReceiptIndex receipts(budget);
    if (index > 0) {
      const SegmentFindings& before = findings_.segments[index - 1];
      if (before.header) {
        for (const PlacedReceipt& receipt : before.header->receipts) receipts.Add(receipt);
      }
      ASSIGN_OR_FAIL(std::vector<PlacedReceipt> own, ReceiptsOf(before));
      for (PlacedReceipt& receipt : own) receipts.Add(std::move(receipt));
    }
    return receipts.Lasting();
  }

  Result<std::vector<PlacedReceipt>> ReceiptsOf(const SegmentFindings& segment) const {
    KeyReceiptBudget budget{.window_us = INT64_MAX / 2, .receipts_max = UINT64_MAX};
    ReceiptIndex receipts(budget);
    ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs_.Open(segment.path, OpenMode::kRead));
    ASSIGN_OR_FAIL(uint64_t size, file->Size());
    SegmentCursor cursor(*file, segment.path, log_, 0, size);
    for (const auto& [position, header] : segment.sound) {
      if (!(header.flags & BatchHeader::kHasReceipts)) continue;
      cursor.Seek(position);
      ASSIGN_OR_FAIL(std::string payload, cursor.Payload(header));
      BatchPlace place{.stream = StreamName(),
                       .epoch = header.epoch,
                       .base_offset = header.base_offset,
                       .count = header.count};
      ASSIGN_OR_FAIL(auto batch, EventBatch::Open(std::move(place), header.codec, std::move(payload)));
      receipts.AddBatch(batch->receipts(), header.base_offset, header.epoch, header.first_us);
    }
    return receipts.Since(0);
  }

  Status RewriteSegment(size_t index) {
    const SegmentFindings& segment = findings_.segments[index];
    if (segment.damaged.empty()) return OkStatus();
    uint64_t events = 0;
    for (const auto& [position, header] : segment.sound) events += header.count;
    if (events == 0) {
      // A sealed segment without events would have the name of its successor.
      RETURN_IF_ERROR(fs_.Rename(segment.path, segment.path + ".damaged-0"));
      return fs_.SyncDirectory(directory_);
    }
    ASSIGN_OR_RETURN(std::vector<PlacedReceipt> before, ReceiptsBefore(index));
    ASSIGN_OR_RETURN(std::vector<PlacedReceipt> own, ReceiptsOf(segment));
    SegmentHeader header = segment.header.value_or(SegmentHeader{.first_offset = segment.first_offset,
                                                                 .epoch = segment.sound.front().second.epoch,
                                                                 .partition = PartitionNumber(),
                                                                 .stream = StreamName(),
                                                                 .receipts = std::move(before)});
    header.flags |= SegmentHeader::kRepaired;
    const std::string new_path = segment.path + ".new";
    ASSIGN_OR_RETURN(std::shared_ptr<File> file, fs_.Open(new_path, OpenMode::kCreate));
    RETURN_IF_ERROR(file->Truncate(0));
    const std::string bytes = EncodeSegmentHeader(header, log_);
    RETURN_IF_ERROR(file->WriteAt(0, bytes));
    SegmentWriter writer(file, new_path, log_, SegmentTally(LogOptions(), header.first_offset, header.max_us),
                         bytes.size());
    RETURN_IF_ERROR(CopySound(segment, writer));
    ASSIGN_OR_RETURN(SegmentFooter footer, writer.Seal(std::move(own), log_));
    RETURN_IF_ERROR(fs_.Rename(new_path, segment.path));
    return fs_.SyncDirectory(directory_);
  }

  Status CopySound(const SegmentFindings& segment, SegmentWriter& writer) {
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(segment.path, OpenMode::kRead));
    ASSIGN_OR_RETURN(uint64_t size, file->Size());
    SegmentCursor cursor(*file, segment.path, log_, 0, size);
    for (const auto& [position, header] : segment.sound) {
      cursor.Seek(position);
      ASSIGN_OR_RETURN(std::string payload, cursor.Payload(header));
      StampedBatch batch{header, payload};
      RETURN_IF_ERROR(writer.Write({&batch, 1}));
    }
    return OkStatus();
  }

  uint32_t PartitionNumber() const {
    return static_cast<uint32_t>(std::stoul(directory_.substr(directory_.rfind('/') + 1)));
  }
  std::string StreamName() const {
    std::string stream = DirectoryOf(directory_);
    return stream.substr(stream.rfind('/') + 1);
  }

  FileSystem& fs_;
  const std::string directory_;
  const Uuid& log_;
  const PartitionFindings findings_;
};

// An identity that is damaged is made anew from what the segments and their folders say.
Status RepairIdentity(FileSystem& fs, const std::string& directory, const std::string& stream) {
  const std::string folder = directory + "/" + stream;
  auto read = [&](const std::string& path) -> Result<Identity> {
    ASSIGN_OR_FAIL(std::string bytes, ReadFile(fs, path));
    return DecodeIdentity(bytes);
  };
  Result<Identity> log = read(directory + "/log.id"), own = read(folder + "/stream.id");
  if (!log && !own)
    return Corrupt("{}: neither log.id nor {}/stream.id is sound: restore one from a backup", directory,
                   stream);
  if (!log) return WriteFileDurably(fs, directory + "/log.id", EncodeIdentity({.log = own->log}));
  if (own) return OkStatus();
  uint32_t partitions = 0;
  while (fs.Exists(fmt::format("{}/{}", folder, partitions))) ++partitions;
  if (partitions == 0) return Corrupt("{}: no partition is there", folder);
  return WriteFileDurably(fs, folder + "/stream.id",
                          EncodeIdentity({.partitions = partitions, .log = log->log}));
}

}  // namespace

Result<std::vector<LogDamage>> Log::Repair(FileSystem& fs, const std::string& directory,
                                           const std::string& stream) {
  std::vector<LogDamage> damage;
  ASSIGN_OR_FAIL(std::optional<Identity> identity, ReadStreamIdentity(fs, directory, stream, &damage));
  if (!identity) {
    FAIL_IF_ERROR(RepairIdentity(fs, directory, stream));
    ASSIGN_OR_FAIL(identity, ReadStreamIdentity(fs, directory, stream, &damage));
    if (!identity) return Fail(Corrupt("{}: the identity could not be repaired", directory));
  }
  for (uint32_t i = 0; i < identity->partitions; ++i) {
    const std::string partition = fmt::format("{}/{}/{}", directory, stream, i);
    if (!fs.Exists(partition)) continue;
    ASSIGN_OR_FAIL(PartitionFindings findings, InspectPartition(fs, directory, partition, identity->log));
    if (findings.damage.empty()) continue;
    damage.insert(damage.end(), findings.damage.begin(), findings.damage.end());
    FAIL_IF_ERROR(PartitionRepair(fs, partition, identity->log, std::move(findings)).Run());
  }
  return damage;
}

}  // namespace millstream
