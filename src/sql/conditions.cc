#include "sql/conditions.h"

#include <algorithm>

#include "sql/function_list.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

void Walk(const JsonNode& node, const JsonNode* select, const std::string& table,
          const std::function<void(const JsonNode&, const JsonNode*)>& visit) {
  if (node.Text("type") == "SELECT_NODE") select = &node;
  if (node.Text("type") == "BASE_TABLE") {
    std::string schema = Lower(node.Text("schema_name"));
    if ((schema.empty() ? "" : schema + ".") + Lower(node.Text("table_name")) == table) visit(node, select);
  }
  for (const JsonNode& item : node.items()) Walk(item, select, table, visit);
  for (const auto& member : node.members()) Walk(member.second, select, table, visit);
}

}  // namespace

void WalkReferences(const JsonNode& tree, const std::string& table,
                    const std::function<void(const JsonNode&, const JsonNode*)>& visit) {
  Walk(tree, nullptr, table, visit);
}

bool StandsIn(const JsonNode& from, const JsonNode* reference) {
  if (&from == reference) return true;
  if (from.Text("type") != "JOIN") return false;
  bool hides_right = from.Text("join_type") == "SEMI" || from.Text("join_type") == "ANTI";
  return StandsIn(from["left"], reference) || (!hides_right && StandsIn(from["right"], reference));
}

bool DependsOnRows(const JsonNode& node, bool must_stay) {
  const std::string& kind = node.Text("class");
  if (kind == "COLUMN_REF" || kind == "SUBQUERY" || kind == "WINDOW" || kind == "STAR") return true;
  if (kind == "FUNCTION") {
    std::optional<FunctionKind> function = FindFunction(Lower(node.Text("function_name")));
    if (!function || *function == FunctionKind::kAggregate || *function == FunctionKind::kFansOut)
      return true;
    if (*function == FunctionKind::kVolatile && (must_stay || Lower(node.Text("function_name")) == "random"))
      return true;
  }
  for (const JsonNode& item : node.items())
    if (DependsOnRows(item, must_stay)) return true;
  for (const auto& member : node.members())
    if (DependsOnRows(member.second, must_stay)) return true;
  return false;
}

std::optional<Chunk> EvaluateAlone(Connection& connection, const JsonNode& expression,
                                   const std::string& columns,
                                   const std::map<std::string, SqlValue>& parameters) {
  Result<JsonNode> select = ParseSelect(connection, "SELECT 1", nullptr);
  if (!select) return std::nullopt;
  select->At("select_list").items()[0] = expression;
  select->At("select_list").items()[0].At("alias") = JsonNode::String("v");
  Result<std::string> text = PrintSelect(connection, *select);
  if (!text) return std::nullopt;
  auto statement = connection.Prepare(fmt::format("SELECT {} FROM ({})", columns, *text));
  if (!statement) return std::nullopt;
  for (const std::string& name : (*statement)->parameters()) {
    auto value = parameters.find(name);
    if (value == parameters.end() || !(*statement)->Bind(name, value->second).ok()) return std::nullopt;
  }
  Result<Rows> rows = (*statement)->Execute();
  if (!rows) return std::nullopt;
  Result<std::optional<Chunk>> chunk = rows->Next();
  return chunk ? std::move(*chunk) : std::nullopt;
}

bool IsWholeNumber(std::string_view type) {
  static constexpr std::string_view kWhole[] = {"TINYINT",   "SMALLINT", "INTEGER", "BIGINT", "UTINYINT",
                                                "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"};
  return std::find(std::begin(kWhole), std::end(kWhole), type) != std::end(kWhole);
}

}  // namespace millstream
