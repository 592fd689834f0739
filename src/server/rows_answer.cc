// Rows of a query as JSON, NDJSON or CSV, and what stands in their place when the query fails.
#include "base/text.h"
#include "server/http_text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr size_t kRowsPieceBytes = 128 << 10;
enum Format : size_t { kAsJson, kAsNdjson, kAsCsv };

void AppendCsvText(std::string& out, std::string_view text) {
  if (text.find_first_of(",\"\r\n") == text.npos) {
    out += text;
    return;
  }
  out += '"';
  for (char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

std::string ColumnsJson(const std::vector<ColumnInfo>& columns) {
  std::string out = "[";
  for (const ColumnInfo& column : columns) {
    if (out.size() > 1) out += ',';
    JsonObject(out).Text("name", column.name).Text("type", column.type);
  }
  return out + "]";
}

class RowWriter {
 public:
  RowWriter(RunningQuery& query, size_t format, RowsShape shape)
      : columns_(query.columns()),
        picked_(query.picked()),
        writer_(query.MakeJsonWriter()),
        positions_(query.positions()),
        ground_(query.ground()),
        format_(format),
        shape_(shape) {}

  void Begin(std::string& out) const {
    if (format_ == kAsCsv) {
      for (size_t i = 0; i < columns_.size(); ++i) {
        if (i > 0) out += ',';
        AppendCsvText(out, columns_[i].name);
      }
      out += "\r\n";
    } else if (format_ == kAsJson && shape_ == RowsShape::kBare) {
      out += '[';
    } else if (format_ == kAsJson) {
      out += "{\"columns\":" + ColumnsJson(columns_) + ",\"position\":{";
      for (const auto& [table, position] : positions_) {
        if (!out.ends_with('{')) out += ',';
        AppendJsonString(out, table);
        out += ':';
        AppendJsonString(out, position);
      }
      out += "},";
      if (!ground_.empty()) out += "\"as_of\":" + ground_ + ",";
      out += "\"rows\":[";
    }
  }
  void Append(std::string& out, const Chunk& chunk) {
    if (format_ == kAsCsv) return AppendCsv(out, chunk);
    if (chunk.rows() == 0) return;
    if (format_ == kAsJson && !std::exchange(is_first_, false)) out += ',';
    if (!picked_.empty()) return AppendPicked(out, chunk);
    writer_.AppendObjects(out, chunk, columns_, static_cast<uint32_t>(columns_.size()),
                          format_ == kAsJson ? "," : "\n");
    if (format_ == kAsNdjson) out += '\n';
  }
  void End(std::string& out) const {
    if (format_ == kAsJson) out += shape_ == RowsShape::kBare ? "]" : "]}";
  }

 private:
  void AppendPicked(std::string& out, const Chunk& chunk) const {
    for (uint32_t row = 0; row < chunk.rows(); ++row) {
      if (row > 0) out += format_ == kAsJson ? ',' : '\n';
      JsonObject object(out);
      for (uint32_t column = 0; column < columns_.size(); ++column) {
        object.Json(columns_[column].name, "");
        writer_.Append(out, chunk, Place(column), row);
      }
    }
    if (format_ == kAsNdjson) out += '\n';
  }
  void AppendCsv(std::string& out, const Chunk& chunk) {
    std::string text;
    for (uint32_t row = 0; row < chunk.rows(); ++row) {
      for (uint32_t column = 0; column < columns_.size(); ++column) {
        if (column > 0) out += ',';
        if (chunk.IsNull(Place(column), row)) continue;
        text.clear();
        writer_.AppendText(text, chunk, Place(column), row);
        text.empty() ? out += "\"\"" : (AppendCsvText(out, text), out);
      }
      out += "\r\n";
    }
  }

  uint32_t Place(uint32_t column) const { return picked_.empty() ? column : picked_[column]; }

  const std::vector<ColumnInfo>& columns_;
  const std::vector<uint32_t>& picked_;
  const JsonWriter writer_;
  const std::map<std::string, std::string>& positions_;
  const std::string& ground_;
  const size_t format_;
  const RowsShape shape_;
  bool is_first_ = true;
};

}  // namespace

std::optional<size_t> RowFormatOf(const HttpRequest& request) {
  return Negotiate(request.Header("accept"), {kRowFormats.begin(), kRowFormats.end()});
}

void SendRows(RunningQuery& query, size_t format, RowsShape shape, HttpHeaders headers, Responder responder) {
  RowWriter writer(query, format, shape);
  HttpResponse response{
      200, format == kAsCsv ? "text/csv; charset=utf-8" : kRowFormats[format], {}, std::move(headers)};
  std::string out;
  writer.Begin(out);
  while (true) {
    auto chunk = query.Next();
    if (!chunk) {  // before the first byte a problem, after it a cut
      if (!responder.begun()) return responder.Send(QueryProblem(chunk.error(), {}, ""));
      return responder.Abort();
    }
    if (!*chunk) break;
    writer.Append(out, **chunk);
    if (out.size() < kRowsPieceBytes) continue;
    if (!responder.begun()) responder.Begin(response);
    if (!responder.Write(std::exchange(out, {})).ok()) return;
  }
  writer.End(out);
  if (!responder.begun()) {
    response.body = std::move(out);
    return responder.Send(std::move(response));
  }
  if (responder.Write(std::move(out)).ok()) responder.End();
}

HttpResponse QueryProblem(const Status& status, const QueryFault& fault, const std::string& sql) {
  if (status.code() == Code::kDeadline) {
    std::string position;
    if (!fault.reached.empty()) {
      position = "\"position\":";
      AppendJsonString(position, fault.reached);
    }
    return Problem(504, "deadline", status.message(), {}, position);
  }
  if (status.code() != Code::kInvalid || fault.sql.message.empty()) return Problem(status);
  Fault shown;
  shown.path = "sql";
  shown.message = fault.sql.message;
  shown.hint = fault.sql.hint;
  if (!fault.sql.nearest.empty()) shown.hint = fmt::format("did you mean {}?", fault.sql.nearest);
  if (fault.sql.position >= 0 && static_cast<size_t>(fault.sql.position) <= sql.size()) {
    std::string_view before = std::string_view(sql).substr(0, static_cast<size_t>(fault.sql.position));
    size_t line_start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
    shown.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    shown.column = 1 + static_cast<int>(before.size() - line_start);
    shown.excerpt = sql.substr(line_start, sql.find('\n', line_start) - line_start);
    shown.caret_start = shown.column - 1;
    shown.caret_length = 1;
  }
  return Problem(422, "invalid", status.message(), {shown});
}

}  // namespace millstream
