// DecideChange: what becomes of new definitions: what holds afterwards, what changes and how. One planner for
// `run`, `plan`, `apply` and every edit of what is live.
//
// Place: floor 4. Pure; pipeline/ carries it out (engine_change.cc). Files are compared with what is live and
// with what the last files said (SEMANTICS, 6): an item that changed on one side only is that side's; one
// that changed on both is a conflict, which is named and left. What cannot be changed in place keeps its old
// definition, the whole item.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catalog/control.h"
#include "catalog/edit.h"
#include "catalog/project.h"

namespace millstream {

struct ChangeOptions {
  bool keep_live = false;  // what was changed live since the last files stays (`run`); else the files win
  bool prune = false;      // streams, sources and pipelines that the proposal lacks are removed ...
  std::set<std::string> purge;  // ... and these streams with their events
  bool force = false;           // in a conflict the files win
  /// Tables that are made anew, with the changes of who writes them and of the contracts that these read.
  std::set<std::string> rebuild;
  bool is_edit = false;  // the proposal is what is live, edited: nothing to compare it with
};

struct ChangeDecision {
  Node root;   // what holds then
  Node files;  // what the next files are compared with: these, but for what was held back
  uint64_t version = 0;
  std::map<std::string, uint64_t> generations;  // of every pipeline in root
  std::vector<std::string> new_pipelines;       // whose start is to be resolved
  std::vector<Change> changes;
  std::vector<std::string> notices;  // for the user, a line each
  /// What changes once the tables are made anew, as it will be; until then root has it as it is.
  Definitions rebuilt;
  Faults refused;  // changes that cannot be made to what has events; the old definition stays in root
  Faults faults;   // what holds then does not parse: nothing can be applied

  /// Of all that this stands on: 8 hex digits.
  std::string Hash(const Catalog& catalog) const;
};

/// `proposed` was loaded without faults. `live`: ParseProject of the catalog's root (empty at first).
/// `stream_events`: how many events each live stream holds.
ChangeDecision DecideChange(const Project& proposed, const Project& live, const Catalog& catalog,
                            const Registry& registry, const ChangeOptions& options,
                            const std::map<std::string, uint64_t>& stream_events);

/// Finds out later that an item cannot be changed in place: it keeps its old definition, or is not made.
void HoldBack(ChangeDecision& decision, const Project& proposed, const Catalog& catalog, Change why);

/// The apply event of a decision, without who and starts.
ControlEvent ApplyEvent(const ChangeDecision& decision, const Project& proposed, const Catalog& catalog,
                        bool is_edit);

}  // namespace millstream
