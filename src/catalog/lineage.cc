#include "catalog/lineage.h"

#include "base/text.h"

namespace millstream {
namespace {

void Collect(const JsonNode& node, std::set<std::string>& tables, std::set<std::string>& ctes) {
  if (node.Text("type") == "BASE_TABLE") tables.insert(node.Text("table_name"));
  const JsonNode& map = node["cte_map"]["map"];
  for (const JsonNode& entry : map.items()) ctes.insert(entry.Text("key"));
  for (const JsonNode& item : node.items()) Collect(item, tables, ctes);
  for (const auto& [name, value] : node.members()) Collect(value, tables, ctes);
}

// Does a `*` or a plain reference in the select list hand the column on?
bool Selects(const JsonNode& expression, const std::string& column) {
  if (expression.Text("class") == "STAR") {
    for (const char* list : {"exclude_list", "replace_list", "rename_list", "qualified_exclude_list"})
      if (!expression[list].items().empty() || !expression[list].members().empty()) return false;
    if (expression["columns"].IsTrue() || !expression["expr"].IsNull()) return false;
    const std::string& relation = expression.Text("relation_name");
    return relation.empty() || SameName(relation, "input");
  }
  if (expression.Text("class") != "COLUMN_REF") return false;
  const auto& names = expression["column_names"].items();
  if (names.empty() || !SameName(names.back().text(), column)) return false;
  if (names.size() > 1 && !SameName(names.front().text(), "input")) return false;
  const std::string& alias = expression.Text("alias");
  return alias.empty() || SameName(alias, column);
}

// True if another select item has this name.
bool IsAnother(const JsonNode& expression, const std::string& column) {
  return SameName(expression.Text("alias"), column);
}

}  // namespace

std::set<std::string> TablesIn(const JsonNode& query) {
  std::set<std::string> tables, ctes;
  Collect(query, tables, ctes);
  for (const std::string& cte : ctes) tables.erase(cte);
  tables.erase("input");
  return tables;
}

bool PassesUnchanged(const JsonNode& select, const std::string& column) {
  if (select.Text("type") != "SELECT_NODE") return false;
  const JsonNode& from = select["from_table"];
  // One relation only: in a join `*` and plain names may be the other table's.
  if (from.Text("type") != "BASE_TABLE" || !SameName(from.Text("table_name"), "input")) return false;
  bool passes = false;
  for (const JsonNode& expression : select["select_list"].items()) {
    if (Selects(expression, column)) {
      passes = true;
    } else if (IsAnother(expression, column)) {
      return false;
    }
  }
  return passes;
}

}  // namespace millstream
