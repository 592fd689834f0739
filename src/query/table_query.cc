// GET /v1/tables/{t}'s parameters (PostgREST's grammar) made into SQL: names are checked against the table's
// columns, values become parameters.
#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "query/query.h"
#include "query/system_tables.h"

namespace millstream {
namespace {

constexpr int kDepthMax = 16;
constexpr size_t kFiltersMax = 200;

/// Splits at commas outside of parentheses and double quotes.
std::vector<std::string_view> SplitList(std::string_view text) {
  std::vector<std::string_view> items;
  size_t start = 0;
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quoted && c == '\\') {
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == '(') {
      ++depth;
    } else if (!quoted && c == ')') {
      --depth;
    } else if (!quoted && depth == 0 && c == ',') {
      items.push_back(text.substr(start, i - start));
      start = i + 1;
    }
  }
  items.push_back(text.substr(start));
  return items;
}

/// A value of a list: `"a,b"` without its quotes and backslashes.
std::string Unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  std::string out;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == '\\' && i + 2 < text.size()) ++i;
    out += text[i];
  }
  return out;
}

std::optional<std::string_view> InParentheses(std::string_view text) {
  if (text.size() < 2 || text.front() != '(' || text.back() != ')') return std::nullopt;
  return text.substr(1, text.size() - 2);
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

Result<uint64_t> Count(const std::string& name, std::string_view text) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return Fail(Invalid("{}: '{}' is not a count", name, text));
  return value;
}

class Translator {
 public:
  explicit Translator(const TableInfo& table) : table_(table) {}

  Status Take(const std::string& name, const std::string& value) {
    if (name == "select") return TakeSelect(value);
    if (name == "order") return TakeOrder(value);
    if (name == "or" || name == "and" || name == "not.or" || name == "not.and") {
      is_plain_ = false;
      ASSIGN_OR_RETURN(std::string condition, Junction(name, value, 0));
      return Filter(std::move(condition));
    }
    ASSIGN_OR_RETURN(const ColumnInfo* column, Find(name));
    if (value.starts_with("eq.") && key_values_.try_emplace(column->name, value.substr(3)).second)
      ;  // perhaps a look-up
    else
      is_plain_ = false;
    ASSIGN_OR_RETURN(std::string condition, Condition(*column, value));
    return Filter(std::move(condition));
  }

  std::string Sql() const {
    std::string sql =
        fmt::format("SELECT {} FROM {}", select_.empty() ? "*" : select_, SqlIdentifier(table_.spec.name)) +
        Where();
    if (!order_.empty()) sql += " ORDER BY " + order_;
    return sql;
  }
  std::string CountSql() const {
    return fmt::format("SELECT count(*) AS n FROM {}", SqlIdentifier(table_.spec.name)) + Where();
  }
  const std::map<std::string, SqlValue>& parameters() const { return parameters_; }
  const std::vector<TableQuery::Value>& values() const { return values_; }
  const std::vector<std::pair<std::string, std::string>>& selected() const { return selected_; }

  /// The key's values in its order, if the filters are equality on the whole key and nothing else.
  std::vector<std::string> Key() const {
    const auto& key = table_.spec.key;
    if (key.empty() || !is_plain_ || key_values_.size() != key.size()) return {};
    std::vector<std::string> values;
    for (const std::string& column : key) {
      auto value = key_values_.find(column);
      if (value == key_values_.end() || value->second.find('\0') != std::string::npos) return {};
      values.emplace_back(value->second);
    }
    return values;
  }

 private:
  Result<const ColumnInfo*> Find(std::string_view name) const {
    for (const ColumnInfo& column : table_.columns)
      if (column.name == name) return &column;
    std::vector<std::string> names;
    for (const ColumnInfo& column : table_.columns) names.push_back(column.name);
    std::string nearest = Nearest(std::string(name), names);
    return Fail(Invalid("table '{}' has no column '{}'{}", table_.spec.name, name,
                        nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
  }

  std::string Value(const ColumnInfo& column, std::string value) {
    std::string name = fmt::format("p{}", parameters_.size() + 1);
    if (!column.name.empty()) values_.push_back({name, column.name, column.type, value});
    parameters_[name] = std::move(value);
    return fmt::format("CAST(${} AS {})", name, column.type);
  }

  Status TakeSelect(const std::string& value) {
    if (value == "*") return OkStatus();
    for (std::string_view item : SplitList(value)) {
      size_t colon = item.find(':');
      std::string_view name = colon == item.npos ? item : item.substr(colon + 1);
      ASSIGN_OR_RETURN(const ColumnInfo* column, Find(name));
      std::string shown(colon == item.npos ? name : item.substr(0, colon));
      if (shown.empty()) return Invalid("select: '{}' has no name before the colon", item);
      select_ += fmt::format("{}{} AS {}", select_.empty() ? "" : ", ", SqlIdentifier(column->name),
                             SqlIdentifier(shown));
      selected_.emplace_back(column->name, std::move(shown));
    }
    return OkStatus();
  }

  Status TakeOrder(const std::string& value) {
    for (std::string_view item : SplitList(value)) {
      std::vector<std::string_view> words = Split(item, '.');
      ASSIGN_OR_RETURN(const ColumnInfo* column, Find(words[0]));
      order_ += (order_.empty() ? "" : ", ") + SqlIdentifier(column->name);
      for (size_t i = 1; i < words.size(); ++i) {
        if (words[i] == "asc")
          order_ += " ASC";
        else if (words[i] == "desc")
          order_ += " DESC";
        else if (words[i] == "nullsfirst")
          order_ += " NULLS FIRST";
        else if (words[i] == "nullslast")
          order_ += " NULLS LAST";
        else
          return Invalid("order: '{}' is not asc, desc, nullsfirst or nullslast", words[i]);
      }
    }
    return OkStatus();
  }

  Status Filter(std::string condition) {
    if (++filters_ > kFiltersMax) return Invalid("more than {} filters", kFiltersMax);
    where_ += (where_.empty() ? "" : " AND ") + std::move(condition);
    return OkStatus();
  }
  std::string Where() const { return where_.empty() ? "" : " WHERE " + where_; }

  /// `or` or `and` (perhaps `not.`) of "(a.eq.1,b.gt.2,and(…))".
  Result<std::string> Junction(std::string_view word, std::string_view list, int depth) {
    if (depth > kDepthMax) return Fail(Invalid("conditions are nested deeper than {}", kDepthMax));
    bool is_negated = TakePrefix(word, "not.");
    auto inner = InParentheses(list);
    if (!inner || inner->empty())
      return Fail(Invalid("{}: expected (COLUMN.op.value,…), found '{}'", word, list));
    std::string out;
    for (std::string_view item : SplitList(*inner)) {
      if (++filters_ > kFiltersMax) return Fail(Invalid("more than {} filters", kFiltersMax));
      ASSIGN_OR_FAIL(std::string condition, Item(item, depth));
      out += (out.empty() ? "" : word == "or" ? " OR " : " AND ") + condition;
    }
    return (is_negated ? "NOT (" : "(") + out + ")";
  }

  Result<std::string> Item(std::string_view item, int depth) {
    for (std::string_view word : {"or", "and", "not.or", "not.and"})
      if (item.starts_with(word) && item.substr(word.size()).starts_with("("))
        return Junction(word, item.substr(word.size()), depth + 1);
    size_t dot = item.find('.');
    if (dot == item.npos) return Fail(Invalid("expected COLUMN.op.value, found '{}'", item));
    ASSIGN_OR_FAIL(const ColumnInfo* column, Find(item.substr(0, dot)));
    return Condition(*column, item.substr(dot + 1));
  }

  /// "[not.]op.value" of a column.
  Result<std::string> Condition(const ColumnInfo& column, std::string_view text) {
    bool is_negated = TakePrefix(text, "not.");
    size_t dot = text.find('.');
    std::string_view op = text.substr(0, dot);
    std::string_view value = dot == text.npos ? std::string_view() : text.substr(dot + 1);
    ASSIGN_OR_FAIL(std::string condition, Positive(column, op, value, dot != text.npos));
    return is_negated ? "NOT (" + condition + ")" : condition;
  }

  Result<std::string> Positive(const ColumnInfo& column, std::string_view op, std::string_view value,
                               bool has_value) {
    static constexpr std::pair<std::string_view, std::string_view> kCompares[] = {
        {"eq", "="}, {"neq", "<>"}, {"gt", ">"}, {"gte", ">="}, {"lt", "<"}, {"lte", "<="}};
    std::string name = SqlIdentifier(column.name);
    if (has_value) {
      for (const auto& [word, sign] : kCompares)
        if (op == word) return fmt::format("{} {} {}", name, sign, Value(column, Unquote(value)));
      if (op == "like" || op == "ilike") {
        std::string pattern = Unquote(value);
        std::replace(pattern.begin(), pattern.end(), '*', '%');
        return fmt::format("CAST({} AS VARCHAR) {} {}", name, op == "like" ? "LIKE" : "ILIKE",
                           Value({"", "VARCHAR"}, pattern));
      }
      if (op == "is") {
        for (std::string_view word : {"null", "true", "false"})
          if (value == word) return fmt::format("{} IS {}", name, value);
        return Fail(Invalid("{}: 'is' takes null, true or false, not '{}'", column.name, value));
      }
      if (op == "in") {
        auto inner = InParentheses(value);
        if (!inner) return Fail(Invalid("{}: 'in' takes (a,b,…), not '{}'", column.name, value));
        std::string list;
        for (std::string_view item : SplitList(*inner))
          list += (list.empty() ? "" : ", ") + Value(column, Unquote(item));
        return fmt::format("{} IN ({})", name, list);
      }
    }
    return Fail(
        Invalid("{}: expected op.value with one of eq neq gt gte lt lte like ilike in is (or not.op.value), "
                "found '{}'",
                column.name, op));
  }

  const TableInfo& table_;
  std::string select_, where_, order_;
  std::vector<std::pair<std::string, std::string>> selected_;  // column, its name in the answer
  std::map<std::string, SqlValue> parameters_;
  std::vector<TableQuery::Value> values_;
  std::map<std::string, std::string> key_values_;
  bool is_plain_ = true;
  size_t filters_ = 0;
};

}  // namespace

Result<TableQuery> QueryRunner::MakeTableQuery(const TableRequest& request) const {
  std::optional<TableInfo> table = FindTable(request.table);
  if (!table) return Fail(NoTable(request.table));
  Translator translator(*table);
  TableQuery query;
  for (const auto& [name, value] : request.query) {
    if (name == "limit") {
      ASSIGN_OR_FAIL(query.limit, Count(name, value));
    } else if (name == "offset") {
      ASSIGN_OR_FAIL(query.offset, Count(name, value));
    } else if (name == "timeout") {
      ASSIGN_OR_FAIL(query.rows.timeout_us, ParseDurationUs(value));
    } else if (name == "wait") {
      ASSIGN_OR_FAIL(query.rows.wait, ParsePosition(value));
    } else {
      FAIL_IF_ERROR(translator.Take(name, value));
    }
  }
  query.rows.sql = translator.Sql();
  if (query.limit) query.rows.sql += fmt::format(" LIMIT {}", *query.limit);
  if (query.offset > 0) query.rows.sql += fmt::format(" OFFSET {}", query.offset);
  query.rows.parameters = translator.parameters();
  query.values = translator.values();
  query.count = query.rows;
  query.count.sql = translator.CountSql();
  if (query.offset == 0 && query.limit.value_or(1) > 0) query.key = translator.Key();
  query.key_select = translator.selected();
  return query;
}

Status QueryRunner::WhyRefused(const TableQuery& query, const Status& refusal) {
  if (refusal.code() != Code::kInvalid || query.values.empty()) return refusal;
  QueryRequest which;
  which.sql = "SELECT CAST(CASE ";
  for (size_t i = 0; i < query.values.size(); ++i) {
    which.parameters[query.values[i].parameter] = query.values[i].text;
    which.sql += fmt::format("WHEN TRY_CAST(${} AS {}) IS NULL THEN {} ", query.values[i].parameter,
                             query.values[i].type, i);
  }
  which.sql += "END AS BIGINT)";
  auto running = Start(which);
  auto chunk = running ? (*running)->Next() : Result<std::optional<Chunk>>(std::nullopt);
  if (!chunk || !*chunk || (*chunk)->IsNull(0, 0)) return refusal;
  const TableQuery::Value& value = query.values[static_cast<size_t>((*chunk)->Int64(0, 0))];
  return Invalid("{}: '{}' is not of the column's type, {}", value.column, value.text, value.type);
}

}  // namespace millstream
