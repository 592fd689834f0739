#include "sources/line_reader.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

/// Reads on until there is a line end, or all there is.
Result<LinePiece> Fill(File& file, uint64_t offset, uint64_t size) {
  uint64_t want = std::min(LineReader::kPieceBytes, size - offset);
  for (;;) {
    LinePiece piece;
    piece.bytes = std::make_shared_for_overwrite<char[]>(want + kJsonPadding);
    ASSIGN_OR_FAIL(size_t got, file.ReadAt(offset, piece.bytes.get(), want));
    piece.text = std::string_view(piece.bytes.get(), got);
    bool all_read = offset + got >= size || got < want || want >= LineReader::kLineBytesMax;
    if (all_read || piece.text.find('\n') != std::string_view::npos) return piece;
    want = std::min({want * 4, LineReader::kLineBytesMax, size - offset});
  }
}

/// A last line without its end was taken at the end of a run; its end may have come since.
Result<uint64_t> EndOfTakenLine(File& file, uint64_t offset) {
  char around[3] = {'\n', 0, 0};
  if (offset == 0) return offset;
  ASSIGN_OR_FAIL(size_t got, file.ReadAt(offset - 1, around, sizeof(around)));
  if (got < 2 || around[0] == '\n') return offset;
  if (around[1] == '\n') return offset + 1;
  return around[1] == '\r' && around[2] == '\n' ? offset + 2 : offset;
}

}  // namespace

Result<std::optional<LinePiece>> LineReader::Read(File& file, uint64_t size, bool whole, uint64_t offset,
                                                  uint64_t lines) {
  if (offset >= size) return std::optional<LinePiece>();
  ASSIGN_OR_FAIL(uint64_t begin, EndOfTakenLine(file, offset));
  LinePiece piece;
  if (begin < size) {
    ASSIGN_OR_FAIL(piece, Fill(file, begin, size));
  }
  std::string_view read = piece.text;
  size_t cut = read.rfind('\n');
  size_t taken = cut == std::string_view::npos ? 0 : cut + 1;
  std::string_view rest = read.substr(taken);
  bool too_long = taken == 0 && read.size() >= kLineBytesMax;
  bool last = whole && begin + read.size() >= size && !Trim(rest).empty();
  // What is no JSON without its end is being written; what is, is a document without a last line end.
  if (too_long || (last && !ValidateJson(rest))) taken = read.size();
  if (begin + taken == offset) return std::optional<LinePiece>();
  piece.text = read.substr(0, taken);
  if (piece.bytes) std::memset(piece.bytes.get() + read.size(), 0, kJsonPadding);
  piece.begin = begin;
  piece.end = begin + taken;
  piece.first_line = lines + 1;
  piece.lines = lines + CountLines(piece.text).lines;
  return std::optional(std::move(piece));
}

}  // namespace millstream
