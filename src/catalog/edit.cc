#include "catalog/edit.h"

#include <algorithm>

#include "base/fault.h"
#include "catalog/digest.h"
#include "catalog/three_way.h"

namespace millstream {
namespace {

std::vector<std::string> MemberNames(const Node* map) {
  std::vector<std::string> names;
  if (map != nullptr)
    for (const auto& [name, value] : map->members) names.push_back(name);
  return names;
}

Status NotThere(const char* kind, const std::string& name, const std::vector<std::string>& names) {
  std::string nearest = Nearest(name, names);
  return NotFound("no {} '{}'{}", kind, name,
                  nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

/// The pipeline's list of filters, made if it has none. Null: no such pipeline.
Node* FiltersOf(Node& root, const std::string& pipeline) {
  Node* pipelines = FindMember(root, "pipelines");
  Node* item = pipelines == nullptr ? nullptr : FindMember(*pipelines, pipeline);
  if (item == nullptr) return nullptr;
  if (FindMember(*item, "filters") == nullptr) item->members.emplace_back("filters", Node());
  Node* filters = FindMember(*item, "filters");
  filters->kind = Node::Kind::kSequence;
  return filters;
}

std::string NameOf(const Node& entry) { return entry.members.empty() ? "" : entry.members[0].first; }

std::vector<std::string> NamesOf(const Node& filters) {
  std::vector<std::string> names;
  for (const Node& entry : filters.items) names.push_back(NameOf(entry));
  return names;
}

auto FindEntry(Node& filters, const std::string& name) {
  return std::find_if(filters.items.begin(), filters.items.end(),
                      [&](const Node& entry) { return NameOf(entry) == name; });
}

}  // namespace

Result<Node> EditItem(const Node& root, const std::string& section, const std::string& name,
                      const std::optional<Node>& value) {
  Node edited = root;
  edited.kind = Node::Kind::kMap;
  if (FindMember(edited, section) == nullptr) edited.members.emplace_back(section, Node());
  Node& items = *FindMember(edited, section);
  items.kind = Node::Kind::kMap;
  Node* item = FindMember(items, name);
  if (!value && item == nullptr)
    return Fail(NotThere(section.substr(0, section.size() - 1).c_str(), name, MemberNames(&items)));
  if (!value) {
    std::erase_if(items.members, [&](const auto& member) { return member.first == name; });
  } else if (item == nullptr) {
    items.members.emplace_back(name, *value);
  } else {
    *item = *value;
  }
  return edited;
}

Result<Node> EditFilter(const Node& root, const FilterEdit& edit) {
  Node edited = root;
  Node* filters = FiltersOf(edited, edit.pipeline);
  if (filters == nullptr)
    return Fail(NotThere("pipeline", edit.pipeline, MemberNames(root.Find("pipelines"))));
  auto found = FindEntry(*filters, edit.filter);
  bool is_new = found == filters->items.end();
  if (!is_new && edit.must_be_new)
    return Fail(Conflict("pipeline {} has a filter '{}' already; `filter set` changes it", edit.pipeline,
                         edit.filter));
  if (is_new && !edit.value) return Fail(NotThere("filter", edit.filter, NamesOf(*filters)));
  Node entry;
  if (is_new) {
    entry.kind = Node::Kind::kMap;
    entry.members.emplace_back(edit.filter, *edit.value);
  } else {
    entry = *found;
    if (edit.value) entry.members[0].second = *edit.value;
  }
  const std::string& beside = edit.before.empty() ? edit.after : edit.before;
  if (beside.empty()) {
    if (is_new)
      filters->items.push_back(std::move(entry));
    else
      *found = std::move(entry);
    return edited;
  }
  if (!is_new) filters->items.erase(found);
  auto place = FindEntry(*filters, beside);
  if (place == filters->items.end()) return Fail(NotThere("filter", beside, NamesOf(*filters)));
  filters->items.insert(edit.before.empty() ? place + 1 : place, std::move(entry));
  return edited;
}

Result<Node> RemoveFilter(const Node& root, const std::string& pipeline, const std::string& filter) {
  Node edited = root;
  Node* filters = FiltersOf(edited, pipeline);
  if (filters == nullptr) return Fail(NotThere("pipeline", pipeline, MemberNames(root.Find("pipelines"))));
  auto found = FindEntry(*filters, filter);
  if (found == filters->items.end()) return Fail(NotThere("filter", filter, NamesOf(*filters)));
  filters->items.erase(found);
  Node* item = FindMember(*FindMember(edited, "pipelines"), pipeline);
  if (filters->items.empty())
    std::erase_if(item->members, [](const auto& member) { return member.first == "filters"; });
  return edited;
}

Node WithDefinitions(const Node& root, const Definitions& definitions) {
  Node next = root;
  for (const auto& [section, changed] :
       {std::pair("streams", &definitions.streams), {"pipelines", &definitions.pipelines}}) {
    Node* items = FindMember(next, section);
    for (const auto& [name, definition] : *changed)
      if (Node* item = items == nullptr ? nullptr : FindMember(*items, name)) *item = definition;
  }
  return next;
}

const Node* FindPath(const Node& root, const std::string& path) {
  const Node* node = &root;
  size_t begin = 0;
  while (node != nullptr && begin < path.size()) {
    size_t end = path.find('.', begin);
    std::string name = path.substr(begin, end == std::string::npos ? end : end - begin);
    begin = end == std::string::npos ? path.size() : end + 1;
    if (node->kind == Node::Kind::kSequence) {  // of filters; sinks have no name to find them by
      auto entry = std::find_if(node->items.begin(), node->items.end(),
                                [&](const Node& each) { return NameOf(each) == name; });
      node = entry == node->items.end() ? nullptr : &entry->members[0].second;
    } else {
      node = node->Find(name);
    }
  }
  return node;
}

std::string EtagOf(const Node& definition) { return Sha256Hex(ToJson(definition)).substr(0, 16); }

std::vector<std::string> UnknownPrograms(const Node& root, const std::vector<const Node*>& known) {
  std::vector<std::string> paths;
  const Node* pipelines = root.Find("pipelines");
  if (pipelines == nullptr) return paths;
  for (const auto& [name, pipeline] : pipelines->members) {
    const Node* filters = pipeline.Find("filters");
    if (filters == nullptr) continue;
    for (const Node& entry : filters->items) {
      if (entry.members.empty() || entry.members[0].second.Find("exec") == nullptr) continue;
      std::string path = fmt::format("pipelines.{}.filters.{}", name, entry.members[0].first);
      auto has = [&](const Node* each) {
        const Node* there = FindPath(*each, path);
        return there != nullptr && *there == entry.members[0].second;
      };
      if (std::none_of(known.begin(), known.end(), has)) paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace millstream
