#include "catalog/control.h"

#include "base/text.h"
#include "catalog/digest.h"

namespace millstream {

uint64_t Catalog::LastGeneration(const std::string& pipeline) const {
  auto found = last_generations_.find(pipeline);
  return found == last_generations_.end() ? 0 : found->second;
}

const PipelineRecord* Catalog::FindRemoved(const std::string& pipeline) const {
  auto found = removed_.find(pipeline);
  return found == removed_.end() ? nullptr : &found->second;
}

bool Catalog::MayRun(const std::string& pipeline, uint64_t generation) const {
  auto lives = pipelines_.find(pipeline);
  const PipelineRecord* record = lives != pipelines_.end() ? &lives->second : FindRemoved(pipeline);
  return record != nullptr && record->generation == generation;
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

std::map<std::string, PipelineRecord> PipelinesAfter(const ControlEvent& event,
                                                     std::map<std::string, PipelineRecord> before,
                                                     std::map<std::string, PipelineRecord>& removed) {
  std::map<std::string, PipelineRecord> after;
  for (const auto& [name, generation] : event.generations) {
    PipelineRecord& record = after[name];
    auto known = before.find(name), adopted = removed.find(name);
    const bool goes_on = known != before.end() && known->second.generation == generation;
    const bool is_adopted =
        known == before.end() && adopted != removed.end() && adopted->second.generation == generation;
    if (goes_on) record = std::move(known->second);
    if (is_adopted) record = adopted->second, record.paused = false, record.ended.clear();
    record.generation = generation;
    auto start = event.starts.find(name);
    if (start != event.starts.end() && !is_adopted) record.start = start->second;
  }
  for (auto& [name, record] : before)
    if (!after.contains(name)) removed[name] = std::move(record);
  return after;
}

void Catalog::Apply(const ControlEvent& event) {
  version_ = event.version;
  files_hash_ = event.files_hash;
  root_ = event.root;
  shared_root_ = std::make_shared<const Node>(root_);
  if (!event.is_edit)
    files_root_ =
        event.files.kind == Node::Kind::kNull ? shared_root_ : std::make_shared<const Node>(event.files);
  pipelines_ = PipelinesAfter(event, std::move(pipelines_), removed_);
  for (const auto& [name, generation] : event.generations) {
    uint64_t& last = last_generations_[name];
    last = std::max(last, generation);
  }
  std::erase_if(paused_sources_, [&](const std::string& name) {
    const Node* sources = root_.Find("sources");
    return sources == nullptr || sources->Find(name) == nullptr;
  });
  purges_.insert(event.purges.begin(), event.purges.end());
}

Status Catalog::Replay(std::string_view event_json) {
  auto parsed = ParseControlEvent(event_json);
  if (!parsed) return parsed.error().Within(fmt::format("_control, event {}", events_));
  const ControlEvent& event = *parsed;
  if (event.prev != (last_hash_.empty() ? kNoEventHash : last_hash_))
    return Corrupt(
        "_control, event {}: it does not continue the chain: an event before it was changed, left out or put "
        "in",
        events_);
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
    case ControlKind::kPipelineEnded:
      if (auto found = removed_.find(event.name);
          found != removed_.end() && found->second.generation == event.generation)
        found->second.ended[event.sink] = event.boundary;
      break;
    case ControlKind::kPipelinePaused:
    case ControlKind::kPipelineResumed:
      if (auto found = pipelines_.find(event.name); found != pipelines_.end()) {
        found->second.paused = event.kind == ControlKind::kPipelinePaused;
        found->second.paused_because = event.selection;
      }
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
      if (!event.rates.empty()) rates_ = event.rates;
      break;
    case ControlKind::kPurged: {
      purges_.erase(event.name);
      auto letters = std::make_shared<LetterBook>(*letters_);
      letters->Forget(event.name);
      letters_ = std::move(letters);
      break;
    }
    case ControlKind::kDeadReplay:
    case ControlKind::kDeadReplayed:
    case ControlKind::kDeadDropped:
      RETURN_IF_ERROR(ReplayLetters(event).Within(fmt::format("_control, event {}", events_)));
      break;
    case ControlKind::kEventsSkipped:
      if (auto found = pipelines_.find(event.name);
          found != pipelines_.end() && found->second.generation == event.generation) {
        for (const auto& [partition, end] : event.boundary) {
          uint64_t& known = found->second.skips[event.sink][partition];
          known = std::max(known, end);
        }
      }
      break;
    case ControlKind::kSandboxCreated:
    case ControlKind::kSandboxDropped:
    case ControlKind::kSandboxExpired:
      ApplySandbox(event);
      break;
    case ControlKind::kCutover:
      Apply(event);
      ApplyCutover(event);
      ApplyReplay(event);
      break;
    default:
      ApplyReplay(event);
      break;
  }
  last_hash_ = Sha256Hex(event_json);
  ++events_;
  return OkStatus();
}

std::string Catalog::head() const { return last_hash_.empty() ? kNoEventHash : last_hash_; }

Status ChainCheck::Take(std::string_view event_json) {
  auto event = ParseControlEvent(event_json);
  if (!event) return event.error().Within(fmt::format("event {}", events_));
  if (event->prev != head_) {
    auto place = places_.find(event->prev);
    if (place == places_.end() && event->prev != kNoEventHash)
      return Corrupt(
          "event {} ({} at {}) follows an event that is not there: the one before it was changed, left out "
          "or "
          "put in",
          events_, NameOf(event->kind), FormatTime(event->when_us));
    return Corrupt(
        "event {} ({} at {}) follows {}, not event {}: events stand in another order, or were put in",
        events_, NameOf(event->kind), FormatTime(event->when_us),
        place == places_.end() ? "nothing" : fmt::format("event {}", place->second), events_ - 1);
  }
  head_ = Sha256Hex(event_json);
  places_.emplace(head_, events_++);
  return OkStatus();
}

std::optional<uint64_t> ChainCheck::Find(std::string_view head) const {
  auto place = places_.find(head);
  return place == places_.end() ? std::nullopt : std::optional(place->second);
}

}  // namespace millstream
