#include "sql/executions.h"

namespace millstream {

void Executions::Interrupt() {
  std::lock_guard lock(mutex_);
  is_interrupted_ = true;
  if (allowance_) allowance_->Interrupt();
  duckdb_interrupt(connection_);
}

void Executions::Begin() {
  std::lock_guard lock(mutex_);
  is_interrupted_ = false;
  if (allowance_) allowance_->Begin();
}

bool Executions::WasCut() const {
  std::lock_guard lock(mutex_);
  return is_interrupted_ || (allowance_ && allowance_->refusal() != Allowance::Refusal::kNone);
}

SqlFault Executions::FaultOf(duckdb_error_type type, const char* error, const std::string& sql) const {
  const auto refusal = allowance_ ? allowance_->refusal() : Allowance::Refusal::kNone;
  const bool has_error = error != nullptr && *error != 0;
  if (refusal == Allowance::Refusal::kInterrupted ||
      (!has_error && refusal == Allowance::Refusal::kNone && WasCut()))
    return {"INTERRUPT Error", "interrupted", -1, "", false};
  if (refusal != Allowance::Refusal::kNone)
    return {"Out of Memory Error", allowance_->Reason(), -1, "", false};
  return ReadSqlFault(type, error, sql);
}

}  // namespace millstream
