#include "sql/sql_tree.h"

#include "sql/duckdb_face.h"

namespace millstream {
namespace {

constexpr const char* kNowhere = "18446744073709551615";  // DuckDB's "no location"

Result<std::string> AskText(Connection& connection, const std::string& sql, const std::string& argument) {
  ASSIGN_OR_FAIL(Rows rows, connection.Query(sql, {argument}));
  ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows.Next());
  if (!chunk || chunk->IsNull(0, 0)) return Fail(Internal("DuckDB gives no text for a parse tree"));
  return std::string(chunk->String(0, 0));
}

// EXCLUDE's names are a set, which the parser gives in any order.
std::vector<std::string> SortedTexts(const JsonNode& list) {
  std::vector<std::string> texts;
  for (const JsonNode& item : list.items()) texts.push_back(item.text());
  std::sort(texts.begin(), texts.end());
  return texts;
}

// VALUES is printed with one more `(SELECT * FROM …) AS valueslist` around it each time.
const JsonNode& BareValues(const JsonNode& ref) {
  if (ref.Text("type") != "SUBQUERY" || ref.Text("alias") != "valueslist") return ref;
  return BareValues(ref["subquery"]["node"]["from_table"]);
}

// Equal save for locations.
bool SameTree(const JsonNode& wrapped_a, const JsonNode& wrapped_b) {
  const JsonNode &a = BareValues(wrapped_a), &b = BareValues(wrapped_b);
  if (a.kind() != b.kind() || a.text() != b.text() || a.items().size() != b.items().size() ||
      a.members().size() != b.members().size())
    return false;
  for (size_t i = 0; i < a.items().size(); ++i)
    if (!SameTree(a.items()[i], b.items()[i])) return false;
  for (size_t i = 0; i < a.members().size(); ++i) {
    const std::string& name = a.members()[i].first;
    if (name != b.members()[i].first) return false;
    if (name == "query_location") continue;
    if (name == "exclude_list") {
      if (SortedTexts(a.members()[i].second) != SortedTexts(b.members()[i].second)) return false;
    } else if (!SameTree(a.members()[i].second, b.members()[i].second)) {
      return false;
    }
  }
  return true;
}

// Doubles are printed without an exponent and would come back as decimals, truth values as casts: both are
// made casts of their text.
void ProtectLiterals(JsonNode& node) {
  if (node.IsObject() && node.Text("class") == "CONSTANT" && !node["value"]["value"].IsNull()) {
    const std::string type = node["value"]["type"].Text("id");
    std::string alias = node.Text("alias");
    if (type == "DOUBLE") node = CastNode(TextNode(node["value"].Text("value")), type);
    if (type == "BOOLEAN") node = BooleanNode(node["value"]["value"].IsTrue());
    node.At("alias") = JsonNode::String(alias);
    return;
  }
  for (JsonNode& item : node.items()) ProtectLiterals(item);
  for (auto& member : node.members()) ProtectLiterals(member.second);
}

JsonNode ExpressionNode(const std::string& kind, const std::string& type, const std::string& alias = "") {
  return JsonNode::Object({{"class", JsonNode::String(kind)},
                           {"type", JsonNode::String(type)},
                           {"alias", JsonNode::String(alias)},
                           {"query_location", JsonNode::Number(kNowhere)}});
}

JsonNode TypeNode(const std::string& id) {
  return JsonNode::Object({{"id", JsonNode::String(id)}, {"type_info", JsonNode()}});
}

/// What stands there instead of a SELECT, by its name.
std::string NotASelect(const std::string& sql) {
  size_t begin = std::min(sql.find_first_not_of(" \t\r\n"), sql.size()), end = begin;
  while (end < sql.size() && isalpha(static_cast<unsigned char>(sql[end]))) ++end;
  std::string word = sql.substr(begin, end - begin);
  for (char& c : word) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (word.empty() || word == "SELECT" || word == "WITH" || word == "FROM")
    return "one SELECT is expected here, without PIVOT";
  return word + "; one SELECT is expected here";
}

}  // namespace

Result<JsonNode> ParseSelect(Connection& connection, const std::string& sql, SqlFault* fault) {
  SqlFault unwanted;
  if (fault == nullptr) fault = &unwanted;
  Result<std::string> text = AskText(connection, "SELECT json_serialize_sql($1::VARCHAR)::VARCHAR", sql);
  if (!text) {
    *fault = connection.fault();
    return Fail(text.error());
  }
  Result<JsonNode> parsed = ParseJsonTree(*text);
  auto refuse = [&](std::string kind, std::string message, int position) {
    *fault = SqlFault{std::move(kind), std::move(message), position, "", false};
    return Fail(StatusOf(*fault));
  };
  if (!parsed) return refuse(kNotAllowed, "a number in the text is out of range", -1);  // printed as inf
  JsonNode& tree = *parsed;
  if (tree["error"].IsTrue()) {
    const std::string& position = tree.Text("position");
    if (tree.Text("error_type") == "not implemented") return refuse(kNotAllowed, NotASelect(sql), 0);
    SqlFault read = ReadSqlFault(DUCKDB_ERROR_PARSER, tree.Text("error_message").c_str(), sql);
    return refuse("Parser Error", read.message,
                  position.empty() ? read.position : std::atoi(position.c_str()));
  }
  std::vector<JsonNode>& statements = tree.At("statements").items();
  if (statements.empty()) return refuse(kNotAllowed, "one SELECT is expected here", 0);
  if (statements.size() > 1)
    return refuse(kNotAllowed, "one SELECT is expected here, not several statements", -1);
  return std::move(statements[0].At("node"));
}

Result<std::string> PrintSelect(Connection& connection, const JsonNode& node) {
  JsonNode printed = node;
  ProtectLiterals(printed);
  JsonNode statement = JsonNode::Object({{"node", printed}, {"named_param_map", JsonNode::Array()}});
  JsonNode tree = JsonNode::Object(
      {{"error", JsonNode::Boolean(false)}, {"statements", JsonNode::Array({std::move(statement)})}});
  ASSIGN_OR_FAIL(std::string text,
                 AskText(connection, "SELECT json_deserialize_sql($1::VARCHAR::JSON)", tree.ToString()));
  SqlFault fault;
  Result<JsonNode> again = ParseSelect(connection, text, &fault);
  if (!again || !SameTree(*again, printed))
    return Fail(
        Invalid("DuckDB does not print this back as it was written; write it in another way, e.g. "
                "COLUMNS(c -> c LIKE 'a%') for * LIKE 'a%'"));
  return text;
}

int LocationOf(const JsonNode& node) {
  const std::string& text = node.Text("query_location");
  return text.empty() || text == kNowhere ? -1 : std::atoi(text.c_str());
}

JsonNode ColumnRefNode(const std::string& qualifier, const std::string& name, const std::string& alias) {
  JsonNode node = ExpressionNode("COLUMN_REF", "COLUMN_REF", alias);
  std::vector<JsonNode> names;
  if (!qualifier.empty()) names.push_back(JsonNode::String(qualifier));
  names.push_back(JsonNode::String(name));
  node.At("column_names") = JsonNode::Array(std::move(names));
  return node;
}

JsonNode TextNode(const std::string& text) {
  JsonNode node = ExpressionNode("CONSTANT", "VALUE_CONSTANT");
  node.At("value") = JsonNode::Object({{"type", TypeNode("VARCHAR")},
                                       {"is_null", JsonNode::Boolean(false)},
                                       {"value", JsonNode::String(text)}});
  return node;
}

// As the parser itself makes them.
JsonNode BooleanNode(bool value) { return CastNode(TextNode(value ? "t" : "f"), "BOOLEAN"); }

JsonNode NullNode() {
  JsonNode node = ExpressionNode("CONSTANT", "VALUE_CONSTANT");
  node.At("value") = JsonNode::Object({{"type", TypeNode("NULL")}, {"is_null", JsonNode::Boolean(true)}});
  return node;
}

JsonNode CastNode(JsonNode child, const std::string& type) {
  JsonNode node = ExpressionNode("CAST", "OPERATOR_CAST");
  child.At("alias") = JsonNode::String("");
  node.At("child") = std::move(child);
  node.At("cast_type") = TypeNode(type);
  node.At("try_cast") = JsonNode::Boolean(false);
  return node;
}

JsonNode OperatorNode(const std::string& type, JsonNode child) {
  JsonNode node = ExpressionNode("OPERATOR", type);
  node.At("children") = JsonNode::Array({std::move(child)});
  return node;
}

JsonNode CompareNode(const std::string& type, JsonNode left, JsonNode right) {
  JsonNode node = ExpressionNode("COMPARISON", type);
  node.At("left") = std::move(left);
  node.At("right") = std::move(right);
  return node;
}

JsonNode CaseNode(std::vector<std::pair<JsonNode, JsonNode>> checks, JsonNode otherwise) {
  JsonNode node = ExpressionNode("CASE", "CASE_EXPR");
  std::vector<JsonNode> items;
  for (auto& [when, then] : checks)
    items.push_back(JsonNode::Object({{"when_expr", std::move(when)}, {"then_expr", std::move(then)}}));
  node.At("case_checks") = JsonNode::Array(std::move(items));
  node.At("else_expr") = std::move(otherwise);
  return node;
}

}  // namespace millstream
