// ReplaySpec, ReplayRecord: what `_control` says of a run of history beside the live pipelines (SEMANTICS,
// "Tables": rebuild).
//
// Place: floor 4. Values. A replay goes either *into* a place that nothing live writes, from `starts` to
// `ends`; or it makes `tables` anew by every pipeline that writes them, goes on with what comes, and ends
// with a cutover, which makes `definitions` live in the same step. Everything that a restart needs to go on
// stands in its `replay_started` event; positions were resolved when it was made.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "catalog/edit.h"
#include "event/position.h"
#include "stage/node.h"

namespace millstream {

struct ReplaySpec {
  uint64_t id = 0;
  std::map<std::string, Position> starts, ends;  // by pipeline: next offsets; a rebuild has no ends
  double share = 1;                              // of a core, at most, for each partition
  bool effects = false;                          // sinks other than tables run too
  // into a place
  Node filters;  // in place of the pipeline's; null: as they were live
  Node into;     // {KIND: options}
  // a rebuild
  std::vector<std::string> tables;
  Definitions definitions;  // that change with the cutover

  bool is_rebuild() const { return !tables.empty(); }
  /// The pipeline, or of a rebuild the first of them.
  std::string pipeline() const { return starts.empty() ? "" : starts.begin()->first; }
  /// Whether the table is made by it: the place that it goes into, or a shadow.
  bool Writes(const std::string& table) const;
  /// Whether the sink's table is made anew.
  bool Remakes(const std::string& sink) const;
  /// What it writes, for people: "table r2", "tables a, b".
  std::string Target() const;
  /// The shadow of a table while it is made anew: "revenue@7". No name that a user can give has an '@'.
  std::string Shadow(const std::string& table) const { return table + "@" + std::to_string(id); }

  std::string ToJson() const;
  static Result<ReplaySpec> FromNode(const Node& node);
};

struct ActivatedVersion;

struct ReplayRecord {
  enum class State : uint8_t { kRunning, kPaused, kCancelled, kFinished } state = State::kRunning;
  ReplaySpec spec;
  std::string who;
  int64_t started_us = 0, ended_us = 0;
  uint64_t events = 0, dead_letters = 0;  // once finished
  // What was live when it was made; dropped once it has ended.
  std::shared_ptr<const Node> root;
  std::map<std::string, std::vector<ActivatedVersion>> versions;  // by pipeline
  std::map<std::string, uint64_t> generations;

  bool is_open() const { return state == State::kRunning || state == State::kPaused; }
};

/// kCorrupt for what is no number.
Result<uint64_t> ReadNumber(std::string_view text);
/// {"0":17,"1":9}: offsets by partition, as `_control` writes and reads them.
void AppendOffsets(std::string& out, const std::map<uint32_t, uint64_t>& offsets);
Result<std::map<uint32_t, uint64_t>> ReadOffsets(const Node* map);

}  // namespace millstream
