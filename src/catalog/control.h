// Control events and the Catalog: what exists, in which version, as `_control` tells it.
//
// Place: floor 4. `_control` is the truth about configuration (SEMANTICS, 6); files are proposals. Each event is one JSON document whose `prev` is the SHA-256 of
// the document before it, so that an edit, a removal or a reorder shows. Pure: pipeline/control_log.h reads and appends.
//   apply      version, files (their hash), project (all definitions, `${…}` unresolved), generations, starts of new pipelines, changes
//   activated  pipeline, generation, version, from: the offset of each partition from which the version holds
//   paused, resumed        item: "pipelines.NAME" or "sources.NAME"
//   table_dropped          item: "tables.NAME"
//   started, stopped       the program's version
// Threads: a Catalog is guarded by its owner.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "catalog/project.h"
#include "stage/node.h"

namespace millstream {

using OffsetVector = std::map<uint32_t, uint64_t>;  // partition, next offset

/// A version of one pipeline and what it ran: a project of one pipeline and the streams that it names.
struct CatalogVersion {
  uint64_t number = 0;
  std::string definition;  // JSON: {"streams":{…},"pipelines":{NAME:…}}
  bool activated = false;
  OffsetVector from;       // once activated; a partition that is not named: from its start
};

struct CatalogPipeline {
  uint64_t generation = 0;
  OffsetVector start;
  bool paused = false;
  bool removed = false;
  std::vector<CatalogVersion> versions;  // ascending
};

/// One difference between what is live and what is proposed.
struct CatalogChange {
  enum class How : uint8_t { kAdd, kEdit, kKeep };  // kKeep: not in the files, stays
  How how = How::kAdd;
  std::string path;  // "streams.orders"
};

class Catalog {
 public:
  /// Takes the next event. kCorrupt if its `prev` is not the hash of the one before, or it cannot be read.
  Status Replay(std::string_view event);

  bool empty() const { return version_ == 0; }
  uint64_t version() const { return version_; }
  const std::string& files_hash() const { return files_hash_; }
  const Node& root() const { return root_; }  // of the last apply
  const std::map<std::string, CatalogPipeline>& pipelines() const { return pipelines_; }
  bool SourcePaused(const std::string& name) const { return paused_sources_.contains(name); }
  uint64_t events() const { return events_; }
  /// Hash of the last event: what the next one's `prev` must be.
  const std::string& head() const { return head_; }

  /// What an apply of the files would change: items that the files lack are kept.
  std::vector<CatalogChange> Diff(const Node& files_root) const;
  /// The files' tree with what they lack of the live one.
  Node Merge(const Node& files_root) const;

  /// The event that makes `root` live. `starts` for pipelines that are new.
  std::string ApplyEvent(const Node& root, const std::string& files_hash, const std::vector<CatalogChange>& changes,
                         const std::map<std::string, OffsetVector>& starts, const std::string& who, int64_t now_us) const;
  std::string ActivatedEvent(const std::string& pipeline, uint64_t version, const OffsetVector& from, int64_t now_us) const;
  /// kind: paused, resumed, table_dropped, started, stopped.
  std::string PlainEvent(const std::string& kind, const std::string& item, const std::string& who, int64_t now_us) const;

 private:
  Status ReplayApply(const Node& event);

  uint64_t version_ = 0;
  uint64_t events_ = 0;
  std::string files_hash_;
  std::string head_;
  Node root_;
  std::map<std::string, CatalogPipeline> pipelines_;
  std::set<std::string> paused_sources_;
};

}  // namespace millstream
