#include "event/csv.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

bool IsNumber(std::string_view text) {
  if (text.empty() || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9'))) return false;
  return !ValidateJson(text).has_value();
}

}  // namespace

Status SetCsvOption(CsvOptions& options, std::string_view key, std::string_view value) {
  auto one = [&](char& to) -> Status {
    if (value == "\\t" || value == "tab") value = "\t";
    if (value.size() != 1 || value == "\n" || value == "\r")
      return Invalid("csv {}: '{}' is not one character", key, value);
    to = value[0];
    return OkStatus();
  };
  if (key == "delimiter") return one(options.delimiter);
  if (key == "quote") return one(options.quote);
  if (key == "null") return options.null = value, OkStatus();
  if (key != "header")
    return Invalid("csv has no option '{}'; known are delimiter, header, quote, null", key);
  if (value != "true" && value != "false")
    return Invalid("csv header: '{}' is neither true nor false", value);
  options.header = value == "true";
  return OkStatus();
}

CsvReader::CsvReader(CsvOptions options, Contract contract)
    : options_(std::move(options)), contract_(std::move(contract)) {}

// The position of the row's line end, or the buffer's size for a last row without one.
std::optional<size_t> CsvReader::FindRowEnd(std::string_view buffer, size_t from, bool at_end) {
  for (size_t i = from + scanned_; i < buffer.size(); ++i) {
    if (buffer[i] == options_.quote) in_quotes_ = !in_quotes_;  // a doubled quote toggles twice
    if (buffer[i] == '\n' && !in_quotes_) return i;
  }
  scanned_ = buffer.size() - from;
  if (at_end && from < buffer.size()) return buffer.size();
  return std::nullopt;
}

bool CsvReader::SplitRow(std::string_view row, std::string* fault) {
  cell_count_ = 0;
  size_t at = 0;
  for (;;) {
    if (cell_count_ == cells_.size()) cells_.emplace_back();
    Cell& cell = cells_[cell_count_++];
    cell.text.clear();
    cell.quoted = at < row.size() && row[at] == options_.quote;
    if (cell.quoted) {
      for (++at;; ++at) {
        if (at >= row.size()) {
          *fault = fmt::format("line {}: a quote is not closed", line_);
          return false;
        }
        if (row[at] != options_.quote) {
          cell.text += row[at];
        } else if (at + 1 < row.size() && row[at + 1] == options_.quote) {
          cell.text += row[at++];
        } else {
          break;
        }
      }
      ++at;
      if (at < row.size() && row[at] != options_.delimiter) {
        *fault = fmt::format("line {}: text follows a closing quote", line_);
        return false;
      }
    } else {
      size_t end = std::min(row.find(options_.delimiter, at), row.size());
      cell.text.assign(row.substr(at, end - at));
      at = end;
    }
    if (at >= row.size()) return true;
    ++at;  // the delimiter; a row may end with one
  }
}

void CsvReader::AddColumn(const std::string& name) {
  Column column;
  AppendJsonString(column.name, name);
  column.name += ':';
  std::string pointer = "/" + name;  // names with '/' or '~' have no typed column here
  for (const Field& field : contract_.fields) {
    if (field.pointer == pointer) column.kind = field.type.kind;
  }
  columns_.push_back(std::move(column));
}

void CsvReader::NameColumns(bool from_cells) {
  named_ = true;
  for (size_t i = 0; i < cell_count_; ++i) {
    if (from_cells)
      AddColumn(cells_[i].text);
    else if (i < contract_.fields.size())
      AddColumn(contract_.fields[i].name);
    else
      AddColumn(fmt::format("column{}", i));
  }
}

void CsvReader::AppendCell(const Cell& cell, const Column& column) {
  json_ += column.name;
  if (!cell.quoted && cell.text == options_.null) {
    json_ += "null";
    return;
  }
  switch (column.kind) {
    case Type::Kind::kVarchar:
    case Type::Kind::kEnum:
    case Type::Kind::kBlob:
    case Type::Kind::kUuid:
    case Type::Kind::kDate:
    case Type::Kind::kTime:
    case Type::Kind::kTimestamp:
    case Type::Kind::kTimestamptz:
      break;
    case Type::Kind::kBoolean:
      if (std::string lower = Lower(cell.text); lower == "true" || lower == "false") {
        json_ += lower;
        return;
      }
      break;
    case Type::Kind::kJson:
    case Type::Kind::kStruct:
    case Type::Kind::kList:
      if (!ValidateJson(cell.text)) {
        json_ += cell.text;
        return;
      }
      break;
    default:
      if (IsNumber(cell.text)) {
        json_ += cell.text;
        return;
      }
  }
  AppendJsonString(json_, cell.text);
}

std::optional<CsvReader::Row> CsvReader::Next(std::string_view buffer, size_t* at, bool at_end) {
  while (std::optional<size_t> end = FindRowEnd(buffer, *at, at_end)) {
    std::string_view text = buffer.substr(*at, *end - *at);
    *at = std::min(*end + 1, buffer.size());
    scanned_ = 0, in_quotes_ = false;
    Row row;
    row.line = line_;
    if (text.ends_with('\r')) text.remove_suffix(1);
    row.text = text;
    bool blank = text.empty();
    bool split = blank || SplitRow(text, &row.fault);
    line_ += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    if (blank) continue;
    if (!split) return row;
    if (!named_) {
      NameColumns(options_.header);
      if (options_.header) continue;
    }
    if (cell_count_ != columns_.size()) {
      row.fault = fmt::format("line {} has {} fields; {} has {}", row.line, cell_count_,
                              options_.header ? "the header" : "the first row", columns_.size());
      return row;
    }
    json_.assign(1, '{');
    for (size_t i = 0; i < cell_count_; ++i) {
      if (i > 0) json_ += ',';
      AppendCell(cells_[i], columns_[i]);
    }
    json_ += '}';
    row.json = json_;
    return row;
  }
  return std::nullopt;
}

}  // namespace millstream
