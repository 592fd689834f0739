#include "cli/input_feed.h"

#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <charconv>

#include "base/text.h"
#include "cli/splitter_feed.h"

namespace millstream {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
constexpr size_t kReadablePast = 64;
constexpr size_t kIdentityBytes = 64 << 10;
constexpr size_t kMaxLineBytes = 64 << 20;  // a line beyond it ends the ingest: it is no NDJSON

/// Plain NDJSON from a file or stdin.
class LineFeed final : public InputFeed {
 public:
  LineFeed(std::unique_ptr<File> file, uint64_t total, std::string name)
      : file_(std::move(file)), total_(total), name_(std::move(name)) {}

  Status Resume(const std::string& position) {
    std::vector<std::string_view> numbers = Split(position, ' ');
    if (numbers.size() < 3) return OkStatus();
    for (auto [text, to] :
         {std::pair(numbers[0], &events_), std::pair(numbers[1], &offset_), std::pair(numbers[2], &lines_)})
      std::from_chars(text.data(), text.data() + text.size(), *to);
    read_ = offset_;
    return OkStatus();
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
      ASSIGN_OR_FAIL(size_t got, Read(buffer.get() + held, room - held));
      at_end_ = got == 0;
      size_t newline = std::string_view(buffer.get() + held, got).rfind('\n');
      if (newline != std::string_view::npos) taken = held + newline + 1;
      held += got;
    }
    if (taken == 0) taken = held;  // the last line may have no end
    if (taken == 0) return std::optional<FeedPiece>();
    rest_.assign(buffer.get() + taken, held - taken);
    std::memset(buffer.get() + held, 0, kReadablePast);
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
    return std::make_shared_for_overwrite<char[]>(size + kReadablePast);
  }

  Result<size_t> Read(char* to, size_t size) {
    if (file_) {
      ASSIGN_OR_FAIL(size_t got, file_->ReadAt(read_, to, size));
      read_ += got;
      return got;
    }
    while (true) {
      ssize_t got = read(STDIN_FILENO, to, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return Fail(IoError("reading stdin: {}", std::strerror(errno)));
    }
  }

  std::unique_ptr<File> file_;  // null: stdin
  const uint64_t total_;
  const std::string name_;
  std::string rest_;                              // read, but not handed out
  uint64_t read_ = 0;                             // bytes of the file
  uint64_t events_ = 0, offset_ = 0, lines_ = 0;  // handed out
  bool at_end_ = false;
};

bool EndsWithAny(const std::string& name, std::initializer_list<const char*> ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const char* end) { return name.ends_with(end); });
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
  FeedOptions options = given;
  std::string name = options.path;
  if (options.compression.empty())
    options.compression = name.ends_with(".gz")                  ? "gzip"
                          : EndsWithAny(name, {".zst", ".zstd"}) ? "zstd"
                                                                 : "none";
  for (std::string_view end : {".gz", ".zst", ".zstd"})
    if (name.ends_with(end)) name = name.substr(0, name.size() - end.size());
  if (options.format.empty())
    options.format = name.ends_with(".csv") ? "csv" : name.ends_with(".json") ? "json" : "ndjson";
  if (options.format != "ndjson" && options.format != "json" && options.format != "csv")
    return Fail(Invalid("--format {}: expected ndjson, json or csv", options.format));
  std::unique_ptr<File> file;
  uint64_t total = 0;
  if (options.path != "-") {
    ASSIGN_OR_FAIL(file, fs.Open(options.path, OpenMode::kRead));
    ASSIGN_OR_FAIL(total, file->Size());
  }
  if (options.format == "ndjson" && options.compression == "none" && options.records.empty()) {
    auto feed = std::make_unique<LineFeed>(std::move(file), total, options.path);
    FAIL_IF_ERROR(feed->Resume(resume));
    return feed;
  }
  return OpenSplitterFeed(std::move(file), total, options, resume);
}

}  // namespace millstream
