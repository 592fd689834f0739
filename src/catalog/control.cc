#include "catalog/control.h"

#include <charconv>

#include "base/text.h"
#include "catalog/digest.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr const char* kSections[] = {"streams", "sources", "pipelines"};

const std::string kNoText;

const std::string& Text(const Node& node, std::string_view name) {
  const Node* found = node.Find(name);
  return found != nullptr && found->IsScalar() ? found->scalar : kNoText;
}

uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

OffsetVector ToOffsets(const Node* node) {
  OffsetVector offsets;
  if (node == nullptr) return offsets;
  for (const auto& [partition, offset] : node->members) offsets[static_cast<uint32_t>(Number(partition))] = Number(offset.scalar);
  return offsets;
}

std::string OffsetsJson(const OffsetVector& offsets) {
  std::string json = "{";
  for (const auto& [partition, offset] : offsets) fmt::format_to(std::back_inserter(json), "{}\"{}\":{}", json.size() > 1 ? "," : "", partition, offset);
  return json + "}";
}

std::string Quoted(std::string_view text) {
  std::string json;
  AppendJsonString(json, text);
  return json;
}

/// The pipeline's own tree and those of the streams, as a project of its own.
std::string Definition(const Node& root, const std::string& name, const Node& pipeline) {
  Node project;
  project.kind = Node::Kind::kMap;
  if (const Node* streams = root.Find("streams")) {
    Node named;
    named.kind = Node::Kind::kMap;
    const std::string& from = Text(pipeline, "from");
    for (const auto& [stream, node] : streams->members)
      if (stream == from) named.members.emplace_back(stream, node);
    project.members.emplace_back("streams", std::move(named));
  }
  Node pipelines;
  pipelines.kind = Node::Kind::kMap;
  pipelines.members.emplace_back(name, pipeline);
  project.members.emplace_back("pipelines", std::move(pipelines));
  return ToJson(project);
}

}  // namespace

Status Catalog::Replay(std::string_view event) {
  Faults faults;
  Node node = ParseJson(event, "_control", faults);
  if (!faults.empty() || node.kind != Node::Kind::kMap) return Corrupt("event {} of _control is not a JSON object", events_);
  if (Text(node, "prev") != head_)
    return Corrupt("event {} of _control does not follow the one before it: its prev is '{}', expected '{}'", events_, Text(node, "prev"), head_);
  const std::string& kind = Text(node, "kind");
  const std::string& item = Text(node, "item");
  bool is_pause = kind == "paused";
  if (kind == "apply") {
    RETURN_IF_ERROR(ReplayApply(node));
  } else if (kind == "activated") {
    auto pipeline = pipelines_.find(Text(node, "pipeline"));
    if (pipeline == pipelines_.end()) return Corrupt("event {} of _control activates a pipeline that was never applied", events_);
    uint64_t number = Number(Text(node, "version"));
    for (CatalogVersion& version : pipeline->second.versions) {
      if (version.number != number) continue;
      version.activated = true;
      version.from = ToOffsets(node.Find("from"));
    }
  } else if ((is_pause || kind == "resumed") && item.starts_with("pipelines.")) {
    auto pipeline = pipelines_.find(item.substr(10));
    if (pipeline != pipelines_.end()) pipeline->second.paused = is_pause;
  } else if ((is_pause || kind == "resumed") && item.starts_with("sources.")) {
    if (is_pause) {
      paused_sources_.insert(item.substr(8));
    } else {
      paused_sources_.erase(item.substr(8));
    }
  }
  head_ = Sha256Hex(event);
  ++events_;
  return OkStatus();
}

Status Catalog::ReplayApply(const Node& event) {
  const Node* project = event.Find("project");
  if (project == nullptr) return Corrupt("event {} of _control is an apply without a project", events_);
  version_ = Number(Text(event, "version"));
  files_hash_ = Text(event, "files");
  root_ = *project;
  const Node* starts = event.Find("starts");
  const Node* pipelines = root_.Find("pipelines");
  for (auto& [name, entry] : pipelines_)
    if (pipelines == nullptr || pipelines->Find(name) == nullptr) entry.removed = true;
  if (pipelines == nullptr) return OkStatus();
  for (const auto& [name, node] : pipelines->members) {
    auto [it, is_new] = pipelines_.try_emplace(name);
    CatalogPipeline& entry = it->second;
    if (is_new || entry.removed) {
      ++entry.generation;
      entry.removed = false;
      entry.paused = false;
      entry.versions.clear();
      entry.start = starts == nullptr ? OffsetVector{} : ToOffsets(starts->Find(name));
    }
    std::string definition = Definition(root_, name, node);
    if (!entry.versions.empty() && entry.versions.back().definition == definition) continue;
    // A version that never held is replaced by the next.
    if (!entry.versions.empty() && !entry.versions.back().activated) entry.versions.pop_back();
    entry.versions.push_back({version_, std::move(definition), false, {}});
  }
  return OkStatus();
}

std::vector<CatalogChange> Catalog::Diff(const Node& files_root) const {
  std::vector<CatalogChange> changes;
  for (const char* section : kSections) {
    const Node* live = root_.Find(section);
    const Node* files = files_root.Find(section);
    if (files != nullptr) {
      for (const auto& [name, node] : files->members) {
        const Node* old = live == nullptr ? nullptr : live->Find(name);
        if (old == nullptr) {
          changes.push_back({CatalogChange::How::kAdd, fmt::format("{}.{}", section, name)});
        } else if (!(*old == node)) {
          changes.push_back({CatalogChange::How::kEdit, fmt::format("{}.{}", section, name)});
        }
      }
    }
    if (live == nullptr) continue;
    for (const auto& [name, node] : live->members)
      if (files == nullptr || files->Find(name) == nullptr) changes.push_back({CatalogChange::How::kKeep, fmt::format("{}.{}", section, name)});
  }
  return changes;
}

Node Catalog::Merge(const Node& files_root) const {
  Node merged = files_root;
  for (const char* section : kSections) {
    const Node* live = root_.Find(section);
    if (live == nullptr) continue;
    Node* into = nullptr;
    for (auto& [name, node] : merged.members)
      if (name == section) into = &node;
    if (into == nullptr) {
      merged.members.emplace_back(section, Node{});
      into = &merged.members.back().second;
    }
    into->kind = Node::Kind::kMap;
    for (const auto& [name, node] : live->members)
      if (into->Find(name) == nullptr) into->members.emplace_back(name, node);
  }
  return merged;
}

std::string Catalog::ApplyEvent(const Node& root, const std::string& files_hash, const std::vector<CatalogChange>& changes,
                                const std::map<std::string, OffsetVector>& starts, const std::string& who, int64_t now_us) const {
  std::string json = fmt::format("{{\"kind\":\"apply\",\"version\":{},\"who\":{},\"at\":\"{}\",\"files\":\"{}\",\"changes\":[", version_ + 1, Quoted(who),
                                 FormatTime(now_us), files_hash);
  bool is_first = true;
  for (const CatalogChange& change : changes) {
    const char* how = change.how == CatalogChange::How::kAdd ? "add" : change.how == CatalogChange::How::kEdit ? "edit" : "keep";
    fmt::format_to(std::back_inserter(json), "{}{{\"path\":{},\"change\":\"{}\"}}", is_first ? "" : ",", Quoted(change.path), how);
    is_first = false;
  }
  json += "],\"starts\":{";
  is_first = true;
  for (const auto& [name, start] : starts) {
    fmt::format_to(std::back_inserter(json), "{}{}:{}", is_first ? "" : ",", Quoted(name), OffsetsJson(start));
    is_first = false;
  }
  return json + fmt::format("}},\"project\":{},\"prev\":\"{}\"}}", ToJson(root), head_);
}

std::string Catalog::ActivatedEvent(const std::string& pipeline, uint64_t version, const OffsetVector& from, int64_t now_us) const {
  return fmt::format("{{\"kind\":\"activated\",\"pipeline\":{},\"version\":{},\"from\":{},\"at\":\"{}\",\"prev\":\"{}\"}}", Quoted(pipeline), version,
                     OffsetsJson(from), FormatTime(now_us), head_);
}

std::string Catalog::PlainEvent(const std::string& kind, const std::string& item, const std::string& who, int64_t now_us) const {
  return fmt::format("{{\"kind\":\"{}\",\"item\":{},\"who\":{},\"at\":\"{}\",\"prev\":\"{}\"}}", kind, Quoted(item), Quoted(who), FormatTime(now_us), head_);
}

}  // namespace millstream
