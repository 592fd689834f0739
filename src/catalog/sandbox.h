// SandboxRecord: what `_control` says of a sandbox: an isolated copy as of a vector.
//
// Place: floor 4. A value. Its `sandbox_created` event is what makes it: a folder that no such event names is
// what a crash left of a create, or of a drop, and goes at the next start.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "stage/node.h"

namespace millstream {

struct SandboxRecord {
  std::string name;
  std::string as_of;  // as it was asked for, or the time of its making
  std::string who;
  /// Where it left the live streams: by stream and partition the first offset that is not part of it.
  std::map<std::string, std::map<uint32_t, uint64_t>> ends;
  int64_t created_us = 0, expires_us = 0;
  uint64_t disk_bytes = 0;  // that it may hold
  bool with_files = false;  // made with other definitions than those that were live
  bool allow_exec = false;

  /// Without name, who and created_us, which the event has.
  std::string ToJson() const;
  static Result<SandboxRecord> FromNode(const Node& node);
};

}  // namespace millstream
