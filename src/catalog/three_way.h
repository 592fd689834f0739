// MergeItems: three trees of a project into one: what the last files said, what is live, what is proposed.
//
// Place: floor 4; of DecideChange. Pure.
#pragma once

#include <string>
#include <vector>

#include "stage/node.h"

namespace millstream {

struct MergedItems {
  Node root;                           // the proposal, with what was resolved otherwise
  std::vector<std::string> conflicts;  // paths that changed on both sides; left as they are live
  std::vector<std::string> live_only;  // paths that were changed live and that the proposal has as before
  std::vector<std::string> lacking;    // paths of live items that the proposal lacks; put into root
};

/// `keep_live`: what is in live_only stays as it is live. `force`: conflicts go to the proposal.
MergedItems MergeItems(const Node& base, const Node& live, const Node& proposed, bool keep_live, bool force);

/// A member of a map, to change it; null if it is not there.
Node* FindMember(Node& node, std::string_view name);

}  // namespace millstream
