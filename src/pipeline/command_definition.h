// CommandDefinition: one of `commands:`, made once and shared by requests; reads and checks their JSON.
//
// Place: floor 5; owned by the Engine, held by what is on its way. Threads: thread-safe. Failure: a request
// that has not the fields of `input` is refused (422); its checks are the CommandRunner's, many in one run.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/project.h"
#include "pipeline/command.h"
#include "pipeline/contract_checks.h"
#include "sql/database.h"

namespace millstream {

class CommandDefinition {
 public:
  static Result<std::shared_ptr<CommandDefinition>> Make(Database& database, const CommandConfig& config);

  struct Parsed {
    std::string data;  // with what must be readable after it
    std::string key;   // as the stream's events have it
  };
  tl::expected<Parsed, CommandRefusal> Parse(std::string_view body);
  /// That a request is not what `input` says.
  static CommandRefusal AtFault(const Rejection& rejection);

  const CommandConfig& config() const { return config_; }
  /// As our statements have them (sql/command_sql.h).
  const std::vector<std::string>& rules() const { return rules_; }
  const std::string& emit() const { return emit_; }
  /// That must hold every earlier event of the key.
  const std::vector<std::string>& tables() const { return tables_; }

 private:
  explicit CommandDefinition(const CommandConfig& config) : config_(config) {}
  Result<std::string> Read(Assembler& reader, std::string_view body, CommandRefusal& refusal);

  const CommandConfig config_;
  std::vector<std::string> rules_;
  std::string emit_;
  std::vector<std::string> tables_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Assembler>> readers_;  // a pool, for several requests are read at once
};

}  // namespace millstream
