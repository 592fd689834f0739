// RecordSplitter: cuts a stream of bytes into event texts: NDJSON, JSON, CSV.
//
// Place: floor 1. Used by sources, `ingest` and HTTP bodies. Fed chunks of any size; gives records as soon as
// they are complete.
//   ndjson  each line that is not blank; not checked here
//   json    one array: each element. Else one value or several after each other: each value. Only the
//           brackets are followed: whoever takes a record checks it
//   csv     each row as a JSON object (csv.h)
// With `records` (a JSON pointer, `*` = each element) each line, or each of the documents after each other,
// is read whole, and its records are given. CRLF line ends and a UTF-8 byte order mark are tolerated.
// Compression is decompress.h's. Threads: one at a time. Bounds: no record, nor document with `records`, may
// be longer than its limit. Failure: kInvalid with the line where the format breaks off; the splitter gives
// nothing more then. A record that is bad by itself is given with its `fault`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "event/csv.h"
#include "event/type.h"

namespace millstream {

enum class RecordFormat : uint8_t { kNdjson, kJson, kCsv };

/// "ndjson", "json", "csv"; kInvalid names them.
Result<RecordFormat> ParseRecordFormat(std::string_view name);
/// By a file's name, a compression's suffix left out; ndjson where it says nothing.
RecordFormat RecordFormatOf(std::string_view path);

struct SplitOptions {
  RecordFormat format = RecordFormat::kNdjson;
  std::string records;
  CsvOptions csv;
  Contract contract;                           // types of CSV values
  uint64_t max_record_bytes = 64ull << 20;     // one line, element or row
  uint64_t max_document_bytes = 256ull << 20;  // one document with `records`

  /// Whether a record's line names it; else several may stand on one, and its number does.
  bool is_by_line() const { return format != RecordFormat::kJson && records.empty(); }
};

struct Record {
  std::string_view text;  // valid until the next call of Next or Feed; the bytes after it are not to be read
  uint64_t line = 0;      // where it begins, 1-based
  uint64_t index = 0;     // counted from 0
  std::string fault;      // not empty: why `text` is no event
};

class RecordSplitter {
 public:
  explicit RecordSplitter(SplitOptions options);
  /// More bytes. `chunk` is copied.
  void Feed(std::string_view chunk);
  /// No more bytes come.
  void End() { at_end_ = true; }
  /// The next record. Nothing: Feed more, or all was given.
  Result<std::optional<Record>> Next();
  /// Bytes fed and not yet given.
  size_t held() const { return buffer_.size() - at_; }

 private:
  enum class State : uint8_t { kStart, kValue, kAfterElement, kBeforeElement, kEnd };

  Result<std::optional<Record>> NextLine();
  Result<std::optional<Record>> NextValue();
  Result<std::optional<Record>> NextRow();
  Result<std::optional<Record>> NextOfDocument();
  // The end of the value at at_; nothing if it is not complete.
  std::optional<size_t> FindValueEnd();
  char SkipSpace();
  void CountLines(size_t to);
  Status TooLong(uint64_t limit) const;
  Record MakeRecord(std::string_view text) { return Record{text, line_, index_++, ""}; }

  SplitOptions options_;
  CsvReader csv_;
  std::string buffer_;
  size_t at_ = 0;      // up to here all was given
  uint64_t line_ = 1;  // of at_
  uint64_t index_ = 0;
  bool at_end_ = false;
  bool begun_ = false;
  State state_ = State::kStart;
  bool in_array_ = false;
  // The value under way, so that no byte is looked at twice.
  size_t scanned_ = 0;
  uint32_t depth_ = 0;
  bool in_string_ = false, escaped_ = false;
  // Records of a document that was read whole.
  std::string document_;
  std::vector<std::string_view> found_;
  size_t next_found_ = 0;
  uint64_t document_line_ = 1;
};

}  // namespace millstream
