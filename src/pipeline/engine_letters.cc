// Dead letters that go again or are dropped: which are taken is decided once and written to `_control`; the
// effect follows (engine_letters_again.cc).
#include "pipeline/engine_state.h"
#include "pipeline/object_text.h"

namespace millstream {
namespace {

constexpr uint64_t kLettersMax = 1'000'000;  // of one replay or drop
constexpr size_t kLeftShown = 100;

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

/// Whether it is being sent again to a pipeline that was removed, and has not come.
bool Engine::State::IsWaiting(const Catalog& catalog, const DeadLetter& letter, const std::string& stream) {
  if (letter.pipeline.empty() || catalog.pipelines().contains(letter.pipeline)) return false;
  const Writer to = WriterOf(letter);
  for (const uint64_t id : catalog.letters().Pending()) {
    const LetterReplay& replay = catalog.letters().replays().at(id);
    if (replay.stream != stream || !replay.letters.Contains(letter.number)) continue;
    for (const ReplayPart& part : replay.parts)
      if (Writer{part.pipeline, part.generation, part.sink} == to)
        return !HasCome(to, part.slot + static_cast<uint32_t>(letter.partition),
                        static_cast<uint64_t>(letter.offset));
  }
  return false;
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
  std::map<Writer, std::string> why_not;  // by where they go
  std::map<Writer, ReplayPart> parts;
  auto leave = [&](uint64_t number, std::string why) {
    if (++answer.left_count <= kLeftShown) answer.left.emplace_back(number, std::move(why));
  };
  auto take = [&](const DeadLetter& letter) {
    LetterState state = catalog.letters().StateOf(request.stream, letter.number);
    const bool is_given_up =
        state == LetterState::kReplaying && !again && IsWaiting(catalog, letter, request.stream);
    if (state != LetterState::kOpen && !is_given_up) {
      if (!request.ids.empty()) leave(letter.number, fmt::format("it is {} already", NameOf(state)));
      return;
    }
    if (again && letter.pipeline.empty()) {
      ++replay.appended;
    } else if (again) {
      auto [known, is_new] = why_not.try_emplace(WriterOf(letter));
      if (is_new) known->second = WhyNotAgain(letter, request.stream);
      if (!known->second.empty()) return leave(letter.number, known->second);
      if (std::string why = WhyNotYet(catalog, letter.rebuild); !why.empty())
        return leave(letter.number, std::move(why));
      if (catalog.WasRunAnew(letter.pipeline, letter.sink, letter.number, letter.rebuild))
        return leave(letter.number,
                     fmt::format("{} was made anew since, which ran its event again", letter.sink));
      if (!IsInLog(letter, request.stream))
        return leave(
            letter.number,
            fmt::format("event {} is not in the log any more; its bytes are in the letter", letter.event));
      parts[WriterOf(letter)] = {letter.pipeline, letter.sink, letter.generation,
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
