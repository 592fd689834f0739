#include "catalog/control.h"

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
    {ControlKind::kPurged, "purged"},
    {ControlKind::kReplayStarted, "replay_started"},
    {ControlKind::kReplayPaused, "replay_paused"},
    {ControlKind::kReplayResumed, "replay_resumed"},
    {ControlKind::kReplayCancelled, "replay_cancelled"},
    {ControlKind::kReplayFinished, "replay_finished"},
    {ControlKind::kCutover, "cutover"},
    {ControlKind::kDeadReplay, "dead_replay"},
    {ControlKind::kDeadReplayed, "dead_replayed"},
    {ControlKind::kDeadDropped, "dead_dropped"},
    {ControlKind::kEventsSkipped, "events_skipped"},
    {ControlKind::kSandboxCreated, "sandbox_created"},
    {ControlKind::kSandboxDropped, "sandbox_dropped"},
    {ControlKind::kSandboxExpired, "sandbox_expired"},
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

std::string TextOf(const Node& node, std::string_view name) {
  const Node* member = node.Find(name);
  return member == nullptr ? "" : member->scalar;
}

Result<uint64_t> NumberOf(const Node& node, std::string_view name) {
  const Node* member = node.Find(name);
  return member == nullptr ? Result<uint64_t>(0) : ReadNumber(member->scalar);
}

Status ReadApply(const Node& node, ControlEvent& event) {
  event.files_hash = TextOf(node, "files");
  event.is_edit = TextOf(node, "edit") == "true";
  if (const Node* root = node.Find("root")) event.root = *root;
  if (const Node* files = node.Find("files_root")) event.files = *files;
  if (const Node* generations = node.Find("generations")) {
    for (const auto& [name, value] : generations->members) {
      ASSIGN_OR_RETURN(event.generations[name], ReadNumber(value.scalar));
    }
  }
  if (const Node* starts = node.Find("starts")) {
    for (const auto& [name, value] : starts->members) {
      Position& position = event.starts[name];
      position.stream = TextOf(value, "stream");
      ASSIGN_OR_RETURN(position.offsets, ReadOffsets(value.Find("next")));
    }
  }
  if (const Node* changes = node.Find("changes")) {
    for (const Node& change : changes->items)
      event.changes.push_back(
          {TextOf(change, "path"), TextOf(change, "change"), TextOf(change, "how"), TextOf(change, "note")});
  }
  if (const Node* purges = node.Find("purges"))
    for (const Node& stream : purges->items) event.purges.push_back(stream.scalar);
  if (const Node* before = node.Find("letters_before")) {
    for (const auto& [stream, count] : before->members) {
      ASSIGN_OR_RETURN(event.letters_before[stream], ReadNumber(count.scalar));
    }
  }
  if (const Node* obsolete = node.Find("obsolete_letters")) {
    for (const auto& [stream, letters] : obsolete->members) {
      ASSIGN_OR_RETURN(event.obsolete[stream], LetterSet::Parse(letters.scalar));
    }
  }
  if (const Node* rebuilt = node.Find("rebuilt"))
    for (const auto& [pipeline, sinks] : rebuilt->members)
      for (const Node& sink : sinks.items) event.rebuilt[pipeline].push_back(sink.scalar);
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
  if (!event.purges.empty()) AppendJsonStrings(object.Key("purges"), event.purges);
  if (event.rebuilt.empty()) return;
  {
    ObjectWriter before(object.Key("letters_before"));
    for (const auto& [stream, count] : event.letters_before) before.Number(stream, count);
  }
  if (!event.obsolete.empty()) {
    ObjectWriter obsolete(object.Key("obsolete_letters"));
    for (const auto& [stream, letters] : event.obsolete) obsolete.Text(stream, letters.ToText());
  }
  ObjectWriter rebuilt(object.Key("rebuilt"));
  for (const auto& [pipeline, sinks] : event.rebuilt) AppendJsonStrings(rebuilt.Key(pipeline), sinks);
}

Status ReadLetters(const Node& node, ControlEvent& event) {
  LetterReplay& replay = event.letters;
  replay.stream = event.name;
  ASSIGN_OR_RETURN(replay.id, NumberOf(node, "letter_replay"));
  ASSIGN_OR_RETURN(replay.letters, LetterSet::Parse(TextOf(node, "letters")));
  ASSIGN_OR_RETURN(replay.appended, NumberOf(node, "appended"));
  ASSIGN_OR_RETURN(replay.sequence, NumberOf(node, "sequence"));
  ASSIGN_OR_RETURN(uint64_t slots, NumberOf(node, "slots"));
  event.slots = static_cast<uint32_t>(slots);
  const Node* parts = node.Find("parts");
  if (parts == nullptr) return OkStatus();
  for (const Node& item : parts->items) {
    ReplayPart& part = replay.parts.emplace_back();
    part.pipeline = TextOf(item, "pipeline"), part.sink = TextOf(item, "sink");
    ASSIGN_OR_RETURN(part.generation, NumberOf(item, "generation"));
    ASSIGN_OR_RETURN(part.version, NumberOf(item, "version"));
    ASSIGN_OR_RETURN(uint64_t slot, NumberOf(item, "slot"));
    part.slot = static_cast<uint32_t>(slot);
  }
  return OkStatus();
}

void AppendLetters(ObjectWriter& object, const ControlEvent& event) {
  const LetterReplay& replay = event.letters;
  if (event.kind != ControlKind::kDeadDropped) object.Number("letter_replay", replay.id);
  if (event.kind == ControlKind::kDeadReplayed) {
    if (!event.position.empty()) object.Text("position", event.position);
    object.Number("refused", event.refused);
    return;
  }
  object.Text("letters", replay.letters.ToText());
  if (event.kind == ControlKind::kDeadDropped) return;
  object.Number("appended", replay.appended);
  object.Number("sequence", replay.sequence);
  object.Number("slots", event.slots);
  std::string& out = object.Key("parts");
  out += '[';
  for (const ReplayPart& part : replay.parts) {
    if (!out.ends_with('[')) out += ',';
    ObjectWriter writer(out);
    writer.Text("pipeline", part.pipeline);
    writer.Number("generation", part.generation);
    writer.Number("version", part.version);
    writer.Text("sink", part.sink);
    writer.Number("slot", part.slot);
  }
  out += ']';
}

bool IsOfLetters(ControlKind kind) {
  return kind == ControlKind::kDeadReplay || kind == ControlKind::kDeadReplayed ||
         kind == ControlKind::kDeadDropped;
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
  if (const Node* rates = node.Find("rates")) {
    for (const auto& [pipeline, rate] : rates->members) {
      ASSIGN_OR_FAIL(event.rates[pipeline], ReadNumber(rate.scalar));
    }
  }
  ASSIGN_OR_FAIL(event.version, NumberOf(node, "version"));
  ASSIGN_OR_FAIL(event.generation, NumberOf(node, "generation"));
  ASSIGN_OR_FAIL(event.boundary, ReadOffsets(node.Find("boundary")));
  if (event.is_apply()) FAIL_IF_ERROR(ReadApply(node, event));
  if (const Node* replay = node.Find("replay")) {
    ASSIGN_OR_FAIL(event.replay, ReplaySpec::FromNode(*replay));
  }
  ASSIGN_OR_FAIL(event.events, NumberOf(node, "events"));
  ASSIGN_OR_FAIL(event.dead_letters, NumberOf(node, "dead_letters"));
  event.selection = TextOf(node, "selection");
  event.sink = TextOf(node, "sink");
  event.position = TextOf(node, "position");
  ASSIGN_OR_FAIL(event.refused, NumberOf(node, "refused"));
  if (IsOfLetters(event.kind)) FAIL_IF_ERROR(ReadLetters(node, event));
  if (const Node* sandbox = node.Find("sandbox")) {
    ASSIGN_OR_FAIL(event.sandbox, SandboxRecord::FromNode(*sandbox));
  }
  return link;
}

}  // namespace

std::string ControlEvent::ToJson(std::string_view prev) const {
  std::string out;
  {
    ObjectWriter object(out);
    object.Text("kind", NameOf(kind));
    object.Text("prev", prev.empty() ? std::string_view(kNoEvent) : prev);
    object.Text("who", who);
    object.Text("when", FormatTime(when_us));
    if (!name.empty()) object.Text("name", name);
    if (version != 0) object.Number("version", version);
    if (is_apply()) AppendApply(object, *this);
    if (kind == ControlKind::kActivated) {
      object.Number("generation", generation);
      AppendOffsets(object.Key("boundary"), boundary);
    }
    if (!program.empty()) object.Text("program", program);
    if (!rates.empty()) {
      ObjectWriter each(object.Key("rates"));
      for (const auto& [pipeline, rate] : rates) each.Number(pipeline, rate);
    }
    if (kind == ControlKind::kReplayStarted)
      object.Key("replay") += replay.ToJson();
    else if (replay.id != 0)
      ObjectWriter(object.Key("replay")).Number("id", replay.id);
    if (events != 0) object.Number("events", events);
    if (dead_letters != 0) object.Number("dead_letters", dead_letters);
    if (!selection.empty()) object.Text("selection", selection);
    if (IsOfLetters(kind)) AppendLetters(object, *this);
    if (kind == ControlKind::kEventsSkipped) {
      object.Number("generation", generation);
      object.Text("sink", sink);
      AppendOffsets(object.Key("boundary"), boundary);
    }
    if (kind == ControlKind::kSandboxCreated) object.Key("sandbox") += sandbox.ToJson();
  }
  return out;
}

std::string_view NameOf(ControlKind kind) {
  return std::find_if(std::begin(kKindNames), std::end(kKindNames),
                      [&](const auto& entry) { return entry.first == kind; })
      ->second;
}

Result<ControlEvent> ParseControlEvent(std::string_view json) {
  ASSIGN_OR_FAIL(Link link, ParseLink(json));
  return std::move(link.event);
}

uint64_t Catalog::LastGeneration(const std::string& pipeline) const {
  auto found = last_generations_.find(pipeline);
  return found == last_generations_.end() ? 0 : found->second;
}

const PipelineRecord* Catalog::FindRemoved(const std::string& pipeline) const {
  auto found = removed_.find(pipeline);
  return found == removed_.end() ? nullptr : &found->second;
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
    if (is_adopted) record = adopted->second, record.paused = false;
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

std::string Catalog::head() const { return last_hash_.empty() ? kNoEvent : last_hash_; }

Status ChainCheck::Take(std::string_view event_json) {
  auto link = ParseLink(event_json);
  if (!link) return link.error().Within(fmt::format("event {}", events_));
  if (link->prev != head_) {
    auto place = places_.find(link->prev);
    if (place == places_.end() && link->prev != kNoEvent)
      return Corrupt(
          "event {} ({} at {}) follows an event that is not there: the one before it was changed, left out "
          "or "
          "put in",
          events_, NameOf(link->event.kind), FormatTime(link->event.when_us));
    return Corrupt(
        "event {} ({} at {}) follows {}, not event {}: events stand in another order, or were put in",
        events_, NameOf(link->event.kind), FormatTime(link->event.when_us),
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
