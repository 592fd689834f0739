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
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "catalog/diff.h"
#include "catalog/letters.h"
#include "catalog/ownership.h"
#include "catalog/replay.h"
#include "catalog/sandbox.h"
#include "event/position.h"
#include "stage/node.h"

namespace millstream {

enum class ControlKind : uint8_t {
  kApply,          // all definitions, a new version
  kActivated,      // from `boundary` on a pipeline runs `version`
  kPipelineEnded,  // one that was removed has delivered to its table sink `sink` up to `boundary`
  kPipelinePaused,
  kPipelineResumed,
  kSourcePaused,
  kSourceResumed,
  kTableDropped,
  kStarted,  // a process opened the data folder
  kStopped,  // and closed it
  kPurged,   // a removed stream's events are gone
  kReplayStarted,
  kReplayPaused,
  kReplayResumed,
  kReplayCancelled,
  kReplayFinished,
  kCutover,         // an apply by which tables that a replay made anew become those that readers see
  kDeadReplay,      // dead letters of stream `name` go again (catalog/letters.h); the effect follows
  kDeadReplayed,    // and all of it is durable
  kDeadDropped,     // dead letters of stream `name` were looked at and stay where they are
  kEventsSkipped,   // events that a sink could not take are to be dead letters, up to `boundary`
  kSandboxCreated,  // its folder is whole (catalog/sandbox.h)
  kSandboxDropped,  // the removal of its folder follows
  kSandboxExpired,  // the same, because its time was over
};

/// As `_control` and `history` write it: "apply", "pipeline_paused".
std::string_view NameOf(ControlKind kind);

/// What the first event has as the hash of the one before it.
inline const std::string kNoEventHash(64, '0');

/// One event of `_control`. Which members hold depends on the kind.
struct ControlEvent {
  ControlKind kind = ControlKind::kApply;
  std::string prev;      // SHA-256 of the event before, as it was read
  std::string who;       // a token's name, or "USER@HOST"
  int64_t when_us = 0;   // wall clock
  std::string name;      // of the pipeline, source, table or stream
  uint64_t version = 0;  // apply, activated
  // apply
  std::string files_hash;  // Project::hash; of an edit: of the last files
  bool is_edit = false;    // by `filter set` or the API, not by files
  Node root;               // Project::root after the merge
  Node files;              // Project::root of the files where it differs from root; null: the same
  std::map<std::string, uint64_t> generations;  // of each pipeline in root
  std::map<std::string, Position> starts;       // of each pipeline: next offsets from which it began
  std::vector<Change> changes;
  std::vector<std::string> purges;  // streams that are removed with their events
  // activated, pipeline_ended, events_skipped
  uint64_t generation = 0;
  Boundary boundary;  // by partition: the first offset that the version owns; that none goes beyond
  // started, stopped: the program's version
  std::string program;
  std::map<std::string, uint64_t> rates;  // stopped: events a second of each pipeline, on one core
  // replay_started: all; the other replay_…, cutover: its id
  ReplaySpec replay;
  uint64_t events = 0, dead_letters = 0;                    // replay_finished
  std::map<std::string, std::vector<std::string>> rebuilt;  // cutover: sinks by pipeline
  std::map<std::string, uint64_t> letters_before;           // cutover: how many letters each stream had
  std::map<std::string, LetterSet> obsolete;                // cutover: letters whose events it ran again

  // dead_replay, dead_replayed, dead_dropped
  LetterReplay letters;   // dead_replayed: its id alone; dead_dropped: stream and letters
  uint32_t slots = 0;     // that each part of the replay takes
  std::string position;   // dead_replayed: where letters of ingest stand in the stream now
  uint64_t refused = 0;   // dead_replayed: letters that were refused again
  std::string selection;  // what was asked for, as people read it; of a pause: why
  std::string sink;       // events_skipped, pipeline_ended
  SandboxRecord sandbox;  // sandbox_created

  /// True for kinds that have all definitions.
  bool is_apply() const { return kind == ControlKind::kApply || kind == ControlKind::kCutover; }

  /// As the one after the event with this hash; "": as the first.
  std::string ToJson(std::string_view prev_hash) const;
};

/// kCorrupt for what is no event of `_control`.
Result<ControlEvent> ParseControlEvent(std::string_view json);

/// A version of a pipeline that was activated, and the definitions of its apply.
struct ActivatedVersion {
  uint64_t version = 0;
  Boundary boundary;  // partition, first offset that it owns
  std::shared_ptr<const Node> root;
};

/// How a sink's table was made anew the last time.
struct Rebuilt {
  uint64_t version = 0;  // versions before it own nothing there
  uint64_t replay = 0;   // by which; its own letters hold
  /// Other letters below this number go there no more, for their events were run again. Not known of cutovers
  /// of the first releases.
  std::optional<uint64_t> letters_before;
};

struct PipelineRecord {
  uint64_t generation = 0;
  Position start;               // next offsets from which this generation began
  uint64_t active_version = 0;  // 0: not yet activated
  Boundary boundary;
  std::vector<ActivatedVersion> versions;  // ascending, the last is the active one
  std::map<std::string, Rebuilt> rebuilt;  // sinks that were made anew
  bool paused = false;
  std::string paused_because;             // empty: somebody asked for it
  std::map<std::string, Boundary> skips;  // by sink: events below are dead letters if they are not delivered
  std::map<std::string, Boundary> ended;  // of one that was removed, by table sink: what it has delivered
};

/// The pipelines that live after an apply event, of those that lived before it. One that was removed comes
/// back as it stood if the event has its generation again; `removed` holds such, by name.
std::map<std::string, PipelineRecord> PipelinesAfter(const ControlEvent& event,
                                                     std::map<std::string, PipelineRecord> before,
                                                     std::map<std::string, PipelineRecord>& removed);

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
  /// Streams that were removed and whose events may still be there.
  const std::set<std::string>& purges() const { return purges_; }
  /// True if no version of the pipeline as it is defined now was activated yet: start, or a change that is
  /// under way, does so.
  bool IsPending(const std::string& pipeline) const;
  /// The highest generation that a pipeline of this name ever had; 0 = none. Kept after its removal.
  uint64_t LastGeneration(const std::string& pipeline) const;
  /// The last pipeline of this name that was removed, as it stood then; null: none was.
  const PipelineRecord* FindRemoved(const std::string& pipeline) const;
  /// True while the pipeline lives, or may be taken back (`adopt`).
  bool MayRun(const std::string& pipeline, uint64_t generation) const;
  /// Whether the sink's table was made anew since the letter came, by another rebuild than `rebuild`, which
  /// refused it (0: none did): that has run its event.
  bool WasRunAnew(const std::string& pipeline, const std::string& sink, uint64_t letter,
                  uint64_t rebuild) const;
  const std::map<uint64_t, ReplayRecord>& replays() const { return replays_; }
  uint64_t last_replay() const { return last_replay_; }
  const std::map<std::string, SandboxRecord>& sandboxes() const { return sandboxes_; }
  /// Events a second, as the last process measured its pipelines.
  const std::map<std::string, uint64_t>& rates() const { return rates_; }
  uint64_t events() const { return events_; }
  /// SHA-256 of the last event: the head of the chain. Zeros before the first.
  std::string head() const;
  const LetterBook& letters() const { return *letters_; }
  std::shared_ptr<const LetterBook> shared_letters() const { return letters_; }
  /// True after a `started` that no `stopped` followed.
  bool running() const { return running_; }

 private:
  void Apply(const ControlEvent& event);
  void ApplyCutover(const ControlEvent& event);
  void ApplyReplay(const ControlEvent& event);
  void ApplySandbox(const ControlEvent& event);
  Status ReplayLetters(const ControlEvent& event);
  uint64_t version_ = 0, events_ = 0;
  bool running_ = false;
  std::string files_hash_, last_hash_;
  Node root_;
  std::shared_ptr<const Node> shared_root_;  // root_, as versions hold it
  std::shared_ptr<const Node> files_root_ = std::make_shared<const Node>();
  std::map<std::string, PipelineRecord> pipelines_, removed_;
  std::map<std::string, uint64_t> last_generations_;
  std::set<std::string> paused_sources_;
  std::set<std::string> purges_;
  std::map<uint64_t, ReplayRecord> replays_;
  uint64_t last_replay_ = 0;
  std::map<std::string, SandboxRecord> sandboxes_;
  std::map<std::string, uint64_t> rates_;
  std::shared_ptr<const LetterBook> letters_ = std::make_shared<const LetterBook>();
};

/// True if a pipeline is the same in two trees: its own, and that of the stream which it reads.
bool IsSamePipeline(const Node& one, const Node& other, const std::string& pipeline);

/// Follows the chain of a `_control` stream without a Catalog, event by event.
class ChainCheck {
 public:
  /// kCorrupt says where the event (by its place from 0) breaks the chain; later ones are not looked at.
  Status Take(std::string_view event_json);
  uint64_t events() const { return events_; }
  /// Of the last event; zeros before the first.
  const std::string& head() const { return head_; }
  /// The place of the event with this hash.
  std::optional<uint64_t> Find(std::string_view head) const;

 private:
  uint64_t events_ = 0;
  std::string head_ = std::string(64, '0');
  std::map<std::string, uint64_t, std::less<>> places_;
};

}  // namespace millstream
