// ChangePlan: what a change does to what runs, what it costs, and what it did.
//
// Place: floor 5; Engine::Plan and Engine::Apply. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/status.h"
#include "catalog/change_plan.h"

namespace millstream {

struct ChangeRequest {
  Project files;  // loaded, without faults; or, in their place:
  /// Makes new definitions out of those that are live. Its answer may refuse (kNotFound, kConflict,
  /// kInvalid).
  std::function<Result<Node>(const Node& live)> edit;
  bool is_checked = false;  // CheckProject need not bind the files: who loaded them has, or takes them as is
  ChangeOptions options;
  std::string plan;  // Apply: the hash that Plan gave; empty: whatever it is now
  std::string who;
};

struct PlannedChange {
  Change what;
  std::optional<uint64_t> events;  // that are run for it
  std::optional<double> seconds;   // at the rates that were measured; nothing was measured: not known
  std::string from;                // applied: the position from which it holds
  int64_t held_us = 0;             // applied: for which commits of the pipeline stood still

  std::string pipeline() const;  // that it is of; empty: of none
  bool is_done() const { return what.how == "live" || what.how == "backfill"; }
};

struct ChangePlan {
  std::string hash;
  uint64_t base_version = 0, version = 0;  // version: after it
  bool is_applied = false;
  std::vector<PlannedChange> changes;
  std::vector<std::string> rebuild;  // tables that are made anew
  uint64_t replay = 0;               // applied: which makes them; 0: none
  Faults refused;                    // changes that cannot be made: the old definition stays
  /// {"plan","base_version","changes":[…]}; applied: {"version","changes":[…]}.
  std::string ToJson() const;
};

struct ChangeRefusal {
  Status status;
  Faults faults;
  std::optional<ChangePlan> plan;  // of a stale hash: what would happen now
};

inline ChangeRefusal Refused(Status status) { return {std::move(status), {}, std::nullopt}; }
inline ChangeRefusal Refused(const Faults& faults) {
  return {Invalid("{} fault{}", faults.size(), faults.size() == 1 ? "" : "s"), faults, std::nullopt};
}

}  // namespace millstream
