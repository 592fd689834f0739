// CheckProject: contracts and filters bound in a database without data.
#include "base/text.h"
#include "catalog/checker.h"
#include "catalog/loader.h"
#include "catalog/trial.h"

namespace millstream {
namespace {

constexpr uint64_t kMemoryBytes = 256ull << 20;
constexpr const char* kTimestamptz = "TIMESTAMP WITH TIME ZONE";

// Complaints that hold whatever type a doubtful field has.
bool HoldsWithoutTypes(const SqlFault& fault) {
  for (const char* part : {"no column '", "Referenced column \"", "Table with name ", "Function with name "})
    if (fault.message.find(part) != std::string::npos) return true;
  return fault.kind == "Parser Error" || fault.kind == kNotAllowed;
}

bool Names(const Node& node, const std::string& name) {
  auto is_name = [&](const Node& each) { return Names(each, name); };
  if (node.IsScalar()) return node.scalar == name;
  return std::any_of(node.items.begin(), node.items.end(), is_name) ||
         std::any_of(node.members.begin(), node.members.end(),
                     [&](const auto& member) { return is_name(member.second); });
}

std::vector<ColumnInfo> InputColumns(const Contract& contract) {
  std::vector<ColumnInfo> columns;
  for (const Field& field : contract.fields) columns.push_back({field.name, field.type.ToSql()});
  return columns;
}

// Declared types as DuckDB writes them.
std::vector<ColumnInfo> Normal(std::vector<ColumnInfo> columns) {
  for (ColumnInfo& column : columns)
    if (auto type = ParseType(column.type)) column.type = type->ToSql();
  return columns;
}

}  // namespace

std::string QuoteName(const std::string& name) {
  std::string quoted = "\"";
  for (char c : name) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

std::string ColumnList(const std::vector<ColumnInfo>& columns) {
  std::string list;
  for (const ColumnInfo& column : columns)
    list += fmt::format("{}{} {}", list.empty() ? "" : ", ", QuoteName(column.name), column.type);
  return list;
}

std::vector<ColumnInfo> ReservedColumns() {
  std::vector<ColumnInfo> columns;
  for (const char* name : kReservedColumns) {
    std::string_view view = name;
    const char* type = view == "data"                                ? "JSON"
                       : view == "ce_time" || view == "_ingested_at" ? kTimestamptz
                       : view == "_offset"                           ? "BIGINT"
                       : view == "_partition" || view == "_ordinal"  ? "INTEGER"
                                                                     : "VARCHAR";
    columns.push_back({name, type});
  }
  return columns;
}

const ColumnInfo* FindColumn(const std::vector<ColumnInfo>& columns, const std::string& name) {
  auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
  for (const ColumnInfo& column : columns)
    if (std::equal(column.name.begin(), column.name.end(), name.begin(), name.end(), same)) return &column;
  return nullptr;
}

std::vector<std::string> NamesOf(const std::vector<ColumnInfo>& columns) {
  std::vector<std::string> names;
  for (const ColumnInfo& column : columns) names.push_back(column.name);
  return names;
}

void Checker::AddSqlFault(const Node& sql, const std::string& path, const SqlFault& fault,
                          const SqlNames& names, const std::string& expected, bool doubtful) {
  if (doubtful && !HoldsWithoutTypes(fault)) return;
  faults_.push_back(ExplainSql(sql, path, fault, names, expected));
  // A sink that is at fault may be the one that makes the table.
  std::string_view said = faults_.back().message;
  if (!project_.sound && said.starts_with("no table '") &&
      MayBeMade(std::string(said.substr(10, said.size() - 11))))
    faults_.pop_back();
}

bool Checker::MayBeMade(const std::string& table) const {
  if (!project_.unread.empty()) return true;
  const Node* pipelines = project_.root.Find("pipelines");
  if (pipelines == nullptr || pipelines->kind != Node::Kind::kMap) return pipelines != nullptr;
  return std::any_of(pipelines->members.begin(), pipelines->members.end(), [&](const auto& pipeline) {
    const Node* to = pipeline.second.Find("to");
    return to != nullptr && Names(*to, table);
  });
}

void Checker::CheckContract(const StreamConfig& stream) {
  const Node* contract = stream.node.Find("contract");
  if (contract == nullptr) return;
  CheckFieldChecks(stream.shape.contract, *contract, fmt::format("streams.{}.contract", stream.shape.name),
                   stream.doubtful);
}

void Checker::CheckFieldChecks(const Contract& contract, const Node& nodes, const std::string& path,
                               bool doubtful) {
  std::vector<ColumnInfo> columns = InputColumns(contract);
  SqlNames names{NamesOf(columns), "the contract", {}};
  Status made = connection_->Run(fmt::format("CREATE OR REPLACE TABLE _check ({})", ColumnList(columns)));
  for (const Field& field : contract.fields) {
    if (field.check.empty() || !made.ok()) continue;
    Step("{}.{}", path, field.name);
    const Node* node = nodes.Find(field.name);
    const Node* type = node != nullptr && node->kind == Node::Kind::kMap ? node->Find("type") : node;
    if (type == nullptr) continue;
    // Positions count in the check's text; the user's text holds it after the type.
    size_t at = type->scalar.find(field.check);
    for (SqlFilterFault& found : BindCondition(field.check)) {
      if (found.fault.position >= 0)
        found.fault.position = at == std::string::npos ? -1 : found.fault.position + static_cast<int>(at);
      AddSqlFault(*type, fmt::format("{}.{}", path, field.name), found.fault, names, found.expected,
                  doubtful);
    }
  }
}

std::vector<SqlFilterFault> Checker::BindCondition(const std::string& condition) {
  std::vector<SqlFilterFault> faults = CheckCondition(*connection_, condition);
  constexpr std::string_view kBefore = "SELECT (";
  if (!faults.empty() || connection_->Prepare(fmt::format("{}{})::BOOLEAN FROM _check", kBefore, condition)))
    return faults;
  SqlFault fault = connection_->fault();
  if (fault.position >= 0) fault.position -= static_cast<int>(kBefore.size());
  return {{-1, std::move(fault), ""}};
}

void Checker::WarnOfFlags(const FilterConfig& filter, const std::string& path, const FilterFlags& flags) {
  if (!flags.is_volatile) return;
  std::string functions = fmt::format("{}()", fmt::join(flags.volatile_functions, "(), "));
  warnings_.push_back(
      FaultAt(filter.node, path, fmt::format("{} gives other values when events are replayed", functions),
              "use ce_time, _ingested_at, or hash(ce_id) for chance, which a replay repeats"));
}

void Checker::WarnOfRefusals(const SourceConfig& source) {
  const StreamConfig* stream = project_.FindStream(source.stream);
  if (stream == nullptr || !stream->reject) return;
  const Node* to = source.node.Find("to");
  warnings_.push_back(FaultAt(
      to == nullptr ? source.node : *to, fmt::format("sources.{}.to", source.name),
      fmt::format("stream '{}' has 'on_violation: reject', and a source has nobody to refuse", source.stream),
      "what breaks the contract becomes a dead letter: `millstream dead list` shows it"));
}

void Checker::MakeTables(const Plan& plan) {
  for (const auto& reads : plan.reads)
    for (const std::string& name : reads) MakeTable(name);
}

void Checker::MakeTable(const std::string& name) {
  auto table = tables_.find(name);
  if (table == tables_.end() || table->second.made || !table->second.known) return;
  std::vector<ColumnInfo> columns = table->second.columns;
  if (table->second.options.values.empty())
    columns.push_back({"_partition", "INTEGER"}), columns.push_back({"_offset", "BIGINT"});
  Status status = connection_->Run(fmt::format("CREATE TABLE {} ({})", QuoteName(name), ColumnList(columns)));
  table->second.made = status.ok();
  table->second.known = status.ok();
}

// Filters [begin, end) are all SQL. False if one is at fault.
bool Checker::BindChain(Plan& plan, size_t begin, size_t end, const StreamConfig& stream) {
  ChainInput input;
  input.stream = stream.shape.name;
  input.defaults = {"", stream.shape.name};
  SqlNames names;
  if (begin == 0) {
    input.contract = stream.shape.contract;
    names.columns = NamesOf(InputColumns(stream.shape.contract));
    if (names.columns.empty()) names.columns = NamesOf(ReservedColumns());
  } else {
    input.rows = plan.columns;
    names.columns = NamesOf(plan.columns);
    for (ColumnInfo& column : ReservedColumns())
      if (FindColumn(input.rows, column.name) == nullptr) input.rows.push_back(std::move(column));
  }
  for (const auto& [name, other] : plans_)
    names.tables.insert(names.tables.end(), other.tables.begin(), other.tables.end());
  std::vector<SqlFilter> filters;
  for (size_t i = begin; i < end; ++i)
    filters.push_back({plan.pipeline->filters[i].name, plan.pipeline->filters[i].sql});
  auto path_of = [&](const FilterConfig& filter) {
    return fmt::format("pipelines.{}.filters.{}", plan.pipeline->name, filter.name);
  };
  ChainDescription description = DescribeChain(*database_, input, filters, [&](size_t index) {
    Step("{}", path_of(plan.pipeline->filters[begin + index]));
  });
  for (const SqlFilterFault& fault : description.faults) {
    size_t index = begin + static_cast<size_t>(std::max(fault.filter, 0));
    if (index >= end) index = end - 1;
    const FilterConfig& filter = plan.pipeline->filters[index];
    SqlNames here = names;
    size_t before = index - begin;
    if (before > 0 && before - 1 < description.after.size())
      here.columns = NamesOf(description.after[before - 1]);
    AddSqlFault(filter.node, path_of(filter), fault.fault, here, fault.expected, stream.doubtful);
  }
  for (size_t i = 0; i < description.flags.size() && begin + i < end; ++i)
    WarnOfFlags(plan.pipeline->filters[begin + i], path_of(plan.pipeline->filters[begin + i]),
                description.flags[i]);
  plan.columns = description.columns;
  plan.looked_at = end;
  return description.faults.empty();
}

void Checker::CheckTexts(const Plan& plan) {
  for (size_t i = plan.looked_at; i < plan.pipeline->filters.size(); ++i) {
    const FilterConfig& filter = plan.pipeline->filters[i];
    if (filter.kind != "sql") continue;
    const std::string path = fmt::format("pipelines.{}.filters.{}", plan.pipeline->name, filter.name);
    for (const SqlFilterFault& found : CheckFilter(*connection_, filter.sql))
      AddSqlFault(filter.node, path, found.fault, {}, found.expected, true);
  }
}

bool Checker::ReadsUnknown(const Plan& plan, size_t filter) const {
  return std::any_of(plan.reads[filter].begin(), plan.reads[filter].end(), [&](const std::string& name) {
    auto table = tables_.find(name);
    return plan.tables.contains(name) || (table != tables_.end() && !table->second.known);
  });
}

bool Checker::FaultMissingOutput(const Plan& plan, size_t index) {
  const std::vector<FilterConfig>& filters = plan.pipeline->filters;
  const FilterConfig& filter = filters[index];
  std::string reader;
  if (index + 1 < filters.size()) {
    if (filters[index + 1].kind == "sql") reader = "filter '" + filters[index + 1].name + "'";
  } else if (!plan.tables.empty()) {
    reader = "table '" + *plan.tables.begin() + "'";
  }
  if (reader.empty()) return true;
  faults_.push_back(FaultAt(filter.node,
                            fmt::format("pipelines.{}.filters.{}", plan.pipeline->name, filter.name),
                            fmt::format("{} needs to know the columns of the replies", reader),
                            "'output' with a type for each, e.g. output: {id: varchar, score: double}"));
  return false;
}

void Checker::BindPipeline(Plan& plan) {
  const StreamConfig* stream = project_.FindStream(plan.pipeline->stream);
  if (stream == nullptr) return;
  MakeTables(plan);
  const std::vector<FilterConfig>& filters = plan.pipeline->filters;
  size_t i = 0;
  do {
    size_t end = i;
    while (end < filters.size() && filters[end].kind == "sql" && !ReadsUnknown(plan, end)) ++end;
    if ((end > i || filters.empty()) && !BindChain(plan, i, end, *stream)) return;
    if (end == filters.size()) break;
    if (filters[end].kind.empty() || filters[end].kind == "sql") return;
    const FilterKind& kind = registry_.filters().at(filters[end].kind);
    if (kind.output) {
      plan.columns = Normal(kind.output(filters[end].options));
      if (plan.columns.empty() && !FaultMissingOutput(plan, end)) return;
      if (plan.columns.empty()) plan.columns = {{"data", "JSON"}};
    } else if (end == 0 && !BindChain(plan, 0, 0, *stream)) {
      return;  // its result has the columns of its input
    }
    i = end + 1;
  } while (i < filters.size());
  plan.bound = !stream->doubtful;
}

Status Checker::Check() {
  DatabaseOptions options;
  options.memory_bytes = kMemoryBytes;
  ASSIGN_OR_RETURN(database_, Database::Open("", options));
  ASSIGN_OR_RETURN(connection_, database_->Connect());
  for (const auto& [name, stream] : project_.streams) CheckContract(stream);
  for (const auto& [name, source] : project_.sources) WarnOfRefusals(source);
  MakePlans();
  for (const auto& [name, plan] : plans_) FaultOwnTables(plan);
  for (const std::string& name : Order()) {
    Plan& plan = plans_.at(name);
    BindPipeline(plan);
    CheckSinks(plan);
  }
  for (const auto& [name, plan] : plans_) CheckTexts(plan);
  for (const auto& [name, command] : project_.commands) CheckCommand(command);
  SortFaults(faults_, 0);
  SortFaults(warnings_, 0);
  return OkStatus();
}

void CheckProject(const Project& project, const Registry& registry, Faults& faults, Faults& warnings,
                  const CheckOptions& options) {
  if (options.workers != nullptr && !TryProject(project, *options.workers, faults)) return;
  Status status = Checker(project, registry, faults, warnings, options.step).Check();
  if (status.ok()) return;
  Fault fault;
  fault.message = "SQL could not be checked: " + status.ToString();
  faults.push_back(std::move(fault));
}

}  // namespace millstream
