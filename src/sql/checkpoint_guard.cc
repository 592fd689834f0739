#include "sql/checkpoint_guard.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "sql/duckdb_face.h"

namespace millstream {
namespace {

constexpr std::string_view kMagic = "MSGUARD1";
constexpr size_t kHeaderBytes =
    4096;  // the main header, then two of the database, of which the newer one holds
constexpr size_t kHeadersBytes = 3 * kHeaderBytes;
constexpr size_t kFixedBytes = kMagic.size() + 2 * sizeof(uint64_t);
constexpr uint64_t kMaxBlockBytes = 256 << 10;
constexpr uint64_t kMaxGuardBytes = 4ull << 30;

// In a database header, after its checksum.
constexpr size_t kIterationAt = 8;
constexpr size_t kBlockBytesAt = 40;

uint64_t ReadWord(std::string_view bytes, size_t at) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data() + at, sizeof(word));
  return word;
}

void AppendWord(std::string& to, uint64_t word) {
  to.append(reinterpret_cast<const char*>(&word), sizeof(word));
}

// DuckDB's checksum of a block: its first word, over the words that follow (storage format 64 and up).
bool IsSound(std::string_view block) {
  uint64_t sum = 5381;
  for (size_t at = 8; at + 8 <= block.size(); at += 8) sum ^= ReadWord(block, at) * 0xbf58476d1ce4e5b9ull;
  return sum == ReadWord(block, 0);
}

std::string_view DatabaseHeader(std::string_view headers, size_t slot) {
  return headers.substr((slot + 1) * kHeaderBytes, kHeaderBytes);
}

// The header that holds: the sound one with the most checkpoints behind it. Empty if none is sound.
std::string_view NewestHeader(std::string_view headers) {
  std::string_view newest;
  for (size_t slot : {1, 0}) {
    std::string_view header = DatabaseHeader(headers, slot);
    if (!IsSound(header)) continue;
    if (newest.empty() || ReadWord(header, kIterationAt) > ReadWord(newest, kIterationAt)) newest = header;
  }
  return newest;
}

uint64_t PlaceOf(uint64_t block, uint64_t block_bytes) { return kHeadersBytes + block * block_bytes; }

// A guard as it was saved; views into its bytes.
struct Saved {
  uint64_t block_bytes = 0;
  uint64_t count = 0;
  std::string_view numbers, headers, blocks;
};

// Nothing for a guard that was never finished or is damaged: it guards nothing then.
std::optional<Saved> Parse(std::string_view bytes) {
  if (bytes.size() < kFixedBytes + kHeadersBytes + sizeof(uint32_t) || !bytes.starts_with(kMagic))
    return std::nullopt;
  uint32_t stored = 0;
  std::string_view content = bytes.substr(0, bytes.size() - sizeof(stored));
  std::memcpy(&stored, bytes.data() + content.size(), sizeof(stored));
  if (Crc32c(content) != stored) return std::nullopt;
  Saved saved;
  saved.block_bytes = ReadWord(bytes, kMagic.size());
  saved.count = ReadWord(bytes, kMagic.size() + 8);
  content.remove_prefix(kFixedBytes);
  size_t numbers_bytes = saved.count * sizeof(uint64_t);
  if (content.size() != numbers_bytes + kHeadersBytes + saved.count * saved.block_bytes) return std::nullopt;
  saved.numbers = content.substr(0, numbers_bytes);
  saved.headers = content.substr(numbers_bytes, kHeadersBytes);
  saved.blocks = content.substr(numbers_bytes + kHeadersBytes);
  return saved;
}

// The guard is of this file and of the state that its header still points at.
bool Guards(const Saved& saved, std::string_view headers) {
  std::string_view now = NewestHeader(headers), then = NewestHeader(saved.headers);
  return headers.substr(0, kHeaderBytes) == saved.headers.substr(0, kHeaderBytes) && !now.empty() &&
         now == then;
}

Result<std::vector<uint64_t>> MetadataBlocks(Connection& connection) {
  std::vector<uint64_t> numbers;
  duckdb_result result;
  if (duckdb_query(connection.get(), "SELECT block_id FROM pragma_metadata_info()", &result) !=
      DuckDBSuccess) {
    Status failed = Internal("DuckDB does not list its metadata: {}", duckdb_result_error(&result));
    duckdb_destroy_result(&result);
    return Fail(failed);
  }
  for (idx_t row = 0; row < duckdb_row_count(&result); ++row)
    numbers.push_back(static_cast<uint64_t>(duckdb_value_int64(&result, 0, row)));
  duckdb_destroy_result(&result);
  return numbers;
}

}  // namespace

CheckpointGuard::CheckpointGuard(std::string path, std::unique_ptr<File> file)
    : path_(std::move(path)), file_(std::move(file)) {}

Result<std::unique_ptr<CheckpointGuard>> CheckpointGuard::Open(const std::string& path) {
  PosixFileSystem fs;
  ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs.Open(path, OpenMode::kReadWrite));
  return std::unique_ptr<CheckpointGuard>(new CheckpointGuard(path, std::move(file)));
}

Result<std::string> CheckpointGuard::ReadHeaders() {
  std::string headers(kHeadersBytes, '\0');
  ASSIGN_OR_FAIL(size_t size, file_->ReadAt(0, headers.data(), headers.size()));
  if (size != headers.size()) return Fail(IoError("{} is cut off: {} bytes", path_, size));
  return headers;
}

Result<bool> CheckpointGuard::Restore() {
  if (!fs_.Exists(path_ + ".guard")) return false;
  ASSIGN_OR_FAIL(std::string bytes, ReadFile(fs_, path_ + ".guard", kMaxGuardBytes));
  ASSIGN_OR_FAIL(std::string headers, ReadHeaders());
  std::optional<Saved> saved = Parse(bytes);
  if (!saved || !Guards(*saved, headers)) return false;
  bool changed = headers != saved->headers;
  std::string block(saved->block_bytes, '\0');
  for (uint64_t i = 0; i < saved->count; ++i) {
    uint64_t place = PlaceOf(ReadWord(saved->numbers, i * sizeof(uint64_t)), saved->block_bytes);
    std::string_view old = saved->blocks.substr(i * saved->block_bytes, saved->block_bytes);
    ASSIGN_OR_FAIL(size_t size, file_->ReadAt(place, block.data(), block.size()));
    if (size == block.size() && block == old) continue;
    changed = true;
    FAIL_IF_ERROR(file_->WriteAt(place, old));
  }
  if (!changed) return false;
  FAIL_IF_ERROR(file_->WriteAt(0, saved->headers));
  FAIL_IF_ERROR(file_->Sync());
  return true;
}

Status CheckpointGuard::Save(Connection& connection) {
  ASSIGN_OR_RETURN(std::string headers, ReadHeaders());
  std::string_view header = NewestHeader(headers);
  uint64_t block_bytes = header.empty() ? 0 : ReadWord(header, kBlockBytesAt);
  if (block_bytes == 0 || block_bytes > kMaxBlockBytes)
    return Internal("{} is not laid out as by the DuckDB that this was made for", path_);
  ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, MetadataBlocks(connection));
  std::string list, blocks, block(block_bytes, '\0');
  for (uint64_t number : numbers) {
    ASSIGN_OR_RETURN(size_t size, file_->ReadAt(PlaceOf(number, block_bytes), block.data(), block.size()));
    if (size != block.size()) continue;  // not yet written: the header does not point at it
    AppendWord(list, number);
    blocks += block;
  }
  std::string content(kMagic);
  AppendWord(content, block_bytes);
  AppendWord(content, list.size() / sizeof(uint64_t));
  content.append(list).append(headers).append(blocks);
  uint32_t sum = Crc32c(content);
  content.append(reinterpret_cast<const char*>(&sum), sizeof(sum));
  return WriteFileDurably(fs_, path_ + ".guard", content);
}

}  // namespace millstream
