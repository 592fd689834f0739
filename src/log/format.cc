#include "log/format.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/crc32c.h"

namespace millstream {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kSegmentMagic = "MSS1", kTrailerMagic = "MSF1", kStateMagic = "MSP1",
                           kLogMagic = "MSL1", kStreamMagic = "MST1";
constexpr size_t kPrefixBytes = 8;  // magic and CRC
constexpr size_t kIndexEntryBytes = 24, kReceiptFixedBytes = 32, kStateFixedBytes = 64, kEpochBytes = 24,
                 kGapBytes = 16;
constexpr uint16_t kCleanFlag = 1, kHashXxh3 = 1;

template <typename T>
void Put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
T Get(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void PutUuid(std::string& to, const Uuid& log) {
  to.append(reinterpret_cast<const char*>(log.data()), log.size());
}

bool SameUuid(const char* from, const Uuid& log) { return std::memcmp(from, log.data(), log.size()) == 0; }

// Starts a structure: its magic and room for the CRC, which Seal fills in.
std::string Begin(std::string_view magic) { return std::string(magic) + std::string(4, '\0'); }

void Seal(std::string& bytes) {
  uint32_t crc = Crc32c(std::string_view(bytes).substr(kPrefixBytes));
  std::memcpy(bytes.data() + 4, &crc, sizeof crc);
}

Status CheckPrefix(std::string_view bytes, std::string_view magic) {
  if (bytes.size() < kPrefixBytes || bytes.substr(0, 4) != magic) return Corrupt("no {} here", magic);
  if (Get<uint32_t>(bytes.data() + 4) != Crc32c(bytes.substr(kPrefixBytes)))
    return Corrupt("{}: CRC does not match", magic);
  return OkStatus();
}

Status CheckVersion(uint16_t version) {
  if (version == kLogFormatVersion) return OkStatus();
  return Corrupt("format version {}, this program reads {}", version, kLogFormatVersion);
}

void PutReceipts(std::string& to, const std::vector<PlacedReceipt>& receipts) {
  for (const PlacedReceipt& placed : receipts) {
    const Receipt& receipt = placed.receipt;
    Put(to, static_cast<uint16_t>(receipt.origin.size()));
    Put(to, static_cast<uint16_t>(receipt.part.size()));
    Put(to, static_cast<uint32_t>(receipt.position.size()));
    Put(to, receipt.events);
    Put(to, placed.epoch);
    Put(to, placed.offset);
    Put(to, placed.ingested_at_us);
    to += receipt.origin;
    to += receipt.part;
    to += receipt.position;
  }
}

Status GetReceipts(std::string_view bytes, uint32_t count, std::vector<PlacedReceipt>* receipts) {
  for (uint32_t i = 0; i < count; ++i) {
    if (bytes.size() < kReceiptFixedBytes) return Corrupt("receipts are cut off");
    const char* at = bytes.data();
    size_t origin = Get<uint16_t>(at), part = Get<uint16_t>(at + 2), position = Get<uint32_t>(at + 4);
    if (bytes.size() - kReceiptFixedBytes < origin + part + position) return Corrupt("receipts are cut off");
    PlacedReceipt& placed = receipts->emplace_back();
    placed.receipt.events = Get<uint32_t>(at + 8);
    placed.epoch = Get<uint32_t>(at + 12);
    placed.offset = Get<uint64_t>(at + 16);
    placed.ingested_at_us = Get<int64_t>(at + 24);
    bytes.remove_prefix(kReceiptFixedBytes);
    placed.receipt.origin = bytes.substr(0, origin);
    placed.receipt.part = bytes.substr(origin, part);
    placed.receipt.position = bytes.substr(origin + part, position);
    bytes.remove_prefix(origin + part + position);
  }
  return bytes.empty() ? OkStatus() : Corrupt("bytes after the receipts");
}

}  // namespace

void EncodeBatchHeader(const BatchHeader& header, const Uuid& log, char* to) {
  auto put = [to](size_t at, auto value) { std::memcpy(to + at, &value, sizeof value); };
  std::memcpy(to, kBatchMagic.data(), 4);
  put(8, header.payload_crc);
  put(12, header.payload_bytes);
  put(16, header.base_offset);
  put(24, header.count);
  put(28, header.epoch);
  put(32, header.first_us);
  put(40, header.max_us);
  put(48, header.synced_bytes);
  put(56, header.data_bytes);
  put(60, static_cast<uint8_t>(header.codec));
  put(61, header.flags);
  put(62, kLogFormatVersion);
  std::memcpy(to + 64, log.data(), log.size());
  put(4, Crc32c({to + kPrefixBytes, kBatchHeaderBytes - kPrefixBytes}));
}

Result<BatchHeader> DecodeBatchHeader(const char* from, const Uuid& log) {
  FAIL_IF_ERROR(CheckPrefix({from, kBatchHeaderBytes}, kBatchMagic));
  FAIL_IF_ERROR(CheckVersion(Get<uint16_t>(from + 62)));
  if (!SameUuid(from + 64, log)) return Fail(Corrupt("a batch of another log"));
  BatchHeader header;
  header.payload_crc = Get<uint32_t>(from + 8);
  header.payload_bytes = Get<uint32_t>(from + 12);
  header.base_offset = Get<uint64_t>(from + 16);
  header.count = Get<uint32_t>(from + 24);
  header.epoch = Get<uint32_t>(from + 28);
  header.first_us = Get<int64_t>(from + 32);
  header.max_us = Get<int64_t>(from + 40);
  header.synced_bytes = Get<uint64_t>(from + 48);
  header.data_bytes = Get<uint32_t>(from + 56);
  header.codec = static_cast<Codec>(Get<uint8_t>(from + 60));
  header.flags = Get<uint8_t>(from + 61);
  if (header.payload_bytes > kPayloadBytesMax)
    return Fail(Corrupt("a payload of {} bytes", header.payload_bytes));
  return header;
}

std::string EncodeSegmentHeader(const SegmentHeader& header, const Uuid& log) {
  std::string bytes = Begin(kSegmentMagic);
  Put(bytes, uint32_t{0});  // header_bytes, below
  Put(bytes, kLogFormatVersion);
  Put(bytes, header.flags);
  PutUuid(bytes, log);
  Put(bytes, header.first_offset);
  Put(bytes, header.epoch);
  Put(bytes, header.partition);
  Put(bytes, header.max_us);
  Put(bytes, static_cast<uint32_t>(header.receipts.size()));
  Put(bytes, static_cast<uint16_t>(header.stream.size()));
  Put(bytes, uint16_t{0});
  bytes += header.stream;
  PutReceipts(bytes, header.receipts);
  uint32_t size = static_cast<uint32_t>(bytes.size());
  std::memcpy(bytes.data() + 8, &size, sizeof size);
  Seal(bytes);
  return bytes;
}

Result<uint32_t> SegmentHeaderBytes(std::string_view fixed) {
  if (fixed.size() < kSegmentHeaderFixedBytes || fixed.substr(0, 4) != kSegmentMagic) {
    return Fail(Corrupt("no {} here", kSegmentMagic));
  }
  uint32_t size = Get<uint32_t>(fixed.data() + 8);
  if (size < kSegmentHeaderFixedBytes || size > kSegmentHeaderBytesMax) {
    return Fail(Corrupt("a segment header of {} bytes", size));
  }
  return size;
}

Result<SegmentHeader> DecodeSegmentHeader(std::string_view bytes, const Uuid& log) {
  FAIL_IF_ERROR(CheckPrefix(bytes, kSegmentMagic));
  const char* at = bytes.data();
  FAIL_IF_ERROR(CheckVersion(Get<uint16_t>(at + 12)));
  if (!SameUuid(at + 16, log)) return Fail(Corrupt("a segment of another log"));
  SegmentHeader header;
  header.header_bytes = Get<uint32_t>(at + 8);
  header.flags = Get<uint16_t>(at + 14);
  header.first_offset = Get<uint64_t>(at + 32);
  header.epoch = Get<uint32_t>(at + 40);
  header.partition = Get<uint32_t>(at + 44);
  header.max_us = Get<int64_t>(at + 48);
  uint32_t receipts = Get<uint32_t>(at + 56);
  size_t name = Get<uint16_t>(at + 60);
  if (header.header_bytes != bytes.size() || kSegmentHeaderFixedBytes + name > bytes.size()) {
    return Fail(Corrupt("the segment header is cut off"));
  }
  header.stream = bytes.substr(kSegmentHeaderFixedBytes, name);
  FAIL_IF_ERROR(GetReceipts(bytes.substr(kSegmentHeaderFixedBytes + name), receipts, &header.receipts));
  return header;
}

std::string EncodeFooter(const SegmentFooter& footer, const Uuid& log) {
  std::string body;
  for (const IndexEntry& entry : footer.index) {
    Put(body, entry.offset);
    Put(body, entry.position);
    Put(body, entry.max_us);
  }
  PutReceipts(body, footer.receipts);
  std::string trailer = Begin(kTrailerMagic);
  Put(trailer, Crc32c(body));
  Put(trailer, kLogFormatVersion);
  Put(trailer, footer.flags);
  Put(trailer, footer.body_position);
  Put(trailer, footer.end_offset);
  Put(trailer, footer.batches);
  Put(trailer, footer.events);
  Put(trailer, footer.data_bytes);
  Put(trailer, footer.first_us);
  Put(trailer, footer.max_us);
  Put(trailer, static_cast<uint32_t>(footer.index.size()));
  Put(trailer, static_cast<uint32_t>(footer.receipts.size()));
  Put(trailer, footer.last_epoch);
  Put(trailer, uint32_t{0});
  PutUuid(trailer, log);
  CHECK(trailer.size() == kTrailerBytes);
  Seal(trailer);
  return body + trailer;
}

Result<SegmentFooter> DecodeTrailer(std::string_view trailer, uint64_t file_bytes, const Uuid& log) {
  if (trailer.size() != kTrailerBytes) return Fail(Corrupt("no {} here", kTrailerMagic));
  FAIL_IF_ERROR(CheckPrefix(trailer, kTrailerMagic));
  const char* at = trailer.data();
  FAIL_IF_ERROR(CheckVersion(Get<uint16_t>(at + 12)));
  if (!SameUuid(at + 88, log)) return Fail(Corrupt("a footer of another log"));
  SegmentFooter footer;
  footer.body_crc = Get<uint32_t>(at + 8);
  footer.flags = Get<uint16_t>(at + 14);
  footer.body_position = Get<uint64_t>(at + 16);
  footer.end_offset = Get<uint64_t>(at + 24);
  footer.batches = Get<uint64_t>(at + 32);
  footer.events = Get<uint64_t>(at + 40);
  footer.data_bytes = Get<uint64_t>(at + 48);
  footer.first_us = Get<int64_t>(at + 56);
  footer.max_us = Get<int64_t>(at + 64);
  footer.index_count = Get<uint32_t>(at + 72);
  footer.receipt_count = Get<uint32_t>(at + 76);
  footer.last_epoch = Get<uint32_t>(at + 80);
  const uint64_t before = file_bytes - std::min<uint64_t>(file_bytes, kTrailerBytes);
  if (footer.body_position > before ||
      footer.index_count * kIndexEntryBytes > before - footer.body_position) {
    return Fail(Corrupt("the footer's body lies outside the file"));
  }
  return footer;
}

Status DecodeFooterBody(std::string_view body, SegmentFooter* footer) {
  if (Crc32c(body) != footer->body_crc) return Corrupt("the footer's body: CRC does not match");
  size_t index_bytes = footer->index_count * kIndexEntryBytes;
  if (body.size() < index_bytes) return Corrupt("the index is cut off");
  for (size_t at = 0; at < index_bytes; at += kIndexEntryBytes) {
    const char* entry = body.data() + at;
    footer->index.push_back({Get<uint64_t>(entry), Get<uint64_t>(entry + 8), Get<int64_t>(entry + 16)});
  }
  return GetReceipts(body.substr(index_bytes), footer->receipt_count, &footer->receipts);
}

std::string EncodeState(const PartitionState& state, const Uuid& log) {
  std::string bytes = Begin(kStateMagic);
  Put(bytes, kLogFormatVersion);
  Put(bytes, state.clean ? kCleanFlag : uint16_t{0});
  Put(bytes, static_cast<uint32_t>(state.epochs.size()));
  PutUuid(bytes, log);
  Put(bytes, state.next_offset);
  Put(bytes, state.tail_bytes);
  Put(bytes, state.max_us);
  Put(bytes, static_cast<uint32_t>(state.gaps.size()));
  Put(bytes, uint32_t{0});
  CHECK(bytes.size() == kStateFixedBytes);
  for (const EpochEnd& epoch : state.epochs) {
    Put(bytes, epoch.epoch);
    Put(bytes, uint32_t{0});
    Put(bytes, epoch.first_offset);
    Put(bytes, epoch.end_offset);
  }
  for (const OffsetGap& gap : state.gaps) {
    Put(bytes, gap.first);
    Put(bytes, gap.end);
  }
  Seal(bytes);
  return bytes;
}

Result<PartitionState> DecodeState(std::string_view bytes, const Uuid& log) {
  FAIL_IF_ERROR(CheckPrefix(bytes, kStateMagic));
  if (bytes.size() < kStateFixedBytes) return Fail(Corrupt("the state is cut off"));
  const char* at = bytes.data();
  FAIL_IF_ERROR(CheckVersion(Get<uint16_t>(at + 8)));
  if (!SameUuid(at + 16, log)) return Fail(Corrupt("the state of another log"));
  PartitionState state;
  state.clean = (Get<uint16_t>(at + 10) & kCleanFlag) != 0;
  uint64_t epochs = Get<uint32_t>(at + 12), gaps = Get<uint32_t>(at + 56);
  state.next_offset = Get<uint64_t>(at + 32);
  state.tail_bytes = Get<uint64_t>(at + 40);
  state.max_us = Get<int64_t>(at + 48);
  if (bytes.size() != kStateFixedBytes + epochs * kEpochBytes + gaps * kGapBytes || epochs == 0) {
    return Fail(Corrupt("the state is cut off"));
  }
  at += kStateFixedBytes;
  for (uint64_t i = 0; i < epochs; ++i, at += kEpochBytes) {
    state.epochs.push_back({Get<uint32_t>(at), Get<uint64_t>(at + 8), Get<uint64_t>(at + 16)});
  }
  for (uint64_t i = 0; i < gaps; ++i, at += kGapBytes) {
    state.gaps.push_back({Get<uint64_t>(at), Get<uint64_t>(at + 8)});
  }
  return state;
}

std::string EncodeIdentity(const Identity& identity) {
  std::string bytes = Begin(identity.partitions == 0 ? kLogMagic : kStreamMagic);
  Put(bytes, kLogFormatVersion);
  Put(bytes, identity.partitions == 0 ? uint16_t{0} : kHashXxh3);
  Put(bytes, identity.partitions);
  PutUuid(bytes, identity.log);
  CHECK(bytes.size() == kIdentityBytes);
  Seal(bytes);
  return bytes;
}

Result<Identity> DecodeIdentity(std::string_view bytes) {
  if (bytes.size() != kIdentityBytes) return Fail(Corrupt("an identity of {} bytes", bytes.size()));
  Identity identity;
  identity.partitions = Get<uint32_t>(bytes.data() + 12);
  FAIL_IF_ERROR(CheckPrefix(bytes, identity.partitions == 0 ? kLogMagic : kStreamMagic));
  FAIL_IF_ERROR(CheckVersion(Get<uint16_t>(bytes.data() + 8)));
  if (identity.partitions != 0 && Get<uint16_t>(bytes.data() + 10) != kHashXxh3) {
    return Fail(Corrupt("an unknown hash function decides the partitions"));
  }
  std::memcpy(identity.log.data(), bytes.data() + 16, identity.log.size());
  return identity;
}

std::string SegmentName(uint64_t first_offset) { return fmt::format("{:020}.seg", first_offset); }

Result<uint64_t> ParseSegmentName(std::string_view name) {
  uint64_t offset = 0;
  if (name.size() == 24 && name.ends_with(".seg")) {
    auto [end, error] = std::from_chars(name.data(), name.data() + 20, offset);
    if (error == std::errc() && end == name.data() + 20) return offset;
  }
  return Fail(Invalid("{}: not a segment's name", name));
}

}  // namespace millstream
