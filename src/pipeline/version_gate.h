// VersionGate: the versions of one pipeline while it runs, and the gate at which its loops stand for the
// moment in which the next version takes over.
//
// Place: floor 5; one a PipelineRuntime, shared by its loops. catalog/ownership.h decides; this is the lock
// around it. Threads: thread-safe. A change calls Hold, makes the boundary durable, and Activate, or Release
// if that failed; only one change is under way at a time.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "catalog/ownership.h"
#include "catalog/project.h"

namespace millstream {

/// A version of a pipeline and from which offset of each partition it holds; a partition that is not named:
/// from its start.
struct PipelineVersion {
  uint64_t number = 0;
  PipelineConfig config;
  StreamConfig stream;
  Boundary from;
};

class VersionGate {
 public:
  /// `versions` ascending, at least one; the first holds from the start.
  explicit VersionGate(std::vector<std::shared_ptr<const PipelineVersion>> versions);

  std::shared_ptr<const PipelineVersion> latest() const;
  std::vector<std::shared_ptr<const PipelineVersion>> versions() const;

  struct Owner {
    std::shared_ptr<const PipelineVersion> version;
    uint64_t end = UINT64_MAX;  // the first offset that another version owns
  };
  /// `since`: as Ownership has it.
  Owner OwnerOf(uint32_t partition, uint64_t offset, uint64_t since = 0) const;

  /// Whether the loop may make [first, next) durable as `version` made it; waits while a change decides.
  /// False: another version owns some of it by now, or a stop is asked.
  bool Claim(uint32_t partition, uint64_t version, uint64_t first, uint64_t next, std::stop_token stop,
             uint64_t since = 0);
  void Delivered(uint32_t partition, uint64_t next);

  Boundary Hold();
  void Release();
  void Activate(std::shared_ptr<const PipelineVersion> version);

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any released_;
  Ownership ownership_;
  std::vector<std::shared_ptr<const PipelineVersion>> versions_;
};

}  // namespace millstream
