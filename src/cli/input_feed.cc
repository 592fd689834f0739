#include "cli/input_feed.h"

#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <charconv>

#include "base/text.h"
#include "cli/splitter_feed.h"

namespace millstream {
namespace {

constexpr size_t kPieceBytes = 4 << 20;
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
    return OkStatus();
  }

  uint64_t total_bytes() const override { return total_; }

  Result<std::optional<FeedPiece>> Next() override {
    FeedPiece piece;
    piece.body = std::move(rest_);
    rest_.clear();
    size_t cut = std::string::npos;
    while (!at_end_ && cut == std::string::npos) {
      size_t held = piece.body.size();
      if (held > kMaxLineBytes)
        return Fail(Invalid("{}: line {} has more than {}; is it NDJSON?", name_, lines_ + 1,
                            FormatBytes(kMaxLineBytes)));
      piece.body.resize(held + kPieceBytes);
      ASSIGN_OR_FAIL(size_t got, Read(piece.body.data() + held, kPieceBytes));
      piece.body.resize(held + got);
      at_end_ = got == 0;
      cut = piece.body.rfind('\n');
    }
    // The last line may have no end.
    size_t size = cut == std::string::npos ? piece.body.size() : cut + 1;
    if (size == 0) return std::optional<FeedPiece>();
    rest_ = piece.body.substr(size);
    piece.size = size;
    piece.first_event = events_;
    piece.first_line = lines_ + 1;
    Count(std::string_view(piece.body).substr(0, size));
    piece.events = events_ - piece.first_event;
    offset_ += size;
    piece.position = fmt::format("{} {} {}", events_, offset_, lines_);
    piece.bytes_read = offset_;
    piece.body.resize(size + kReadablePast);
    return std::optional(std::move(piece));
  }

 private:
  Result<size_t> Read(char* to, size_t size) {
    if (file_) {
      ASSIGN_OR_FAIL(size_t got, file_->ReadAt(offset_ + static_cast<uint64_t>(read_ahead_), to, size));
      read_ahead_ += got;
      return got;
    }
    while (true) {
      ssize_t got = read(STDIN_FILENO, to, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return Fail(IoError("reading stdin: {}", std::strerror(errno)));
    }
  }

  void Count(std::string_view text) {
    while (!text.empty()) {
      size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      if (line.find_first_not_of(" \t\r") != std::string_view::npos) ++events_;
      ++lines_;
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    read_ahead_ = rest_.size();
  }

  std::unique_ptr<File> file_;  // null: stdin
  const uint64_t total_;
  const std::string name_;
  std::string rest_;
  size_t read_ahead_ = 0;  // bytes after offset_ that lie in rest_ or in the piece
  uint64_t events_ = 0, offset_ = 0, lines_ = 0;
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
