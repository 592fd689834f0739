// NextCutoverStep: how tables that a replay makes anew take the places of those that readers see, decided
// from what three stores say: `_control`, the tables' registry, and the stored offsets.
//
// Place: floor 4. Pure; pipeline/engine_cutover.cc takes the steps, while a process runs and at its start.
// Protocol. The rebuild runs beside the live sinks, with offsets of its own, into a shadow T@n. Once it is
// near their end the tables are checkpointed, so that no power cut takes the shadow away again. The live
// loops of T end; the rebuild goes on until it stands where they stood, and ends too. The `cutover` event
// decides: from then on the new version owns all that T ever gets (Ownership's `since`), whatever offset T
// stands at after a crash. One transaction switches the tables; the pipeline's new version is activated; T's
// loops are opened again, and go on from the rebuild's offsets. Each step can be taken again after a crash.
#pragma once

#include <cstdint>
#include <map>

#include "catalog/ownership.h"

namespace millstream {

struct CutoverFacts {
  bool is_decided = false;                // `_control` has the cutover event
  bool is_cancelled = false;              // or the one that cancels
  bool has_shadow = false;                // the registry has a shadow
  bool is_near = false;                   // the rebuild is close behind what comes
  bool is_durable = false;                // a checkpoint was made since the shadow is there
  bool is_closed = false;                 // no live loop delivers to the tables
  std::map<int, Boundary> live, rebuilt;  // next offsets, by writer
};

enum class CutoverStep : uint8_t {
  kRun,         // nothing to do yet
  kCheckpoint,  // the tables
  kClose,       // the live loops of the tables end
  kCatchUp,     // the rebuild has not reached them yet
  kDecide,      // end the rebuild, write the event
  kSwitch,      // the tables, in one transaction
  kDropShadow,
  kOpen,  // activate the new version, open the tables' loops again
  kDone,
};

CutoverStep NextCutoverStep(const CutoverFacts& facts);

}  // namespace millstream
