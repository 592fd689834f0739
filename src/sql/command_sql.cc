#include "sql/command_sql.h"

#include <algorithm>

#include "sql/filter_chain.h"
#include "sql/function_list.h"
#include "sql/query_rewriter.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr std::string_view kParameter = "$input", kRelation = "_input";
static_assert(kParameter.size() == kRelation.size());

constexpr std::string_view kRequireBegin = "SELECT _input._offset, CASE WHEN ", kExistsBegin = "EXISTS (";
constexpr std::string_view kEmitLateral = " AS _input, LATERAL (";
constexpr std::string_view kEmitBegin = "SELECT _input._offset, _emitted.* FROM ";

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0; }

/// Where a literal, a quoted name or a comment that begins at `at` ends; `at` if none does.
size_t SkipQuoted(std::string_view sql, size_t at) {
  auto after = [&](std::string_view end, size_t from) {
    size_t found = sql.find(end, from);
    return found == std::string_view::npos ? sql.size() : found + end.size();
  };
  char c = sql[at];
  if (c == '\'' || c == '"') return after(std::string_view(&c, 1), at + 1);  // a doubled one begins anew
  std::string_view two = sql.substr(at, 2);
  if (two == "--") return after("\n", at);
  if (two == "/*") return after("*/", at + 2);
  if (c != '$') return at;
  size_t tag = at + 1;  // $$ or $tag$
  while (tag < sql.size() && IsWord(sql[tag])) ++tag;
  if (tag >= sql.size() || sql[tag] != '$') return at;
  std::string_view mark = sql.substr(at, tag + 1 - at);
  return after(mark, tag + 1);
}

Status Refuse(SqlFault* fault, size_t position, std::string message) {
  SqlFault own;
  SqlFault& out = fault == nullptr ? own : *fault;
  out.kind = "Parser Error";
  out.position = static_cast<int>(position);
  out.message = std::move(message);
  return Invalid("{}", out.message);
}

}  // namespace

Result<std::string> BindInput(Connection& connection, const std::string& sql, SqlFault* fault) {
  std::string bound = sql;
  for (size_t at = 0; at < bound.size();) {
    if (size_t end = SkipQuoted(bound, at); end != at) {
      at = end;
      continue;
    }
    bool begins = (bound[at] == '$' || bound[at] == '?') && (at == 0 || !IsWord(bound[at - 1]));
    if (!begins) {
      ++at;
      continue;
    }
    size_t end = at + 1;
    while (end < bound.size() && IsWord(bound[end])) ++end;
    std::string name = bound.substr(at, end - at);
    if (Lower(name) != kParameter)
      return Fail(Refuse(fault, at,
                         fmt::format("no parameter '{}' here; fields of the command are "
                                     "'$input.NAME'",
                                     name)));
    bound.replace(at, kParameter.size(), kRelation);
    at = end;
  }
  while (!bound.empty() && (std::isspace(static_cast<unsigned char>(bound.back())) || bound.back() == ';'))
    bound.pop_back();
  FAIL_IF_ERROR(CheckQuery(connection, bound, fault));
  return bound;
}

Result<std::vector<std::string>> TablesOfCommand(Connection& connection, const std::string& bound,
                                                 SqlFault* fault) {
  ASSIGN_OR_FAIL(std::vector<TableReference> references, FindTables(connection, bound, fault));
  std::vector<std::string> tables;
  for (const TableReference& reference : references) {
    std::string name = Lower(reference.name);
    size_t at = Lower(bound).find(name);
    if (name == kRelation)
      return Fail(Refuse(fault, at, "'$input' is one command, not a table: name its fields '$input.NAME'"));
    if (!reference.schema.empty() && Lower(reference.schema) != "main")
      return Fail(Refuse(fault, at,
                         fmt::format("a command reads tables that pipelines write, not '{}.{}'",
                                     reference.schema, reference.name)));
    tables.push_back(name);
  }
  return tables;
}

namespace {

/// How often each table stands after FROM, and the SELECTs that read one alone.
struct Reads {
  std::map<std::string, int> tables;
  std::vector<const JsonNode*> selects;
};

void CollectReads(const JsonNode& node, Reads& reads) {
  if (node.Text("type") == "BASE_TABLE") ++reads.tables[Lower(node.Text("table_name"))];
  if (node.Text("type") == "SELECT_NODE" && node["from_table"].Text("type") == "BASE_TABLE")
    reads.selects.push_back(&node);
  for (const JsonNode& item : node.items()) CollectReads(item, reads);
  for (const auto& [name, value] : node.members()) CollectReads(value, reads);
}

/// "_input.FIELD" → FIELD, lower case; "" for anything else.
std::string FieldOf(const JsonNode& node) {
  const auto& names = node["column_names"].items();
  bool is_field =
      node.Text("class") == "COLUMN_REF" && names.size() == 2 && Lower(names[0].text()) == kRelation;
  return is_field ? Lower(names[1].text()) : "";
}

void CollectEqual(const JsonNode& condition, const std::string& table,
                  std::map<std::string, std::string>& fields) {
  if (condition.Text("type") == "CONJUNCTION_AND")
    for (const JsonNode& child : condition["children"].items()) CollectEqual(child, table, fields);
  if (condition.Text("type") != "COMPARE_EQUAL") return;
  for (auto [column, field] : {std::pair("left", "right"), {"right", "left"}}) {
    const auto& names = condition[column]["column_names"].items();
    std::string from = FieldOf(condition[field]);
    bool is_column = condition[column].Text("class") == "COLUMN_REF" && !from.empty() &&
                     (names.size() == 1 || (names.size() == 2 && Lower(names[0].text()) == table));
    if (is_column) fields[Lower(names.back().text())] = from;
  }
}

}  // namespace

std::vector<KeyedRead> FindKeyedReads(Connection& connection, const std::string& bound) {
  std::vector<KeyedRead> keyed;
  auto tree = ParseSelect(connection, bound, nullptr);
  if (!tree) return keyed;
  Reads reads;
  CollectReads(*tree, reads);
  for (const JsonNode* select : reads.selects) {
    const JsonNode& from = (*select)["from_table"];
    KeyedRead read{Lower(from.Text("table_name")), {}};
    std::string name = from.Text("alias").empty() ? read.table : Lower(from.Text("alias"));
    if (reads.tables[read.table] != 1) continue;
    CollectEqual((*select)["where_clause"], name, read.fields);
    if (!read.fields.empty()) keyed.push_back(std::move(read));
  }
  return keyed;
}

namespace {

/// An aggregate, a window, UNNEST or *: what is no expression of one row. Subqueries stand for themselves.
bool Gathers(const JsonNode& node) {
  const std::string& kind = node.Text("class");
  if (kind == "WINDOW" || kind == "STAR") return true;
  if (kind == "SUBQUERY") return Gathers(node["child"]);
  if (kind == "FUNCTION") {
    auto function = FindFunction(Lower(node.Text("function_name")));
    if (!function || *function == FunctionKind::kAggregate || *function == FunctionKind::kFansOut)
      return true;
  }
  auto gathers = [](const auto& each) { return Gathers(each); };
  return std::any_of(node.items().begin(), node.items().end(), gathers) ||
         std::any_of(node.members().begin(), node.members().end(),
                     [](const auto& member) { return Gathers(member.second); });
}

/// "SELECT a, b FROM t WHERE c" and no more.
bool IsPlain(const JsonNode& node) {
  if (node.Text("type") != "SELECT_NODE" || node.Text("aggregate_handling") == "FORCE_AGGREGATES")
    return false;
  for (const char* clause : {"having", "qualify", "sample"})
    if (!node[clause].IsNull()) return false;
  for (const char* clause : {"group_expressions", "modifiers"})
    if (!node[clause].items().empty()) return false;
  return node["cte_map"]["map"].items().empty() && !Gathers(node["where_clause"]);
}

/// "SELECT a, b WHERE c".
bool IsOfOneRow(const JsonNode& node) {
  return IsPlain(node) && node["from_table"].Text("type") == "EMPTY" && !Gathers(node["select_list"]);
}

/// The expressions of a SELECT as they stand after that word; "" if they cannot be printed.
std::string ListOf(Connection& connection, JsonNode select) {
  constexpr std::string_view kSelect = "SELECT ";
  select.At("where_clause") = JsonNode();
  auto text = PrintSelect(connection, select);
  return text && text->starts_with(kSelect) ? text->substr(kSelect.size()) : "";
}

/// Its WHERE; "true" if it has none.
std::string ConditionOf(Connection& connection, JsonNode select) {
  if (select["where_clause"].IsNull()) return "true";
  select.At("select_list") = JsonNode::Array({select["where_clause"]});
  return ListOf(connection, std::move(select));
}

}  // namespace

std::string ExistsSql(const std::string& bound) { return fmt::format("{}{}\n)", kExistsBegin, bound); }

std::string ConditionSql(Connection& connection, const std::string& bound) {
  auto tree = ParseSelect(connection, bound, nullptr);
  std::string condition = tree && IsOfOneRow(*tree) ? ConditionOf(connection, std::move(*tree)) : "";
  return condition.empty() ? ExistsSql(bound) : condition;
}

std::string FlatEmitSql(Connection& connection, const std::string& from, const std::string& bound) {
  auto tree = ParseSelect(connection, bound, nullptr);
  if (!tree || !IsOfOneRow(*tree)) return EmitSql(from, bound);
  std::string list = ListOf(connection, *tree), condition = ConditionOf(connection, *tree);
  if (list.empty() || condition.empty()) return EmitSql(from, bound);
  return fmt::format("SELECT _input._offset, {} FROM {} AS _input WHERE {}", list, from, condition);
}

std::string RequireSql(const std::string& from, const std::vector<std::string>& conditions,
                       const std::string& joins) {
  std::string sql(kRequireBegin);
  for (size_t i = 0; i < conditions.size(); ++i)
    sql += fmt::format("{}{} THEN {}", i == 0 ? "" : " WHEN ", conditions[i], i);
  return sql + fmt::format(" END FROM {} AS _input{}", from, joins);
}

/// Takes subqueries out of a rule's tree.
class RowJoiner {
 public:
  RowJoiner(const std::map<std::string, KeyedRows>& rows, std::vector<std::string>& joined)
      : rows_(rows), joined_(joined) {}

  /// Of an expression on the command's row. False: it has another shape, and is changed in part.
  bool Flatten(JsonNode& node) {
    const std::string& kind = node.Text("class");
    if (kind == "COLUMN_REF") return !FieldOf(node).empty();
    if (kind == "LAMBDA") return false;
    if (kind == "SUBQUERY") {
      bool exists = node.Text("subquery_type") == "EXISTS";
      if (!exists && node.Text("subquery_type") != "SCALAR") return false;
      std::optional<JsonNode> row = RowOf(node["subquery"]["node"], exists);
      if (row) node = std::move(*row);
      return row.has_value();
    }
    return EachChild(node, [&](JsonNode& child) { return Flatten(child); });
  }

  /// What a SELECT of one row gives: its value or NULL, or whether there is one.
  std::optional<JsonNode> RowOf(const JsonNode& select, bool exists) {
    const JsonNode& from = select["from_table"];
    if (!IsPlain(select) || from.Text("type") != "BASE_TABLE" || !from["sample"].IsNull())
      return std::nullopt;
    auto found = rows_.find(Lower(from.Text("table_name")));
    if (found == rows_.end() || !from["column_name_alias"].items().empty()) return std::nullopt;
    table_ = Lower(from.Text(from.Text("alias").empty() ? "table_name" : "alias"));
    columns_ = &found->second.columns;
    row_ = Join(found->second);
    JsonNode none =
        OperatorNode("OPERATOR_IS_NULL", ColumnRefNode(row_, found->second.key.begin()->first, ""));
    JsonNode where = select["where_clause"];
    if (!Qualify(where)) return std::nullopt;
    if (exists)
      return CaseNode({{std::move(none), BooleanNode(false)}, {std::move(where), BooleanNode(true)}},
                      BooleanNode(false));
    const auto& list = select["select_list"].items();
    // A literal by itself has another type in a subquery than in CASE.
    if (list.size() != 1 || list[0].Text("class") == "CONSTANT" || Gathers(list[0])) return std::nullopt;
    JsonNode value = list[0];
    value.At("alias") = JsonNode::String("");
    if (!Qualify(value)) return std::nullopt;
    return CaseNode({{std::move(none), NullNode()}, {std::move(where), std::move(value)}}, NullNode());
  }

 private:
  template <typename Call>
  static bool EachChild(JsonNode& node, Call call) {
    return std::all_of(node.items().begin(), node.items().end(), call) &&
           std::all_of(node.members().begin(), node.members().end(),
                       [&](auto& member) { return call(member.second); });
  }

  /// Names the row where an expression of the subquery names its table's columns.
  bool Qualify(JsonNode& node) {
    const std::string& kind = node.Text("class");
    if (kind == "LAMBDA" || kind == "SUBQUERY") return false;
    if (kind != "COLUMN_REF") return EachChild(node, [&](JsonNode& child) { return Qualify(child); });
    if (!FieldOf(node).empty()) return true;
    std::vector<JsonNode>& names = node.At("column_names").items();
    bool is_of_table = names.size() == 1 || (names.size() == 2 && Lower(names[0].text()) == table_);
    std::string name = Lower(names.back().text());
    if (!is_of_table || std::find(columns_->begin(), columns_->end(), name) == columns_->end()) return false;
    names = {JsonNode::String(row_), JsonNode::String(name)};
    return true;
  }

  std::string Join(const KeyedRows& rows) {
    for (size_t i = 0;; ++i) {
      std::string name = fmt::format("_row{}", i), on;
      for (const auto& [column, field] : rows.key)
        on += fmt::format("{}{}.\"{}\" = _input.\"{}\"", on.empty() ? "" : " AND ", name, column, field);
      std::string join = fmt::format(" LEFT JOIN {} AS {} ON {}", rows.sql, name, on);
      if (i == joined_.size()) joined_.push_back(join);
      if (joined_[i] == join) return name;
    }
  }

  const std::map<std::string, KeyedRows>& rows_;
  std::vector<std::string>& joined_;
  std::string table_, row_;  // of the subquery that is taken out
  const std::vector<std::string>* columns_ = nullptr;
};

std::optional<std::string> RowJoins::ConditionSql(Connection& connection, const std::string& bound,
                                                  const std::map<std::string, KeyedRows>& rows) {
  auto tree = ParseSelect(connection, bound, nullptr);
  if (!tree) return std::nullopt;
  RowJoiner joiner(rows, joined_);
  std::optional<JsonNode> condition;
  if (!IsOfOneRow(*tree)) {
    condition = joiner.RowOf(*tree, true);
  } else {
    condition = (*tree)["where_clause"].IsNull() ? BooleanNode(true) : (*tree)["where_clause"];
    if (!joiner.Flatten(*condition)) return std::nullopt;
  }
  if (!condition) return std::nullopt;
  auto select = ParseSelect(connection, "SELECT 1", nullptr);
  if (!select) return std::nullopt;
  select->At("select_list") = JsonNode::Array({std::move(*condition)});
  std::string sql = ListOf(connection, std::move(*select));
  return sql.empty() ? std::nullopt : std::optional(std::move(sql));
}

std::string RowJoins::sql() const { return fmt::format("{}", fmt::join(joined_, "")); }

std::string EmitSql(const std::string& from, const std::string& bound) {
  return fmt::format("{}{}{}{}\n) AS _emitted", kEmitBegin, from, kEmitLateral, bound);
}

size_t RequirePrefix() { return kRequireBegin.size() + kExistsBegin.size(); }
size_t EmitPrefix(const std::string& from) { return kEmitBegin.size() + from.size() + kEmitLateral.size(); }

}  // namespace millstream
