// Commands: their SQL bound against the tables that pipelines write, their key against the stream's, and
// which tables a command may decide over (SEMANTICS, "Commands are atomic by key").
#include "base/text.h"
#include "catalog/checker.h"
#include "sql/command_sql.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr const char* kInputTable = "_command";

/// A field whose JSON text is the same wherever the value is.
bool IsPlainKey(const Type& type) {
  return type.kind == Type::Kind::kVarchar || type.kind == Type::Kind::kEnum;
}

}  // namespace

void Checker::AddCommandFault(const CommandConfig& command, const Node& node, const std::string& path,
                              SqlFault fault, size_t prefix) {
  if (fault.position >= 0) fault.position -= static_cast<int>(prefix);
  SqlNames names{{}, "the command", {}};
  for (const Field& field : command.input.contract.fields) names.columns.push_back("$input." + field.name);
  for (const auto& [name, table] : tables_) names.tables.push_back(name);
  AddSqlFault(node, path, fault, names, "", false);
}

void Checker::CheckCommandInput(const CommandConfig& command) {
  std::string path = "commands." + command.name + ".key";
  const Node* node = command.node.Find("key");
  if (node == nullptr) return;
  auto node_of = [&](size_t i) -> const Node& {
    return node->kind == Node::Kind::kSequence && i < node->items.size() ? node->items[i] : *node;
  };
  std::vector<std::string> names;
  for (const Field& field : command.input.contract.fields) names.push_back(field.name);
  for (size_t i = 0; i < command.key.size(); ++i) {
    int found = command.input.contract.Find(command.key[i]);
    if (found < 0) {
      std::string nearest = Nearest(command.key[i], names);
      faults_.push_back(FaultAt(node_of(i), path,
                                fmt::format("no field '{}' in the command's input", command.key[i]),
                                nearest.empty() ? fmt::format("it has {}", fmt::join(names, ", "))
                                                : fmt::format("did you mean '{}'?", nearest)));
      continue;
    }
    const Field& field = command.input.contract.fields[static_cast<size_t>(found)];
    if (!field.not_null || field.default_literal)
      faults_.push_back(FaultAt(node_of(i), path,
                                fmt::format("'{}' may be missing from a command", field.name),
                                "declare it 'not null', without a default: each command has a key"));
    if (!IsPlainKey(field.type))
      faults_.push_back(FaultAt(node_of(i), path, fmt::format("'{}' is {}", field.name, field.type.ToSql()),
                                "a key is varchar or an enum: 10 and 1e1 are one number and two keys"));
  }
  const StreamConfig* stream = project_.FindStream(command.stream);
  if (stream == nullptr) return;
  if (stream->shape.key.size() != command.key.size())
    faults_.push_back(FaultAt(
        *node, path,
        fmt::format("the command's key has {} field{}, that of stream '{}' {}", command.key.size(),
                    command.key.size() == 1 ? "" : "s", command.stream,
                    stream->shape.key.empty() ? "none" : fmt::format("{}", stream->shape.key.size())),
        fmt::format("events of one key of '{}' are what a command waits for: the two keys are the same",
                    command.stream)));
  if (!stream->dedupe_by.empty())
    faults_.push_back(FaultAt(
        command.emit.node, "commands." + command.name + ".emit",
        fmt::format("stream '{}' has 'dedupe', which could drop what a command emits", command.stream),
        "take 'dedupe' off; a command is taken once by its Idempotency-Key"));
}

std::optional<std::string> Checker::BindCommand(const CommandConfig& command, const CommandRule& sql,
                                                const std::string& path) {
  SqlFault fault;
  auto bound = BindInput(*connection_, sql.sql, &fault);
  if (!bound) {
    AddCommandFault(command, sql.node, path, fault, 0);
    return std::nullopt;
  }
  if (!CheckCommandTables(command, *bound, sql.node, path)) return std::nullopt;
  return std::move(*bound);
}

bool Checker::CheckCommandTables(const CommandConfig& command, const std::string& bound, const Node& node,
                                 const std::string& path) {
  SqlFault fault;
  auto tables = TablesOfCommand(*connection_, bound, &fault);
  if (!tables) {
    AddCommandFault(command, node, path, fault, 0);
    return false;
  }
  bool known = true;
  for (const std::string& table : *tables) {
    std::vector<const PipelineConfig*> writers;
    for (const auto& [name, plan] : plans_)
      if (plan.tables.contains(table)) writers.push_back(plan.pipeline);
    if (writers.empty()) continue;  // binding says that there is none
    auto found = tables_.find(table);
    known = known && found != tables_.end() && found->second.known;
    MakeTable(table);
    if (command.eventual) continue;
    auto refuse = [&](const std::string& why) {
      faults_.push_back(
          FaultAt(node, path, fmt::format("table '{}' {}", table, why),
                  "a command sees every earlier event of its key only in tables that one pipeline "
                  "without 'exec' feeds from the stream that it emits into; with 'consistency: "
                  "eventual' it reads tables as they are"));
    };
    if (writers.size() > 1)
      refuse(fmt::format("is written by {} pipelines", writers.size()));
    else if (writers[0]->stream != command.stream)
      refuse(fmt::format("is fed by stream '{}', the command emits into '{}'", writers[0]->stream,
                         command.stream));
    else if (std::any_of(writers[0]->filters.begin(), writers[0]->filters.end(),
                         [](const FilterConfig& filter) { return filter.kind != "sql"; }))
      refuse(fmt::format("is fed through a filter of pipeline '{}' that is not SQL", writers[0]->name));
  }
  return known;
}

void Checker::CheckEmitted(const CommandConfig& command, const std::vector<ColumnInfo>& columns,
                           const std::string& path) {
  const StreamConfig* stream = project_.FindStream(command.stream);
  if (stream == nullptr) return;
  for (const std::string& pointer : stream->shape.key) {
    std::string top = pointer.substr(1, pointer.find('/', 1) - 1);
    if (FindColumn(columns, top) != nullptr) continue;
    faults_.push_back(
        FaultAt(command.emit.node, path,
                fmt::format("no column '{}', which the key of stream '{}' is made of", top, command.stream),
                fmt::format("the events have {}", fmt::join(NamesOf(columns), ", "))));
  }
  std::set<std::string> names;
  for (const ColumnInfo& column : columns) {
    std::string name = Lower(column.name);
    if (!names.insert(name).second)
      faults_.push_back(FaultAt(command.emit.node, path, fmt::format("two columns '{}'", column.name),
                                "an event has one value of a name"));
  }
}

void Checker::CheckCommandTexts(const CommandConfig& command) {
  auto check = [&](const CommandRule& text, const std::string& path) {
    SqlFault fault;
    if (!text.sql.empty() && !BindInput(*connection_, text.sql, &fault))
      AddCommandFault(command, text.node, path, fault, 0);
  };
  for (const CommandRule& rule : command.rules)
    check(rule, fmt::format("commands.{}.require.{}", command.name, rule.message));
  check(command.emit, fmt::format("commands.{}.emit.{}", command.name, command.stream));
}

void Checker::CheckCommand(const CommandConfig& command) {
  if (command.doubtful) return CheckCommandTexts(command);
  CheckCommandInput(command);
  std::vector<ColumnInfo> fields;
  for (const Field& field : command.input.contract.fields) fields.push_back({field.name, field.type.ToSql()});
  std::vector<ColumnInfo> columns = fields;
  columns.push_back({"_offset", "BIGINT"});
  Status made =
      connection_->Run(fmt::format("CREATE OR REPLACE TABLE {} ({})", kInputTable, ColumnList(columns)));
  if (!made.ok()) return;
  std::string path = "commands." + command.name;
  const Node* input = command.node.Find("input");
  CheckFieldChecks(command.input.contract, *input, path + ".input", false);
  for (const CommandRule& rule : command.rules) {
    std::string rule_path = fmt::format("{}.require.{}", path, rule.message);
    Step("{}", rule_path);
    auto bound = BindCommand(command, rule, rule_path);
    if (!bound) continue;
    if (!connection_->Prepare(RequireSql(kInputTable, {ExistsSql(*bound)})))
      AddCommandFault(command, rule.node, rule_path, connection_->fault(), RequirePrefix());
  }
  std::string emit_path = fmt::format("{}.emit.{}", path, command.stream);
  Step("{}", emit_path);
  auto bound = BindCommand(command, command.emit, emit_path);
  if (!bound) return;
  auto statement = connection_->Prepare(EmitSql(kInputTable, *bound));
  if (!statement)
    return AddCommandFault(command, command.emit.node, emit_path, connection_->fault(),
                           EmitPrefix(kInputTable));
  std::vector<ColumnInfo> emitted = (*statement)->columns();
  emitted.erase(emitted.begin());  // _offset
  CheckEmitted(command, emitted, emit_path);
}

}  // namespace millstream
