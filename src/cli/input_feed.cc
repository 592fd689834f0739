#include "cli/input_feed.h"

#include <xxhash.h>

#include <charconv>

#include "base/text.h"
#include "cli/input_bytes.h"
#include "cli/splitter_feed.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr size_t kIdentityBytes = 64 << 10;
constexpr size_t kMaxLineBytes = 64 << 20;  // a line beyond it ends the ingest: it is no NDJSON

/// Plain NDJSON from a file or stdin.
class LineFeed final : public InputFeed {
 public:
  LineFeed(InputBytes bytes, uint64_t total, std::string name)
      : bytes_(std::move(bytes)), total_(total), name_(std::move(name)) {}

  void Resume(const std::string& position) {
    std::vector<std::string_view> numbers = Split(position, ' ');
    if (numbers.size() < 3) return;
    for (auto [text, to] :
         {std::pair(numbers[0], &events_), std::pair(numbers[1], &offset_), std::pair(numbers[2], &lines_)})
      std::from_chars(text.data(), text.data() + text.size(), *to);
    bytes_.StartAt(offset_);
  }

  uint64_t total_bytes() const override { return total_; }

  Result<std::optional<FeedPiece>> Next() override {
    Buffer buffer = MakeBuffer(rest_.size() + kPieceBytes);
    std::memcpy(buffer.get(), rest_.data(), rest_.size());
    size_t held = rest_.size(), room = held + kPieceBytes, taken = 0;
    while (!at_end_ && taken == 0) {
      if (held == room) {
        if (held > kMaxLineBytes)
          return Fail(Invalid("{}: line {} has more than {}; is it NDJSON?", name_, lines_ + 1,
                              FormatBytes(kMaxLineBytes)));
        Buffer larger = MakeBuffer(room *= 2);
        std::memcpy(larger.get(), buffer.get(), held);
        buffer = std::move(larger);
      }
      ASSIGN_OR_FAIL(size_t got, bytes_.Read(buffer.get() + held, room - held));
      at_end_ = got == 0;
      size_t newline = std::string_view(buffer.get() + held, got).rfind('\n');
      if (newline != std::string_view::npos) taken = held + newline + 1;
      held += got;
    }
    if (taken == 0) taken = held;  // the last line may have no end
    if (taken == 0) return std::optional<FeedPiece>();
    rest_.assign(buffer.get() + taken, held - taken);
    std::memset(buffer.get() + held, 0, kJsonPadding);
    FeedPiece piece;
    piece.body = std::string_view(buffer.get(), taken);
    piece.owner = std::move(buffer);
    piece.first_event = events_;
    piece.first_line = lines_ + 1;
    LineCount count = CountLines(piece.body);
    piece.events = count.full;
    events_ += count.full;
    lines_ += count.lines;
    offset_ += taken;
    piece.position = fmt::format("{} {} {}", events_, offset_, lines_);
    piece.bytes_read = offset_;
    return std::optional(std::move(piece));
  }

 private:
  using Buffer = std::shared_ptr<char[]>;
  static Buffer MakeBuffer(size_t size) {
    return std::make_shared_for_overwrite<char[]>(size + kJsonPadding);
  }

  InputBytes bytes_;
  const uint64_t total_;
  const std::string name_;
  std::string rest_;                              // read, but not handed out
  uint64_t events_ = 0, offset_ = 0, lines_ = 0;  // handed out
  bool at_end_ = false;
};

/// By the file's ending; nothing if it does not say.
std::optional<RecordFormat> FormatOfEnding(std::string_view path) {
  for (std::string_view suffix : {".gz", ".zst", ".zstd"})
    if (path.ends_with(suffix)) path.remove_suffix(suffix.size());
  if (path.ends_with(".json")) return RecordFormat::kJson;
  if (path.ends_with(".csv")) return RecordFormat::kCsv;
  if (path.ends_with(".ndjson") || path.ends_with(".jsonl")) return RecordFormat::kNdjson;
  return std::nullopt;
}

}  // namespace

Result<std::string> FileIdentity(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_FAIL(FileInfo info, fs.Stat(path));
  if (info.is_directory) return Fail(Invalid("{} is a folder; name files, or use a `file` source", path));
  ASSIGN_OR_FAIL(auto file, fs.Open(path, OpenMode::kRead));
  std::string head(kIdentityBytes, '\0');
  ASSIGN_OR_FAIL(size_t size, file->ReadAt(0, head.data(), head.size()));
  return fmt::format("{}|{}|{:016x}", path, info.size, XXH3_64bits(head.data(), size));
}

Result<std::unique_ptr<InputFeed>> InputFeed::Open(FileSystem& fs, const FeedOptions& given,
                                                   const std::string& resume) {
  std::unique_ptr<File> file;
  uint64_t total = 0;
  if (given.path != "-") {
    ASSIGN_OR_FAIL(file, fs.Open(given.path, OpenMode::kRead));
    ASSIGN_OR_FAIL(total, file->Size());
  }
  SplitOptions split;
  split.records = given.records;
  split.contract = given.contract;
  for (const auto& [name, value] : given.csv) FAIL_IF_ERROR(SetCsvOption(split.csv, name, value));
  InputBytes bytes(std::move(file), given.stop);
  ASSIGN_OR_FAIL(Noticed noticed, Notice(bytes, given.path));
  Compression compression = CompressionOf(given.path);
  if (compression == Compression::kNone) compression = noticed.compression;
  if (!given.format.empty()) {
    ASSIGN_OR_FAIL(split.format, ParseRecordFormat(given.format));
  } else {
    RecordFormat meant = given.records.empty() ? noticed.format : RecordFormat::kJson;
    split.format = FormatOfEnding(given.path).value_or(meant);
  }
  if (split.format == RecordFormat::kNdjson && compression == Compression::kNone && split.records.empty()) {
    auto feed = std::make_unique<LineFeed>(std::move(bytes), total, given.path);
    feed->Resume(resume);
    return feed;
  }
  return MakeSplitterFeed(std::move(bytes), total, std::move(split), compression,
                          std::strtoull(resume.c_str(), nullptr, 10));
}

}  // namespace millstream
