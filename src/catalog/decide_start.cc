// DecideStart: what `run` does about the project's files and what `_control` holds.
#include "catalog/control.h"

namespace millstream {
namespace {

Node* Find(Node& node, std::string_view name) {
  for (auto& [key, value] : node.members)
    if (key == name) return &value;
  return nullptr;
}

// A refused change leaves the old definition of its item.
void KeepOld(Node& root, const Node& live, const std::string& section, const std::string& name) {
  Node* items = Find(root, section);
  Node* item = items == nullptr ? nullptr : Find(*items, name);
  const Node* old_items = live.Find(section);
  const Node* old_item = old_items == nullptr ? nullptr : old_items->Find(name);
  if (item != nullptr && old_item != nullptr) *item = *old_item;
}

// "pipelines.revenue.from" → {"pipelines", "revenue", "from"}
struct PathParts {
  std::string section, name, rest;
};
PathParts PartsOf(const std::string& path) {
  size_t first = path.find('.');
  if (first == std::string::npos) return {path, "", ""};
  size_t second = path.find('.', first + 1);
  if (second == std::string::npos) return {path.substr(0, first), path.substr(first + 1), ""};
  return {path.substr(0, first), path.substr(first + 1, second - first - 1), path.substr(second + 1)};
}

const Node* NodeAt(const Node& root, const PathParts& parts) {
  const Node* node = root.Find(parts.section);
  for (const std::string& name : {parts.name, parts.rest}) {
    if (node == nullptr || name.empty()) break;
    const Node* child = node->Find(name);
    if (child == nullptr) break;
    node = child;
  }
  return node;
}

}  // namespace

StartDecision DecideStart(const Project& files, const Project& live, const Catalog& catalog) {
  StartDecision decision;
  decision.version = catalog.version();
  decision.root = catalog.root();
  for (const auto& [name, record] : catalog.pipelines()) decision.generations[name] = record.generation;
  if (catalog.version() != 0 && files.hash == catalog.files_hash()) return decision;

  decision.apply = true;
  decision.version = catalog.version() + 1;
  decision.root = MergeRoots(catalog.root(), files.root);
  decision.changes = DiffProjects(live, files);
  for (const Change& change : decision.changes) {
    if (change.how == "kept" && change.change == "remove")
      decision.notices.push_back(fmt::format("{} is not in the files and goes on as it is", change.path));
    if (change.how != "refused" && change.how != "rebuild") continue;
    PathParts parts = PartsOf(change.path);
    const Node* node = NodeAt(files.root, parts);
    Fault fault = node == nullptr ? Fault() : FaultAt(*node, change.path, "");
    fault.path = change.path;
    fault.message = change.how == "refused" ? "cannot be changed" : "cannot be changed in place";
    fault.hint = change.note;
    decision.refused.push_back(std::move(fault));
    KeepOld(decision.root, catalog.root(), parts.section, parts.name);
  }
  decision.generations.clear();
  const Node* pipelines = decision.root.Find("pipelines");
  if (pipelines == nullptr) return decision;
  for (const auto& [name, node] : pipelines->members) {
    auto record = catalog.pipelines().find(name);
    bool known = record != catalog.pipelines().end();
    decision.generations[name] = known ? record->second.generation : catalog.LastGeneration(name) + 1;
    if (!known) decision.new_pipelines.push_back(name);
  }
  return decision;
}

}  // namespace millstream
