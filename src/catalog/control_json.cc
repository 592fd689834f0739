// ControlEvent as `_control` has it: to JSON and back.
#include "base/text.h"
#include "catalog/control.h"

namespace millstream {
namespace {

constexpr std::pair<ControlKind, std::string_view> kKindNames[] = {
    {ControlKind::kApply, "apply"},
    {ControlKind::kActivated, "activated"},
    {ControlKind::kPipelineEnded, "pipeline_ended"},
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

Result<uint64_t> NumberOf(const Node& node, std::string_view name) {
  const Node* member = node.Find(name);
  return member == nullptr ? Result<uint64_t>(0) : ReadNumber(member->scalar);
}

Status ReadApply(const Node& node, ControlEvent& event) {
  event.files_hash = node.TextOf("files");
  event.is_edit = node.TextOf("edit") == "true";
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
      position.stream = value.TextOf("stream");
      ASSIGN_OR_RETURN(position.offsets, ReadOffsets(value.Find("next")));
    }
  }
  if (const Node* changes = node.Find("changes")) {
    for (const Node& change : changes->items)
      event.changes.push_back(
          {change.TextOf("path"), change.TextOf("change"), change.TextOf("how"), change.TextOf("note")});
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
  ASSIGN_OR_RETURN(replay.letters, LetterSet::Parse(node.TextOf("letters")));
  ASSIGN_OR_RETURN(replay.appended, NumberOf(node, "appended"));
  ASSIGN_OR_RETURN(replay.sequence, NumberOf(node, "sequence"));
  ASSIGN_OR_RETURN(uint64_t slots, NumberOf(node, "slots"));
  event.slots = static_cast<uint32_t>(slots);
  const Node* parts = node.Find("parts");
  if (parts == nullptr) return OkStatus();
  for (const Node& item : parts->items) {
    ReplayPart& part = replay.parts.emplace_back();
    part.pipeline = item.TextOf("pipeline"), part.sink = item.TextOf("sink");
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

}  // namespace

std::string_view NameOf(ControlKind kind) {
  return std::find_if(std::begin(kKindNames), std::end(kKindNames),
                      [&](const auto& entry) { return entry.first == kind; })
      ->second;
}

Result<ControlEvent> ParseControlEvent(std::string_view json) {
  Faults faults;
  Node node = ParseJson(json, "", faults);
  if (!faults.empty()) return Fail(Corrupt("not a control event: {}", faults.front().message));
  ControlEvent event;
  std::string kind = node.TextOf("kind");
  auto known = std::find_if(std::begin(kKindNames), std::end(kKindNames),
                            [&](const auto& entry) { return entry.second == kind; });
  if (known == std::end(kKindNames))
    return Fail(Corrupt("unknown kind of control event '{}': was it written by a newer version?", kind));
  event.kind = known->first;
  event.prev = node.TextOf("prev");
  event.who = node.TextOf("who");
  auto when = ParseTimeUs(node.TextOf("when"));
  if (!when) return Fail(Corrupt("control event without a time"));
  event.when_us = *when;
  event.name = node.TextOf("name");
  event.program = node.TextOf("program");
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
  event.selection = node.TextOf("selection");
  event.sink = node.TextOf("sink");
  event.position = node.TextOf("position");
  ASSIGN_OR_FAIL(event.refused, NumberOf(node, "refused"));
  if (IsOfLetters(event.kind)) FAIL_IF_ERROR(ReadLetters(node, event));
  if (const Node* sandbox = node.Find("sandbox")) {
    ASSIGN_OR_FAIL(event.sandbox, SandboxRecord::FromNode(*sandbox));
  }
  return event;
}

std::string ControlEvent::ToJson(std::string_view prev_hash) const {
  std::string out;
  {
    ObjectWriter object(out);
    object.Text("kind", NameOf(kind));
    object.Text("prev", prev_hash.empty() ? std::string_view(kNoEventHash) : prev_hash);
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
    if (kind == ControlKind::kEventsSkipped || kind == ControlKind::kPipelineEnded) {
      object.Number("generation", generation);
      object.Text("sink", sink);
      AppendOffsets(object.Key("boundary"), boundary);
    }
    if (kind == ControlKind::kSandboxCreated) object.Key("sandbox") += sandbox.ToJson();
  }
  return out;
}

}  // namespace millstream
