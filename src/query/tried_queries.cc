#include "query/tried_queries.h"

#include "catalog/digest.h"
#include "catalog/trial.h"
#include "pipeline/control_log.h"
#include "query/system_tables.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr size_t kKnownMax = 10'000;  // digests of 64 bytes; then it begins anew

std::string KeyOf(const TableReference& reference) {
  return reference.schema.empty() ? Lower(reference.name)
                                  : Lower(reference.schema) + "." + Lower(reference.name);
}

/// What the query reads, as tables of a trial: the same columns, no rows. Nothing: that cannot be bound
/// either, and whoever binds the query says why.
Result<std::string> MakeTrial(Connection& connection, const TriedQueries::Query& query) {
  std::vector<std::vector<ColumnInfo>> tables;
  std::map<std::string, std::string> tried;
  for (const TableReference& reference : query.references) {
    const std::string key = KeyOf(reference);
    auto replaced = query.replacements.find(key);
    std::string source = replaced != query.replacements.end() ? replaced->second
                         : reference.schema.empty()
                             ? SqlIdentifier(reference.name)
                             : SqlIdentifier(reference.schema) + "." + SqlIdentifier(reference.name);
    ASSIGN_OR_FAIL(auto statement, connection.Prepare("SELECT * FROM " + source));
    tried[key] = TriedTable(tables.size());
    tables.push_back(statement->columns());
  }
  ASSIGN_OR_FAIL(RewrittenQuery rewritten, RewriteTables(connection, query.sql, tried, nullptr));
  return QueryTrial(tables, rewritten.sql);
}

}  // namespace

bool TriedQueries::IsKnown(const std::string& digest) {
  std::lock_guard lock(mutex_);
  return known_.contains(digest);
}

Status TriedQueries::Try(Engine& engine, Connection& connection, const Query& query, int64_t timeout_us,
                         const std::stop_token& stop) {
  if (engine.sql_workers() == nullptr) return OkStatus();
  const uint64_t live = engine.log().Find(kControlStream)->partition(0).bounds().durable_end;
  const std::string digest = Sha256Hex(fmt::format("{} {}", live, query.sql));
  if (IsKnown(digest)) return OkStatus();
  auto trial = MakeTrial(connection, query);
  if (!trial) return OkStatus();
  Status tried = engine.sql_workers()->Try(*trial, timeout_us, stop, nullptr);
  if (tried.code() == Code::kInvalid)
    return Invalid("refused: {} (constants are computed while SQL is bound)", tried.message());
  RETURN_IF_ERROR(tried);
  std::lock_guard lock(mutex_);
  if (known_.size() >= kKnownMax) known_.clear();
  known_.insert(digest);
  return OkStatus();
}

}  // namespace millstream
