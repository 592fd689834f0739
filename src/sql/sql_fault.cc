// Errors of DuckDB as SqlFaults and Statuses. Databases are opened with errors_as_json, so that positions and
// candidates can be read instead of guessed.
#include "sql/duckdb_face.h"
#include "sql/json_tree.h"

namespace millstream {
namespace {

struct KindName {
  std::string_view name;
  duckdb_error_type type;
};

// Exception names as DuckDB writes them, with the types that decide something here.
constexpr KindName kKinds[] = {
    {"Conversion", DUCKDB_ERROR_CONVERSION},
    {"Out of Range", DUCKDB_ERROR_OUT_OF_RANGE},
    {"Invalid Input", DUCKDB_ERROR_INVALID_INPUT},
    {"Constraint", DUCKDB_ERROR_CONSTRAINT},
    {"Decimal", DUCKDB_ERROR_DECIMAL},
    {"Divide by Zero", DUCKDB_ERROR_DIVIDE_BY_ZERO},
    {"Binder", DUCKDB_ERROR_BINDER},
    {"Catalog", DUCKDB_ERROR_CATALOG},
    {"Parser", DUCKDB_ERROR_PARSER},
    {"syntax", DUCKDB_ERROR_SYNTAX},
    {"Out of Memory", DUCKDB_ERROR_OUT_OF_MEMORY},
    {"INTERRUPT", DUCKDB_ERROR_INTERRUPT},
    {"TransactionContext", DUCKDB_ERROR_TRANSACTION},
    {"IO", DUCKDB_ERROR_IO},
    {"Permission", DUCKDB_ERROR_PERMISSION},
    {"Not implemented", DUCKDB_ERROR_NOT_IMPLEMENTED},
    {"Mismatch Type", DUCKDB_ERROR_MISMATCH_TYPE},
    {"FATAL", DUCKDB_ERROR_FATAL},
    {"INTERNAL", DUCKDB_ERROR_INTERNAL},
    {"Serialization", DUCKDB_ERROR_SERIALIZATION},
};

duckdb_error_type TypeOfKind(std::string_view kind) {
  if (kind.ends_with(" Error")) kind.remove_suffix(6);
  for (const KindName& known : kKinds)
    if (known.name == kind) return known.type;
  return DUCKDB_ERROR_INVALID;
}

bool IsDataError(duckdb_error_type type) {
  return type == DUCKDB_ERROR_CONVERSION || type == DUCKDB_ERROR_OUT_OF_RANGE ||
         type == DUCKDB_ERROR_INVALID_INPUT || type == DUCKDB_ERROR_CONSTRAINT ||
         type == DUCKDB_ERROR_DECIMAL || type == DUCKDB_ERROR_DIVIDE_BY_ZERO;
}

// Of "…\n\nLINE 2: SELECT foo\n               ^" the byte in `sql` that the caret stands under.
int PositionFromLine(std::string_view text, const std::string& sql) {
  size_t mark = text.find("\nLINE ");
  if (mark == std::string_view::npos) return -1;
  size_t digits = mark + 6, colon = text.find(": ", digits);
  if (colon == std::string_view::npos) return -1;
  int line = std::atoi(std::string(text.substr(digits, colon - digits)).c_str());
  size_t end = text.find('\n', colon);
  size_t caret = end == std::string_view::npos ? end : text.find('^', end);
  if (caret == std::string_view::npos) return -1;
  size_t column = caret - end - 1;         // from the start of the caret's line
  size_t prefix = colon + 2 - (mark + 1);  // "LINE 2: "
  size_t begin = 0;
  for (int i = 1; i < line; ++i) {
    begin = sql.find('\n', begin);
    if (begin == std::string::npos) return -1;
    ++begin;
  }
  if (column < prefix || begin + column - prefix > sql.size()) return -1;
  // A long line is shown cut, with dots before: then the caret tells nothing.
  if (text.substr(colon + 2, 3) == "...") return -1;
  return static_cast<int>(begin + column - prefix);
}

// The first name in quotes after "Candidate bindings:" or "Did you mean".
std::string NearestIn(std::string_view text) {
  for (std::string_view mark : {"\nCandidate bindings:", "\nDid you mean "}) {
    size_t at = text.find(mark);
    size_t open = at == std::string_view::npos ? at : text.find('"', at);
    size_t close = open == std::string_view::npos ? open : text.find('"', open + 1);
    if (close != std::string_view::npos) return std::string(text.substr(open + 1, close - open - 1));
  }
  return "";
}

void CutAt(std::string* text, std::string_view mark) {
  size_t at = text->find(mark);
  if (at != std::string::npos) text->resize(at);
}

/// `status = "paid"`: to SQL a name, of which there is none; what was meant is a text.
void SayQuotes(SqlFault& fault, const std::string& sql) {
  if (!fault.message.starts_with("Referenced column \"") || fault.position < 0) return;
  const auto at = static_cast<size_t>(fault.position);
  const size_t end = at < sql.size() && sql[at] == '"' ? sql.find('"', at + 1) : std::string::npos;
  if (end == std::string::npos) return;
  fault.nearest.clear();
  fault.hint = fmt::format("a text stands in single quotes: '{}'", sql.substr(at + 1, end - at - 1));
}

/// Whether DuckDB says that its file or its write-ahead log is not what it wrote. A file of its temporary
/// folder does not count.
bool IsDamage(const std::string& message) {
  if (message.find("duckdb_temp") != std::string::npos) return false;
  for (const char* sign : {"Corrupt database file", "not a valid DuckDB database file", "replaying WAL",
                           "Could not read enough bytes", "Failed to deserialize", "Serialization Error"})
    if (message.find(sign) != std::string::npos) return true;
  return false;
}

}  // namespace

SqlFault ReadSqlFault(duckdb_error_type type, const char* error, const std::string& text_sql) {
  SqlFault fault;
  std::string_view text = error == nullptr ? "unknown error" : error;
  size_t brace = text.find('{');
  Result<JsonNode> json =
      brace == std::string_view::npos ? Fail(Invalid("plain")) : ParseJsonTree(text.substr(brace));
  if (json && (*json)["exception_message"].kind() == JsonNode::Kind::kString) {
    fault.kind = json->Text("exception_type") + " Error";
    fault.message = json->Text("exception_message");
    if (const std::string& position = json->Text("position"); !position.empty())
      fault.position = std::atoi(position.c_str());
    fault.nearest = json->Text("candidates");
    CutAt(&fault.nearest, ",");
  } else {
    size_t colon = text.find(": ");
    if (colon != std::string_view::npos && text.substr(0, colon).ends_with(" Error")) {
      fault.kind = text.substr(0, colon);
      fault.message = text.substr(colon + 2);
    } else {
      fault.kind = "Error";
      fault.message = text;
    }
    fault.position = PositionFromLine(text, text_sql);
  }
  if (fault.nearest.empty()) fault.nearest = NearestIn(fault.message);
  CutAt(&fault.message, "\n\nLINE ");
  CutAt(&fault.message, "\nLINE ");
  CutAt(&fault.message, "\nCandidate bindings:");
  CutAt(&fault.message, "\nDid you mean ");
  while (!fault.message.empty() && (fault.message.back() == '\n' || fault.message.back() == ' '))
    fault.message.pop_back();
  SayQuotes(fault, text_sql);
  duckdb_error_type told = TypeOfKind(fault.kind);
  fault.data_error = IsDataError(told == DUCKDB_ERROR_INVALID ? type : told);
  return fault;
}

Status StatusOf(const SqlFault& fault) {
  Code code = Code::kInternal;
  switch (TypeOfKind(fault.kind)) {
    case DUCKDB_ERROR_OUT_OF_MEMORY:
      code = Code::kExhausted;
      break;
    case DUCKDB_ERROR_INTERRUPT:
      code = Code::kDeadline;
      break;
    case DUCKDB_ERROR_TRANSACTION:
      code = Code::kUnavailable;
      break;
    case DUCKDB_ERROR_IO:
    case DUCKDB_ERROR_FATAL:  // a failed sync, most of all; nothing goes on this database until it is opened
                              // anew
      code = IsDamage(fault.message) ? Code::kCorrupt : Code::kIo;
      break;
    case DUCKDB_ERROR_SERIALIZATION:
      code = Code::kCorrupt;
      break;
    case DUCKDB_ERROR_INTERNAL:
      code = IsDamage(fault.message) ? Code::kCorrupt : Code::kInternal;
      break;
    case DUCKDB_ERROR_INVALID:
      code = fault.data_error ? Code::kInvalid : Code::kInternal;
      break;
    default:
      code = Code::kInvalid;
      break;
  }
  if (fault.kind == kNotAllowed) code = Code::kInvalid;
  return Status(code, fault.kind.empty() ? fault.message : fault.kind + ": " + fault.message);
}

}  // namespace millstream
