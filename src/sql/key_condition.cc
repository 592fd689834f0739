// FindKey: which one key of a table a query asks for.
#include "sql/conditions.h"
#include "sql/query_rewriter.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

/// True if a column of type `column` equals a value of type `value` exactly where it equals that value's cast
/// to its own type.
bool CastsExactly(const std::string& column, std::string_view value) {
  static constexpr std::string_view kExact[] = {"VARCHAR", "UUID",      "DATE",
                                                "BOOLEAN", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"};
  if (IsWholeNumber(column)) return IsWholeNumber(value);
  if (column.starts_with("ENUM")) return value == "VARCHAR";
  bool is_exact = std::find(std::begin(kExact), std::end(kExact), column) != std::end(kExact);
  return column == value && (is_exact || column.starts_with("DECIMAL"));
}

class KeyFinder {
 public:
  KeyFinder(Connection& connection, const std::vector<ColumnInfo>& key,
            const std::map<std::string, SqlValue>& parameters)
      : connection_(connection), key_(key), parameters_(parameters) {}

  /// Of the conjuncts of a WHERE, for the table that is called `alias`; fewer values than columns: not told.
  std::map<size_t, std::string> Find(const JsonNode& where, const std::string& alias) {
    alias_ = alias;
    values_.clear();
    Conjunct(where);
    return std::move(values_);
  }

 private:
  void Conjunct(const JsonNode& node) {
    if (node.Text("type") == "CONJUNCTION_AND")
      for (const JsonNode& child : node["children"].items()) Conjunct(child);
    if (node.Text("type") != "COMPARE_EQUAL") return;
    Compare(node["left"], node["right"]);
    Compare(node["right"], node["left"]);
  }

  void Compare(const JsonNode& column, const JsonNode& value) {
    if (column.Text("class") != "COLUMN_REF") return;
    const auto& names = column["column_names"].items();
    if (names.size() > 2 || (names.size() == 2 && Lower(names[0].text()) != alias_)) return;
    for (size_t i = 0; i < key_.size(); ++i) {
      if (Lower(names.back().text()) != Lower(key_[i].name) || DependsOnRows(value, true)) continue;
      auto chunk = EvaluateAlone(connection_, value,
                                 fmt::format("CAST(TRY_CAST(v AS {}) AS VARCHAR), typeof(v)", key_[i].type),
                                 parameters_);
      if (!chunk || chunk->IsNull(0, 0) || !CastsExactly(key_[i].type, chunk->String(1, 0))) continue;
      std::string text(chunk->String(0, 0));
      if (text.find('\0') == text.npos) values_.emplace(i, std::move(text));
    }
  }

  Connection& connection_;
  const std::vector<ColumnInfo>& key_;
  const std::map<std::string, SqlValue>& parameters_;
  std::string alias_;
  std::map<size_t, std::string> values_;
};

}  // namespace

Result<std::vector<std::string>> FindKey(Connection& connection, const std::string& sql,
                                         const std::string& table, const std::vector<ColumnInfo>& key,
                                         const std::map<std::string, SqlValue>& parameters) {
  ASSIGN_OR_FAIL(JsonNode tree, ParseSelect(connection, sql, nullptr));
  KeyFinder finder(connection, key, parameters);
  std::optional<std::vector<std::string>> found;
  bool is_one = true;
  WalkReferences(tree, table, [&](const JsonNode& reference, const JsonNode* select) {
    std::vector<std::string> values;
    if (is_one && select != nullptr && reference["column_name_alias"].items().empty() &&
        StandsIn((*select)["from_table"], &reference)) {
      const std::string& alias = reference.Text("alias");
      for (auto& [column, value] : finder.Find((*select)["where_clause"],
                                               Lower(alias.empty() ? reference.Text("table_name") : alias)))
        values.push_back(std::move(value));
    }
    is_one &= values.size() == key.size() && (!found || *found == values);
    found = std::move(values);
  });
  return is_one && found ? std::move(*found) : std::vector<std::string>();
}

}  // namespace millstream
