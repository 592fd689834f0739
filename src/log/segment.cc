#include "log/segment.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/crc32c.h"
#include "base/planted.h"

namespace millstream {
namespace {

Result<std::string> ReadExactly(File& file, const std::string& path, uint64_t position, size_t size) {
  std::string bytes(size, '\0');
  ASSIGN_OR_FAIL(size_t got, file.ReadAt(position, bytes.data(), size));
  if (got < size) return Fail(DamagedAt(path, position + got, Corrupt("the file ends here")));
  return bytes;
}

}  // namespace

Status DamagedAt(const std::string& path, uint64_t position, const Status& what) {
  return Status(what.code(), fmt::format("{}: byte {}: {}", path, position, what.message()));
}

LogDamage DamageOf(const Status& damaged, const std::string& directory) {
  const std::string& text = damaged.message();
  size_t byte = text.find(": byte ");
  if (byte == std::string::npos) return {.file = "", .position = 0, .message = text};
  size_t digits = byte + 7, end = text.find(": ", digits);
  LogDamage damage{.file = text.substr(0, byte), .message = text.substr(std::min(text.size(), end + 2))};
  std::from_chars(text.data() + digits, text.data() + std::min(text.size(), end), damage.position);
  if (damage.file.starts_with(directory + "/")) damage.file.erase(0, directory.size() + 1);
  return damage;
}

Result<SegmentFooter> ReadFooter(File& file, const std::string& path, const Uuid& log, bool with_body) {
  ASSIGN_OR_FAIL(uint64_t size, file.Size());
  if (size < kSegmentHeaderFixedBytes + kTrailerBytes)
    return Fail(DamagedAt(path, size, Corrupt("no footer")));
  const uint64_t trailer_position = size - kTrailerBytes;
  ASSIGN_OR_FAIL(std::string trailer, ReadExactly(file, path, trailer_position, kTrailerBytes));
  Result<SegmentFooter> footer = DecodeTrailer(trailer, size, log);
  if (!footer) return Fail(DamagedAt(path, trailer_position, footer.error()));
  if (!with_body) return footer;
  uint64_t body = footer->body_position;
  ASSIGN_OR_FAIL(std::string bytes, ReadExactly(file, path, body, trailer_position - body));
  Status status = DecodeFooterBody(bytes, &*footer);
  if (!status.ok()) return Fail(DamagedAt(path, body, status));
  return footer;
}

Result<SegmentHeader> ReadSegmentHeader(File& file, const std::string& path, const Uuid& log) {
  ASSIGN_OR_FAIL(std::string fixed, ReadExactly(file, path, 0, kSegmentHeaderFixedBytes));
  Result<uint32_t> size = SegmentHeaderBytes(fixed);
  if (!size) return Fail(DamagedAt(path, 0, size.error()));
  ASSIGN_OR_FAIL(uint64_t file_bytes, file.Size());
  if (*size > file_bytes) return Fail(DamagedAt(path, 0, Corrupt("a segment header of {} bytes", *size)));
  ASSIGN_OR_FAIL(std::string bytes, ReadExactly(file, path, 0, *size));
  Result<SegmentHeader> header = DecodeSegmentHeader(bytes, log);
  if (!header) return Fail(DamagedAt(path, 0, header.error()));
  return header;
}

SegmentCursor::SegmentCursor(File& file, std::string path, const Uuid& log, uint64_t position, uint64_t limit)
    : file_(file), path_(std::move(path)), log_(log), position_(position), limit_(limit) {}

Result<std::string_view> SegmentCursor::View(uint64_t position, size_t size) {
  size = static_cast<size_t>(std::min<uint64_t>(size, limit_ > position ? limit_ - position : 0));
  if (position < window_position_ || position > window_position_ + window_bytes_) window_bytes_ = 0;
  if (window_bytes_ == 0) window_position_ = position;
  size_t skip = static_cast<size_t>(position - window_position_);
  if (window_bytes_ - skip < size) {
    size_t kept = window_bytes_ - skip;
    size_t want = static_cast<size_t>(std::min<uint64_t>(std::max(size, kWindowBytes), limit_ - position));
    if (want > window_capacity_) {
      std::unique_ptr<char[]> larger = std::make_unique_for_overwrite<char[]>(want);
      if (kept > 0) std::memcpy(larger.get(), window_.get() + skip, kept);
      window_ = std::move(larger);
      window_capacity_ = want;
    } else if (kept > 0) {
      std::memmove(window_.get(), window_.get() + skip, kept);
    }
    window_position_ = position;
    window_bytes_ = kept;
    skip = 0;
    ASSIGN_OR_FAIL(size_t got, file_.ReadAt(position + kept, window_.get() + kept, want - kept));
    window_bytes_ += got;
  }
  return std::string_view(window_.get() + skip, std::min(size, window_bytes_ - skip));
}

Result<std::optional<BatchHeader>> SegmentCursor::Header() {
  if (position_ >= limit_) return std::optional<BatchHeader>();
  ASSIGN_OR_FAIL(std::string_view bytes, View(position_, kBatchHeaderBytes));
  if (bytes.size() < kBatchHeaderBytes) return Fail(Damaged(position_, Corrupt("a batch header is cut off")));
  Result<BatchHeader> header = DecodeBatchHeader(bytes.data(), log_);
  if (!header) return Fail(Damaged(position_, header.error()));
  if (header->total_bytes() > limit_ - position_) {
    return Fail(Damaged(position_, Corrupt("a batch of {} bytes is cut off", header->total_bytes())));
  }
  return std::optional<BatchHeader>(*header);
}

Status SegmentCursor::CheckPayload(const BatchHeader& header) {
  ASSIGN_OR_RETURN(std::string_view bytes, View(position_ + kBatchHeaderBytes, header.payload_bytes));
  const bool whole = bytes.size() == header.payload_bytes;
  if (whole && (Crc32c(bytes) == header.payload_crc || IsPlanted(Planted::checksum_off))) return OkStatus();
  return Damaged(position_,
                 Corrupt("the payload of the batch at offset {}: CRC does not match", header.base_offset));
}

Result<std::string> SegmentCursor::Payload(const BatchHeader& header) {
  FAIL_IF_ERROR(CheckPayload(header));
  ASSIGN_OR_FAIL(std::string_view bytes, View(position_ + kBatchHeaderBytes, header.payload_bytes));
  return std::string(bytes);
}

Result<bool> SegmentCursor::FindNext() {
  for (uint64_t at = position_ + 1; at + kBatchHeaderBytes <= limit_;) {
    ASSIGN_OR_FAIL(std::string_view bytes, View(at, kWindowBytes));
    size_t found = bytes.find(kBatchMagic);
    if (found == std::string_view::npos) {
      if (bytes.size() < kBatchMagic.size()) break;
      at += bytes.size() - (kBatchMagic.size() - 1);
      continue;
    }
    at += found;
    ASSIGN_OR_FAIL(std::string_view header, View(at, kBatchHeaderBytes));
    if (header.size() < kBatchHeaderBytes) break;
    Result<BatchHeader> sound = DecodeBatchHeader(header.data(), log_);
    if (sound && sound->total_bytes() <= limit_ - at) {
      position_ = at;
      return true;
    }
    ++at;
  }
  return false;
}

}  // namespace millstream
