// InputBytes: the bytes of a file or of standard input, in order, and a look at what comes.
//
// Place: floor 8; used by the feeds of `ingest`. Belongs to one thread. Standard input is read as it comes:
// no call waits for more than it was asked for. Failure: kIo; kCancelled by a stop.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/file_system.h"
#include "base/status.h"
#include "event/decompress.h"
#include "event/record_splitter.h"

namespace millstream {

class InputBytes {
 public:
  /// `file` null: standard input. `stop` ends a wait for it.
  InputBytes(std::unique_ptr<File> file, std::stop_token stop)
      : file_(std::move(file)), stop_(std::move(stop)) {}

  bool is_stdin() const { return file_ == nullptr; }
  /// Up to `size` bytes; 0 at the end.
  Result<size_t> Read(char* to, size_t size);
  /// At least `least` bytes of what Read gives next, fewer at the end. Valid until the next call.
  Result<std::string_view> Peek(size_t least);
  /// Where the next Read begins; of a file only.
  void StartAt(uint64_t offset) {
    read_ = offset;
    ahead_.clear();
  }

 private:
  Result<size_t> ReadOn(char* to, size_t size);

  std::unique_ptr<File> file_;
  std::stop_token stop_;
  uint64_t read_ = 0;  // of the file
  std::string ahead_;  // read, but not given
};

struct Noticed {
  RecordFormat format = RecordFormat::kNdjson;  // or kJson: an array, a document over several lines
  Compression compression = Compression::kNone;
};

/// What lies in `bytes`, by what it begins with; waits for the first characters of the text. kInvalid for
/// Parquet, with advice. `path` is for messages.
Result<Noticed> Notice(InputBytes& bytes, const std::string& path);

/// That Parquet is not read, and what to do.
Status ParquetRefusal(const std::string& path);

}  // namespace millstream
