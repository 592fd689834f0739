#include "catalog/control.h"

#include <charconv>

#include "base/text.h"
#include "catalog/digest.h"

namespace millstream {
namespace {

const std::string kNoEvent(64, '0');  // `prev` of the first event

constexpr std::pair<ControlKind, std::string_view> kKindNames[] = {
    {ControlKind::kApply, "apply"},
    {ControlKind::kActivated, "activated"},
    {ControlKind::kPipelinePaused, "pipeline_paused"},
    {ControlKind::kPipelineResumed, "pipeline_resumed"},
    {ControlKind::kSourcePaused, "source_paused"},
    {ControlKind::kSourceResumed, "source_resumed"},
    {ControlKind::kTableDropped, "table_dropped"},
    {ControlKind::kStarted, "started"},
    {ControlKind::kStopped, "stopped"},
};

class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  ~ObjectWriter() { out_ += '}'; }
  ObjectWriter(const ObjectWriter&) = delete;
  std::string& Key(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    AppendJsonString(out_, name);
    out_ += ':';
    return out_;
  }
  void Text(std::string_view name, std::string_view text) { AppendJsonString(Key(name), text); }
  void Number(std::string_view name, uint64_t number) { Key(name) += std::to_string(number); }

 private:
  std::string& out_;
  bool first_ = true;
};

void AppendOffsets(std::string& out, const std::map<uint32_t, uint64_t>& offsets) {
  ObjectWriter object(out);
  for (const auto& [partition, offset] : offsets) object.Number(std::to_string(partition), offset);
}

template <typename T>
Result<T> ReadNumber(std::string_view text) {
  T value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return Fail(Corrupt("'{}' is not a number", text));
  return value;
}

std::string TextOf(const Node& node, std::string_view name) {
  const Node* member = node.Find(name);
  return member == nullptr ? "" : member->scalar;
}

Result<uint64_t> NumberOf(const Node& node, std::string_view name) {
  const Node* member = node.Find(name);
  return member == nullptr ? Result<uint64_t>(0) : ReadNumber<uint64_t>(member->scalar);
}

Result<std::map<uint32_t, uint64_t>> OffsetsOf(const Node& node, std::string_view name) {
  std::map<uint32_t, uint64_t> offsets;
  const Node* map = node.Find(name);
  if (map == nullptr) return offsets;
  for (const auto& [partition_text, offset_node] : map->members) {
    ASSIGN_OR_FAIL(uint32_t partition, ReadNumber<uint32_t>(partition_text));
    ASSIGN_OR_FAIL(uint64_t offset, ReadNumber<uint64_t>(offset_node.scalar));
    offsets[partition] = offset;
  }
  return offsets;
}

Status ReadApply(const Node& node, ControlEvent& event) {
  event.files_hash = TextOf(node, "files");
  event.is_edit = TextOf(node, "edit") == "true";
  if (const Node* root = node.Find("root")) event.root = *root;
  if (const Node* files = node.Find("files_root")) event.files = *files;
  if (const Node* generations = node.Find("generations")) {
    for (const auto& [name, value] : generations->members) {
      ASSIGN_OR_RETURN(event.generations[name], ReadNumber<uint64_t>(value.scalar));
    }
  }
  if (const Node* starts = node.Find("starts")) {
    for (const auto& [name, value] : starts->members) {
      Position& position = event.starts[name];
      position.stream = TextOf(value, "stream");
      ASSIGN_OR_RETURN(position.offsets, OffsetsOf(value, "next"));
    }
  }
  if (const Node* changes = node.Find("changes")) {
    for (const Node& change : changes->items)
      event.changes.push_back(
          {TextOf(change, "path"), TextOf(change, "change"), TextOf(change, "how"), TextOf(change, "note")});
  }
  return OkStatus();
}

void AppendApply(ObjectWriter& object, const ControlEvent& event) {
  object.Text("files", event.files_hash);
  if (event.is_edit) object.Key("edit") += "true";
  object.Key("root") += ToJson(event.root);
  if (event.files.kind != Node::Kind::kNull) object.Key("files_root") += ToJson(event.files);
  {
    ObjectWriter generations(object.Key("generations"));
    for (const auto& [name, generation] : event.generations) generations.Number(name, generation);
  }
  {
    ObjectWriter starts(object.Key("starts"));
    for (const auto& [name, position] : event.starts) {
      ObjectWriter start(starts.Key(name));
      start.Text("stream", position.stream);
      AppendOffsets(start.Key("next"), position.offsets);
    }
  }
  std::string& out = object.Key("changes");
  out += '[';
  for (size_t i = 0; i < event.changes.size(); ++i) {
    if (i > 0) out += ',';
    const Change& change = event.changes[i];
    ObjectWriter writer(out);
    writer.Text("path", change.path);
    writer.Text("change", change.change);
    writer.Text("how", change.how);
    if (!change.note.empty()) writer.Text("note", change.note);
  }
  out += ']';
}

// The event and its `prev`.
struct Link {
  ControlEvent event;
  std::string prev;
};

Result<Link> ParseLink(std::string_view json) {
  Faults faults;
  Node node = ParseJson(json, "", faults);
  if (!faults.empty()) return Fail(Corrupt("not a control event: {}", faults.front().message));
  Link link;
  ControlEvent& event = link.event;
  std::string kind = TextOf(node, "kind");
  auto known = std::find_if(std::begin(kKindNames), std::end(kKindNames),
                            [&](const auto& entry) { return entry.second == kind; });
  if (known == std::end(kKindNames))
    return Fail(Corrupt("unknown kind of control event '{}': was it written by a newer version?", kind));
  event.kind = known->first;
  link.prev = TextOf(node, "prev");
  event.who = TextOf(node, "who");
  auto when = ParseTimeUs(TextOf(node, "when"));
  if (!when) return Fail(Corrupt("control event without a time"));
  event.when_us = *when;
  event.name = TextOf(node, "name");
  event.program = TextOf(node, "program");
  ASSIGN_OR_FAIL(event.version, NumberOf(node, "version"));
  ASSIGN_OR_FAIL(event.generation, NumberOf(node, "generation"));
  ASSIGN_OR_FAIL(event.boundary, OffsetsOf(node, "boundary"));
  if (event.kind == ControlKind::kApply) FAIL_IF_ERROR(ReadApply(node, event));
  return link;
}

}  // namespace

std::string ControlEvent::ToJson(std::string_view prev) const {
  std::string out;
  {
    ObjectWriter object(out);
    auto named = std::find_if(std::begin(kKindNames), std::end(kKindNames),
                              [&](const auto& entry) { return entry.first == kind; });
    object.Text("kind", named->second);
    object.Text("prev", prev.empty() ? std::string_view(kNoEvent) : prev);
    object.Text("who", who);
    object.Text("when", FormatTime(when_us));
    if (!name.empty()) object.Text("name", name);
    if (version != 0) object.Number("version", version);
    if (kind == ControlKind::kApply) AppendApply(object, *this);
    if (kind == ControlKind::kActivated) {
      object.Number("generation", generation);
      AppendOffsets(object.Key("boundary"), boundary);
    }
    if (!program.empty()) object.Text("program", program);
  }
  return out;
}

Result<ControlEvent> ParseControlEvent(std::string_view json) {
  ASSIGN_OR_FAIL(Link link, ParseLink(json));
  return std::move(link.event);
}

uint64_t Catalog::LastGeneration(const std::string& pipeline) const {
  auto found = last_generations_.find(pipeline);
  return found == last_generations_.end() ? 0 : found->second;
}

namespace {

/// What decides whether two versions of a pipeline differ: its tree, and that of the stream which it reads.
std::pair<const Node*, const Node*> DefinitionOf(const Node& root, const std::string& pipeline) {
  const Node *pipelines = root.Find("pipelines"), *streams = root.Find("streams");
  const Node* item = pipelines == nullptr ? nullptr : pipelines->Find(pipeline);
  const Node* from = item == nullptr ? nullptr : item->Find("from");
  return {item, from == nullptr || streams == nullptr ? nullptr : streams->Find(from->scalar)};
}

bool AreSame(const Node* one, const Node* other) {
  return one == nullptr || other == nullptr ? one == other : *one == *other;
}

}  // namespace

bool IsSamePipeline(const Node& one, const Node& other, const std::string& pipeline) {
  auto [item, stream] = DefinitionOf(one, pipeline);
  auto [other_item, other_stream] = DefinitionOf(other, pipeline);
  return AreSame(item, other_item) && AreSame(stream, other_stream);
}

bool Catalog::IsPending(const std::string& pipeline) const {
  auto record = pipelines_.find(pipeline);
  if (record == pipelines_.end()) return false;
  return record->second.versions.empty() ||
         !IsSamePipeline(*record->second.versions.back().root, root_, pipeline);
}

void Catalog::Apply(const ControlEvent& event) {
  version_ = event.version;
  files_hash_ = event.files_hash;
  root_ = event.root;
  shared_root_ = std::make_shared<const Node>(root_);
  if (!event.is_edit)
    files_root_ =
        event.files.kind == Node::Kind::kNull ? shared_root_ : std::make_shared<const Node>(event.files);
  std::map<std::string, PipelineRecord> pipelines;
  for (const auto& [name, generation] : event.generations) {
    PipelineRecord& record = pipelines[name];
    auto known = pipelines_.find(name);
    if (known != pipelines_.end() && known->second.generation == generation) record = known->second;
    record.generation = generation;
    if (auto start = event.starts.find(name); start != event.starts.end()) record.start = start->second;
    uint64_t& last = last_generations_[name];
    last = std::max(last, generation);
  }
  pipelines_ = std::move(pipelines);
  std::erase_if(paused_sources_, [&](const std::string& name) {
    const Node* sources = root_.Find("sources");
    return sources == nullptr || sources->Find(name) == nullptr;
  });
}

Status Catalog::Replay(std::string_view event_json) {
  auto link = ParseLink(event_json);
  if (!link) return link.error().Within(fmt::format("_control, event {}", events_));
  if (link->prev != (last_hash_.empty() ? kNoEvent : last_hash_))
    return Corrupt(
        "_control, event {}: it does not continue the chain: an event before it was changed, left out or put "
        "in",
        events_);
  const ControlEvent& event = link->event;
  switch (event.kind) {
    case ControlKind::kApply:
      if (event.version <= version_)
        return Corrupt("_control, event {}: version {} after version {}", events_, event.version, version_);
      Apply(event);
      break;
    case ControlKind::kActivated:
      if (auto found = pipelines_.find(event.name);
          found != pipelines_.end() && found->second.generation == event.generation) {
        found->second.active_version = event.version;
        found->second.boundary = event.boundary;
        found->second.versions.push_back({event.version, event.boundary, shared_root_});
      }
      break;
    case ControlKind::kPipelinePaused:
    case ControlKind::kPipelineResumed:
      if (auto found = pipelines_.find(event.name); found != pipelines_.end())
        found->second.paused = event.kind == ControlKind::kPipelinePaused;
      break;
    case ControlKind::kSourcePaused:
      paused_sources_.insert(event.name);
      break;
    case ControlKind::kSourceResumed:
      paused_sources_.erase(event.name);
      break;
    case ControlKind::kTableDropped:
      break;
    case ControlKind::kStarted:
      running_ = true;
      break;
    case ControlKind::kStopped:
      running_ = false;
      break;
  }
  last_hash_ = Sha256Hex(event_json);
  ++events_;
  return OkStatus();
}

Status VerifyChain(const std::vector<std::string_view>& events) {
  Catalog catalog;
  for (std::string_view event : events) RETURN_IF_ERROR(catalog.Replay(event));
  return OkStatus();
}

}  // namespace millstream
