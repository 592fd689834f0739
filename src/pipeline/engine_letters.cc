// Dead letters that go again or are dropped: which are taken is decided once and written to `_control`; the
// effect follows, and is redone by a start that finds it unfinished (catalog/letters.h).
#include "base/logging.h"
#include "event/cloudevents.h"
#include "pipeline/engine_state.h"
#include "pipeline/gatherer.h"
#include "pipeline/letter_envelope.h"
#include "pipeline/object_text.h"

namespace millstream {
namespace {

constexpr uint64_t kLettersMax = 1'000'000;  // of one replay or drop
constexpr size_t kLeftShown = 100;
constexpr uint64_t kCommitEvents = 1000, kCommitBytes = 4 << 20;
constexpr int64_t kLookUs = 20'000, kRetryUs = 1'000'000;
constexpr size_t kReadablePast = 64;  // what the assembler may read after an event
constexpr char kPart[] = "letters";

std::string ReplayOrigin(const std::string& stream) { return "replay/" + stream; }

/// Letters of a replay by where they go.
using PartKey = std::tuple<std::string, uint64_t, std::string>;  // pipeline, generation, sink
PartKey KeyOf(const DeadLetter& letter) { return {letter.pipeline, letter.generation, letter.sink}; }

/// Whether the letter's table was made anew since, by another rebuild than `rebuild`, which refused it: that
/// has run its event.
bool WasRunAnew(const Catalog& catalog, const std::string& pipeline, const std::string& sink, uint64_t letter,
                uint64_t rebuild) {
  auto record = catalog.pipelines().find(pipeline);
  if (record == catalog.pipelines().end()) return false;
  auto made = record->second.rebuilt.find(sink);
  return made != record->second.rebuilt.end() && letter < made->second.letters_before.value_or(0) &&
         rebuild != made->second.replay;
}

/// Why a letter of this rebuild cannot go again; empty if it can.
std::string WhyNotYet(const Catalog& catalog, uint64_t rebuild) {
  auto record = catalog.replays().find(rebuild);
  if (record == catalog.replays().end() || record->second.state == ReplayRecord::State::kFinished) return "";
  return fmt::format("replay {}, which refused it, {}", rebuild,
                     record->second.is_open() ? "makes the table anew and has not ended" : "was cancelled");
}

}  // namespace

std::string LettersAnswer::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    object.Text("state", NameOf(state)).Number("letters", taken);
    if (replay > 0) object.Number("replay", replay);
    if (!position.empty()) object.Text("position", position);
    if (state != LetterState::kDropped) object.Number("refused", refused);
    if (!reason.empty()) object.Text("reason", reason);
    if (more) object.Json("more", "true");
    object.Number("left", left_count);
    object.Array("left_letters", left, [&](const std::pair<uint64_t, std::string>& letter) {
      ObjectText(out).Number("number", letter.first).Text("reason", letter.second);
    });
    object.Array("late", late, [&](const std::string& sink) { AppendJsonString(out, sink); });
  }
  return out;
}

/// Why letters of the pipeline and sink of this one cannot go again now; empty if they can.
std::string Engine::State::WhyNotAgain(const DeadLetter& letter, const std::string& stream) {
  Catalog catalog = control->catalog();
  auto record = catalog.pipelines().find(letter.pipeline);
  if (record == catalog.pipelines().end() || record->second.generation != letter.generation)
    return fmt::format("pipeline {}, which refused it, is not there any more", letter.pipeline);
  std::shared_ptr<PipelineRuntime> pipeline = FindPipeline(letter.pipeline);
  if (pipeline == nullptr || pipeline->stream_name() != stream)
    return fmt::format("pipeline {} does not run", letter.pipeline);
  auto refuses = pipeline->RefusesOlder(letter.sink);
  if (!refuses) return refuses.error().message();
  return refuses->empty() ? "" : fmt::format("sink {}: {}", letter.sink, *refuses);
}

bool Engine::State::IsInLog(const DeadLetter& letter, const std::string& stream) {
  Stream* source = log->Find(stream);
  if (source == nullptr || letter.partition < 0 || letter.partition >= source->partitions()) return false;
  uint64_t start = source->partition(static_cast<uint32_t>(letter.partition)).bounds().start;
  return letter.offset >= static_cast<int64_t>(start);
}

Status Engine::State::SelectLetters(const LettersRequest& request, bool again, LettersAnswer& answer,
                                    LetterReplay& replay) {
  Catalog catalog = control->catalog();
  std::map<PartKey, std::string> why_not;  // by where they go
  std::map<PartKey, ReplayPart> parts;
  auto leave = [&](uint64_t number, std::string why) {
    if (++answer.left_count <= kLeftShown) answer.left.emplace_back(number, std::move(why));
  };
  auto take = [&](const DeadLetter& letter) {
    LetterState state = catalog.letters().StateOf(request.stream, letter.number);
    if (state != LetterState::kOpen) {
      if (!request.ids.empty()) leave(letter.number, fmt::format("it is {} already", NameOf(state)));
      return;
    }
    if (again && letter.pipeline.empty()) {
      ++replay.appended;
    } else if (again) {
      auto [known, is_new] = why_not.try_emplace(KeyOf(letter));
      if (is_new) known->second = WhyNotAgain(letter, request.stream);
      if (!known->second.empty()) return leave(letter.number, known->second);
      if (std::string why = WhyNotYet(catalog, letter.rebuild); !why.empty())
        return leave(letter.number, std::move(why));
      if (WasRunAnew(catalog, letter.pipeline, letter.sink, letter.number, letter.rebuild))
        return leave(letter.number,
                     fmt::format("{} was made anew since, which ran its event again", letter.sink));
      if (!IsInLog(letter, request.stream))
        return leave(
            letter.number,
            fmt::format("event {} is not in the log any more; its bytes are in the letter", letter.event));
      parts[KeyOf(letter)] = {letter.pipeline, letter.sink, letter.generation,
                              catalog.pipelines().at(letter.pipeline).active_version, 0};
    }
    replay.letters.Insert(letter.number);
    ++answer.taken;
  };
  if (request.ids.empty()) {
    ASSIGN_OR_RETURN(uint64_t from, dead_letters->FirstSince(request.stream, request.selection));
    RETURN_IF_ERROR(dead_letters->Each(request.stream, from, [&](DeadLetter& letter) {
      if (!request.selection.Takes(letter)) return true;
      answer.more = answer.taken >= kLettersMax;
      if (!answer.more) take(letter);
      return !answer.more;
    }));
  }
  for (uint64_t number : std::set<uint64_t>(request.ids.begin(), request.ids.end())) {
    ASSIGN_OR_RETURN(DeadLetter letter, dead_letters->Get(request.stream, number));
    take(letter);
  }
  for (auto& [key, part] : parts) replay.parts.push_back(std::move(part));
  return OkStatus();
}

/// Sinks of the parts in which an older event stands after newer ones.
std::vector<std::string> Engine::State::LateSinks(const LetterReplay& replay) {
  std::vector<std::string> late;
  std::shared_lock lock(mutex);
  for (const ReplayPart& part : replay.parts) {
    auto pipeline = project->pipelines.find(part.pipeline);
    if (pipeline == project->pipelines.end()) continue;
    for (const SinkConfig& sink : pipeline->second.sinks)
      if (sink.id == part.sink && sink.kind != "table" && sink.kind != "drop") late.push_back(part.sink);
  }
  return late;
}

std::shared_ptr<const LetterBook> Engine::letters() const { return state_->control->letters(); }

Result<LettersAnswer> Engine::DropLetters(const LettersRequest& request) {
  State& s = *state_;
  LettersAnswer answer;
  answer.state = LetterState::kDropped;
  std::lock_guard lock(s.letters_mutex);
  ControlEvent event;
  event.kind = ControlKind::kDeadDropped;
  event.name = event.letters.stream = request.stream;
  event.who = request.who;
  event.selection = request.asked;
  FAIL_IF_ERROR(s.SelectLetters(request, false, answer, event.letters));
  if (answer.taken > 0) FAIL_IF_ERROR(s.control->Append(std::move(event)));
  return answer;
}

/// What a cancelled rebuild refused concerns nobody any more.
Status Engine::State::DropLettersOf(uint64_t rebuild, const std::string& stream, const std::string& who) {
  if (log->Find(DeadStreamName(stream)) == nullptr) return OkStatus();
  std::lock_guard lock(letters_mutex);
  ControlEvent event;
  event.kind = ControlKind::kDeadDropped;
  event.name = event.letters.stream = stream;
  event.who = who;
  event.selection = fmt::format("of replay {}, which was cancelled", rebuild);
  std::shared_ptr<const LetterBook> book = control->letters();
  RETURN_IF_ERROR(dead_letters->Each(stream, 0, [&](DeadLetter& letter) {
    if (letter.rebuild == rebuild && book->StateOf(stream, letter.number) == LetterState::kOpen)
      event.letters.letters.Insert(letter.number);
    return true;
  }));
  return event.letters.letters.empty() ? OkStatus() : control->Append(std::move(event));
}

Status Engine::State::FindObsolete(RunningReplay& replay, const ReplayRecord& record) {
  std::set<std::string> streams;
  for (const auto& [pipeline, start] : record.spec.starts) streams.insert(start.stream);
  for (const std::string& stream : streams) {
    RunningReplay::Obsolete& obsolete = replay.obsolete[stream];
    const uint64_t kept = dead_letters->Count(stream);
    if (obsolete.looked >= kept) continue;
    RETURN_IF_ERROR(dead_letters->Each(stream, obsolete.looked, [&](DeadLetter& letter) {
      if (letter.number >= kept) return false;
      auto generation = record.generations.find(letter.pipeline);
      if (letter.rebuild != record.spec.id && generation != record.generations.end() &&
          generation->second == letter.generation && record.spec.Remakes(letter.sink))
        obsolete.letters.Insert(letter.number);
      return true;
    }));
    obsolete.looked = kept;
  }
  return OkStatus();
}

Result<LettersAnswer> Engine::ReplayLetters(const LettersRequest& request, std::stop_token stop) {
  State& s = *state_;
  if (s.options.read_only) return Fail(Internal("a read-only engine replays nothing"));
  LettersAnswer answer;
  {
    std::lock_guard lock(s.letters_mutex);
    ControlEvent event;
    event.kind = ControlKind::kDeadReplay;
    event.name = event.letters.stream = request.stream;
    event.who = request.who;
    event.selection = request.asked;
    FAIL_IF_ERROR(s.SelectLetters(request, true, answer, event.letters));
    if (answer.taken == 0) {
      answer.state = LetterState::kReplayed;
      return answer;
    }
    event.slots = s.log->Find(request.stream)->partitions();
    s.control->letters()->Place(event.letters, event.slots);
    answer.replay = event.letters.id;
    answer.late = s.LateSinks(event.letters);
    FAIL_IF_ERROR(s.control->Append(std::move(event)));
  }
  bool runs_alone = !s.pipelines_started;  // no server: this is all that happens
  if (runs_alone) s.StartPipelines();
  s.letters_asked = true;
  s.letters_changed.notify_all();
  std::unique_lock lock(s.letter_replays_mutex);
  s.letters_changed.wait_for(lock, stop, std::chrono::microseconds(request.wait_us),
                             [&] { return s.letter_replays[answer.replay].finished; });
  const State::ActiveReplay& replay = s.letter_replays[answer.replay];
  if (replay.finished) answer.state = LetterState::kReplayed;
  answer.position = replay.position;
  answer.refused = replay.refused;
  answer.reason = replay.finished ? "" : replay.reason;
  lock.unlock();
  if (runs_alone) FAIL_IF_ERROR(s.DeliverToEnd(stop, [] {}));
  return answer;
}

/// Letters that ingest refused, once more through the contract. Receipts tell what was appended before.
Status Engine::State::AppendLetters(const LetterReplay& replay, ActiveReplay& active) {
  ASSIGN_OR_RETURN(std::shared_ptr<StreamIngest> ingest, IngestNamed(replay.stream));
  std::string origin = ReplayOrigin(replay.stream);
  OriginWriter writer(*ingest, origin);
  uint64_t sequence = replay.sequence;
  active.refused = 0;
  auto commit = [&]() -> Status {
    auto answer = writer.Commit(kPart, fmt::format("{}", sequence), false, false);
    if (!answer) return answer.error().status;
    active.refused += answer->quarantined;
    return OkStatus();
  };
  Status status;
  RETURN_IF_ERROR(dead_letters->Each(replay.stream, replay.letters.first(), [&](DeadLetter& letter) {
    if (letter.number > replay.letters.last()) return false;
    if (!letter.pipeline.empty() || !replay.letters.Contains(letter.number)) return true;
    ++sequence;
    letter.data.reserve(letter.data.size() + kReadablePast);
    std::string of = fmt::format("{}/{}", replay.stream, letter.number);
    if (!letter.is_cloud_event) {
      LetterEnvelope envelope(letter.envelope, of);
      writer.Add(kPart, envelope.view(), letter.data, sequence, letter.event, true, letter.number);
    } else if (auto event = ParseCloudEvent(letter.data); event) {
      std::string extensions = WithReplayOf(event->envelope.extensions.value_or(""), of);
      event->envelope.extensions = extensions;
      writer.Add(kPart, event->envelope, event->data, sequence, letter.event, true, letter.number);
    } else {
      writer.Refuse(kPart, letter.data, sequence, letter.event, {"json", "", event.error().message()},
                    letter.number);
    }
    if (writer.count() >= kCommitEvents || writer.bytes() >= kCommitBytes) status = commit();
    return status.ok();
  }));
  if (status.ok() && writer.count() > 0) status = commit();
  RETURN_IF_ERROR(status);
  Position position{replay.stream, {}};
  for (uint32_t p = 0; p < ingest->stream().partitions(); ++p) {
    auto receipt = ingest->stream().partition(p).FindReceipt(origin, kPart);
    if (receipt && receipt->events > 0 && LeadingNumber(receipt->position) > replay.sequence)
      position.offsets[p] = receipt->first_offset + receipt->events - 1;
  }
  if (!position.offsets.empty()) active.position = position.ToString();
  return OkStatus();
}

/// What each sink is to take. Letters of pipelines that are gone go nowhere, nor do those into a table that
/// was made anew since.
Status Engine::State::FindAgain(const LetterReplay& replay, ActiveReplay& active) {
  std::map<PartKey, PipelineRuntime::LettersAgain> again;
  Catalog catalog = control->catalog();
  // A cutover of an older release does not say which letters there were.
  auto is_made_anew = [&](const ReplayPart& part) {
    auto record = catalog.pipelines().find(part.pipeline);
    if (record == catalog.pipelines().end()) return false;
    auto made = record->second.rebuilt.find(part.sink);
    return made != record->second.rebuilt.end() && !made->second.letters_before &&
           made->second.version > part.version;
  };
  for (const ReplayPart& part : replay.parts)
    again[{part.pipeline, part.generation, part.sink}] = {replay.id, part.sink, part.slot, part.version, {}};
  RETURN_IF_ERROR(dead_letters->Each(replay.stream, replay.letters.first(), [&](DeadLetter& letter) {
    if (letter.number > replay.letters.last()) return false;
    if (letter.pipeline.empty() || !replay.letters.Contains(letter.number)) return true;
    if (WasRunAnew(catalog, letter.pipeline, letter.sink, letter.number, letter.rebuild)) return true;
    PipelineRuntime::LettersAgain& part = again[KeyOf(letter)];
    part.letters[static_cast<uint32_t>(letter.partition)][static_cast<uint64_t>(letter.offset)] =
        letter.number;
    part.last_letter = letter.number, part.last_rebuild = letter.rebuild;
    return true;
  }));
  for (const ReplayPart& part : replay.parts)
    if (is_made_anew(part)) again.erase({part.pipeline, part.generation, part.sink});
  std::erase_if(again, [](const auto& part) { return part.second.letters.empty(); });
  for (auto& [key, part] : again)
    active.again.push_back({std::get<0>(key), std::get<1>(key), std::move(part)});
  active.found = true;
  return OkStatus();
}

bool Engine::State::HasSink(const std::string& pipeline, const std::string& sink_id) const {
  std::shared_lock lock(mutex);
  auto config = project->pipelines.find(pipeline);
  return config != project->pipelines.end() && config->second.FindSink(sink_id) != nullptr;
}

/// True once nothing is left to be done for the parts of the replay.
Result<bool> Engine::State::DeliverLetters(ActiveReplay& active) {
  active.reason.clear();
  bool all = true;
  Catalog catalog = control->catalog();
  for (auto& [name, generation, part] : active.again) {
    auto record = catalog.pipelines().find(name);
    if (record == catalog.pipelines().end() || record->second.generation != generation) continue;
    // A replay's letters are all older than a cutover, or none is.
    if (WasRunAnew(catalog, name, part.sink, part.last_letter, part.last_rebuild)) continue;
    std::shared_ptr<PipelineRuntime> pipeline = FindPipeline(name);
    if (pipeline == nullptr) {
      all = false;
      active.reason = fmt::format("pipeline {} does not run", name);
      continue;
    }
    PipelineRuntime::ReplayState state = pipeline->ReplayOf(part.id, part.sink);
    if (!state.is_there) {
      Status status = pipeline->Replay(part);
      if (status.code() == Code::kNotFound) {  // gone for good, or being opened again
        if (!HasSink(name, part.sink)) continue;
        all = false;
        active.reason = fmt::format("{} is being opened", part.sink);
        continue;
      }
      FAIL_IF_ERROR(std::move(status));
    }
    all &= state.done;
    if (!state.reason.empty()) active.reason = fmt::format("{}: {}", part.sink, state.reason);
  }
  return all;
}

/// How many letters a pipeline has refused again, before a crash too. Its loops' receipts say whether there
/// is anything to be counted.
Result<uint64_t> Engine::State::CountRefused(const LetterReplay& replay) {
  uint64_t refused = 0;
  const Stream* stream = log->Find(replay.stream);
  const uint32_t partitions = stream == nullptr ? 0 : stream->partitions();
  bool has_letters = false;
  for (const ReplayPart& part : replay.parts)
    for (uint32_t p = 0; p < partitions; ++p)
      has_letters |= dead_letters
                         ->FindReceipt(replay.stream, LetterOrigin(part.pipeline, part.generation, part.sink),
                                       fmt::format("{}", part.slot + p))
                         .has_value();
  if (!has_letters) return refused;
  FAIL_IF_ERROR(dead_letters->Each(replay.stream, replay.letters.last() + 1, [&](DeadLetter& letter) {
    refused += letter.replay == replay.id;
    return true;
  }));
  return refused;
}

Status Engine::State::StepReplay(const LetterReplay& replay, ActiveReplay& active) {
  if (!active.found) RETURN_IF_ERROR(FindAgain(replay, active));
  if (!active.appended && replay.appended > 0) RETURN_IF_ERROR(AppendLetters(replay, active));
  active.appended = true;
  ASSIGN_OR_RETURN(bool done, DeliverLetters(active));
  if (!done) return OkStatus();
  ASSIGN_OR_RETURN(uint64_t refused, CountRefused(replay));
  ControlEvent event;
  event.kind = ControlKind::kDeadReplayed;
  event.name = replay.stream;
  event.who = options.who;
  event.letters.id = replay.id;
  event.position = active.position;
  event.refused = active.refused + refused;
  RETURN_IF_ERROR(control->Append(std::move(event)));
  active.refused += refused;
  active.finished = true;
  for (auto& [name, generation, part] : active.again)
    if (auto pipeline = FindPipeline(name)) pipeline->ForgetReplay(replay.id);
  active.again.clear();
  return OkStatus();
}

/// Tables take the rows of finished replays again that their file has lost: it was made anew, or lost its
/// newest commits with the power. What they have stored tells.
Status Engine::State::FindLostReplays(std::vector<ActiveReplay>& lost) {
  std::shared_ptr<const LetterBook> letters = control->letters();
  for (const auto& [id, replay] : letters->replays()) {
    bool has_table = std::any_of(replay.parts.begin(), replay.parts.end(),
                                 [](const ReplayPart& part) { return part.sink.starts_with("table:"); });
    if (!replay.finished || !has_table) continue;
    ActiveReplay active;
    RETURN_IF_ERROR(FindAgain(replay, active));
    std::erase_if(active.again, [&](auto& again) {
      auto& [name, generation, part] = again;
      std::shared_ptr<PipelineRuntime> pipeline = FindPipeline(name);
      if (!part.sink.starts_with("table:") || pipeline == nullptr || pipeline->generation() != generation)
        return true;
      std::erase_if(part.letters, [&, &part = part](const auto& entry) {
        auto stored = pipeline->StoredOf(part.sink, part.slot + entry.first);
        return !stored || *stored > entry.second.rbegin()->first;
      });
      return part.letters.empty();
    });
    if (!active.again.empty()) lost.push_back(std::move(active));
  }
  return OkStatus();
}

void Engine::State::RunLetterReplays(std::stop_token stop) {
  std::vector<ActiveReplay> lost;
  if (Status status = FindLostReplays(lost); !status.ok() && options.logger != nullptr)
    options.logger->Warn("replays of dead letters", {{"reason", status.message()}});
  while (!stop.stop_requested()) {
    int64_t wait_us = lost.empty() ? kRetryUs : kLookUs;
    std::erase_if(lost, [&](ActiveReplay& active) {
      auto done = DeliverLetters(active);
      if (!done || !*done) return false;
      for (auto& [name, generation, part] : active.again)
        if (auto pipeline = FindPipeline(name)) pipeline->ForgetReplay(part.id);
      return true;
    });
    std::shared_ptr<const LetterBook> letters = control->letters();
    for (uint64_t id : letters->Pending()) {
      ActiveReplay active;
      {
        std::lock_guard lock(letter_replays_mutex);
        active = letter_replays[id];
      }
      Status status = StepReplay(letters->replays().at(id), active);
      if (!status.ok()) active.reason = status.message();
      wait_us = status.ok() ? std::min(wait_us, kLookUs) : wait_us;
      if (active.reason != active.told && !active.reason.empty() && options.logger != nullptr)
        options.logger->Warn("a replay of dead letters waits",
                             {{"replay", fmt::format("{}", id)}, {"reason", active.reason}});
      active.told = active.reason;
      std::lock_guard lock(letter_replays_mutex);
      letter_replays[id] = std::move(active);
      letters_changed.notify_all();
    }
    std::unique_lock lock(letter_replays_mutex);
    letters_changed.wait_for(lock, stop, std::chrono::microseconds(wait_us),
                             [&] { return wait_us == kRetryUs && letters_asked.exchange(false); });
  }
}

Result<Position> Engine::SkipEvents(const std::string& name, const std::string& sink,
                                    std::optional<uint32_t> partition, uint64_t events,
                                    const std::string& who) {
  std::shared_ptr<PipelineRuntime> pipeline = state_->FindPipeline(name);
  if (pipeline == nullptr) return Fail(NotFound("no pipeline '{}' runs", name));
  ASSIGN_OR_FAIL(Boundary stuck, pipeline->StuckAt(sink, partition));
  if (stuck.empty())
    return Fail(Conflict("sink {} of pipeline {} {}", sink, name,
                         partition ? "has no event left there" : "goes on by itself; name a --partition"));
  Position to{pipeline->stream_name(), {}};
  for (auto& [p, offset] : stuck) {
    uint64_t end = state_->log->Find(pipeline->stream_name())->partition(p).bounds().durable_end;
    offset += std::min(events, end - offset);  // StuckAt names places before the end
    to.offsets[p] = offset - 1;
  }
  ControlEvent event;
  event.kind = ControlKind::kEventsSkipped;
  event.name = name;
  event.who = who;
  event.generation = pipeline->generation();
  event.sink = sink;
  event.boundary = stuck;
  FAIL_IF_ERROR(state_->control->Append(std::move(event)));
  pipeline->Skip(sink, stuck);
  return to;
}

}  // namespace millstream
