#include "pipeline/command_program.h"

#include <algorithm>

#include "base/text.h"
#include "event/json_scan.h"
#include "sql/chunk_builder.h"
#include "sql/command_sql.h"
#include "sql/query_rewriter.h"
#include "sql/row_buffer.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr int kTries = 5;  // a fold may take away the part of a table that a statement was made for

}  // namespace

Envelope EmittedEvent::envelope() const {
  Envelope envelope;
  if (id) envelope.id = *id;
  if (source) envelope.source = *source;
  if (type) envelope.type = *type;
  if (subject) envelope.subject = *subject;
  envelope.time_us = time_us;
  return envelope;
}

Result<std::unique_ptr<CommandProgram>> CommandProgram::Make(
    Database& database, TableStore& tables, Watchdog& watchdog,
    std::shared_ptr<const CommandDefinition> command) {
  auto program = std::unique_ptr<CommandProgram>(new CommandProgram(std::move(command)));
  const CommandConfig& config = program->command_->config();
  program->database_ = &database;
  std::vector<std::string_view> texts(program->command_->rules().begin(), program->command_->rules().end());
  texts.push_back(program->command_->emit());
  ASSIGN_OR_FAIL(program->connection_, database.ConnectBounded(texts));
  ASSIGN_OR_FAIL(program->scan_,
                 BatchScan::Make(database, config.name, config.input.contract, {"", config.name}));
  if (ContractChecks::Needed(config.input.contract)) {
    ASSIGN_OR_FAIL(program->checks_,
                   ContractChecks::Make(database, watchdog, config.name, config.input.contract));
  }
  program->tables_ = &tables;
  program->require_.texts = program->command_->rules();
  program->emit_.texts = {program->command_->emit()};
  program->FindHashes(program->require_);
  program->FindHashes(program->emit_);
  return program;
}

/// Where every text that reads the table reads it by its whole key, and fields have the columns' types, so
/// that hashes are equal where values are.
void CommandProgram::FindHashes(Prepared& prepared) {
  const Contract& contract = command_->config().input.contract;
  std::map<std::string, std::vector<std::string>> found;  // a SELECT for each text
  std::map<std::string, size_t> reading;                  // how many texts name it
  for (const std::string& text : prepared.texts) {
    auto& key_fields = prepared.key_fields.emplace_back();
    for (const std::string& table :
         TablesOfCommand(*connection_, text, nullptr).value_or(std::vector<std::string>()))
      ++reading[table];
    for (const KeyedRead& read : FindKeyedReads(*connection_, text)) {
      std::optional<TableInfo> table = tables_->Find(read.table);
      if (!table || table->spec.key.empty()) continue;
      std::string values;
      std::map<std::string, std::string> fields;
      for (const std::string& key : table->spec.key) {
        auto column = std::find_if(table->columns.begin(), table->columns.end(),
                                   [&](const ColumnInfo& each) { return Lower(each.name) == Lower(key); });
        auto field = read.fields.find(Lower(key));
        int index = field == read.fields.end() ? -1 : contract.Find(field->second);
        if (index < 0 || column == table->columns.end() ||
            contract.fields[static_cast<size_t>(index)].type.ToSql() != column->type) {
          values.clear();
          break;
        }
        const std::string& name = contract.fields[static_cast<size_t>(index)].name;
        values += fmt::format("{}_keys.\"{}\"", values.empty() ? "" : ", ", name);
        fields[Lower(key)] = name;
      }
      if (values.empty()) continue;
      found[read.table].push_back(fmt::format("SELECT hash({}) FROM {} AS _keys", values, scan_->Sql()));
      key_fields[read.table] = std::move(fields);
    }
  }
  for (auto& [table, selects] : found)
    if (selects.size() == reading[table]) {
      prepared.hashes[table] = fmt::format("{}", fmt::join(selects, " UNION ALL "));
      prepared.keys[table] = KeySet::Make(*database_);
    }
}

Status CommandProgram::ReadHashes(Prepared& prepared) {
  for (const auto& [table, select] : prepared.hashes) {
    std::unique_ptr<Statement>& statement = prepared.hash_statements[table];
    if (!statement) {
      ASSIGN_OR_RETURN(statement, connection_->Prepare(select));
    }
    ASSIGN_OR_RETURN(Rows rows, statement->Execute());
    std::vector<uint64_t> hashes;
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
      if (!chunk) break;
      for (uint32_t row = 0; row < chunk->rows(); ++row)
        hashes.push_back(static_cast<uint64_t>(chunk->Int64(0, row)));
    }
    prepared.keys[table]->Set(hashes);
  }
  return OkStatus();
}

std::optional<std::string> CommandProgram::JoinedSql(const Prepared& prepared,
                                                     const std::map<std::string, std::string>& replacements) {
  RowJoins joins;
  std::vector<std::string> conditions;
  for (size_t i = 0; i < prepared.texts.size(); ++i) {
    std::map<std::string, KeyedRows> rows;
    for (const auto& [table, key] : prepared.key_fields[i]) {
      auto replacement = replacements.find(table);
      std::optional<TableInfo> info = tables_->Find(table);
      if (replacement == replacements.end() || !info) continue;
      KeyedRows& of_table = rows[table];
      of_table.sql = replacement->second, of_table.key = key;
      for (const ColumnInfo& column : info->columns) of_table.columns.push_back(Lower(column.name));
    }
    auto condition = joins.ConditionSql(*connection_, prepared.texts[i], rows);
    if (!condition) return std::nullopt;
    conditions.push_back(std::move(*condition));
  }
  return RequireSql(scan_->Sql(), conditions, joins.sql());
}

/// Made once for a table's parts: a fold brings others. `switches`: what they are to be compared with.
Status CommandProgram::Prepare(Prepared& prepared, bool is_require,
                               std::vector<std::pair<std::string, uint64_t>>& switches) {
  std::map<std::string, std::string> replacements;
  std::string made_of;
  switches.clear();
  for (const auto& [table, hashes] : prepared.hashes) {
    auto rows = tables_->RowsOfKeys(table, *prepared.keys[table], hashes);
    if (!rows) continue;
    switches.emplace_back(table, rows->switches);
    made_of += rows->sql;
    replacements.emplace(table, std::move(rows->sql));
  }
  if (prepared.statement && prepared.made_of == made_of) return OkStatus();
  prepared.statement.reset();
  std::optional<std::string> sql = is_require ? JoinedSql(prepared, replacements) : std::nullopt;
  if (!sql) {
    std::vector<std::string> texts;
    for (const std::string& text : prepared.texts) {
      ASSIGN_OR_RETURN(RewrittenQuery rewritten, RewriteTables(*connection_, text, replacements, nullptr));
      texts.push_back(is_require ? ConditionSql(*connection_, rewritten.sql) : std::move(rewritten.sql));
    }
    sql = is_require ? RequireSql(scan_->Sql(), texts) : FlatEmitSql(*connection_, scan_->Sql(), texts[0]);
  }
  ASSIGN_OR_RETURN(prepared.statement, connection_->Prepare(*sql));
  prepared.made_of = std::move(made_of);
  return OkStatus();
}

Status CommandProgram::Execute(Prepared& prepared, bool is_require,
                               const std::function<Status(Rows&)>& take) {
  std::vector<std::pair<std::string, uint64_t>> switches;
  RETURN_IF_ERROR(ReadHashes(prepared));
  for (int tries = 1;; ++tries) {
    Status status = Prepare(prepared, is_require, switches);
    std::string fault = connection_->fault().kind;
    if (status.ok()) {
      ScanHold hold(*database_, *connection_);  // every reference to a table sees the same rows
      Result<Rows> rows = prepared.statement->Execute();
      fault = prepared.statement->fault().kind;
      status = rows ? take(*rows) : rows.error();
    }
    bool is_same = std::none_of(switches.begin(), switches.end(), [&](const auto& each) {
      return tables_->IsSwitched(each.first, each.second);
    });
    if (!status.ok()) prepared.statement.reset();
    if (is_same && (status.ok() || fault != "Catalog Error")) return status;
    if (tries >= kTries)
      return status.ok() ? Unavailable("the tables changed again and again; send the command again") : status;
  }
}

Result<std::vector<ContractChecks::Violation>> CommandProgram::Check(EventBatch& requests,
                                                                     int64_t deadline_us) {
  if (!checks_) return std::vector<ContractChecks::Violation>();
  return checks_->Run(requests, deadline_us);
}

Result<std::vector<int>> CommandProgram::Refusals(EventBatch& requests) {
  std::vector<int> refused(requests.count(), -1);
  if (command_->rules().empty()) return refused;
  BatchRange all{&requests, 0, requests.count()};
  scan_->Set(std::span(&all, 1));
  Status status = Execute(require_, true, [&](Rows& rows) -> Status {
    refused.assign(requests.count(), -1);
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
      if (!chunk) return OkStatus();
      for (uint32_t row = 0; row < chunk->rows(); ++row)
        if (!chunk->IsNull(1, row))
          refused[static_cast<size_t>(chunk->Int64(0, row))] =
              static_cast<const int32_t*>(chunk->data(1))[row];
    }
  });
  if (!status.ok()) return Fail(std::move(status));
  return refused;
}

void CommandProgram::SetColumns(const std::vector<ColumnInfo>& columns) {
  if (columns == columns_) return;
  columns_ = columns;
  id_ = source_ = type_ = subject_ = time_ = -1;
  std::vector<uint32_t> data;
  for (uint32_t i = 1; i < columns.size(); ++i) {  // after _offset
    const std::string& name = columns[i].name;
    int* envelope = name == "ce_id"        ? &id_
                    : name == "ce_source"  ? &source_
                    : name == "ce_type"    ? &type_
                    : name == "ce_subject" ? &subject_
                    : name == "ce_time"    ? &time_
                                           : nullptr;
    if (envelope != nullptr)
      *envelope = static_cast<int>(i);
    else
      data.push_back(i);
  }
  text_.SetColumns(columns, std::move(data));
}

Status CommandProgram::Read(const JsonWriter& writer, const Chunk& chunk, uint32_t row,
                            EmittedEvent& event) const {
  event.row = static_cast<uint32_t>(chunk.Int64(0, row));
  text_.AppendRow(event.data, writer, chunk, row);
  event.data.reserve(event.data.size() + kJsonPadding);
  auto text = [&](int column, std::optional<std::string>& to) {
    if (column < 0 || chunk.IsNull(static_cast<uint32_t>(column), row)) return;
    writer.AppendText(to.emplace(), chunk, static_cast<uint32_t>(column), row);
  };
  text(id_, event.id), text(source_, event.source), text(type_, event.type), text(subject_, event.subject);
  if (!event.source) event.source = "/v1/commands/" + command_->config().name;
  std::optional<std::string> time;
  text(time_, time);
  if (!time) return OkStatus();
  ASSIGN_OR_RETURN(event.time_us, ParseTimeUs(*time));
  return OkStatus();
}

Result<std::vector<EmittedEvent>> CommandProgram::Emit(EventBatch& requests,
                                                       const std::vector<uint32_t>& rows_asked) {
  std::vector<BatchRange> ranges;
  for (uint32_t row : rows_asked) {
    if (!ranges.empty() && ranges.back().end == row)
      ++ranges.back().end;
    else
      ranges.push_back({&requests, row, row + 1});
  }
  scan_->Set(ranges);
  std::vector<EmittedEvent> events;
  Status status = Execute(emit_, false, [&](Rows& rows) -> Status {
    events.clear();
    SetColumns(rows.columns());
    JsonWriter writer = rows.MakeJsonWriter();
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
      if (!chunk) return OkStatus();
      for (uint32_t row = 0; row < chunk->rows(); ++row)
        RETURN_IF_ERROR(Read(writer, *chunk, row, events.emplace_back()));
    }
  });
  if (!status.ok()) return Fail(std::move(status));
  std::stable_sort(events.begin(), events.end(),
                   [](const EmittedEvent& a, const EmittedEvent& b) { return a.row < b.row; });
  return events;
}

}  // namespace millstream
