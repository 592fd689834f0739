#include "sql/sql_rewriter.h"

#include "sql/duckdb_face.h"
#include "sql/sql_checker.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

// What a relation that holds `input`'s rows is called, and whether its `*` gives `data`.
struct Carried {
  std::string alias;
  bool data_visible = false;
};

// Those that a filter may compute anew; a stream sink's envelope is made of them.
bool IsReplaceable(std::string_view name) {
  return IsReserved(name) && name != "_partition" && name != "_offset" && name != "_ordinal" &&
         name != "_ingested_at";
}

class Rewriter {
 public:
  Rewriter(const RewriteOptions& options, SqlFilterFault* fault) : options_(options), fault_(fault) {}

  Status Query(JsonNode& node, std::map<std::string, bool> ctes, bool* data_visible) {
    for (JsonNode& cte : node.At("cte_map").At("map").items()) {
      JsonNode& inner = cte.At("value").At("query").At("node");
      std::string name = Lower(cte.Text("key"));
      ctes.erase(name);
      if (!CarriesInput(inner, Names(ctes))) continue;
      bool visible = false;
      RETURN_IF_ERROR(Query(inner, ctes, &visible));
      ctes[name] = visible;
    }
    JsonNode& from = node.At("from_table");
    Carried carried;
    RETURN_IF_ERROR(From(from, ctes, &carried));
    return Select(node, carried, data_visible);
  }

  const std::vector<std::string>& reserved() const { return reserved_; }
  const std::set<std::string>& selected() const { return selected_; }

 private:
  static std::vector<std::string> Names(const std::map<std::string, bool>& ctes) {
    std::vector<std::string> names;
    for (const auto& cte : ctes) names.push_back(cte.first);
    return names;
  }

  Status Refuse(int position, std::string message, std::string expected) {
    fault_->fault.kind = kNotAllowed;
    fault_->fault.message = message;
    fault_->fault.position = position;
    fault_->expected = std::move(expected);
    return Invalid("{}", message);
  }

  Status From(JsonNode& ref, const std::map<std::string, bool>& ctes, Carried* carried) {
    const std::string type = ref.Text("type");
    if (type == "JOIN") {
      bool left = CarriesInput(ref["left"], Names(ctes));
      return From(ref.At(left ? "left" : "right"), ctes, carried);
    }
    std::string alias = ref.Text("alias");
    if (type == "SUBQUERY") {
      if (alias.empty()) alias = "_from_input";
      RETURN_IF_ERROR(Query(ref.At("subquery").At("node"), ctes, &carried->data_visible));
    } else {
      std::string name = Lower(ref.Text("table_name"));
      if (alias.empty()) alias = name;
      auto cte = ctes.find(name);
      carried->data_visible = cte == ctes.end() ? options_.data_visible : cte->second;
      if (cte == ctes.end()) ref.At("table_name") = JsonNode::String(options_.source);
    }
    ref.At("alias") = JsonNode::String(alias);
    carried->alias = alias;
    return OkStatus();
  }

  // The SELECT list in two parts: what is visible, then the reserved columns.
  Status Select(JsonNode& node, const Carried& carried, bool* data_visible) {
    carried_ = &carried;
    from_ = node["from_table"];
    visible_.clear();
    computed_.clear();
    data_visible_ = false;
    for (const JsonNode& item : node["select_list"].items()) RETURN_IF_ERROR(Item(item));
    JsonNode where = node["where_clause"];
    reserved_.clear();
    for (const char* reserved : kReservedColumns) {
      std::string name = reserved;
      if (name == "data" && data_visible_) continue;
      auto computed = computed_.find(name);
      JsonNode passed = ColumnRefNode(carried.alias, name, "");
      JsonNode value =
          computed == computed_.end()
              ? passed
              : CastNode(computed->second, name == "ce_time" ? "TIMESTAMP WITH TIME ZONE" : "VARCHAR");
      if (name == "_op" && options_.keep_deletes && !where.IsNull())
        value = OpOfDropped(passed, where, std::move(value));
      value.At("alias") = JsonNode::String(name);
      visible_.push_back(std::move(value));
      reserved_.push_back(name);
    }
    if (options_.keep_deletes && !where.IsNull()) {
      JsonNode changes = OperatorNode("OPERATOR_IS_NOT_NULL", ColumnRefNode(carried.alias, "_op", ""));
      node.At("where_clause") = CaseNode({{std::move(changes), BooleanNode(true)}}, std::move(where));
    }
    node.At("select_list") = JsonNode::Array(std::move(visible_));
    *data_visible = data_visible_;
    return OkStatus();
  }

  // A change whose event WHERE drops deletes its key (SEMANTICS, "Change data"). CASE, so that WHERE is not
  // asked of a 'd'.
  static JsonNode OpOfDropped(const JsonNode& op, const JsonNode& where, JsonNode otherwise) {
    JsonNode none = OperatorNode("OPERATOR_IS_NULL", op);
    JsonNode deleted = CompareNode("COMPARE_EQUAL", op, TextNode("d"));
    JsonNode dropped = CompareNode("COMPARE_DISTINCT_FROM", CastNode(where, "BOOLEAN"), BooleanNode(true));
    JsonNode otherwise_too = otherwise;
    return CaseNode({{std::move(none), std::move(otherwise_too)},
                     {std::move(deleted), TextNode("d")},
                     {std::move(dropped), TextNode("d")}},
                    std::move(otherwise));
  }

  Status Item(const JsonNode& item) {
    const std::string& kind = item.Text("class");
    std::string alias = Lower(item.Text("alias"));
    int at = LocationOf(item);
    if (kind == "STAR" && alias.empty()) return Star(item);
    if (kind == "COLUMN_REF") {
      const auto& names = item["column_names"].items();
      std::string name = Lower(names.back().text());
      bool ours =
          names.size() == 1 || (names.size() == 2 && Lower(names[0].text()) == Lower(carried_->alias));
      if (IsReserved(name) && (alias.empty() || alias == name) && names.size() <= 2) {
        if (!ours)
          return Refuse(at,
                        fmt::format("'{}' of {} has the name of a reserved column", name, names[0].text()),
                        fmt::format("{}.{} AS another name", names[0].text(), name));
        if (name != "data" || !carried_->data_visible) {  // passes anyway
          selected_.insert(name);
          return OkStatus();
        }
        if (data_visible_) return OkStatus();
        data_visible_ = true;
      }
    }
    if (IsReserved(alias) && !(kind == "COLUMN_REF" && alias == "data" && data_visible_)) {
      if (!IsReplaceable(alias))
        return Refuse(at, fmt::format("'{}' is told by the log and cannot be set", alias), "another name");
      if (alias != "data") {
        if (!computed_.emplace(alias, item).second)
          return Refuse(at, fmt::format("two result columns are named '{}'", alias),
                        "another name for one of them");
        selected_.insert(alias);
        return OkStatus();
      }
      data_visible_ = true;
    }
    visible_.push_back(item);
    HideReserved(visible_.back());
    return OkStatus();
  }

  Status Star(const JsonNode& item) {
    std::string relation = Lower(item.Text("relation_name"));
    for (const char* list : {"replace_list", "rename_list"})
      for (const JsonNode& entry : item[list].items()) {
        std::string name = Lower(
            entry["key"].kind() == JsonNode::Kind::kString ? entry.Text("key") : entry["key"].Text("column"));
        if (IsReserved(name) && !(name == "data" && carried_->data_visible))
          return Refuse(LocationOf(item), fmt::format("'{}' is a reserved column: * does not give it", name),
                        fmt::format("… AS {} beside the star", name));
      }
    bool of_input = relation.empty() || relation == Lower(carried_->alias);
    visible_.push_back(item);
    HideReserved(visible_.back());
    bool excluded = false;
    for (const JsonNode& name : item["exclude_list"].items()) excluded |= Lower(name.text()) == "data";
    if (of_input && carried_->data_visible && !excluded && item["expr"].IsNull()) data_visible_ = true;
    return OkStatus();
  }

  // `*` and COLUMNS(*) do not give reserved columns.
  void HideReserved(JsonNode& node) {
    if (node.IsObject() && node.Text("class") == "STAR") Exclude(node);
    if (node.IsObject() && node.Text("class") == "SUBQUERY") return;
    for (JsonNode& item : node.items()) HideReserved(item);
    for (auto& member : node.members())
      if (member.first != "exclude_list") HideReserved(member.second);
  }

  void Exclude(JsonNode& star) {
    if (!star["expr"].IsNull()) return;  // COLUMNS(c -> …) has a star of its own inside
    std::string relation = Lower(star.Text("relation_name"));
    bool of_input = relation.empty() || relation == Lower(carried_->alias);
    std::vector<std::string> there(std::begin(kReservedColumns), std::end(kReservedColumns));
    if (!of_input) there = ColumnsOf(from_, relation);
    std::vector<JsonNode>& list = star.At("exclude_list").items();
    for (const std::string& name : there) {
      if (!IsReserved(name) || (name == "data" && (!of_input || carried_->data_visible))) continue;
      bool listed = std::any_of(list.begin(), list.end(),
                                [&](const JsonNode& had) { return Lower(had.text()) == name; });
      if (!listed) list.push_back(JsonNode::String(name));
    }
  }

  // Columns of the table that is called `alias` in a FROM clause.
  std::vector<std::string> ColumnsOf(const JsonNode& ref, const std::string& alias) {
    if (ref.Text("type") == "JOIN") {
      std::vector<std::string> found = ColumnsOf(ref["left"], alias);
      return found.empty() ? ColumnsOf(ref["right"], alias) : found;
    }
    std::string name = ref.Text("alias").empty() ? ref.Text("table_name") : ref.Text("alias");
    return Lower(name) == alias && options_.columns_of ? options_.columns_of(ref)
                                                       : std::vector<std::string>();
  }

  const RewriteOptions& options_;
  SqlFilterFault* fault_;
  std::vector<std::string> reserved_;
  std::set<std::string> selected_;
  // Of the SELECT at work.
  const Carried* carried_ = nullptr;
  JsonNode from_;
  std::vector<JsonNode> visible_;
  std::map<std::string, JsonNode> computed_;  // reserved columns that the SELECT sets
  bool data_visible_ = false;
};

}  // namespace

Result<RewrittenFilter> RewriteFilter(const JsonNode& node, const RewriteOptions& options,
                                      SqlFilterFault* fault) {
  RewrittenFilter rewritten;
  rewritten.node = node;
  Rewriter rewriter(options, fault);
  FAIL_IF_ERROR(rewriter.Query(rewritten.node, {}, &rewritten.data_visible));
  rewritten.reserved = rewriter.reserved();
  rewritten.selected = rewriter.selected();
  return rewritten;
}

}  // namespace millstream
