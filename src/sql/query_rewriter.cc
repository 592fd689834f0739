#include "sql/query_rewriter.h"

#include "sql/duckdb_face.h"
#include "sql/function_bounds.h"
#include "sql/function_list.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

std::string KeyOf(const JsonNode& ref) {
  std::string schema = Lower(ref.Text("schema_name"));
  return (schema.empty() ? "" : schema + ".") + Lower(ref.Text("table_name"));
}

// Calls `visit(table reference, SELECT whose FROM holds it)` for every reference that is no CTE.
class TableWalker {
 public:
  using Visit = std::function<void(const JsonNode& ref, const JsonNode& select)>;
  explicit TableWalker(Visit visit) : visit_(std::move(visit)) {}

  void Walk(const JsonNode& node, std::set<std::string> ctes, const JsonNode& select) {
    const JsonNode& inside = node.Text("type") == "SELECT_NODE" ? node : select;
    for (const JsonNode& cte : node["cte_map"]["map"].items()) {
      std::set<std::string> before = ctes;
      // Only a recursive CTE sees itself.
      if (cte["value"]["query"]["node"].Text("type") == "RECURSIVE_CTE_NODE")
        before.insert(Lower(cte.Text("key")));
      Walk(cte["value"]["query"]["node"], before, inside);
      ctes.insert(Lower(cte.Text("key")));
    }
    if (node.Text("type") == "BASE_TABLE") {
      bool is_cte = node.Text("schema_name").empty() && ctes.contains(Lower(node.Text("table_name")));
      if (!is_cte) visit_(node, inside);
    }
    for (const JsonNode& item : node.items()) Walk(item, ctes, inside);
    for (const auto& [name, value] : node.members())
      if (name != "cte_map") Walk(value, ctes, inside);
  }

 private:
  Visit visit_;
};

// The end of the identifier that begins at `at`, or `at`.
size_t EndOfIdentifier(const std::string& sql, size_t at) {
  if (at < sql.size() && sql[at] == '"') {
    for (size_t i = at + 1; i < sql.size(); ++i) {
      if (sql[i] != '"') continue;
      if (i + 1 < sql.size() && sql[i + 1] == '"') {
        ++i;
      } else {
        return i + 1;
      }
    }
    return at;
  }
  size_t end = at;
  while (end < sql.size() && (isalnum(static_cast<unsigned char>(sql[end])) || sql[end] == '_' ||
                              sql[end] == '$' || (sql[end] & 0x80) != 0))
    ++end;
  return end;
}

// Calls `visit(function)` for every call.
void WalkFunctions(const JsonNode& node, const std::function<void(const JsonNode&)>& visit) {
  if (node.Text("class") == "FUNCTION") visit(node);
  for (const JsonNode& item : node.items()) WalkFunctions(item, visit);
  for (const auto& member : node.members()) WalkFunctions(member.second, visit);
}

// The end of "a" or "a . b" that begins at `at`; 0 if that is not there.
size_t EndOfName(const std::string& sql, size_t at, bool qualified) {
  size_t end = EndOfIdentifier(sql, at);
  if (end == at) return 0;
  if (!qualified) return end;
  auto blanks = [&sql](size_t from) { return sql.find_first_not_of(" \t\r\n", from); };
  size_t dot = blanks(end);
  if (dot == std::string::npos || sql[dot] != '.') return 0;
  size_t name = blanks(dot + 1);
  size_t name_end = name == std::string::npos ? 0 : EndOfIdentifier(sql, name);
  return name_end == name ? 0 : name_end;
}

}  // namespace

Result<std::vector<TableReference>> FindTables(Connection& connection, const std::string& sql,
                                               SqlFault* fault) {
  ASSIGN_OR_FAIL(JsonNode tree, ParseSelect(connection, sql, fault));
  std::vector<TableReference> tables;
  TableWalker([&](const JsonNode& ref, const JsonNode&) {
    TableReference table{ref.Text("schema_name"), ref.Text("table_name")};
    if (std::find(tables.begin(), tables.end(), table) == tables.end()) tables.push_back(std::move(table));
  }).Walk(tree, {}, tree);
  return tables;
}

int RewrittenQuery::OriginalPosition(int position) const {
  int shift = 0;
  for (const Splice& splice : splices) {
    if (position < splice.begin) break;
    if (position < splice.end) return splice.original_begin;
    shift = splice.original_end - splice.end;
  }
  return position + shift;
}

Result<RewrittenQuery> RewriteTables(Connection& connection, const std::string& sql,
                                     const std::map<std::string, std::string>& replacements,
                                     SqlFault* fault) {
  ASSIGN_OR_FAIL(JsonNode tree, ParseSelect(connection, sql, fault));
  struct Place {
    size_t begin, end;
    std::string text;
  };
  std::vector<Place> places;
  Status status;
  TableWalker([&](const JsonNode& ref, const JsonNode&) {
    auto found = replacements.find(KeyOf(ref));
    if (found == replacements.end()) return;
    int at = LocationOf(ref);
    size_t end = at < 0 ? 0 : EndOfName(sql, static_cast<size_t>(at), !ref.Text("schema_name").empty());
    if (end == 0) {
      status = Invalid("the table {} stands in a place where it cannot be read", found->first);
      return;
    }
    std::string text = found->second;
    if (ref.Text("alias").empty()) text += " AS " + QuoteIdentifier(ref.Text("table_name"));
    places.push_back({static_cast<size_t>(at), end, std::move(text)});
  }).Walk(tree, {}, tree);
  WalkFunctions(tree, [&](const JsonNode& function) {
    std::string why_not, name = BoundedName(function, &why_not);
    if (name.empty()) return;
    const std::string& written = function.Text("function_name");
    size_t at = static_cast<size_t>(std::max(0, LocationOf(function)));
    if (Lower(sql.substr(at, written.size())) == Lower(written))
      places.push_back({at, at + written.size(), std::move(name)});
    else
      status = Invalid("{0} stands in a place where it cannot be read; write it as {0}(text, …)", written);
  });
  FAIL_IF_ERROR(status);
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.begin < b.begin; });
  RewrittenQuery out;
  size_t copied = 0;
  for (const Place& place : places) {
    if (place.begin < copied) continue;  // the same reference seen twice in the tree
    out.sql.append(sql, copied, place.begin - copied);
    int begin = static_cast<int>(out.sql.size());
    out.sql += place.text;
    out.splices.push_back({static_cast<int>(place.begin), static_cast<int>(place.end), begin,
                           static_cast<int>(out.sql.size())});
    copied = place.end;
  }
  out.sql.append(sql, copied);
  return out;
}

}  // namespace millstream
