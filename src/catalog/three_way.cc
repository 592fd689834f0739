#include "catalog/three_way.h"

#include <algorithm>

namespace millstream {
namespace {

constexpr const char* kSections[] = {"streams", "sources", "pipelines", "commands"};

const Node* Find(const Node* node, std::string_view name) {
  return node == nullptr ? nullptr : node->Find(name);
}

bool Same(const Node* one, const Node* other) {
  return one == nullptr || other == nullptr ? one == other : *one == *other;
}

void Put(Node& map, const std::string& name, const Node* value) {
  map.kind = Node::Kind::kMap;
  auto found = std::find_if(map.members.begin(), map.members.end(),
                            [&](const auto& member) { return member.first == name; });
  if (value == nullptr) {
    if (found != map.members.end()) map.members.erase(found);
  } else if (found == map.members.end()) {
    map.members.emplace_back(name, *value);
  } else {
    found->second = *value;
  }
}

/// `- NAME: VALUE` entries by name.
using Named = std::vector<std::pair<std::string, const Node*>>;
Named FiltersOf(const Node* pipeline) {
  Named named;
  const Node* filters = Find(pipeline, "filters");
  if (filters == nullptr) return named;
  for (const Node& item : filters->items)
    if (item.members.size() == 1) named.emplace_back(item.members[0].first, &item.members[0].second);
  return named;
}
std::vector<std::string> NamesOf(const Named& named) {
  std::vector<std::string> names;
  for (const auto& [name, value] : named) names.push_back(name);
  return names;
}
const Node* Find(const Named& named, const std::string& name) {
  for (const auto& [each, value] : named)
    if (each == name) return value;
  return nullptr;
}

class Merger {
 public:
  Merger(bool keep_live, bool force) : keep_live_(keep_live), force_(force) {}

  /// Which of the two holds.
  const Node* Choose(const std::string& path, const Node* base, const Node* live, const Node* proposed) {
    if (Same(live, proposed) || Same(live, base)) return proposed;
    if (Same(proposed, base)) {
      merged.live_only.push_back(path);
      return keep_live_ ? live : proposed;
    }
    if (force_) return proposed;
    merged.conflicts.push_back(path);
    return live;
  }

  /// A pipeline that changed on both sides, part by part. False: its filters were added, removed or moved on
  /// both sides.
  bool MergePipeline(const std::string& path, const Node& base, const Node& live, const Node& proposed,
                     Node& result) {
    Named old_filters = FiltersOf(&base), live_filters = FiltersOf(&live), new_filters = FiltersOf(&proposed);
    std::vector<std::string> names = NamesOf(new_filters);
    if (NamesOf(live_filters) != names && NamesOf(live_filters) != NamesOf(old_filters)) {
      if (NamesOf(old_filters) != names) return false;
      merged.live_only.push_back(path + ".filters");
      if (keep_live_) names = NamesOf(live_filters);
    }
    result = proposed;
    Node filters;
    filters.kind = Node::Kind::kSequence;
    for (const std::string& name : names) {
      const Node *was = Find(old_filters, name), *is = Find(live_filters, name),
                 *is_to = Find(new_filters, name);
      const Node* value = is == nullptr      ? is_to
                          : is_to == nullptr ? is
                                             : Choose(path + ".filters." + name, was, is, is_to);
      Node item;
      Put(item, name, value);
      filters.items.push_back(std::move(item));
    }
    Put(result, "filters", filters.items.empty() ? nullptr : &filters);
    for (const Node* each : {&live, &proposed})
      for (const auto& [key, value] : each->members)
        if (key != "filters" && (each == &proposed || proposed.Find(key) == nullptr))
          Put(result, key, Choose(path + "." + key, base.Find(key), live.Find(key), proposed.Find(key)));
    return true;
  }

  MergedItems merged;

 private:
  const bool keep_live_, force_;
};

}  // namespace

Node* FindMember(Node& node, std::string_view name) {
  for (auto& [key, value] : node.members)
    if (key == name) return &value;
  return nullptr;
}

MergedItems MergeItems(const Node& base, const Node& live, const Node& proposed, bool keep_live, bool force) {
  Merger merger(keep_live, force);
  Node root = proposed;
  if (root.kind != Node::Kind::kMap) root.kind = Node::Kind::kMap;
  for (const char* section : kSections) {
    const Node* live_items = live.Find(section);
    if (live_items == nullptr) continue;
    for (const auto& [name, item] : live_items->members) {
      std::string path = std::string(section) + "." + name;
      const Node *was = Find(base.Find(section), name), *is_to = Find(proposed.Find(section), name);
      if (FindMember(root, section) == nullptr) root.members.emplace_back(section, Node());
      Node& items = *FindMember(root, section);
      if (is_to == nullptr) {
        merger.merged.lacking.push_back(path);
        Put(items, name, &item);
        continue;
      }
      bool both = was != nullptr && !(item == *is_to) && !(item == *was);
      Node merged;
      if (both && std::string_view(section) == "pipelines" &&
          merger.MergePipeline(path, *was, item, *is_to, merged)) {
        Put(items, name, &merged);
      } else {
        Node chosen = *merger.Choose(path, was, &item, is_to);
        Put(items, name, &chosen);
      }
    }
  }
  // What was removed live and stands in the files as it stood.
  for (const char* section : kSections) {
    const Node* items = proposed.Find(section);
    if (items == nullptr) continue;
    for (const auto& [name, item] : items->members) {
      const Node* was = Find(base.Find(section), name);
      if (was == nullptr || !(*was == item) || Find(live.Find(section), name) != nullptr) continue;
      merger.merged.live_only.push_back(std::string(section) + "." + name);
      if (keep_live) Put(*FindMember(root, section), name, nullptr);
    }
  }
  merger.merged.root = std::move(root);
  return std::move(merger.merged);
}

}  // namespace millstream
