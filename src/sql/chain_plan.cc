#include "sql/chain_plan.h"

#include "sql/duckdb_face.h"
#include "sql/function_bounds.h"
#include "sql/sql_checker.h"
#include "sql/sql_rewriter.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr size_t kNamesInFault = 20;

std::string_view ReservedType(std::string_view name) {
  if (name == "data") return "JSON";
  if (name == "ce_time" || name == "_ingested_at") return "TIMESTAMP WITH TIME ZONE";
  if (name == "_offset") return "BIGINT";
  return name == "_partition" || name == "_ordinal" ? "INTEGER" : "VARCHAR";
}

// Names between double quotes in a message of DuckDB.
std::vector<std::string> QuotedIn(const std::string& text) {
  std::vector<std::string> names;
  for (size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at + 1)) {
    size_t end = text.find('"', at + 1);
    if (end == std::string::npos) break;
    names.push_back(text.substr(at + 1, end - at - 1));
    at = end;
  }
  return names;
}

// "no column 'ammount'; input has id, amount": where DuckDB speaks of its own tables.
void SayColumns(SqlFault* fault, const std::vector<ColumnInfo>& columns) {
  std::vector<std::string> names = QuotedIn(fault->message);
  bool missing = fault->message.starts_with("Referenced column") && names.size() == 1;
  if (!missing && names.size() == 2 &&
      fault->message.find("does not have a column named") != std::string::npos)
    missing = Lower(names[0]) == "input";
  if (!missing) return;
  std::string list;
  for (size_t i = 0; i < columns.size() && i < kNamesInFault; ++i)
    list += (i == 0 ? "" : ", ") + columns[i].name;
  if (columns.size() > kNamesInFault) list += ", …";
  fault->message =
      fmt::format("no column '{}'; input has {}", names.back(), list.empty() ? "no columns" : list);
}

class Planner {
 public:
  Planner(Database& database, const ChainInput& input, bool keep_deletes)
      : database_(database), input_(input), keep_deletes_(keep_deletes) {}

  Result<ChainPlan> Plan(const std::vector<SqlFilter>& filters, const std::function<void(size_t)>& step) {
    ASSIGN_OR_FAIL(connection_, database_.ConnectBounded(TextsOf(filters)));
    FAIL_IF_ERROR(MakeSource());
    FAIL_IF_ERROR(connection_->Run("CREATE TEMP VIEW _f0 AS " + plan_.source));
    std::vector<ColumnInfo> visible = plan_.source_columns;
    bool data_visible = plan_.source_data_visible, bound = true;
    for (size_t i = 0; i < filters.size(); ++i) {
      if (step) step(i);
      CheckedSql checked;
      std::optional<JsonNode> tree = Check(filters[i].sql, static_cast<int>(i), &checked);
      plan_.description.flags.push_back(checked.flags);
      plan_.description.after.emplace_back();
      // Over a faulty filter nothing can be bound; later ones are still checked for what their text alone
      // tells.
      bound = bound && tree && checked.faults.empty() &&
              Bind(filters[i].sql, static_cast<int>(i), *tree, &visible, &data_visible);
      if (bound) plan_.description.after.back() = visible;
    }
    if (bound) plan_.description.columns = visible;
    return std::move(plan_);
  }

 private:
  Status MakeSource() {
    if (input_.rows.empty()) {
      ASSIGN_OR_RETURN(plan_.batches,
                       BatchScan::Make(database_, input_.stream, input_.contract, input_.defaults));
      plan_.source = "SELECT * FROM " + plan_.batches->Sql();
      plan_.source_data_visible = input_.contract.empty();
      for (const Field& field : input_.contract.fields)
        plan_.source_columns.push_back({field.name, TypeName(MakeLogicalType(field.type).get())});
      if (input_.contract.empty()) plan_.source_columns.push_back({"data", "JSON"});
      return OkStatus();
    }
    ASSIGN_OR_RETURN(plan_.rows, RowScan::Make(database_, Distinct(input_.rows)));
    size_t data = 0, visible = 0;
    for (const ColumnInfo& column : input_.rows)
      if (column.selected) plan_.selected.insert(column.name);
    for (const ColumnInfo& column : input_.rows)
      (column.name == "data" ? data : visible) += IsReserved(column.name) && column.name != "data" ? 0 : 1;
    // `data` is visible where it stands twice, or where nothing else is.
    plan_.source_data_visible = data == 2 || (data == 1 && visible == 0);
    std::string list;
    for (const ColumnInfo& column : input_.rows)
      if (!IsReserved(column.name))
        list += QuoteIdentifier(column.name) + ", ", plan_.source_columns.push_back(column);
    if (plan_.source_data_visible) plan_.source_columns.push_back({"data", "JSON"});
    for (const char* name : kReservedColumns) {
      bool there = std::any_of(input_.rows.begin(), input_.rows.end(),
                               [&](const ColumnInfo& column) { return column.name == name; });
      list += there ? fmt::format("{}, ", name)
                    : fmt::format("CAST(NULL AS {}) AS {}, ", ReservedType(name), name);
    }
    list.resize(list.size() - 2);
    plan_.source = fmt::format("SELECT {} FROM {}", list, plan_.rows->Sql());
    return OkStatus();
  }

  // A second column of a name is never asked for.
  static std::vector<ColumnInfo> Distinct(const std::vector<ColumnInfo>& columns) {
    std::vector<ColumnInfo> out = columns;
    std::map<std::string, int> seen;
    for (ColumnInfo& column : out)
      if (seen[column.name]++ > 0) column.name = fmt::format("_again{}_{}", seen[column.name], column.name);
    return out;
  }

  void AddFault(int filter, SqlFault fault, std::string expected = "") {
    plan_.description.faults.push_back({filter, std::move(fault), std::move(expected)});
  }

  std::optional<JsonNode> Check(const std::string& sql, int filter, CheckedSql* checked) {
    SqlFault fault;
    Result<JsonNode> tree = ParseSelect(*connection_, sql, &fault);
    if (!tree) {
      AddFault(filter, fault, fault.kind == kNotAllowed ? "one SELECT … FROM input …" : "");
      return std::nullopt;
    }
    *checked = CheckFilterTree(*tree, sql);
    for (SqlFilterFault& found : checked->faults) AddFault(filter, found.fault, found.expected);
    return std::move(*tree);
  }

  std::vector<std::string> ColumnsOf(const JsonNode& from_item) {
    JsonNode star = JsonNode::Object();
    SqlFault fault;
    Result<JsonNode> select = ParseSelect(*connection_, "SELECT * FROM t", &fault);
    if (!select) return {};
    select->At("from_table") = from_item;
    Result<std::string> text = PrintSelect(*connection_, *select);
    if (!text) return {};
    auto statement = connection_->Prepare(*text);
    std::vector<std::string> names;
    if (statement)
      for (const ColumnInfo& column : (*statement)->columns()) names.push_back(Lower(column.name));
    return names;
  }

  bool Bind(const std::string& sql, int filter, const JsonNode& tree, std::vector<ColumnInfo>* visible,
            bool* data_visible) {
    std::string source = fmt::format("_f{}", filter);
    Status made = connection_->Run("CREATE OR REPLACE TEMP VIEW input AS SELECT * FROM " + source);
    if (!made.ok()) return AddFault(filter, connection_->fault()), false;
    RewriteOptions options{source, *data_visible, keep_deletes_,
                           [this](const JsonNode& item) { return ColumnsOf(item); }};
    SqlFilterFault refused;
    Result<RewrittenFilter> rewritten = RewriteFilter(tree, options, &refused);
    if (!rewritten) return AddFault(filter, refused.fault, refused.expected), false;
    NameBounded(rewritten->node);
    Result<std::string> text = PrintSelect(*connection_, rewritten->node);
    if (!text) return AddFault(filter, {kNotAllowed, text.error().message(), -1, "", false}), false;
    auto statement = connection_->Prepare(*text);
    if (!statement) return AddFault(filter, FaultOf(sql, *visible)), false;
    const std::vector<ColumnInfo>& columns = (*statement)->columns();
    plan_.selected.insert(rewritten->selected.begin(), rewritten->selected.end());
    visible->assign(columns.begin(), columns.end() - static_cast<long>(rewritten->reserved.size()));
    *data_visible = rewritten->data_visible;
    if (!CheckNames(filter, *visible, *data_visible)) return false;
    if (!connection_->Run(fmt::format("CREATE TEMP VIEW _f{} AS {}", filter + 1, *text)).ok())
      return AddFault(filter, connection_->fault()), false;
    plan_.filters.push_back(std::move(*text));
    return true;
  }

  // Why the rewritten text does not bind, in the words and places of the user's own: its text is bound over a
  // view `input`.
  SqlFault FaultOf(const std::string& sql, const std::vector<ColumnInfo>& input) {
    SqlFault fault = connection_->fault();
    fault.position = -1;
    if (!connection_->Prepare(sql)) {
      std::vector<std::string> names = QuotedIn(connection_->fault().message);
      // Inner layers of the user's text do not pass reserved columns; those of the rewritten one do.
      if (names.empty() || !IsReserved(names.back())) fault = connection_->fault();
    }
    SayColumns(&fault, input);
    return fault;
  }

  bool CheckNames(int filter, const std::vector<ColumnInfo>& visible, bool data_visible) {
    if (visible.empty())
      return AddFault(
                 filter,
                 {kNotAllowed,
                  "the result has no columns: reserved ones pass unasked, and are written only if renamed",
                  -1, "", false},
                 "e.g. ce_id AS id"),
             false;
    std::set<std::string> names;
    for (const ColumnInfo& column : visible) {
      std::string name = Lower(column.name);
      std::string message, instead = "AS another name for one of them";
      if (!names.insert(name).second) message = fmt::format("two result columns are named '{}'", column.name);
      if (IsReserved(name) && !(name == "data" && data_visible)) {
        message = fmt::format("'{}' is the name of a reserved column", column.name);
        instead = "AS another name";
      }
      if (column.type.find("STRUCT(\"\" ") != std::string::npos) {
        message = fmt::format("'{}' is a struct without names", column.name);
        instead = "{'a': …}, which names its members";
      }
      if (!message.empty()) return AddFault(filter, {kNotAllowed, message, -1, "", false}, instead), false;
    }
    return true;
  }

  Database& database_;
  const ChainInput& input_;
  const bool keep_deletes_;
  std::unique_ptr<Connection> connection_;
  ChainPlan plan_;
};

}  // namespace

std::string ChainPlan::Fused(const std::vector<uint64_t>& tally_ids,
                             const std::vector<std::string>& reserved) const {
  std::string sql = fmt::format("WITH _f0 AS NOT MATERIALIZED ({})", source);
  for (size_t i = 0; i < filters.size(); ++i) {
    bool last = i + 1 == filters.size();
    if (last) {
      sql += fmt::format(", _f{} AS NOT MATERIALIZED ({})", i + 1, filters[i]);
    } else {
      // The limit keeps the optimiser from moving a later filter's WHERE below the count
      // (docs/decisions/0005-fused-filters.md).
      sql += fmt::format(
          ", _f{} AS NOT MATERIALIZED (SELECT * REPLACE (_tally({}, _offset) AS _offset) FROM ({}) LIMIT {})",
          i + 1, tally_ids[i], filters[i], 1ll << 62);
    }
  }
  sql += " SELECT ";
  for (const ColumnInfo& column : description.columns) sql += QuoteIdentifier(column.name) + ", ";
  for (std::string_view name : std::span(kReservedColumns).first(std::size(kReservedColumns) - 3))
    if (selected.contains(std::string(name)) ||
        std::find(reserved.begin(), reserved.end(), name) != reserved.end())
      sql += fmt::format("{}, ", name);
  // Of events both are constants, written after the execution: two columns less through every operator.
  sql += batches != nullptr ? "CAST(0 AS INTEGER) AS _partition, _offset, CAST(0 AS INTEGER) AS _ordinal"
                            : "_partition, _offset, _ordinal";
  return sql + fmt::format(" FROM _f{}", filters.size());
}

std::vector<std::string_view> TextsOf(const std::vector<SqlFilter>& filters) {
  std::vector<std::string_view> texts;
  for (const SqlFilter& filter : filters) texts.push_back(filter.sql);
  return texts;
}

Result<ChainPlan> MakeChainPlan(Database& database, const ChainInput& input,
                                const std::vector<SqlFilter>& filters, bool keep_deletes,
                                const std::function<void(size_t)>& step) {
  return Planner(database, input, keep_deletes).Plan(filters, step);
}

}  // namespace millstream
