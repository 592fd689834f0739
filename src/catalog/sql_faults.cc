#include "catalog/sql_faults.h"

#include "base/text.h"
#include "stage/spec.h"

namespace millstream {
namespace {

constexpr size_t kExcerptMax = 110;
constexpr size_t kColumnsShown = 30;

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0; }

// What stands between the first two double quotes of a message: the name that it is about.
std::string QuotedName(std::string_view message, std::string_view before) {
  size_t begin = message.find(before);
  if (begin == std::string_view::npos) return "";
  begin += before.size();
  size_t end = message.find_first_of("\" !", begin);
  return std::string(message.substr(begin, end - begin));
}

// Position of a name as a whole word, or -1.
int FindWord(std::string_view text, std::string_view word) {
  if (word.empty()) return -1;
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    bool begins = at == 0 || !IsWord(text[at - 1]);
    bool ends = at + word.size() >= text.size() || !IsWord(text[at + word.size()]);
    if (begins && ends) return static_cast<int>(at);
  }
  return -1;
}

std::string ListOf(const std::vector<std::string>& names) {
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kColumnsShown));
  std::string text = fmt::format("{}", fmt::join(shown, ", "));
  return names.size() > shown.size() ? fmt::format("{} and {} more", text, names.size() - shown.size())
                                     : text;
}

struct Explained {
  std::string message, hint, word;
};

Explained Explain(const SqlFault& fault, const SqlNames& names) {
  const std::string& message = fault.message;
  // sql/ has words of its own for a filter's columns: "no column 'x'; input has a, b".
  if (message.starts_with("no column '")) {
    size_t split = message.find("; ");
    std::string word = message.substr(11, message.find('\'', 11) - 11);
    return {message.substr(0, split), split == std::string::npos ? "" : message.substr(split + 2), word};
  }
  if (std::string column = QuotedName(message, "Referenced column \""); !column.empty()) {
    std::string has =
        names.columns.empty() ? "" : fmt::format("{} has {}", names.source, ListOf(names.columns));
    return {fmt::format("no column '{}'", column), has, column};
  }
  if (std::string table = QuotedName(message, "Table with name "); !table.empty()) {
    std::string hint = HintOf(table, names.tables, "tables");
    if (hint.empty()) hint = "a table is made by a pipeline's sink 'table'";
    return {fmt::format("no table '{}'", table), hint, table};
  }
  if (message.find("Function with name ") != std::string::npos) {
    std::string function = QuotedName(message, "Function with name ");
    std::string hint = fault.nearest.empty() ? "" : fmt::format("did you mean '{}'?", fault.nearest);
    return {fmt::format("no function '{}'", function), hint, function};
  }
  if (std::string token = QuotedName(message, "syntax error at or near \""); !token.empty())
    return {fmt::format("syntax error at '{}'", token), "", token};
  return {message, "", ""};
}

// The line of the text that holds `position`, without its indentation, cut to a window if it is long.
void AddExcerpt(Fault& fault, const std::string& text, size_t position, size_t length) {
  size_t begin = position == 0 ? 0 : text.rfind('\n', position - 1) + 1;  // npos + 1 = 0
  size_t end = std::min(text.find('\n', position), text.size());
  while (begin < position && (text[begin] == ' ' || text[begin] == '\t')) ++begin;
  while (end > begin && std::isspace(static_cast<unsigned char>(text[end - 1]))) --end;
  size_t caret = position - begin;
  std::string_view line = std::string_view(text).substr(begin, std::max(end, position) - begin);
  std::string prefix, suffix;
  if (line.size() > kExcerptMax) {
    size_t skip = caret > kExcerptMax / 2 ? caret - kExcerptMax / 2 : 0;
    while (skip > 0 && skip < line.size() && (line[skip] & 0xC0) == 0x80) --skip;
    size_t take = std::min(kExcerptMax, line.size() - skip);
    while (skip + take < line.size() && (line[skip + take] & 0xC0) == 0x80) --take;
    if (skip > 0) prefix = "… ";
    if (skip + take < line.size()) suffix = " …";
    line = line.substr(skip, take);
    caret = caret - skip + prefix.size();
  }
  fault.excerpt = prefix + std::string(line) + suffix;
  fault.caret_start = static_cast<int>(caret);
  fault.caret_length = static_cast<int>(std::max<size_t>(length, 1));
}

/// A column whose name is a word of SQL.
void AddHint(Fault& fault, const std::string& text, size_t at, const SqlNames& names) {
  if (!fault.message.starts_with("syntax error")) return;
  // SELECT id, order FROM input: the fault stands at what follows the column.
  size_t end = at;
  while (end > 0 && std::isspace(static_cast<unsigned char>(text[end - 1]))) --end;
  size_t begin = end;
  while (begin > 0 && IsWord(text[begin - 1])) --begin;
  size_t after = at;
  while (after < text.size() && IsWord(text[after])) ++after;
  for (const std::string& word : {text.substr(begin, end - begin), text.substr(at, after - at)}) {
    const bool is_column = std::find(names.columns.begin(), names.columns.end(), word) != names.columns.end();
    if (!is_column || CheckName(word).ok()) continue;
    fault.hint = fmt::format("'{0}' is a word of SQL: the column is \"{0}\", in double quotes", word);
    return;
  }
}

}  // namespace

Fault ExplainSql(const Node& sql, const std::string& path, const SqlFault& fault, const SqlNames& names,
                 const std::string& expected) {
  Explained explained = Explain(fault, names);
  if (!fault.hint.empty())
    explained.hint = fault.hint + (explained.hint.empty() ? "" : "; " + explained.hint);
  Fault result = FaultAt(sql, path, explained.message, explained.hint);
  result.expected = expected;
  if (result.hint.empty()) result.hint = expected;
  const std::string& text = sql.scalar;
  int position = fault.position;
  if (position < 0) position = FindWord(text, explained.word);
  if (position < 0 || static_cast<size_t>(position) > text.size()) return result;
  auto at = static_cast<size_t>(position);
  if (at >= text.size() && result.message.starts_with("syntax error at "))
    result.message = "syntax error at the end";  // of what stands around it, the user sees nothing
  if (at > 0 && text[at - 1] == '"') --at;
  AddHint(result, text, at, names);
  Node::Place place = sql.PlaceOf(at);
  result.line = place.line, result.column = place.column;
  size_t length = 0;
  if (at < text.size() && text[at] == '"') {
    size_t close = text.find('"', at + 1);
    length = close == std::string::npos ? 1 : close - at + 1;
  } else {
    while (at + length < text.size() && IsWord(text[at + length])) ++length;
  }
  AddExcerpt(result, text, at, length);
  return result;
}

}  // namespace millstream
