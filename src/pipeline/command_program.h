// CommandProgram: one command's SQL, prepared: decides many requests in one run.
//
// Place: floor 5; made and used by a CommandRunner's thread. Failure: kInvalid for a data error of one of the
// requests (the caller runs them one by one to tell which); kDeadline when interrupted; others as DuckDB
// says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/command_definition.h"
#include "sql/key_set.h"
#include "sql/scan.h"
#include "stage/row_text.h"
#include "tables/table_store.h"

namespace millstream {

/// One event that a command gives; texts that hold until the program runs again.
struct EmittedEvent {
  uint32_t row = 0;  // of the request
  std::string data;  // with what must be readable after it
  std::optional<std::string> id, source, type, subject;
  std::optional<int64_t> time_us;
  Envelope envelope() const;
};

class CommandProgram {
 public:
  static Result<std::unique_ptr<CommandProgram>> Make(Database& database, TableStore& tables,
                                                      Watchdog& watchdog,
                                                      std::shared_ptr<const CommandDefinition> command);

  /// Requests that are not what `input` says.
  Result<std::vector<ContractChecks::Violation>> Check(EventBatch& requests, int64_t deadline_us);
  /// Of each request the number of the rule that refuses it, or -1.
  Result<std::vector<int>> Refusals(EventBatch& requests);
  /// What the requests in `rows` (ascending) give, in their order.
  Result<std::vector<EmittedEvent>> Emit(EventBatch& requests, const std::vector<uint32_t>& rows);

  /// From another thread.
  void Interrupt() { connection_->Interrupt(); }

 private:
  explicit CommandProgram(std::shared_ptr<const CommandDefinition> command)
      : command_(std::move(command)), text_(RowText::Format::kNdjson) {}
  /// A statement of ours over texts of the command. Tables that a text reads by their whole key are read by
  /// the keys of the requests.
  struct Prepared {
    std::vector<std::string> texts;
    std::vector<std::map<std::string, std::map<std::string, std::string>>> key_fields;  // text → table → key
    std::map<std::string, std::string> hashes;            // table → SELECT of the requests' hashes
    std::map<std::string, std::unique_ptr<KeySet>> keys;  // the same, as read
    std::map<std::string, std::unique_ptr<Statement>> hash_statements;
    std::string made_of;  // what tables are read by
    std::unique_ptr<Statement> statement;
  };
  void FindHashes(Prepared& prepared);
  /// Its conditions over joined rows; nothing: a rule is of another shape.
  std::optional<std::string> JoinedSql(const Prepared& prepared,
                                       const std::map<std::string, std::string>& replacements);
  Status ReadHashes(Prepared& prepared);
  Status Prepare(Prepared& prepared, bool is_require,
                 std::vector<std::pair<std::string, uint64_t>>& switches);
  /// Calls `take` with all rows; it begins anew if a fold came between.
  Status Execute(Prepared& prepared, bool is_require, const std::function<Status(Rows&)>& take);
  void SetColumns(const std::vector<ColumnInfo>& columns);
  Status Read(const JsonWriter& writer, const Chunk& chunk, uint32_t row, EmittedEvent& event) const;

  const std::shared_ptr<const CommandDefinition> command_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<BatchScan> scan_;
  std::unique_ptr<ContractChecks> checks_;
  Database* database_ = nullptr;
  TableStore* tables_ = nullptr;
  Prepared require_, emit_;
  RowText text_;
  std::vector<ColumnInfo> columns_;  // of what is emitted
  int id_ = -1, source_ = -1, type_ = -1, subject_ = -1, time_ = -1;
};

}  // namespace millstream
