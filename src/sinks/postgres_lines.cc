#include "sinks/postgres_lines.h"

#include "base/text.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

enum class Form : uint8_t { kPlain, kText, kBytes };

/// What needs no escapes, what does, and what has a form of its own.
Form FormOf(const std::string& type) {
  static const std::set<std::string> kPlain = {
      "BOOLEAN",  "TINYINT",   "SMALLINT", "INTEGER",  "BIGINT", "UTINYINT", "USMALLINT",
      "UINTEGER", "UBIGINT",   "HUGEINT",  "UHUGEINT", "FLOAT",  "DOUBLE",   "DATE",
      "TIME",     "TIMESTAMP", "UUID",     "INTERVAL", "BIT",    "BIGNUM",   "TIMESTAMP WITH TIME ZONE"};
  if (type == "BLOB") return Form::kBytes;
  return kPlain.contains(type) || type.starts_with("DECIMAL(") ? Form::kPlain : Form::kText;
}

void EscapeFrom(std::string& out, size_t start) {
  size_t at = out.find_first_of("\\\n\r\t", start);
  if (at == std::string::npos) return;
  std::string rest = out.substr(at);
  out.resize(at);
  for (char c : rest) {
    switch (c) {
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        out += c;
    }
  }
}

}  // namespace

PostgresLines WritePostgresLines(const RowBatch& rows, uint64_t from_offset,
                                 const std::vector<bool>* deleted) {
  PostgresLines lines;
  if (rows.chunks.empty()) return lines;
  int offset_at = rows.Find("_offset"), ordinal_at = rows.Find("_ordinal");
  CHECK(offset_at >= 0 && ordinal_at >= 0);
  auto offset_column = static_cast<uint32_t>(offset_at), ordinal_column = static_cast<uint32_t>(ordinal_at);
  std::vector<Form> forms;
  for (uint32_t i = 0; i < rows.visible; ++i) forms.push_back(FormOf(rows.columns[i].type));
  JsonWriter writer = MakeJsonWriter(rows.chunks.front());
  std::string& out = lines.text;
  size_t at = 0;
  for (const Chunk& chunk : rows.chunks) {
    const auto* ordinals = static_cast<const int32_t*>(chunk.data(ordinal_column));
    for (uint32_t row = 0; row < chunk.rows(); ++row, ++at) {
      uint64_t offset = OffsetOf(chunk, offset_column, row);
      if (offset < from_offset) continue;
      for (uint32_t i = 0; i < rows.visible; ++i) {
        if (i > 0) out += '\t';
        size_t start = out.size();
        if (chunk.IsNull(i, row)) {
          out += "\\N";
        } else if (forms[i] == Form::kBytes) {
          out += "\\\\x";
          out += Hex(chunk.String(i, row));
        } else {
          writer.AppendText(out, chunk, i, row);
          if (forms[i] == Form::kText) EscapeFrom(out, start);
        }
      }
      if (deleted != nullptr) {
        uint64_t number = (offset - rows.first_offset) << 32 | static_cast<uint32_t>(ordinals[row]);
        fmt::format_to(std::back_inserter(out), "\t{}\t{}", number, (*deleted)[at] ? 't' : 'f');
        lines.deletions += (*deleted)[at] ? 1 : 0;
      }
      out += '\n';
      ++lines.rows;
    }
  }
  return lines;
}

}  // namespace millstream
