#include "stage/row_text.h"

#include "base/text.h"

namespace millstream {

std::vector<uint32_t> VisibleColumns(uint32_t visible) {
  std::vector<uint32_t> written(visible);
  for (uint32_t i = 0; i < visible; ++i) written[i] = i;
  return written;
}

void RowText::SetColumns(const std::vector<ColumnInfo>& columns, std::vector<uint32_t> written) {
  written_ = std::move(written);
  names_.clear();
  prefixes_.clear();
  for (uint32_t column : written_) {
    names_.push_back(columns[column].name);
    std::string prefix = prefixes_.empty() ? "{" : ",";
    AppendJsonString(prefix, columns[column].name);
    prefixes_.push_back(prefix + ':');
  }
  lone_data_ = written_.size() == 1 && names_[0] == "data" && columns[written_[0]].type == "JSON";
}

std::string RowText::Header() const {
  if (format_ != Format::kCsv) return "";
  std::string header;
  for (const std::string& name : names_) {
    if (&name != &names_.front()) header += ',';
    bool quote = name.find_first_of(",\"\r\n") != std::string::npos;
    if (!quote) {
      header += name;
      continue;
    }
    header += '"';
    for (char c : name) header.append(c == '"' ? 2 : 1, c);
    header += '"';
  }
  return header + '\n';
}

void RowText::AppendCsvField(std::string& out, const JsonWriter& writer, const Chunk& chunk, uint32_t column,
                             uint32_t row) const {
  if (chunk.IsNull(column, row)) return;
  size_t start = out.size();
  writer.AppendText(out, chunk, column, row);
  std::string_view text = std::string_view(out).substr(start);
  // An empty string is written as "", so that it differs from NULL.
  bool quote = text.empty() || text.find_first_of(",\"\r\n") != std::string_view::npos;
  if (!quote) return;
  std::string quoted = "\"";
  for (char c : text) quoted.append(c == '"' ? 2 : 1, c);
  quoted += '"';
  out.replace(start, std::string::npos, quoted);
}

void RowText::AppendRow(std::string& out, const JsonWriter& writer, const Chunk& chunk, uint32_t row) const {
  if (format_ == Format::kCsv) {
    for (size_t i = 0; i < written_.size(); ++i) {
      if (i > 0) out += ',';
      AppendCsvField(out, writer, chunk, written_[i], row);
    }
    return;
  }
  size_t start = out.size();
  if (lone_data_) {
    writer.Append(out, chunk, written_[0], row);
  } else {
    if (written_.empty()) out += '{';
    for (size_t i = 0; i < written_.size(); ++i) {
      out += prefixes_[i];
      writer.Append(out, chunk, written_[i], row);
    }
    out += '}';
  }
  // Inside a JSON string a line break is escaped; a raw one is white space.
  for (size_t at = out.find_first_of("\r\n", start); at != std::string::npos;
       at = out.find_first_of("\r\n", at))
    out[at] = ' ';
}

uint64_t RowText::AppendLines(std::string& out, const RowBatch& rows, uint64_t from_offset,
                              uint64_t* first_offset) const {
  if (rows.chunks.empty()) return 0;
  int offset_column = rows.Find("_offset");
  CHECK(offset_column >= 0);
  JsonWriter writer = MakeJsonWriter(rows.chunks.front());
  uint64_t count = 0;
  for (const Chunk& chunk : rows.chunks) {
    for (uint32_t row = 0; row < chunk.rows(); ++row) {
      uint64_t offset = OffsetOf(chunk, static_cast<uint32_t>(offset_column), row);
      if (offset < from_offset) continue;
      if (count == 0 && first_offset != nullptr) *first_offset = offset;
      AppendRow(out, writer, chunk, row);
      out += '\n';
      ++count;
    }
  }
  return count;
}

}  // namespace millstream
