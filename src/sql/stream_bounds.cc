// FindStreamBounds: what a query's WHERE says of `_partition`, `_offset` and `_ingested_at`.
#include "sql/conditions.h"
#include "sql/query_rewriter.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

void AtLeast(ColumnBounds& bounds, int64_t value) {
  bounds.first = std::max(bounds.first.value_or(INT64_MIN), value);
}
void AtMost(ColumnBounds& bounds, int64_t value) {
  bounds.last = std::min(bounds.last.value_or(INT64_MAX), value);
}

// Bounds of two references: what either needs.
void Widen(ColumnBounds& bounds, const ColumnBounds& other) {
  bounds.first =
      bounds.first && other.first ? std::optional(std::min(*bounds.first, *other.first)) : std::nullopt;
  bounds.last = bounds.last && other.last ? std::optional(std::max(*bounds.last, *other.last)) : std::nullopt;
}

std::string Mirrored(const std::string& type) {
  if (type == "COMPARE_GREATERTHAN") return "COMPARE_LESSTHAN";
  if (type == "COMPARE_GREATERTHANOREQUALTO") return "COMPARE_LESSTHANOREQUALTO";
  if (type == "COMPARE_LESSTHAN") return "COMPARE_GREATERTHAN";
  if (type == "COMPARE_LESSTHANOREQUALTO") return "COMPARE_GREATERTHANOREQUALTO";
  return type;
}

class BoundsFinder {
 public:
  BoundsFinder(Connection& connection, const std::map<std::string, SqlValue>& parameters)
      : connection_(connection), parameters_(parameters) {}

  // Of the conjuncts of a WHERE, for the table that is called `alias`.
  StreamBounds Find(const JsonNode& where, const std::string& alias) {
    alias_ = alias;
    bounds_ = {};
    Conjunct(where);
    return bounds_;
  }

 private:
  enum class Which { kNone, kPartition, kOffset, kIngestedAt };

  void Conjunct(const JsonNode& node) {
    const std::string& type = node.Text("type");
    if (type == "CONJUNCTION_AND") {
      for (const JsonNode& child : node["children"].items()) Conjunct(child);
    } else if (type == "COMPARE_BETWEEN") {
      Compare(node["input"], "COMPARE_GREATERTHANOREQUALTO", node["lower"]);
      Compare(node["input"], "COMPARE_LESSTHANOREQUALTO", node["upper"]);
    } else if (type == "COMPARE_IN") {
      In(node["children"].items());
    } else if (node.Text("class") == "COMPARISON") {
      Compare(node["left"], type, node["right"]);
      Compare(node["right"], Mirrored(type), node["left"]);
    }
  }

  Which ColumnOf(const JsonNode& node) const {
    if (node.Text("class") != "COLUMN_REF") return Which::kNone;
    const auto& names = node["column_names"].items();
    if (names.size() > 2 || (names.size() == 2 && Lower(names[0].text()) != alias_)) return Which::kNone;
    std::string name = Lower(names.back().text());
    return name == "_partition"     ? Which::kPartition
           : name == "_offset"      ? Which::kOffset
           : name == "_ingested_at" ? Which::kIngestedAt
                                    : Which::kNone;
  }

  ColumnBounds& BoundsOf(Which which) {
    return which == Which::kPartition ? bounds_.partition
           : which == Which::kOffset  ? bounds_.offset
                                      : bounds_.ingested_at_us;
  }

  void Compare(const JsonNode& column, const std::string& type, const JsonNode& value) {
    Which which = ColumnOf(column);
    if (which == Which::kNone) return;
    bool above = type.starts_with("COMPARE_GREATER"), below = type.starts_with("COMPARE_LESS"),
         equal = type == "COMPARE_EQUAL";
    if (!above && !below && !equal) return;
    // The clock goes on between now and the query: only a lower bound may be taken from it.
    std::optional<int64_t> at = Evaluate(value, which == Which::kIngestedAt, !above);
    if (!at) return;
    bool strict = type == "COMPARE_GREATERTHAN" || type == "COMPARE_LESSTHAN";
    if (above || equal) AtLeast(BoundsOf(which), strict && *at < INT64_MAX ? *at + 1 : *at);
    if (below || equal) AtMost(BoundsOf(which), strict && *at > INT64_MIN ? *at - 1 : *at);
  }

  void In(const std::vector<JsonNode>& children) {
    Which which = children.empty() ? Which::kNone : ColumnOf(children[0]);
    if (which == Which::kNone || children.size() < 2) return;
    int64_t first = INT64_MAX, last = INT64_MIN;
    for (size_t i = 1; i < children.size(); ++i) {
      std::optional<int64_t> at = Evaluate(children[i], which == Which::kIngestedAt, true);
      if (!at) return;
      first = std::min(first, *at);
      last = std::max(last, *at);
    }
    AtLeast(BoundsOf(which), first);
    AtMost(BoundsOf(which), last);
  }

  // The value of an expression without columns; nothing where it cannot be told exactly.
  std::optional<int64_t> Evaluate(const JsonNode& expression, bool time, bool must_stay) {
    if (DependsOnRows(expression, must_stay)) return std::nullopt;
    auto chunk = EvaluateAlone(
        connection_, expression,
        time ? "epoch_us(v::TIMESTAMPTZ), 'BIGINT'" : "TRY_CAST(v AS BIGINT), typeof(v)", parameters_);
    // A fraction would be rounded by the cast.
    if (!chunk || chunk->IsNull(0, 0) || !IsWholeNumber(chunk->String(1, 0))) return std::nullopt;
    return chunk->Int64(0, 0);
  }

  Connection& connection_;
  const std::map<std::string, SqlValue>& parameters_;
  std::string alias_;
  StreamBounds bounds_;
};

}  // namespace

Result<StreamBounds> FindStreamBounds(Connection& connection, const std::string& sql,
                                      const std::string& table,
                                      const std::map<std::string, SqlValue>& parameters, SqlFault* fault) {
  ASSIGN_OR_FAIL(JsonNode tree, ParseSelect(connection, sql, fault));
  BoundsFinder finder(connection, parameters);
  std::optional<StreamBounds> all;
  WalkReferences(tree, table, [&](const JsonNode& ref, const JsonNode* select) {
    StreamBounds bounds;
    if (select != nullptr && StandsIn((*select)["from_table"], &ref)) {
      std::string alias = ref.Text("alias").empty() ? ref.Text("table_name") : ref.Text("alias");
      bounds = finder.Find((*select)["where_clause"], Lower(alias));
    }
    if (!all) {
      all = bounds;
      return;
    }
    Widen(all->partition, bounds.partition);
    Widen(all->offset, bounds.offset);
    Widen(all->ingested_at_us, bounds.ingested_at_us);
  });
  return all.value_or(StreamBounds{});
}

}  // namespace millstream
