#include "log/verify.h"

#include <algorithm>

#include "log/recovery.h"

namespace millstream {
namespace {

// All batches from `position` to `limit`: the sound ones, and what lies between them.
Status Walk(SegmentCursor& cursor, uint64_t position, uint64_t limit, uint64_t next,
            SegmentFindings* findings) {
  cursor.Seek(position);
  cursor.SetLimit(limit);
  uint32_t epoch = 0;
  while (cursor.position() < limit) {
    const uint64_t at = cursor.position();
    Result<std::optional<BatchHeader>> header = cursor.Header();
    if (!header && header.error().code() != Code::kCorrupt) return header.error();
    Status status = header ? OkStatus() : header.error();
    if (header && ((*header)->base_offset < next || (*header)->epoch < epoch)) {
      status = cursor.Damaged(at, Corrupt("a batch at offset {} of epoch {} after offset {} of epoch {}",
                                          (*header)->base_offset, (*header)->epoch, next, epoch));
    } else if (header) {
      findings->ends_seen = std::max(findings->ends_seen, (*header)->end_offset());
      findings->max_us = std::max(findings->max_us, (*header)->max_us);
      status = cursor.CheckPayload(**header);
      if (!status.ok() && status.code() != Code::kCorrupt) return status;
    }
    if (header) {
      cursor.Skip(**header);
    } else {
      // Without a header nobody knows where the next batch begins: look for one.
      ASSIGN_OR_RETURN(bool found, cursor.FindNext());
      if (!found) cursor.Seek(limit);
    }
    if (!status.ok()) {
      findings->damaged.push_back({at, cursor.position(), status});
      continue;
    }
    next = findings->end_offset = (*header)->end_offset();
    epoch = (*header)->epoch;
    findings->sound.emplace_back(at, **header);
  }
  return OkStatus();
}

Status CheckFooter(const SegmentFindings& findings) {
  uint64_t events = 0;
  for (const auto& [position, header] : findings.sound) events += header.count;
  const SegmentFooter& footer = *findings.footer;
  if (footer.events == events && footer.batches == findings.sound.size() &&
      footer.end_offset == findings.end_offset) {
    return OkStatus();
  }
  return Corrupt("the footer tells of {} events up to offset {}, but there are {} up to {}", footer.events,
                 footer.end_offset, events, findings.end_offset);
}

Result<SegmentFindings> InspectSegment(FileSystem& fs, const std::string& path, uint64_t first_offset,
                                       bool last, const std::optional<PartitionState>& state,
                                       const Uuid& log) {
  SegmentFindings findings{.path = path, .first_offset = first_offset, .end_offset = first_offset};
  ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  ASSIGN_OR_FAIL(uint64_t size, file->Size());
  SegmentCursor cursor(*file, path, log, 0, size);
  Result<SegmentHeader> header = ReadSegmentHeader(*file, path, log);
  if (!header && header.error().code() != Code::kCorrupt) return Fail(header.error());
  if (header && header->first_offset == first_offset) {
    findings.header = std::move(*header);
  } else {
    Status status = header
                        ? cursor.Damaged(0, Corrupt("the segment begins at offset {}", header->first_offset))
                        : header.error();
    ASSIGN_OR_FAIL(bool found, cursor.FindNext());
    findings.damaged.push_back({0, found ? cursor.position() : size, status});
  }
  const uint64_t begin = findings.header ? findings.header->header_bytes : findings.damaged[0].end;

  uint64_t limit = size;
  Result<SegmentFooter> footer = ReadFooter(*file, path, log, true);
  if (footer) {
    findings.footer = std::move(*footer);
    limit = findings.footer->body_position;
  } else if (footer.error().code() != Code::kCorrupt) {
    return Fail(footer.error());
  } else if (last && findings.header) {
    // A tail that was not finished is no damage, unless it was finished once.
    const std::vector<OffsetGap> any{{0, UINT64_MAX}};
    ASSIGN_OR_FAIL(TailScan scan, ScanTail(*file, path, log, LogOptions(), any, true));
    const bool clean = state && state->clean;
    if (!scan.damage.ok() && !scan.damage_was_synced && !clean) limit = scan.end;
    findings.torn_bytes = size - limit;
    if (clean && state->tail_bytes != size) {
      findings.damaged.push_back(
          {size, size,
           cursor.Damaged(size, Corrupt("{} bytes at the last stop, {} now", state->tail_bytes, size))});
    }
  } else if (!last) {
    findings.damaged.push_back({size, size, footer.error()});
  }
  FAIL_IF_ERROR(Walk(cursor, begin, limit, first_offset, &findings));
  if (findings.footer && findings.damaged.empty()) {
    Status status = CheckFooter(findings);
    if (!status.ok()) findings.damaged.push_back({limit, size, cursor.Damaged(limit, status)});
  }
  return findings;
}

}  // namespace

Result<PartitionFindings> InspectPartition(FileSystem& fs, const std::string& directory,
                                           const std::string& partition, const Uuid& log) {
  PartitionFindings findings;
  auto report = [&](const Status& status) { findings.damage.push_back(DamageOf(status, directory)); };
  const std::string state_path = partition + "/state";
  Result<std::string> bytes = ReadFile(fs, state_path);
  if (!bytes && bytes.error().code() != Code::kNotFound) return Fail(bytes.error());
  Result<PartitionState> state = bytes ? DecodeState(*bytes, log) : Fail(Corrupt("missing"));
  if (state) {
    findings.state = std::move(*state);
  } else {
    report(DamagedAt(state_path, 0, state.error()));
  }
  std::vector<uint64_t> firsts;
  ASSIGN_OR_FAIL(std::vector<std::string> names, fs.List(partition));
  for (const std::string& name : names) {
    if (Result<uint64_t> first = ParseSegmentName(name)) firsts.push_back(*first);
  }
  const std::vector<OffsetGap> gaps = findings.state ? findings.state->gaps : std::vector<OffsetGap>();
  uint64_t next = firsts.empty() ? 0 : firsts.front();
  auto expect = [&](uint64_t first) {
    if (first > next && !Covered(gaps, next, first)) findings.missing.push_back({next, first});
  };
  for (size_t i = 0; i < firsts.size(); ++i) {
    const std::string path = partition + "/" + SegmentName(firsts[i]);
    ASSIGN_OR_FAIL(SegmentFindings segment,
                   InspectSegment(fs, path, firsts[i], i + 1 == firsts.size(), findings.state, log));
    for (const DamagedRange& range : segment.damaged) report(range.status);
    expect(firsts[i]);
    next = std::max(next, firsts[i]);
    for (const auto& [position, header] : segment.sound) {
      expect(header.base_offset);
      next = std::max(next, header.end_offset());
    }
    findings.segments.push_back(std::move(segment));
  }
  if (findings.state) expect(findings.state->next_offset);
  for (const OffsetGap& gap : findings.missing) {
    report(DamagedAt(partition, 0, Corrupt("offsets {} to {} are missing", gap.first, gap.end - 1)));
  }
  return findings;
}

Result<std::optional<Identity>> ReadStreamIdentity(FileSystem& fs, const std::string& directory,
                                                   const std::string& stream,
                                                   std::vector<LogDamage>* damage) {
  Identity found;
  for (const std::string& path : {directory + "/log.id", directory + "/" + stream + "/stream.id"}) {
    ASSIGN_OR_FAIL(std::string bytes, ReadFile(fs, path));
    Result<Identity> identity = DecodeIdentity(bytes);
    if (identity && found.log != Uuid{} && identity->log != found.log)
      identity = Fail(Corrupt("a stream of another log"));
    if (!identity) {
      damage->push_back(DamageOf(DamagedAt(path, 0, identity.error()), directory));
      return std::optional<Identity>();
    }
    found = *identity;
  }
  return std::optional<Identity>(found);
}

Result<std::vector<LogDamage>> Log::Verify(FileSystem& fs, const std::string& directory,
                                           const std::string& stream) {
  std::vector<LogDamage> damage;
  ASSIGN_OR_FAIL(std::optional<Identity> identity, ReadStreamIdentity(fs, directory, stream, &damage));
  if (!identity) return damage;
  for (uint32_t i = 0; i < identity->partitions; ++i) {
    const std::string partition = fmt::format("{}/{}/{}", directory, stream, i);
    if (!fs.Exists(partition)) continue;  // made when the stream is opened for the first time
    ASSIGN_OR_FAIL(PartitionFindings findings, InspectPartition(fs, directory, partition, identity->log));
    damage.insert(damage.end(), findings.damage.begin(), findings.damage.end());
  }
  return damage;
}

Status Log::ReadSound(
    FileSystem& fs, const std::string& directory, const std::string& stream,
    const std::function<Status(EventBatch& batch, const std::string& file, uint64_t byte)>& take) {
  ASSIGN_OR_RETURN(std::optional<Identity> identity, ReadStreamIdentity(fs, directory, stream, nullptr));
  for (uint32_t p = 0; identity && p < identity->partitions; ++p) {
    const std::string partition = fmt::format("{}/{}/{}", directory, stream, p);
    if (!fs.Exists(partition)) continue;
    ASSIGN_OR_RETURN(PartitionFindings findings, InspectPartition(fs, directory, partition, identity->log));
    for (const SegmentFindings& segment : findings.segments) {
      ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(segment.path, OpenMode::kRead));
      SegmentCursor cursor(*file, segment.path, identity->log, 0, 0);
      for (const auto& [position, header] : segment.sound) {
        cursor.SetLimit(position + header.total_bytes());
        cursor.Seek(position);
        ASSIGN_OR_RETURN(std::string payload, cursor.Payload(header));
        ASSIGN_OR_RETURN(auto batch, EventBatch::Open({.stream = stream,
                                                       .partition = p,
                                                       .epoch = header.epoch,
                                                       .base_offset = header.base_offset,
                                                       .count = header.count,
                                                       .ingested_at_us = header.first_us},
                                                      header.codec, std::move(payload)));
        RETURN_IF_ERROR(take(*batch, segment.path.substr(directory.size() + 1), position));
      }
    }
  }
  return OkStatus();
}

}  // namespace millstream
