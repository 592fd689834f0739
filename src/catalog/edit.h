// Edits of the definitions that are live, as PUT, DELETE and `filter add|set|move|remove` make them.
//
// Place: floor 4. Pure: each answers the new tree; what it means is checked as for files. Failure: kNotFound
// names the nearest; kConflict: there is one already.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "stage/node.h"

namespace millstream {

/// One of `section` (streams, sources, pipelines, commands), made or replaced; no value: removed.
Result<Node> EditItem(const Node& root, const std::string& section, const std::string& name,
                      const std::optional<Node>& value);

struct FilterEdit {
  std::string pipeline, filter;
  std::optional<Node> value;  // none: it stays as it is, and is moved
  std::string before, after;  // where it goes: beside another; neither: where it is, a new one last
  bool must_be_new = false;
};
Result<Node> EditFilter(const Node& root, const FilterEdit& edit);
Result<Node> RemoveFilter(const Node& root, const std::string& pipeline, const std::string& filter);

/// Items as they are to be, by name: what changes together with tables that are made anew.
struct Definitions {
  std::map<std::string, Node> pipelines, streams;
  bool empty() const { return pipelines.empty() && streams.empty(); }
};
/// `root` with these in the place of those that are there.
Node WithDefinitions(const Node& root, const Definitions& definitions);

/// What a path of a Change names in a tree; null if there is none.
const Node* FindPath(const Node& root, const std::string& path);
/// 16 hex digits of what a definition says, for ETag.
std::string EtagOf(const Node& definition);
/// Paths of `exec` filters of `root` that none of `known` has just so: programs are named by the project's
/// files only.
std::vector<std::string> UnknownPrograms(const Node& root, const std::vector<const Node*>& known);

}  // namespace millstream
