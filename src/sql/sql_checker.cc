#include "sql/sql_checker.h"

#include "base/fault.h"
#include "sql/duckdb_face.h"
#include "sql/function_bounds.h"
#include "sql/function_list.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

using Scope = std::map<std::string, bool>;  // CTEs in sight, lower case: do they carry `input`?

// The parser makes column references of these; the binder makes functions of them.
constexpr std::string_view kTimeWords[] = {"current_date", "current_time", "current_timestamp", "localtime",
                                           "localtimestamp"};

constexpr const char* kUseAggregate =
    "an `aggregate` table sink (key and values) adds up over all events, not over one batch";
constexpr const char* kUseUpsert =
    "an upsert table (a `table` sink with `key`) keeps the newest row of each key";
constexpr const char* kUseQuery = "order and limit where the table is queried";

constexpr const char* kUseFields =
    "a condition sees the fields of one row; what needs more belongs in a filter, or in a command's "
    "'require'";
constexpr const char* kUseTime = "a condition holds or not whenever it is asked: compare fields of the row";

enum class Subject : uint8_t { kFilter, kQuery, kCondition };

class Checker {
 public:
  Checker(const std::string& sql, Subject subject)
      : sql_(sql), filter_(subject == Subject::kFilter), condition_(subject == Subject::kCondition) {}

  CheckedSql Run(const JsonNode& node) {
    bool carries = Query(node, {}, false);
    if (filter_ && out_.faults.empty() && input_reads_ == 0) {
      Refuse(-1, "the filter does not read `input`", "a filter is a SELECT … FROM input …");
    } else if (filter_ && out_.faults.empty() && !carries) {
      Refuse(input_location_, "the result has no rows of `input`",
             "`input` stands in the FROM of the filter's own SELECT");
    }
    return std::move(out_);
  }

 private:
  void Refuse(int position, std::string message, std::string expected) {
    SqlFilterFault fault;
    fault.fault.kind = kNotAllowed;
    fault.fault.message = std::move(message);
    fault.fault.position = position;
    fault.expected = std::move(expected);
    out_.faults.push_back(std::move(fault));
  }

  // Where a word stands in the text, for clauses without a location of their own.
  int Word(std::string_view word) const {
    size_t at = Lower(sql_).find(Lower(word));
    return at == std::string::npos ? -1 : static_cast<int>(at);
  }

  bool Query(const JsonNode& node, Scope scope, bool in_expression) {
    for (const JsonNode& cte : node["cte_map"]["map"].items()) {
      std::string name = Lower(cte.Text("key"));
      const JsonNode& value = cte["value"];
      if (filter_ && name == "input")
        Refuse(Word("input"), "`input` is taken: it is what the filter reads", "another name");
      const JsonNode& inner = value["query"]["node"];
      bool recursive = inner.Text("type") == "RECURSIVE_CTE_NODE";
      if (recursive) scope[name] = false;
      bool carries = Query(inner, scope, in_expression);
      if (carries && !value["aliases"].items().empty())
        Refuse(Word(name), fmt::format("column names after {} over `input`", cte.Text("key")),
               "AS in its SELECT list");
      scope[name] = carries;
    }
    const std::string& type = node.Text("type");
    bool carries = false;
    if (type == "SELECT_NODE") {
      carries = Select(node, scope, in_expression);
    } else if (type == "SET_OPERATION_NODE" || type == "RECURSIVE_CTE_NODE") {
      bool left = Query(node["left"], scope, in_expression),
           right = Query(node["right"], scope, in_expression);
      if (left || right) SetOperation(node);
      carries = left || right;
    } else {
      Refuse(-1, fmt::format("{} is not allowed", type), "a SELECT");
    }
    Modifiers(node["modifiers"], scope, carries);
    return carries;
  }

  void SetOperation(const JsonNode& node) {
    const std::string& type = node.Text("setop_type");
    std::string_view word = type == "EXCEPT" ? "EXCEPT" : type == "INTERSECT" ? "INTERSECT" : "UNION";
    Refuse(Word(word),
           fmt::format("{} over `input`: the other side's rows would come again with every batch", word),
           "join tables to `input`, or write two pipelines into one table");
  }

  void Modifiers(const JsonNode& modifiers, const Scope& scope, bool carries) {
    for (const JsonNode& modifier : modifiers.items()) {
      const std::string& type = modifier.Text("type");
      if (type == "DISTINCT_MODIFIER" && carries)
        Refuse(Word("distinct"), "DISTINCT over `input` works on one batch only", kUseUpsert);
      if (type == "ORDER_MODIFIER" && carries) {
        const JsonNode& orders = modifier["orders"];
        int at = orders.items().empty() ? -1 : LocationOf(orders.items()[0]["expression"]);
        Refuse(at < 0 ? Word("order by") : at, "ORDER BY over `input`: events keep the order of the stream",
               kUseQuery);
      }
      if (type.starts_with("LIMIT") && carries)
        Refuse(Word("limit") < 0 ? Word("offset") : Word("limit"),
               "LIMIT over `input` counts in one batch only", kUseQuery);
      Expression(modifier, scope, carries);
    }
  }

  bool Select(const JsonNode& node, const Scope& scope, bool in_expression) {
    bool carries = From(node["from_table"], scope);
    bool nothing_read = node["from_table"].Text("type") == "EMPTY";
    if (carries && !in_expression) {
      if (const auto& groups = node["group_expressions"].items(); !groups.empty())
        Refuse(LocationOf(groups[0]), "GROUP BY over `input` works on one batch only", kUseAggregate);
      if (node.Text("aggregate_handling") == "FORCE_AGGREGATES")
        Refuse(Word("group"), "GROUP BY over `input` works on one batch only", kUseAggregate);
      if (!node["having"].IsNull())
        Refuse(Word("having"), "HAVING over `input` works on one batch only", kUseAggregate);
      if (!node["qualify"].IsNull())
        Refuse(Word("qualify"), "QUALIFY over `input` works on one batch only", kUseUpsert);
      if (!node["sample"].IsNull())
        Refuse(Word("sample"), "a sample of `input` would differ from run to run",
               "WHERE hash(ce_id) % 100 < 5");
    }
    // An aggregate over nothing but outer columns would belong to the outer query.
    bool row_local = (carries && !in_expression) || nothing_read;
    for (const JsonNode& item : node["select_list"].items()) Expression(item, scope, row_local, carries);
    for (const char* clause : {"where_clause", "group_expressions", "having", "qualify"})
      Expression(node[clause], scope, row_local, carries);
    return carries;
  }

  // Walks an expression, or anything that holds some. `row_local`: aggregates and windows are refused.
  void Expression(const JsonNode& node, const Scope& scope, bool row_local, bool over_input = false) {
    if (node.IsObject()) {
      const std::string& kind = node.Text("class");
      if (kind == "SUBQUERY" && condition_)
        return Refuse(LocationOf(node), "a subquery in a condition", kUseFields);
      if (kind == "STAR" && condition_)
        Refuse(LocationOf(node), "several columns in a condition", kUseFields);
      if (kind == "SUBQUERY") {
        int reads = input_reads_;
        if (Query(node["subquery"]["node"], scope, true) || input_reads_ > reads)
          Refuse(LocationOf(node), "`input` is read in a subquery of an expression",
                 "name its columns; a subquery may read tables, and columns of `input`");
        Expression(node["child"], scope, row_local, over_input);
        return;
      }
      if (kind == "FUNCTION") Function(node, row_local, over_input);
      if (kind == "WINDOW") Window(node, row_local);
      if (kind == "PARAMETER" && (filter_ || condition_))
        Refuse(Word("$") < 0 ? Word("?") : Word("$"),
               fmt::format("a {} takes no parameters", filter_ ? "filter" : "condition"), "write a literal");
      if (kind == "COLUMN_REF") TimeWord(node);
    }
    for (const JsonNode& item : node.items()) Expression(item, scope, row_local, over_input);
    for (const auto& member : node.members()) Expression(member.second, scope, row_local, over_input);
  }

  void Function(const JsonNode& node, bool row_local, bool over_input) {
    std::string name = Lower(node.Text("function_name"));
    // What stands before a dot may be a column (id.upper()): the name alone decides, and no one can make
    // functions.
    std::optional<FunctionKind> kind = FindFunction(name);
    if (!kind) {
      std::string nearest = Nearest(name, FunctionNames());
      Refuse(LocationOf(node), fmt::format("the function {} is not allowed here, or there is none", name),
             nearest.empty() || nearest == name ? "" : fmt::format("did you mean {}?", nearest));
      return;
    }
    // DuckDB's own catalog would pass by the bounds; `main` would not, which the parser itself writes.
    for (const char* place : {"catalog", "schema"})
      if (std::string where = Lower(node.Text(place));
          (where == "system" || where == "pg_catalog") && IsBounded(name))
        Refuse(LocationOf(node), fmt::format("{}.{}: a function of a catalog", where, name), name);
    std::string why_not;
    if (BoundedName(node, &why_not); !why_not.empty())
      Refuse(LocationOf(node), why_not, "fewer options, or a pattern that ends with its *, + or {…}");
    if (*kind == FunctionKind::kAggregate && filter_ && row_local)
      Refuse(LocationOf(node), fmt::format("the aggregate {} over `input` works on one batch only", name),
             kUseAggregate);
    if (*kind == FunctionKind::kAggregate && condition_)
      Refuse(LocationOf(node), fmt::format("the aggregate {} in a condition", name), kUseFields);
    bool changing =
        *kind == FunctionKind::kVolatile || (name == "age" && node["children"].items().size() == 1);
    if (changing) Volatile(node, name);
    if (*kind == FunctionKind::kFansOut && over_input) out_.flags.fans_out = true;
    if (*kind == FunctionKind::kFansOut && condition_)
      Refuse(LocationOf(node), fmt::format("{} makes several rows of one", name),
             "functions of lists: list_contains(list, x), len(list_filter(list, x -> …)) = 0");
  }

  void Window(const JsonNode& node, bool row_local) {
    std::string name = Lower(node.Text("function_name"));
    if (!FindFunction(name))
      Refuse(LocationOf(node), fmt::format("the window function {} is not allowed", name), "");
    if (filter_ && row_local)
      Refuse(LocationOf(node), fmt::format("the window function {} over `input` sees one batch only", name),
             kUseUpsert);
    if (condition_)
      Refuse(LocationOf(node), fmt::format("the window function {} in a condition", name), kUseFields);
  }

  void Volatile(const JsonNode& node, const std::string& name) {
    if (condition_) Refuse(LocationOf(node), fmt::format("{} gives another value each time", name), kUseTime);
    out_.flags.is_volatile = true;
    std::vector<std::string>& names = out_.flags.volatile_functions;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }

  void TimeWord(const JsonNode& node) {
    const auto& names = node["column_names"].items();
    if (names.size() != 1) return;
    std::string name = Lower(names[0].text());
    for (std::string_view word : kTimeWords)
      if (name == word) Volatile(node, name);
  }

  bool From(const JsonNode& ref, const Scope& scope) {
    const std::string& type = ref.Text("type");
    if (type == "BASE_TABLE") return Table(ref, scope);
    if (type == "JOIN") return Join(ref, scope);
    if (type == "SUBQUERY") {
      bool carries = Query(ref["subquery"]["node"], scope, false);
      if (carries) NoExtras(ref, "a subquery of `input`");
      return carries;
    }
    if (type == "TABLE_FUNCTION") {
      const JsonNode& function = ref["function"];
      std::string name = Lower(function.Text("function_name"));
      if (!IsTableFunction(name))
        Refuse(LocationOf(ref), fmt::format("the table function {} is not allowed", name),
               "tables, unnest, range, json_each");
      for (const JsonNode& child : function["children"].items()) Expression(child, scope, true);
      return false;
    }
    if (type == "EXPRESSION_LIST") {
      Expression(ref["values"], scope, false);
      return false;
    }
    if (type == "EMPTY" || ref.IsNull()) return false;
    if (type == "SHOW_REF") {
      Refuse(
          0, "DESCRIBE, SHOW and SUMMARIZE are not allowed",
          filter_
              ? "a SELECT"
              : "SELECT * FROM TABLE LIMIT 1 shows the columns, `millstream table show TABLE` their types, "
                "`millstream table list` the tables");
    } else if (type == "PIVOT") {
      Refuse(Word("pivot"), "PIVOT is not allowed", "CASE expressions, or PIVOT's result kept as a table");
    } else {
      Refuse(LocationOf(ref), fmt::format("{} is not allowed after FROM", type), "tables");
    }
    return false;
  }

  bool Table(const JsonNode& ref, const Scope& scope) {
    const std::string& name = ref.Text("table_name");
    const std::string& schema = ref.Text("schema_name");
    std::string lower = Lower(name);
    if (schema.empty()) {
      if (auto cte = scope.find(lower); cte != scope.end()) {
        if (cte->second && ++cte_reads_[lower] > 1)
          Refuse(LocationOf(ref), fmt::format("{}, which holds rows of `input`, is read twice", name),
                 "read it once");
        if (cte->second) NoExtras(ref, name);
        return cte->second;
      }
      if (filter_ && lower == "input") {
        if (++input_reads_ > 1)
          Refuse(LocationOf(ref), "`input` is read twice", "read it once; a WITH may hold it");
        input_location_ = LocationOf(ref);
        NoExtras(ref, "`input`");
        return true;
      }
    }
    Lookup(ref, name, Lower(schema));
    return false;
  }

  void Lookup(const JsonNode& ref, const std::string& name, const std::string& schema) {
    std::string lower = Lower(name);
    bool ours = schema.empty() || schema == "main" || (!filter_ && schema == "_streams");
    if (!ours || !ref.Text("catalog_name").empty() || lower.starts_with("duckdb_") ||
        lower.starts_with("pg_") || lower.starts_with("sqlite_") || lower.starts_with("pragma_")) {
      Refuse(LocationOf(ref),
             fmt::format("{} is not among the tables", schema.empty() ? name : schema + "." + name),
             "a table of the project");
      return;
    }
    if (name.find_first_of("./\\:*") != std::string::npos) {
      Refuse(LocationOf(ref), fmt::format("'{}' is a file, not a table", name),
             "`millstream ingest`, or a `file` source, brings files into a stream");
      return;
    }
    out_.flags.lookup = true;
    out_.flags.tables.push_back(name);
  }

  // What would rename columns of `input` by place, or sample them.
  void NoExtras(const JsonNode& ref, const std::string& what) {
    if (!ref["column_name_alias"].items().empty())
      Refuse(LocationOf(ref), fmt::format("column names after {}", what), "AS in the SELECT list");
    if (!ref["sample"].IsNull())
      Refuse(LocationOf(ref), fmt::format("a sample of {} would differ from run to run", what),
             "WHERE hash(ce_id) % 100 < 5");
  }

  bool Join(const JsonNode& ref, const Scope& scope) {
    bool left = From(ref["left"], scope), right = From(ref["right"], scope);
    Expression(ref["condition"], scope, true);
    if (!left && !right) return false;
    const std::string& type = ref.Text("join_type");
    const std::string& kind = ref.Text("ref_type");
    int at = LocationOf(ref);
    if (kind == "NATURAL")
      Refuse(at, "NATURAL JOIN with `input` would compare reserved columns", "USING (column)");
    if (kind == "POSITIONAL") Refuse(at, "POSITIONAL JOIN with `input` depends on the batch", "JOIN … ON");
    if (type == "FULL" || type == "OUTER")
      Refuse(at, "FULL JOIN with `input`: a table's rows would come with every batch", "LEFT JOIN");
    if (type == "RIGHT")
      Refuse(at, "RIGHT JOIN with `input`: a table's rows would come with every batch",
             "FROM input LEFT JOIN …");
    if (right && type != "INNER" && type != "RIGHT" && type != "FULL" && type != "OUTER")
      Refuse(at,
             fmt::format("{} JOIN with `input` on its right: the table's rows would come with every batch",
                         type),
             "put `input` first: FROM input LEFT JOIN …");
    if (right && kind == "ASOF") Refuse(at, "ASOF JOIN with `input` on its right", "FROM input ASOF JOIN …");
    for (const JsonNode& column : ref["using_columns"].items())
      for (const char* reserved : kReservedColumns)
        if (Lower(column.text()) == reserved)
          Refuse(at, fmt::format("USING ({}): a reserved column", reserved), "ON");
    if (type != "SEMI" && type != "ANTI" && kind != "ASOF") out_.flags.fans_out = true;
    return true;
  }

  const std::string& sql_;
  const bool filter_, condition_;
  CheckedSql out_;
  int input_reads_ = 0;
  int input_location_ = -1;
  std::map<std::string, int> cte_reads_;
};

}  // namespace

CheckedSql CheckFilterTree(const JsonNode& node, const std::string& sql) {
  return Checker(sql, Subject::kFilter).Run(node);
}
CheckedSql CheckQueryTree(const JsonNode& node, const std::string& sql) {
  return Checker(sql, Subject::kQuery).Run(node);
}
CheckedSql CheckConditionTree(const JsonNode& node, const std::string& sql) {
  return Checker(sql, Subject::kCondition).Run(node);
}

bool CarriesInput(const JsonNode& node, const std::vector<std::string>& carrying) {
  const std::string& type = node.Text("type");
  if (type == "JOIN") return CarriesInput(node["left"], carrying) || CarriesInput(node["right"], carrying);
  if (type == "SUBQUERY") return CarriesInput(node["subquery"]["node"], carrying);
  if (type == "BASE_TABLE") {
    std::string name = Lower(node.Text("table_name"));
    if (!node.Text("schema_name").empty()) return false;
    return name == "input" || std::find(carrying.begin(), carrying.end(), name) != carrying.end();
  }
  if (type != "SELECT_NODE") return false;
  std::vector<std::string> inner = carrying;
  for (const JsonNode& cte : node["cte_map"]["map"].items()) {
    std::string name = Lower(cte.Text("key"));
    std::erase(inner, name);
    if (CarriesInput(cte["value"]["query"]["node"], inner)) inner.push_back(name);
  }
  return CarriesInput(node["from_table"], inner);
}

}  // namespace millstream
