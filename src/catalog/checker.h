// Checker: binds a project's SQL against each other in a database without data. Private to catalog/.
//
// Place: floor 4; used by CheckProject. Pipelines are taken in the order in which tables depend on each
// other, so that a look-up binds to the columns that another pipeline's table will have. One object a check,
// one thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "catalog/project.h"
#include "catalog/sql_faults.h"
#include "sql/database.h"
#include "sql/filter_chain.h"
#include "stage/table_options.h"

namespace millstream {

class Checker {
 public:
  Checker(const Project& project, const Registry& registry, Faults& faults, Faults& warnings,
          const std::function<void(const std::string&)>& step)
      : project_(project), registry_(registry), faults_(faults), warnings_(warnings), step_(step) {}

  Status Check();

 private:
  struct Plan {
    const PipelineConfig* pipeline = nullptr;
    std::vector<std::set<std::string>> reads;  // tables, of each filter
    std::set<std::string> tables, streams;     // that it writes
    bool bound = false;                        // its result's columns are known
    size_t looked_at = 0;                      // so many filters were bound, or what is wrong was told
    std::vector<ColumnInfo> columns;
  };
  struct Table {
    const PipelineConfig* first = nullptr;  // the pipeline that said first what it is
    TableOptions options;
    std::vector<ColumnInfo> columns;
    bool known = true;  // every writer's columns are
    bool made = false;  // in the database
  };

  /// Says what is bound next.
  template <typename... Args>
  void Step(fmt::format_string<Args...> path, Args&&... args) {
    if (step_) step_(fmt::format(path, std::forward<Args>(args)...));
  }

  // check_graph.cc
  void MakePlans();
  bool Reads(const Plan& reader, const Plan& writer) const;
  /// Names in the order in which they can be bound; those of a cycle are left out and faulted.
  std::vector<std::string> Order();
  void FaultOwnTables(const Plan& plan);
  /// False where SQL or a table follows a program whose columns are not declared.
  bool FaultMissingOutput(const Plan& plan, size_t index);
  void FaultCycle(const std::vector<std::string>& left);

  // check.cc
  void CheckContract(const StreamConfig& stream);
  void CheckFieldChecks(const Contract& contract, const Node& nodes, const std::string& path, bool doubtful);
  /// What is wrong with a condition over a row of `_check`; positions count in its text.
  std::vector<SqlFilterFault> BindCondition(const std::string& condition);
  void BindPipeline(Plan& plan);
  /// A filter that can be bound only once what it reads is right.
  bool ReadsUnknown(const Plan& plan, size_t filter) const;
  /// What the texts alone tell of filters that were not bound.
  void CheckTexts(const Plan& plan);
  bool BindChain(Plan& plan, size_t begin, size_t end, const StreamConfig& stream);
  void MakeTables(const Plan& plan);
  void MakeTable(const std::string& name);
  void WarnOfFlags(const FilterConfig& filter, const std::string& path, const FilterFlags& flags);
  /// True if the files name the table in some sink, whatever is wrong with it.
  bool MayBeMade(const std::string& table) const;
  void WarnOfRefusals(const SourceConfig& source);
  void AddSqlFault(const Node& sql, const std::string& path, const SqlFault& fault, const SqlNames& names,
                   const std::string& expected, bool doubtful);

  // check_tables.cc
  void CheckSinks(Plan& plan);
  void CheckTable(Plan& plan, const SinkConfig& sink);
  bool CheckColumns(const Plan& plan, const Node& options, const char* option, const std::string& path,
                    const std::vector<std::string>& wanted);
  bool BindValues(const Plan& plan, const TableOptions& table, const Node& options, const std::string& path);
  /// What the texts of a table alone tell, where the rows are not known.
  void CheckTableTexts(const TableOptions& table, const Node& options, const std::string& path);
  bool IsAggregate(const std::string& name, const std::string& expression, const Node& node,
                   const std::string& path);
  bool BindDeleteWhen(const TableOptions& table, const std::string& path, const SqlNames& names);
  void MergeTable(const Plan& plan, const TableOptions& options, std::vector<ColumnInfo> columns,
                  const Node& node, const std::string& path);
  void WarnOfOrder(const Plan& plan, const TableOptions& table, const Node& node, const std::string& path);
  void WarnOfChain(const Plan& plan, const SinkConfig& sink);

  // check_commands.cc
  void CheckCommand(const CommandConfig& command);
  /// What the texts alone tell of a command whose input or emit is at fault.
  void CheckCommandTexts(const CommandConfig& command);
  void CheckCommandInput(const CommandConfig& command);
  /// The text as our statements have it; nothing if it is at fault.
  std::optional<std::string> BindCommand(const CommandConfig& command, const CommandRule& sql,
                                         const std::string& path);
  bool CheckCommandTables(const CommandConfig& command, const std::string& bound, const Node& node,
                          const std::string& path);
  void CheckEmitted(const CommandConfig& command, const std::vector<ColumnInfo>& columns,
                    const std::string& path);
  void AddCommandFault(const CommandConfig& command, const Node& node, const std::string& path,
                       SqlFault fault, size_t prefix);

  const Project& project_;
  const Registry& registry_;
  Faults& faults_;
  Faults& warnings_;
  const std::function<void(const std::string&)>& step_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  std::map<std::string, Plan> plans_;
  std::map<std::string, Table> tables_;
};

/// True if every field of the stream's key comes out of the pipeline's filters as it is, under its own name,
/// and is one of `columns`: then all rows of these columns' values come from one partition.
bool KeyReaches(Connection& connection, const StreamConfig& stream, const PipelineConfig& pipeline,
                const std::vector<std::string>& columns);
/// CREATE TABLE's list: "\"id\" VARCHAR, …".
std::string ColumnList(const std::vector<ColumnInfo>& columns);
std::string QuoteName(const std::string& name);
/// Columns that pass from filter to filter unasked.
std::vector<ColumnInfo> ReservedColumns();
const ColumnInfo* FindColumn(const std::vector<ColumnInfo>& columns, const std::string& name);
std::vector<std::string> NamesOf(const std::vector<ColumnInfo>& columns);

/// True if rows of one key of a table surely lie in one partition: the stream's key reaches the table's, and
/// two values of it are equal only where the texts are that decided the partition (10 and 1e1 are one
/// integer, but two texts; a field's default stands for a key that is missing).
bool OnePartitionAKey(Connection& connection, const StreamConfig& stream, const PipelineConfig& pipeline,
                      const std::vector<std::string>& columns);

}  // namespace millstream
