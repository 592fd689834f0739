// Isolated: the kinds of stages as a sandbox has them: none reaches beyond it.
//
// Place: floor 3; what an Engine of a sandbox gets in place of the program's kinds. Whatever is applied,
// replayed or rebuilt there, this is the one place where a stage could be made that touches the outside.
// Sinks: `table`, `stream` and `drop` write into the sandbox only and stay; every other kind, also one that
// is added later, keeps its options and its id, but its rows are dropped, and counted as for any sink. They
// begin where the sandbox does, for what came before has gone outside already.
// Filters: every kind (`sql` is none) runs something else: made only if it was allowed. Sources: none is
// made.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "stage/stage.h"

namespace millstream {

/// By stream and partition: where the sandbox begins.
using IsolatedFrom = std::map<std::string, std::map<uint32_t, uint64_t>>;

Registry Isolated(const Registry& registry, bool allow_exec, IsolatedFrom from);

/// True for sinks that an isolated registry leaves as they are.
bool IsInside(const std::string& sink_kind);

}  // namespace millstream
