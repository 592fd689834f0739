// A segment's readers on any bytes: what `verify`, a recovery and a reader make of a partition whose one
// segment they are. A recovery that went well leaves what the next one takes too, with every event at its
// offset. The first byte says which CRCs are made right, so that what stands behind them is reached. The
// log's id is all zeros.
#include <cstdio>
#include <cstring>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fuzz_target.h"
#include "base/memory_file_system.h"
#include "log/recovery.h"
#include "log/verify.h"

namespace {

using namespace millstream;

constexpr uint8_t kLeavePayloads = 1, kLeaveHeaders = 2;
const std::string kPartition = "/log/orders/0";

void Put(std::string& bytes, size_t at, uint32_t value) { std::memcpy(bytes.data() + at, &value, 4); }
uint64_t Get(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, size);
  return value;
}
uint32_t CrcOf(const std::string& bytes, size_t at, size_t size) {
  return Crc32c(std::string_view(bytes).substr(at, size));
}
/// Magic, CRC, the rest.
void Seal(std::string& bytes, size_t at, size_t size) { Put(bytes, at + 4, CrcOf(bytes, at + 8, size - 8)); }

void SealSegment(std::string& bytes, uint8_t options) {
  auto header = SegmentHeaderBytes(std::string_view(bytes).substr(0, kSegmentHeaderFixedBytes));
  if (!header || *header > bytes.size()) return;
  Seal(bytes, 0, *header);
  size_t at = *header;
  while (at + kBatchHeaderBytes <= bytes.size() && bytes.compare(at, 4, kBatchMagic) == 0) {
    const size_t payload = at + kBatchHeaderBytes, size = Get(bytes, at + 12, 4);
    if (size > bytes.size() - payload) break;
    if (!(options & kLeavePayloads)) Put(bytes, at + 8, CrcOf(bytes, payload, size));
    if (!(options & kLeaveHeaders)) Seal(bytes, at, kBatchHeaderBytes);
    at = payload + size;
  }
  if (at + kTrailerBytes > bytes.size()) return;
  const size_t trailer = bytes.size() - kTrailerBytes;
  if (uint64_t body = Get(bytes, trailer + 16, 8); body <= trailer)
    Put(bytes, trailer + 8, CrcOf(bytes, body, trailer - body));
  Seal(bytes, trailer, kTrailerBytes);
}

/// All that the sound batches hold.
void ReadAll(FileSystem& fs, const SegmentFindings& segment) {
  static const Uuid log{};
  auto file = std::move(*fs.Open(segment.path, OpenMode::kRead));
  SegmentCursor cursor(*file, segment.path, log, 0, *file->Size());
  for (const auto& [position, header] : segment.sound) {
    cursor.Seek(position);
    auto payload = cursor.Payload(header);
    CHECK(payload);
    BatchPlace place{.stream = "orders", .base_offset = header.base_offset, .count = header.count};
    auto batch = EventBatch::Open(std::move(place), header.codec, std::move(*payload));
    if (!batch) continue;
    auto data = (*batch)->Data();
    for (uint32_t row = 0; data && row < header.count; ++row)
      if (!(*data)->IsNull(row)) (void)(*data)->String(row);
  }
}

}  // namespace

FUZZ_TARGET(log_segment_fuzz, text) {
  if (text.empty()) return;
  std::string bytes(text.substr(1));
  SealSegment(bytes, static_cast<uint8_t>(text[0]));
  uint64_t first = bytes.size() < kSegmentHeaderFixedBytes ? 0 : Get(bytes, 32, 8);
  ManualClock clock;
  MemoryFileSystem fs;
  LogContext context(fs, clock, "/log", LogOptions(), {});
  CHECK(fs.CreateDirectories(kPartition).ok());
  PartitionState state{.epochs = {{.epoch = 1}}, .gaps = {{0, first}}};
  CHECK(WriteFileDurably(fs, kPartition + "/state", EncodeState(state, context.uuid)).ok());
  CHECK(WriteFileDurably(fs, kPartition + "/" + SegmentName(first), bytes).ok());

  auto findings = InspectPartition(fs, "/log", kPartition, context.uuid);
  CHECK(findings);
  for (const SegmentFindings& segment : findings->segments) ReadAll(fs, segment);

  std::optional<uint64_t> next;
  for (int times = 0; times < 2; ++times) {
    ReceiptIndex receipts(context.key_receipts);
    auto recovered = RecoverPartition(context, kPartition, "orders", 0, receipts);
    if (!recovered && next) std::fprintf(stderr, "%s\n", recovered.error().ToString().c_str());
    CHECK(recovered || !next);
    if (!recovered) return;
    CHECK(!next || *next == recovered->next_offset);
    next = recovered->next_offset;
  }
}
