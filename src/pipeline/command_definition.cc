#include "pipeline/command_definition.h"

#include <set>

#include "event/json_scan.h"
#include "sql/command_sql.h"

namespace millstream {
namespace {

constexpr size_t kMostReaders = 16;

}  // namespace

CommandRefusal CommandDefinition::AtFault(const Rejection& rejection) {
  const std::string& path = rejection.path;
  CommandRefusal refusal{
      Invalid("{}{}{}", path, path.empty() ? "" : ": ", rejection.message), "", {}, {}, {}};
  auto tell = [&](const Rejection& each) {
    Fault& fault = refusal.faults.emplace_back();
    fault.path = each.path, fault.message = each.message;
  };
  tell(rejection);
  for (const Rejection& another : rejection.others) tell(another);
  return refusal;
}

Result<std::shared_ptr<CommandDefinition>> CommandDefinition::Make(Database& database,
                                                                   const CommandConfig& config) {
  auto command = std::shared_ptr<CommandDefinition>(new CommandDefinition(config));
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, database.Connect());
  std::set<std::string> tables;
  auto bind = [&](const std::string& sql) -> Result<std::string> {
    ASSIGN_OR_FAIL(std::string bound, BindInput(*connection, sql, nullptr));
    ASSIGN_OR_FAIL(std::vector<std::string> read, TablesOfCommand(*connection, bound, nullptr));
    if (!config.eventual) tables.insert(read.begin(), read.end());
    return bound;
  };
  for (const CommandRule& rule : config.rules) {
    ASSIGN_OR_FAIL(std::string bound, bind(rule.sql));
    command->rules_.push_back(std::move(bound));
  }
  ASSIGN_OR_FAIL(command->emit_, bind(config.emit.sql));
  command->tables_.assign(tables.begin(), tables.end());
  return command;
}

Result<std::string> CommandDefinition::Read(Assembler& reader, std::string_view body,
                                            CommandRefusal& refusal) {
  if (auto rejection = reader.Add({}, body)) {
    refusal = AtFault(*rejection);
    return Fail(refusal.status);
  }
  EncodedBatch encoded = reader.Finish(0, {});
  BatchPlace place;
  place.count = 1;
  ASSIGN_OR_FAIL(auto batch, EventBatch::Open(place, encoded.codec, std::move(encoded.payload)));
  ASSIGN_OR_FAIL(const Column* key, batch->AttributeColumn(Attribute::kKey));
  return key->IsNull(0) ? std::string() : std::string(key->String(0));
}

tl::expected<CommandDefinition::Parsed, CommandRefusal> CommandDefinition::Parse(std::string_view body) {
  std::unique_ptr<Assembler> reader;
  {
    std::lock_guard lock(mutex_);
    if (!readers_.empty()) {
      reader = std::move(readers_.back());
      readers_.pop_back();
    }
  }
  if (!reader) reader = std::make_unique<Assembler>(config_.input);
  CommandRefusal refusal;
  auto key = Read(*reader, body, refusal);
  {
    std::lock_guard lock(mutex_);
    if (readers_.size() < kMostReaders) readers_.push_back(std::move(reader));
  }
  if (!key) {
    refusal.status = key.error();
    return tl::unexpected(std::move(refusal));
  }
  Parsed parsed;
  parsed.data.reserve(body.size() + kJsonPadding);
  parsed.data.assign(body);
  parsed.key = std::move(*key);
  return parsed;
}

}  // namespace millstream
