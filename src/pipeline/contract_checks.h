// ContractChecks: evaluates the `check (EXPR)` clauses of a contract over events before they are appended.
//
// Place: floor 5; used by StreamIngest and for commands. One object serves one thread at a time; StreamIngest
// keeps a pool. A check that is NULL passes, as in SQL; one that cannot be
// evaluated for an event does not hold for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/watchdog.h"
#include "event/assembler.h"
#include "event/batch.h"
#include "event/type.h"
#include "sql/database.h"
#include "sql/scan.h"

namespace millstream {

class ContractChecks {
 public:
  static Result<std::unique_ptr<ContractChecks>> Make(Database& database, Watchdog& watchdog,
                                                      const std::string& stream, const Contract& contract);

  struct Violation {
    uint32_t row = 0;
    Rejection rejection;  // "check (amount >= 0) does not hold", and the others
  };
  /// Violations by ascending row, one an event. kDeadline: not within `deadline_us`.
  Result<std::vector<Violation>> Run(EventBatch& batch, int64_t deadline_us);

  static bool Needed(const Contract& contract);

 private:
  explicit ContractChecks(Watchdog& watchdog) : watchdog_(watchdog) {}
  Status RunOn(const BatchRange& range, std::vector<Violation>& violations);
  Violation BlameOf(const BatchRange& event);

  Watchdog& watchdog_;
  std::vector<Field> fields_;  // those with a check
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<BatchScan> scan_;
  std::unique_ptr<Statement> statement_;
};

}  // namespace millstream
