// DocumentReader: the records of a file that is read from its beginning: inflated and split.
//
// Place: floor 4, sources/ only. Threads: one. Memory: a piece, and what the splitter holds.
// Failure: kInvalid where the file is not what its name or options say; kIo from the disk.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file_system.h"
#include "event/decompress.h"
#include "event/record_splitter.h"

namespace millstream {

class DocumentReader {
 public:
  /// Reads `size` bytes of `file`, which must outlive the reader.
  DocumentReader(File& file, uint64_t size, Compression compression, SplitOptions options);

  struct Document {
    std::string_view data;  // 64 bytes after it are readable; until the next call
    uint64_t line = 0;      // where it begins, in the inflated text
    std::string fault;      // not empty: why it is no event
  };
  /// Nothing: the end.
  Result<std::optional<Document>> Next();

 private:
  Status Feed();

  File& file_;
  const uint64_t size_;
  std::unique_ptr<Inflater> inflater_;  // null: plain
  RecordSplitter splitter_;
  uint64_t at_ = 0;       // read so far
  std::string piece_;     // as read
  std::string_view raw_;  // of piece_, not yet inflated
  std::string inflated_, record_;
  bool ended_ = false;
};

}  // namespace millstream
