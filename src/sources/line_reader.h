// LineReader: the complete lines of a file that may still grow, piece by piece.
//
// Place: floor 4, sources/ only. Threads: one. Memory: a piece is the caller's; the reader keeps none.
// Failure: kIo from the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/file_system.h"

namespace millstream {

/// Whole lines, and where they stand.
struct LinePiece {
  std::shared_ptr<char[]> bytes;
  std::string_view text;    // of `bytes`, with the lines' ends; 64 readable bytes follow
  uint64_t begin = 0;       // the byte of the file at which it begins
  uint64_t end = 0;         // the byte after it
  uint64_t first_line = 1;  // number of its first line
  uint64_t lines = 0;       // lines of the file up to its end
};

class LineReader {
 public:
  static constexpr uint64_t kPieceBytes = 1u << 20;
  /// A longer line is handed over cut, for the taker to refuse.
  static constexpr uint64_t kLineBytesMax = 64u << 20;

  /// The lines that end in the next piece of `file` after `offset`, before `size`; `lines` were before it.
  /// With `whole` what stands at the end without a line end is a line too if it is valid JSON. Nothing if
  /// there is none.
  static Result<std::optional<LinePiece>> Read(File& file, uint64_t size, bool whole, uint64_t offset,
                                               uint64_t lines);
};

}  // namespace millstream
