// MakeSandbox: the data folder of a sandbox, up to the moment at which an Engine may open it.
//
// Place: floor 6; used by Sandboxes. A sandbox is the live log at a vector, forked (log/fork.h), and then
// what a backup is that was restored: its tables are made from its log by its own pipelines.
//   With the definitions that were live then, `_control` is forked with the other streams: each event is run
//   by the version that owned it. What the fork cut in two is decided: open replays are cancelled, a version
//   that was applied but not yet active owns what comes after the fork, paused pipelines run.
//   With other definitions, `_control` begins anew, and streams that pipelines write are made anew by them;
//   pipelines of the same name begin where the live ones did.
// Threads: one a sandbox; the live Engine goes on. Failure: kInvalid, kNotFound, kConflict with what to do;
// the folder is then the caller's to remove.
#pragma once

#include <optional>
#include <string>

#include "catalog/sandbox.h"
#include "pipeline/engine.h"

namespace millstream {

struct SandboxMade {
  std::map<std::string, Position> starts;  // of pipelines of other definitions (EngineOptions::starts)
};

/// Fills `record.as_of`, if it is empty, and `record.ends`, and makes `directory`/log, durably. `files`: the
/// other definitions, loaded. `isolated`: the kinds that the sandbox has (stage/isolated.h).
Result<SandboxMade> MakeSandbox(Engine& live, const std::string& directory, const Project* files,
                                const Registry& isolated, SandboxRecord& record);

/// kInvalid if a filter of the pipelines runs a program, and the sandbox must not.
Status CheckPrograms(const Project& project, const SandboxRecord& record);

}  // namespace millstream
