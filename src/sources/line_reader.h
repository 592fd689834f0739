// LineReader: the complete lines of a file that may still grow, piece by piece.
//
// Place: floor 4, sources/ only. Threads: one. Memory: one piece, or one line if that is longer; 64 bytes
// after each line are readable. Failure: kIo from the disk.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/file_system.h"

namespace millstream {

class LineReader {
 public:
  static constexpr uint64_t kPieceBytes = 1u << 20;
  static constexpr uint64_t kLineBytesMax =
      64u << 20;  // a longer line is handed over cut, for the taker to refuse

  struct Line {
    std::string_view text;  // without its end
    uint64_t number = 0;    // from 1
    uint64_t end = 0;       // the byte after it and its end
  };
  using Take = std::function<Status(const Line&)>;

  /// Takes the lines that end in the next piece of `file` after `offset`, before `size`. With `whole` what
  /// stands at the end without a line end is a line too if it is valid JSON. Moves `offset` and `lines`
  /// (lines so far). Answers whether it moved.
  Result<bool> Read(File& file, uint64_t size, bool whole, uint64_t& offset, uint64_t& lines,
                    const Take& take);

 private:
  Result<std::string_view> Fill(File& file, uint64_t offset, uint64_t size);
  Result<bool> SkipEndOfTakenLine(File& file, uint64_t& offset);

  std::string buffer_;
};

}  // namespace millstream
