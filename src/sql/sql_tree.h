// SqlTree: DuckDB's own parse tree of a SELECT, there and back.
//
// Place: floor 2, inside sql/. json_serialize_sql gives the tree, json_deserialize_sql the text of a changed
// one. Printing is checked: the text is parsed again and must give the tree that was printed, since DuckDB's
// printer was seen to lose things (a double literal came back as a decimal, `* LIKE` as a function). Threads:
// that of the connection. Failure: kInvalid; a syntax error has its position in `fault`.
#pragma once

#include <string>
#include <string_view>

#include "base/text.h"
#include "sql/database.h"
#include "sql/json_tree.h"

namespace millstream {

/// The node of the one SELECT that `sql` is. kInvalid if it is no SELECT, more than one statement, or does
/// not parse.
/// `fault` may be null.
Result<JsonNode> ParseSelect(Connection& connection, const std::string& sql, SqlFault* fault);
/// The text of a query node.
Result<std::string> PrintSelect(Connection& connection, const JsonNode& node);

/// Where a node stands in the text, or -1.
int LocationOf(const JsonNode& node);

/// Nodes that the rewriter makes.
JsonNode ColumnRefNode(const std::string& qualifier, const std::string& name, const std::string& alias);
JsonNode TextNode(const std::string& text);
JsonNode BooleanNode(bool value);
JsonNode NullNode();
JsonNode CastNode(JsonNode child, const std::string& type);
JsonNode OperatorNode(const std::string& type, JsonNode child);
JsonNode CompareNode(const std::string& type, JsonNode left, JsonNode right);
/// CASE WHEN … THEN … [WHEN … THEN …] ELSE … END.
JsonNode CaseNode(std::vector<std::pair<JsonNode, JsonNode>> checks, JsonNode otherwise);

}  // namespace millstream
