#include "event/record_splitter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "event/json_cursor.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

Result<RecordFormat> ParseRecordFormat(std::string_view name) {
  if (name == "ndjson" || name == "jsonl") return RecordFormat::kNdjson;
  if (name == "json") return RecordFormat::kJson;
  if (name == "csv") return RecordFormat::kCsv;
  return Fail(Invalid("'{}' is no format that is known; expected ndjson, json or csv", name));
}

RecordFormat RecordFormatOf(std::string_view path) {
  for (std::string_view suffix : {".gz", ".zst", ".zstd"}) {
    if (path.ends_with(suffix)) path.remove_suffix(suffix.size());
  }
  if (path.ends_with(".csv")) return RecordFormat::kCsv;
  return path.ends_with(".json") ? RecordFormat::kJson : RecordFormat::kNdjson;
}

RecordSplitter::RecordSplitter(SplitOptions options)
    : options_(std::move(options)), csv_(options_.csv, options_.contract) {}

void RecordSplitter::Feed(std::string_view chunk) {
  if (at_ > 0 && at_ >= buffer_.size() / 2) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  buffer_ += chunk;
}

void RecordSplitter::CountLines(size_t to) {
  line_ += static_cast<uint64_t>(std::count(buffer_.begin() + static_cast<ptrdiff_t>(at_),
                                            buffer_.begin() + static_cast<ptrdiff_t>(to), '\n'));
  at_ = to;
}

Status RecordSplitter::TooLong(uint64_t limit) const {
  return Invalid("line {}: a record is longer than {}; is the format right?", line_, FormatBytes(limit));
}

Result<std::optional<Record>> RecordSplitter::Next() {
  if (!begun_) {
    if (held() < kByteOrderMark.size() && !at_end_) return std::optional<Record>();
    if (std::string_view(buffer_).starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    begun_ = true;
  }
  if (options_.format == RecordFormat::kCsv) return NextRow();
  if (!options_.records.empty()) return NextOfDocument();
  return options_.format == RecordFormat::kNdjson ? NextLine() : NextValue();
}

Result<std::optional<Record>> RecordSplitter::NextLine() {
  while (at_ < buffer_.size()) {
    size_t from = at_ + scanned_;
    const void* found =
        from < buffer_.size() ? std::memchr(buffer_.data() + from, '\n', buffer_.size() - from) : nullptr;
    if (found == nullptr && !at_end_) {
      scanned_ = held();
      if (held() > options_.max_record_bytes) return Fail(TooLong(options_.max_record_bytes));
      break;
    }
    size_t end = found == nullptr ? buffer_.size()
                                  : static_cast<size_t>(static_cast<const char*>(found) - buffer_.data());
    std::string_view text = std::string_view(buffer_).substr(at_, end - at_);
    scanned_ = 0;
    at_ = std::min(end + 1, buffer_.size());
    uint64_t line = line_++;
    while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
    while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
    if (text.empty()) continue;
    if (text.size() > options_.max_record_bytes) return --line_, Fail(TooLong(options_.max_record_bytes));
    return Record{text, line, index_++, ""};
  }
  return std::optional<Record>();
}

char RecordSplitter::SkipSpace() {
  size_t to = at_;
  while (to < buffer_.size() && IsSpace(buffer_[to])) ++to;
  CountLines(to);
  return at_ < buffer_.size() ? buffer_[at_] : '\0';
}

std::optional<size_t> RecordSplitter::FindValueEnd() {
  for (size_t i = at_ + scanned_; i < buffer_.size(); ++i) {
    char c = buffer_[i];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
        if (depth_ == 0) return i + 1;
      } else {
        // On to what may end the string.
        size_t next = buffer_.find_first_of("\"\\", i + 1);
        i = std::min(next, buffer_.size()) - 1;
      }
      continue;
    }
    if (c == '"') {
      if (depth_ == 0 && i > at_) return i;  // a string right after another scalar
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      if (depth_ == 0) return i;  // the bracket around a scalar
      if (--depth_ == 0) return i + 1;
    } else if (depth_ == 0 && (c == ',' || IsSpace(c))) {
      return i;
    }
  }
  scanned_ = held();
  return std::nullopt;
}

Result<std::optional<Record>> RecordSplitter::NextValue() {
  for (;;) {
    char c = scanned_ > 0 ? buffer_[at_] : SkipSpace();
    if (at_ == buffer_.size()) {
      bool whole = state_ == State::kStart || state_ == State::kEnd;
      if (at_end_ && !whole) return Fail(Invalid("line {}: the array is not closed", line_));
      return std::optional<Record>();
    }
    switch (state_) {
      case State::kStart:
        if (c == '[' && index_ == 0 && !in_array_ && options_.records.empty()) {
          in_array_ = true;
          state_ = State::kBeforeElement;
          ++at_;
          continue;
        }
        break;
      case State::kBeforeElement:
        if (c == ']' && index_ == 0) {
          state_ = State::kEnd;
          ++at_;
          continue;
        }
        break;
      case State::kAfterElement:
        if (c != ',' && c != ']')
          return Fail(Invalid("line {}: expected ',' or ']' after an element of the array", line_));
        state_ = c == ']' ? State::kEnd : State::kValue;
        ++at_;
        continue;
      case State::kEnd:
        return Fail(Invalid("line {}: text follows the end of the array", line_));
      case State::kValue:
        break;
    }
    std::optional<size_t> end = FindValueEnd();
    // A scalar ends with the text; a document that is not closed is checked, which says where it breaks off.
    if (!end && at_end_ && ((depth_ == 0 && !in_string_ && !in_array_) || !options_.records.empty()))
      end = buffer_.size();
    const uint64_t limit = options_.records.empty() ? options_.max_record_bytes : options_.max_document_bytes;
    if (held() > limit && (!end || *end - at_ > limit)) return Fail(TooLong(limit));
    if (!end) {
      if (at_end_) return Fail(Invalid("line {}: the text ends inside a value that begins here", line_));
      return std::optional<Record>();
    }
    if (*end == at_) return Fail(Invalid("line {}: expected a value at '{}'", line_, c));
    Record record = MakeRecord(std::string_view(buffer_).substr(at_, *end - at_));
    scanned_ = 0, depth_ = 0, in_string_ = false, escaped_ = false;
    CountLines(*end);
    state_ = in_array_ ? State::kAfterElement : State::kStart;
    return record;
  }
}

Result<std::optional<Record>> RecordSplitter::NextRow() {
  auto row = csv_.Next(buffer_, &at_, at_end_);
  if (!row) {
    if (held() > options_.max_record_bytes)
      return Fail(
          Invalid("a row is longer than {}; is the quote closed?", FormatBytes(options_.max_record_bytes)));
    return std::optional<Record>();
  }
  return Record{row->fault.empty() ? row->json : row->text, row->line, index_++, std::move(row->fault)};
}

Result<std::optional<Record>> RecordSplitter::NextOfDocument() {
  for (;;) {
    if (next_found_ < found_.size()) return Record{found_[next_found_++], document_line_, index_++, ""};
    found_.clear(), next_found_ = 0;
    const bool by_line = options_.format == RecordFormat::kNdjson;
    ASSIGN_OR_FAIL(std::optional<Record> document, by_line ? NextLine() : NextValue());
    if (!document) return std::optional<Record>();
    --index_;
    document_ = document->text;
    document_line_ = document->line;
    if (auto error = ValidateJson(document_, kJsonDepthMax)) {
      if (by_line) {
        return Record{document_, document_line_, index_++,
                      fmt::format("{} at byte {}", error->message, error->position)};
      }
      auto lines =
          std::count(document_.begin(), document_.begin() + static_cast<ptrdiff_t>(error->position), '\n');
      return Fail(
          Invalid("line {}: not JSON: {}", document_line_ + static_cast<uint64_t>(lines), error->message));
    }
    found_ = JsonRecords(document_, options_.records);
  }
}

}  // namespace millstream
