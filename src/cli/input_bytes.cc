#include "cli/input_bytes.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace millstream {
namespace {

constexpr int kStopLookMs = 100;
constexpr size_t kMagicBytes = 4;
constexpr size_t kNoticeBytesMax = 64 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Whether a text is an array or a document over several lines; nothing if too little of it has come.
std::optional<RecordFormat> FormatOfBeginning(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return std::nullopt;
  if (text[first] == '[') return RecordFormat::kJson;
  if (text[first] != '{') return RecordFormat::kNdjson;
  const size_t second = text.find_first_not_of(kBlanks, first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  return text.substr(first, second - first).find('\n') == std::string_view::npos ? RecordFormat::kNdjson
                                                                                 : RecordFormat::kJson;
}

}  // namespace

Result<size_t> InputBytes::ReadOn(char* to, size_t size) {
  if (file_) {
    ASSIGN_OR_FAIL(size_t got, file_->ReadAt(read_, to, size));
    read_ += got;
    return got;
  }
  while (true) {
    if (stop_.stop_requested()) return Fail(Cancelled("interrupted"));
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, kStopLookMs) == 0) continue;
    ssize_t got = read(STDIN_FILENO, to, size);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return Fail(IoError("reading stdin: {}", std::strerror(errno)));
  }
}

Result<size_t> InputBytes::Read(char* to, size_t size) {
  if (ahead_.empty()) return ReadOn(to, size);
  size_t given = std::min(size, ahead_.size());
  std::memcpy(to, ahead_.data(), given);
  ahead_.erase(0, given);
  return given;
}

Result<std::string_view> InputBytes::Peek(size_t least) {
  while (ahead_.size() < least) {
    size_t held = ahead_.size();
    ahead_.resize(held + kNoticeBytesMax);
    Result<size_t> got = ReadOn(ahead_.data() + held, kNoticeBytesMax);
    ahead_.resize(held + got.value_or(0));
    if (!got) return Fail(got.error());
    if (*got == 0) break;
  }
  return std::string_view(ahead_);
}

Status ParquetRefusal(const std::string& path) {
  const bool is_stdin = path == "-";
  return Invalid(
      "{} is Parquet, which is not read; {}duckdb -c \"COPY (FROM '{}') TO '/dev/stdout' (FORMAT json)\" | "
      "millstream ingest STREAM -",
      is_stdin ? "stdin" : path,
      is_stdin ? "save it as a file, then: " : "use instead: ", is_stdin ? "FILE.parquet" : path);
}

Result<Noticed> Notice(InputBytes& bytes, const std::string& path) {
  ASSIGN_OR_FAIL(std::string_view head, bytes.Peek(kMagicBytes));
  if (head.starts_with("PAR1")) return Fail(ParquetRefusal(path));
  const Compression compression = CompressionOfBytes(head);
  std::optional<RecordFormat> format;
  for (size_t size = 0; head.size() > size;) {
    std::string text(head);
    if (compression != Compression::kNone) {
      text.clear();
      std::string_view packed = head;
      // What is damaged is told by the one who reads it.
      if (!Inflater::Make(compression)->Inflate(packed, text, kNoticeBytesMax).ok()) break;
    }
    format = FormatOfBeginning(text);
    if (format || head.size() >= kNoticeBytesMax) break;
    size = head.size();
    ASSIGN_OR_FAIL(head, bytes.Peek(size + 1));
  }
  return Noticed{format.value_or(RecordFormat::kNdjson), compression};
}

}  // namespace millstream
