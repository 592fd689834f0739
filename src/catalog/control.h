// ControlEvent, Catalog: what `_control` tells: every change of configuration as an event, and what exists
// now as the sum of them.
//
// Place: floor 4. Pure: pipeline/ appends the JSON that Catalog::Seal makes to the stream `_control`, syncs
// it, and then gives it to Replay; at start it replays the whole stream. Each event carries `prev`, the
// SHA-256 of the bytes of the one before, so that an event cannot be changed, left out or put in afterwards
// without being seen. Secrets stay `${…}` in events. Threads: a Catalog belongs to one thread. Failure:
// kCorrupt for an event that does not continue the chain or cannot be read; the Catalog is then as it was.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "catalog/diff.h"
#include "catalog/ownership.h"
#include "event/position.h"
#include "stage/node.h"

namespace millstream {

enum class ControlKind : uint8_t {
  kApply,      // all definitions, a new version
  kActivated,  // from `boundary` on a pipeline runs `version`
  kPipelinePaused,
  kPipelineResumed,
  kSourcePaused,
  kSourceResumed,
  kTableDropped,
  kStarted,  // a process opened the data folder
  kStopped,  // and closed it
};

/// One event of `_control`. Which members hold depends on the kind.
struct ControlEvent {
  ControlKind kind = ControlKind::kApply;
  std::string who;       // a token's name, or "USER@HOST"
  int64_t when_us = 0;   // wall clock
  std::string name;      // of the pipeline, source or table
  uint64_t version = 0;  // apply, activated
  // apply
  std::string files_hash;  // Project::hash; of an edit: of the last files
  bool is_edit = false;    // by `filter set` or the API, not by files
  Node root;               // Project::root after the merge
  Node files;              // Project::root of the files where it differs from root; null: the same
  std::map<std::string, uint64_t> generations;  // of each pipeline in root
  std::map<std::string, Position> starts;       // of each pipeline: next offsets from which it began
  std::vector<Change> changes;
  // activated
  uint64_t generation = 0;
  Boundary boundary;  // partition, first offset that the version owns
  // started, stopped: the program's version
  std::string program;

  std::string ToJson(std::string_view prev) const;
};

Result<ControlEvent> ParseControlEvent(std::string_view json);

/// A version of a pipeline that was activated, and the definitions of its apply.
struct ActivatedVersion {
  uint64_t version = 0;
  Boundary boundary;  // partition, first offset that it owns
  std::shared_ptr<const Node> root;
};

struct PipelineRecord {
  uint64_t generation = 0;
  Position start;               // next offsets from which this generation began
  uint64_t active_version = 0;  // 0: not yet activated
  Boundary boundary;
  std::vector<ActivatedVersion> versions;  // ascending, the last is the active one
  bool paused = false;
};

class Catalog {
 public:
  /// Takes the next event of `_control`.
  Status Replay(std::string_view event_json);
  /// The JSON of an event that continues the chain. Changes nothing: Replay it once it is durable.
  std::string Seal(const ControlEvent& event) const { return event.ToJson(last_hash_); }

  /// 0: nothing was ever applied.
  uint64_t version() const { return version_; }
  const std::string& files_hash() const { return files_hash_; }
  /// The definitions that hold; ParseProject makes a Project of them.
  const Node& root() const { return root_; }
  /// What the last files said that were applied: what differs from it was changed live since.
  const Node& files_root() const { return *files_root_; }
  const std::map<std::string, PipelineRecord>& pipelines() const { return pipelines_; }
  const std::set<std::string>& paused_sources() const { return paused_sources_; }
  /// True if no version of the pipeline as it is defined now was activated yet: start, or a change that is
  /// under way, does so.
  bool IsPending(const std::string& pipeline) const;
  /// The highest generation that a pipeline of this name ever had; 0 = none. Kept after its removal.
  uint64_t LastGeneration(const std::string& pipeline) const;
  uint64_t events() const { return events_; }
  /// True after a `started` that no `stopped` followed.
  bool running() const { return running_; }

 private:
  void Apply(const ControlEvent& event);
  uint64_t version_ = 0, events_ = 0;
  bool running_ = false;
  std::string files_hash_, last_hash_;
  Node root_;
  std::shared_ptr<const Node> shared_root_;  // root_, as versions hold it
  std::shared_ptr<const Node> files_root_ = std::make_shared<const Node>();
  std::map<std::string, PipelineRecord> pipelines_;
  std::map<std::string, uint64_t> last_generations_;
  std::set<std::string> paused_sources_;
};

/// True if a pipeline is the same in two trees: its own, and that of the stream which it reads.
bool IsSamePipeline(const Node& one, const Node& other, const std::string& pipeline);

/// Checks a whole `_control` stream. kCorrupt names the first event (from 0) that does not continue the
/// chain.
Status VerifyChain(const std::vector<std::string_view>& events);

}  // namespace millstream
