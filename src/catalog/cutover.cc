#include "catalog/cutover.h"

namespace millstream {
namespace {

bool HasReached(const CutoverFacts& facts) {
  for (const auto& [writer, live] : facts.live) {
    auto rebuilt = facts.rebuilt.find(writer);
    for (const auto& [partition, next] : live) {
      if (next == 0) continue;
      if (rebuilt == facts.rebuilt.end()) return false;
      auto reached = rebuilt->second.find(partition);
      if (reached == rebuilt->second.end() || reached->second < next) return false;
    }
  }
  return true;
}

}  // namespace

CutoverStep NextCutoverStep(const CutoverFacts& facts) {
  if (facts.is_decided || facts.is_cancelled) {
    if (facts.has_shadow) return facts.is_decided ? CutoverStep::kSwitch : CutoverStep::kDropShadow;
    return facts.is_closed ? CutoverStep::kOpen : CutoverStep::kDone;
  }
  if (facts.is_closed) return HasReached(facts) ? CutoverStep::kDecide : CutoverStep::kCatchUp;
  if (!facts.is_near) return CutoverStep::kRun;
  return facts.is_durable ? CutoverStep::kClose : CutoverStep::kCheckpoint;
}

}  // namespace millstream
