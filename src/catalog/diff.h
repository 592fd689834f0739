// DiffProjects: what changes from one project to another, item by item; MergeRoots: what holds when files are
// applied over what is live.
//
// Place: floor 4. Used by start, `plan` and `apply`. Pure.
#pragma once

#include <string>
#include <vector>

#include "catalog/project.h"

namespace millstream {

struct Change {
  std::string path;    // "streams.orders", "pipelines.revenue.filters.gross"
  std::string change;  // add, edit, remove
  std::string how;     // live, backfill, rebuild, kept, refused
  std::string note;    // what that means, for people; may be empty
  bool operator==(const Change&) const = default;
};

/// Changes by path, in the order server, streams, sources, pipelines. What `after` lacks is `remove`, `kept`.
std::vector<Change> DiffProjects(const Project& before, const Project& after);

/// The files' tree, with the streams, sources and pipelines of `live` that it lacks.
Node MergeRoots(const Node& live, const Node& files);

}  // namespace millstream
