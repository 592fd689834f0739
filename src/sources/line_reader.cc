#include "sources/line_reader.h"

#include "base/text.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr size_t kReadablePadding = 64;

std::string_view WithoutReturn(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

Result<std::string_view> LineReader::Fill(File& file, uint64_t offset, uint64_t size) {
  uint64_t want = std::min(kPieceBytes, size - offset);
  for (;;) {
    buffer_.resize(want + kReadablePadding);
    ASSIGN_OR_FAIL(size_t got, file.ReadAt(offset, buffer_.data(), want));
    std::string_view piece(buffer_.data(), got);
    bool all_read = offset + got >= size || got < want || want >= kLineBytesMax;
    if (all_read || piece.find('\n') != std::string_view::npos) return piece;
    want = std::min({want * 4, kLineBytesMax, size - offset});
  }
}

Result<bool> LineReader::SkipEndOfTakenLine(File& file, uint64_t& offset) {
  // A last line without its end was taken at the end of a run; its end may have come since.
  char around[3] = {'\n', 0, 0};
  if (offset == 0) return false;
  ASSIGN_OR_FAIL(size_t got, file.ReadAt(offset - 1, around, sizeof(around)));
  if (got < 2 || around[0] == '\n') return false;
  if (around[1] == '\n') offset += 1;
  if (around[1] == '\r' && around[2] == '\n') offset += 2;
  return around[1] == '\n' || (around[1] == '\r' && around[2] == '\n');
}

Result<bool> LineReader::Read(File& file, uint64_t size, bool whole, uint64_t& offset, uint64_t& lines,
                              const Take& take) {
  if (offset >= size) return false;
  ASSIGN_OR_FAIL(bool moved, SkipEndOfTakenLine(file, offset));
  if (offset >= size) return moved;
  ASSIGN_OR_FAIL(std::string_view piece, Fill(file, offset, size));
  size_t at = 0;
  for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n', at)) {
    Line line{WithoutReturn(piece.substr(at, end - at)), lines + 1, offset + end + 1};
    if (!Trim(line.text).empty()) FAIL_IF_ERROR(take(line));
    ++lines;
    at = end + 1;
  }
  std::string_view rest = piece.substr(at);
  bool too_long = at == 0 && piece.size() >= kLineBytesMax;
  bool last = whole && offset + piece.size() >= size && !Trim(rest).empty();
  // What is no JSON without its end is being written; what is, is a document without a last line end.
  if (too_long || (last && !ValidateJson(rest))) {
    FAIL_IF_ERROR(take({WithoutReturn(rest), lines + 1, offset + piece.size()}));
    ++lines;
    at = piece.size();
  }
  offset += at;
  return moved || at > 0;
}

}  // namespace millstream
