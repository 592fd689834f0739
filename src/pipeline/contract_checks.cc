#include "pipeline/contract_checks.h"

namespace millstream {
namespace {

Rejection DoesNotHold(const Field& field) {
  return {"contract", field.pointer, fmt::format("check ({}) does not hold", field.check)};
}

}  // namespace

bool ContractChecks::Needed(const Contract& contract) {
  return std::any_of(contract.fields.begin(), contract.fields.end(),
                     [](const Field& field) { return !field.check.empty(); });
}

Result<std::unique_ptr<ContractChecks>> ContractChecks::Make(Database& database, Watchdog& watchdog,
                                                             const std::string& stream,
                                                             const Contract& contract) {
  auto checks = std::unique_ptr<ContractChecks>(new ContractChecks(watchdog));
  ASSIGN_OR_FAIL(checks->scan_, BatchScan::Make(database, stream, contract, {}));
  // One column a check tells which failed; the offset of a previewed batch is its row.
  std::string columns = "_offset";
  std::string any;
  for (const Field& field : contract.fields) {
    if (field.check.empty()) continue;
    columns += fmt::format(", ({}) IS FALSE", field.check);
    any += fmt::format("{}({}) IS FALSE", any.empty() ? "" : " OR ", field.check);
    checks->fields_.push_back(field);
  }
  std::string sql = fmt::format("SELECT {} FROM {} WHERE {}", columns, checks->scan_->Sql(), any);
  ASSIGN_OR_FAIL(checks->connection_, database.ConnectBounded({sql}));
  ASSIGN_OR_FAIL(checks->statement_, checks->connection_->Prepare(sql));
  return checks;
}

Result<std::vector<ContractChecks::Violation>> ContractChecks::Run(EventBatch& batch, int64_t deadline_us) {
  Watchdog::Guard guard(watchdog_, deadline_us, [this] { connection_->Interrupt(); });
  std::vector<Violation> violations;
  FAIL_IF_ERROR(RunOn({&batch, 0, batch.count()}, violations));
  std::sort(violations.begin(), violations.end(),
            [](const Violation& a, const Violation& b) { return a.row < b.row; });
  return violations;
}

/// An event for which a check cannot be evaluated is at fault, and found by halves.
Status ContractChecks::RunOn(const BatchRange& range, std::vector<Violation>& violations) {
  scan_->Set(std::span(&range, 1));
  Result<Rows> rows = statement_->Execute();
  if (!rows && statement_->fault().data_error) {
    if (range.end - range.begin == 1) {
      violations.push_back(BlameOf(range));
      return OkStatus();
    }
    const uint32_t middle = range.begin + (range.end - range.begin) / 2;
    RETURN_IF_ERROR(RunOn({range.batch, range.begin, middle}, violations));
    return RunOn({range.batch, middle, range.end}, violations);
  }
  if (!rows) return rows.error();
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows->Next());
    if (!chunk) return OkStatus();
    for (uint32_t row = 0; row < chunk->rows(); ++row) {
      std::optional<Rejection> all;
      for (uint32_t check = 0; check < fields_.size(); ++check) {
        if (static_cast<const bool*>(chunk->data(check + 1))[row] == false) continue;
        if (!Rejection::Add(all, DoesNotHold(fields_[check]))) break;
      }
      if (all) violations.push_back({static_cast<uint32_t>(chunk->Int64(0, row)), std::move(*all)});
    }
  }
}

/// Of one event: the checks that fail by themselves, or do not hold.
ContractChecks::Violation ContractChecks::BlameOf(const BatchRange& event) {
  const std::string together = statement_->fault().message;
  std::optional<Rejection> all;
  for (const Field& field : fields_) {
    scan_->Set(std::span(&event, 1));
    auto alone = connection_->Query(fmt::format("SELECT ({}) IS FALSE FROM {}", field.check, scan_->Sql()));
    if (alone) {
      auto chunk = alone->Next();
      if (!chunk || !*chunk || !static_cast<const bool*>((*chunk)->data(0))[0]) continue;
      if (!Rejection::Add(all, DoesNotHold(field))) break;
      continue;
    }
    const std::string& said = connection_->fault().data_error ? connection_->fault().message : together;
    if (!Rejection::Add(all, {"contract", field.pointer, fmt::format("check ({}): {}", field.check, said)}))
      break;
  }
  if (!all) all = Rejection{"contract", "", "the checks: " + together};
  return {event.begin, std::move(*all)};
}

}  // namespace millstream
