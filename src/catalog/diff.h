// DiffProjects: what changes from one project to another, item by item.
//
// Place: floor 4. Used by change_plan.h. Pure.
#pragma once

#include <string>
#include <vector>

#include "catalog/project.h"

namespace millstream {

struct Change {
  std::string path;    // "streams.orders", "pipelines.revenue.filters.gross"
  std::string change;  // add, edit, remove
  std::string how;     // live, backfill, rebuild, kept, refused, conflict
  std::string note;    // what that means, for people; may be empty
  bool operator==(const Change&) const = default;
};

/// Changes by path, in the order server, streams, sources, pipelines, commands.
std::vector<Change> DiffProjects(const Project& before, const Project& after);

}  // namespace millstream
