// Sinks against the rows that reach them: keys, aggregates, tables with several writers, order.
#include "base/text.h"
#include "catalog/checker.h"
#include "catalog/lineage.h"
#include "sql/sql_tree.h"
#include "tables/aggregate.h"
#include "tables/registry.h"

namespace millstream {
namespace {

const Node& OptionNode(const Node& options, const char* option) {
  const Node* node = options.Find(option);
  return node != nullptr ? *node : options;
}

std::vector<std::string> LowerAll(std::vector<std::string> names) {
  for (std::string& name : names) name = Lower(name);
  return names;
}

// A row as `delete_when` and aggregates see it: what TableStore binds them against.
std::vector<ColumnInfo> RowColumns(const std::vector<ColumnInfo>& columns) {
  std::vector<ColumnInfo> all = columns;
  for (ColumnInfo& column : ReservedColumns()) {
    bool seen = column.name == "_op" || column.name == "_ingested_at" || column.name == "_partition" ||
                column.name == "_offset" || column.name == "_ordinal";
    if (seen && FindColumn(all, column.name) == nullptr) all.push_back(std::move(column));
  }
  return all;
}

// The contract's field at a pointer, or "" if none is.
std::string FieldAt(const Contract& contract, const std::string& pointer) {
  for (const Field& field : contract.fields)
    if (field.pointer == pointer) return field.name;
  return "";
}

std::vector<std::string> KeyNames(const StreamShape& shape) {
  std::vector<std::string> names;
  for (const std::string& pointer : shape.key) {
    std::string field = FieldAt(shape.contract, pointer);
    names.push_back(field.empty() ? pointer.substr(1) : field);
  }
  return names;
}

std::string Tuple(const std::vector<std::string>& names) {
  return names.empty() ? "no key" : fmt::format("key ({})", fmt::join(names, ", "));
}

}  // namespace

bool KeyReaches(Connection& connection, const StreamConfig& stream, const PipelineConfig& pipeline,
                const std::vector<std::string>& columns) {
  if (stream.shape.partitions == 1) return true;
  if (stream.shape.key.empty()) return false;
  std::vector<std::string> wanted = LowerAll(columns);
  for (const std::string& pointer : stream.shape.key) {
    std::string field = Lower(FieldAt(stream.shape.contract, pointer));
    if (field.empty() || std::find(wanted.begin(), wanted.end(), field) == wanted.end()) return false;
    for (const FilterConfig& filter : pipeline.filters) {
      if (filter.kind != "sql") return false;
      SqlFault ignored;
      auto query = ParseSelect(connection, filter.sql, &ignored);
      if (!query || !PassesUnchanged(*query, field)) return false;
    }
  }
  return true;
}

bool OnePartitionAKey(Connection& connection, const StreamConfig& stream, const PipelineConfig& pipeline,
                      const std::vector<std::string>& columns) {
  const StreamShape& shape = stream.shape;
  if (shape.partitions == 1) return true;
  if (shape.key.size() != 1) return false;
  for (const Field& field : shape.contract.fields) {
    if (field.pointer != shape.key[0]) continue;
    bool is_text = field.type.kind == Type::Kind::kVarchar || field.type.kind == Type::Kind::kEnum;
    return is_text && !field.default_literal && KeyReaches(connection, stream, pipeline, columns);
  }
  return false;
}

void Checker::CheckSinks(Plan& plan) {
  for (const SinkConfig& sink : plan.pipeline->sinks) {
    if (sink.kind == "table") CheckTable(plan, sink);
    if (sink.kind == "stream") WarnOfChain(plan, sink);
  }
}

bool Checker::CheckColumns(const Plan& plan, const Node& options, const char* option, const std::string& path,
                           const std::vector<std::string>& wanted) {
  const Node& node = OptionNode(options, option);
  bool good = true;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (FindColumn(plan.columns, wanted[i]) != nullptr) continue;
    const Node& at = node.kind == Node::Kind::kSequence && i < node.items.size() ? node.items[i] : node;
    std::vector<std::string> names = NamesOf(plan.columns);
    std::string nearest = Nearest(wanted[i], names);
    std::string hint = nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest);
    hint += fmt::format("the rows have {}", fmt::join(names, ", "));
    faults_.push_back(FaultAt(at, path + "." + option,
                              fmt::format("no column '{}' in the pipeline's rows", wanted[i]), hint));
    good = false;
  }
  return good;
}

bool Checker::BindValues(const Plan& plan, const TableOptions& table, const Node& options,
                         const std::string& path) {
  std::string keys;
  for (const std::string& key : table.key) keys += (keys.empty() ? "" : ", ") + QuoteName(key);
  const Node& values = OptionNode(options, "values");
  SqlNames names{NamesOf(plan.columns), "the pipeline's result", {}};
  size_t faults_before = faults_.size();
  for (const auto& [name, expression] : table.values) {
    const Node* node = values.Find(name);
    std::string value_path = path + ".values." + name;
    if (node == nullptr) continue;
    auto same = [&, lower = Lower(name)](const std::string& key) { return Lower(key) == lower; };
    if (std::any_of(table.key.begin(), table.key.end(), same)) {
      faults_.push_back(FaultAtKey(*node, value_path, fmt::format("the table has two columns '{}'", name),
                                   "give the value a name of its own"));
      continue;
    }
    if (!IsAggregate(name, expression, *node, value_path)) continue;
    constexpr std::string_view kBefore = "SELECT ";
    Step("{}", value_path);
    auto statement =
        connection_->Prepare(fmt::format("{}{} FROM _check GROUP BY {}", kBefore, expression, keys));
    if (statement) continue;
    SqlFault fault = connection_->fault();
    if (fault.position >= 0) fault.position -= static_cast<int>(kBefore.size());
    faults_.push_back(ExplainSql(*node, value_path, fault, names));
  }
  return faults_.size() == faults_before;
}

bool Checker::IsAggregate(const std::string& name, const std::string& expression, const Node& node,
                          const std::string& path) {
  auto aggregate = ParseAggregate(name, expression);
  if (aggregate) return true;
  // "values.NAME: 'avg(x)' is not understood; what to write"
  std::string message = aggregate.error().message();
  if (message.starts_with("values." + name + ": ")) message.erase(0, name.size() + 9);
  size_t split = message.find("; ");
  faults_.push_back(FaultAt(node, path, message.substr(0, split),
                            split == std::string::npos ? "" : message.substr(split + 2)));
  return false;
}

void Checker::CheckTableTexts(const TableOptions& table, const Node& options, const std::string& path) {
  for (const auto& [name, expression] : table.values)
    if (const Node* node = OptionNode(options, "values").Find(name))
      (void)IsAggregate(name, expression, *node, path + ".values." + name);
  if (table.delete_when.text.empty() || table.delete_when.node.line == 0) return;
  for (const SqlFilterFault& found : CheckCondition(*connection_, table.delete_when.text))
    AddSqlFault(table.delete_when.node, path + ".delete_when", found.fault, {}, found.expected, true);
}

bool Checker::BindDeleteWhen(const TableOptions& table, const std::string& path, const SqlNames& names) {
  if (table.delete_when.text.empty() || table.delete_when.node.line == 0) return true;
  Step("{}.delete_when", path);
  const std::vector<SqlFilterFault> faults = BindCondition(table.delete_when.text);
  for (const SqlFilterFault& found : faults)
    faults_.push_back(
        ExplainSql(table.delete_when.node, path + ".delete_when", found.fault, names, found.expected));
  return faults.empty();
}

void Checker::CheckTable(Plan& plan, const SinkConfig& sink) {
  const std::string& path = sink.path;
  Faults ignored;  // the loader has reported them
  TableOptions options = TableOptionsSpec().Parse(sink.options, {path, project_.directory, &ignored});
  if (!plan.bound) {
    Table& table = tables_[options.name];
    table.known = false;
    CheckTableTexts(options, sink.options, path);
    return;
  }
  std::vector<ColumnInfo> columns = plan.columns, all = RowColumns(plan.columns);
  Status made = connection_->Run(fmt::format("CREATE OR REPLACE TABLE _check ({})", ColumnList(all)));
  bool good = made.ok() && CheckColumns(plan, sink.options, "key", path, options.key);
  good = CheckColumns(plan, sink.options, "order_by", path, options.order_by) && good;
  if (good && options.values.empty()) good = BindDeleteWhen(options, path, {NamesOf(all), "a row", {}});
  if (good && !options.values.empty()) good = BindValues(plan, options, sink.options, path);
  if (good) {
    TableSpec spec;
    spec.name = options.name, spec.key = options.key, spec.values = options.values;
    spec.delete_when = options.delete_when.text, spec.order_by = options.order_by;
    std::vector<Aggregate> aggregates;
    auto bound = BindTable(*connection_, spec, plan.columns, &aggregates);
    good = bound.has_value();
    if (good) columns = std::move(*bound);
    if (!good) faults_.push_back(FaultAt(sink.node, path, bound.error().message()));
    WarnOfOrder(plan, options, sink.node, path);
  }
  MergeTable(plan, options, std::move(columns), sink.node, path);
  if (!good) tables_[options.name].known = false;
}

void Checker::MergeTable(const Plan& plan, const TableOptions& options, std::vector<ColumnInfo> columns,
                         const Node& node, const std::string& path) {
  Table& table = tables_[options.name];
  if (table.first == nullptr) {
    table.first = plan.pipeline;
    table.options = options;
    table.columns = std::move(columns);
    return;
  }
  const std::string& other = table.first->name;
  auto differs = [&](const std::string& what) {
    faults_.push_back(FaultAt(node, path, fmt::format("table '{}' {}", options.name, what),
                              "pipelines that write one table agree on its key, values and types"));
  };
  size_t faults_before = faults_.size();
  if (LowerAll(table.options.key) != LowerAll(options.key))
    differs(fmt::format("has {} here and {} in pipeline '{}'", Tuple(options.key), Tuple(table.options.key),
                        other));
  else if (table.options.values != options.values)
    differs(fmt::format("has other values here than in pipeline '{}'", other));
  else if (table.options.delete_when.text != options.delete_when.text)
    differs(fmt::format("has another 'delete_when' here than in pipeline '{}'", other));
  else if (LowerAll(table.options.order_by) != LowerAll(options.order_by))
    differs(fmt::format("has another 'order_by' here than in pipeline '{}'", other));
  if (faults_.size() > faults_before) return;
  for (ColumnInfo& column : columns) {
    const ColumnInfo* known = FindColumn(table.columns, column.name);
    if (known == nullptr) {
      table.columns.push_back(std::move(column));
    } else if (known->type != column.type) {
      differs(fmt::format("has column '{}' as {} here and as {} in pipeline '{}'", column.name, column.type,
                          known->type, other));
    }
  }
}

void Checker::WarnOfOrder(const Plan& plan, const TableOptions& table, const Node& node,
                          const std::string& path) {
  if (table.key.empty() || !table.values.empty() || !table.order_by.empty()) return;
  const StreamConfig& stream = *project_.FindStream(plan.pipeline->stream);
  if (KeyReaches(*connection_, stream, *plan.pipeline, table.key)) return;
  std::string hint =
      stream.shape.key.empty()
          ? fmt::format("give stream '{}' a key that the table's key contains", stream.shape.name)
          : fmt::format("let the table's key contain the stream's ({})",
                        fmt::join(KeyNames(stream.shape), ", "));
  warnings_.push_back(FaultAt(
      node, path,
      fmt::format("rows of one key ({}) may come from several partitions of '{}': the one appended last wins",
                  fmt::join(table.key, ", "), stream.shape.name),
      hint + ", or say with 'order_by' which row is newer"));
}

void Checker::WarnOfChain(const Plan& plan, const SinkConfig& sink) {
  const StreamConfig* from = project_.FindStream(plan.pipeline->stream);
  const StreamConfig* to = project_.FindStream(registry_.sinks().at("stream").target(sink.options));
  if (from == nullptr || to == nullptr || !plan.bound || from->shape.partitions == 1) return;
  std::vector<std::string> key;
  if (const Node* own = sink.options.Find("key")) {
    if (own->IsScalar()) key.push_back(own->scalar);
    for (const Node& item : own->items) key.push_back(item.scalar);
  } else {
    key = KeyNames(to->shape);
  }
  if (key.empty() || KeyReaches(*connection_, *from, *plan.pipeline, key)) return;
  warnings_.push_back(FaultAt(
      sink.node, sink.path,
      fmt::format("events of one key ({}) may come from several partitions of '{}' and lose their order",
                  fmt::join(key, ", "), from->shape.name),
      fmt::format("order holds if the key of '{}' contains that of '{}'", to->shape.name, from->shape.name)));
}

}  // namespace millstream
