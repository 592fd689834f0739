// Dead letters that go again: what was decided (engine_letters.cc) takes effect, in steps that each look at
// what is there already, so that they can be done again after a crash (catalog/letters.h).
#include "base/logging.h"
#include "event/cloudevents.h"
#include "event/json_scan.h"
#include "pipeline/engine_state.h"
#include "pipeline/gatherer.h"
#include "pipeline/letter_envelope.h"

namespace millstream {
namespace {

constexpr uint64_t kLettersCommit = 1000, kLettersCommitBytes = 4 << 20;
constexpr int64_t kLookUs = 20'000, kRetryUs = 1'000'000;
constexpr char kPart[] = "letters";

std::string ReplayOrigin(const std::string& stream) { return "replay/" + stream; }

}  // namespace

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
    letter.data.reserve(letter.data.size() + kJsonPadding);
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
    if (writer.count() >= kLettersCommit || writer.bytes() >= kLettersCommitBytes) status = commit();
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
  std::map<Writer, PipelineRuntime::LettersAgain> again;
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
  active.again.clear();
  active.found = replay.letters.count();
  if (replay.letters.empty()) return OkStatus();
  RETURN_IF_ERROR(dead_letters->Each(replay.stream, replay.letters.first(), [&](DeadLetter& letter) {
    if (letter.number > replay.letters.last()) return false;
    if (letter.pipeline.empty() || !replay.letters.Contains(letter.number)) return true;
    if (catalog.WasRunAnew(letter.pipeline, letter.sink, letter.number, letter.rebuild)) return true;
    PipelineRuntime::LettersAgain& part = again[WriterOf(letter)];
    part.letters[static_cast<uint32_t>(letter.partition)][static_cast<uint64_t>(letter.offset)] =
        letter.number;
    part.last_letter = letter.number, part.last_rebuild = letter.rebuild;
    return true;
  }));
  for (const ReplayPart& part : replay.parts)
    if (is_made_anew(part)) again.erase({part.pipeline, part.generation, part.sink});
  std::erase_if(again, [](const auto& part) { return part.second.letters.empty(); });
  for (auto& [to, part] : again) active.again.push_back({to, std::move(part)});
  return OkStatus();
}

bool Engine::State::HasSink(const std::string& pipeline, const std::string& sink_id) const {
  std::shared_lock lock(mutex);
  auto config = project->pipelines.find(pipeline);
  return config != project->pipelines.end() && config->second.FindSink(sink_id) != nullptr;
}

/// True once nothing is left to be done for the parts of the replay. Letters of a pipeline that was removed
/// wait: it may be taken back as it stood.
Result<bool> Engine::State::DeliverLetters(ActiveReplay& active) {
  active.reason.clear();
  bool all = true, waits = false, works = false;
  Catalog catalog = control->catalog();
  for (const auto& [to, part] : active.again) {
    if (!catalog.MayRun(to.pipeline, to.generation)) continue;
    // A replay's letters are all older than a cutover, or none is.
    if (catalog.WasRunAnew(to.pipeline, part.sink, part.last_letter, part.last_rebuild)) continue;
    std::shared_ptr<PipelineRuntime> pipeline = FindPipeline(to.pipeline);
    if (pipeline == nullptr) {
      const bool is_removed = !catalog.pipelines().contains(to.pipeline);
      all = false, waits |= is_removed, works |= !is_removed;
      active.reason = is_removed ? fmt::format(
                                       "pipeline {} was removed: it takes its letters once it is taken back "
                                       "(adopt: true), or drop them",
                                       to.pipeline)
                                 : fmt::format("pipeline {} does not run", to.pipeline);
      continue;
    }
    PipelineRuntime::ReplayState state = pipeline->ReplayOf(part.id, part.sink);
    if (!state.is_there) {
      Status status = pipeline->Replay(part);
      if (status.code() == Code::kNotFound) {  // gone for good, or being opened again
        if (!HasSink(to.pipeline, part.sink)) continue;
        all = false, works = true;
        active.reason = fmt::format("{} is being opened", part.sink);
        continue;
      }
      FAIL_IF_ERROR(std::move(status));
    }
    all &= state.done, works |= !state.done;
    if (!state.reason.empty()) active.reason = fmt::format("{}: {}", part.sink, state.reason);
  }
  active.waits_for_removed = waits && !works;
  return all;
}

bool Engine::State::HasCome(const Writer& to, uint32_t slot, uint64_t offset) const {
  const auto stored = tables->Offsets(to);
  auto has = stored.find(slot);
  return has != stored.end() && has->second.next > offset;
}

/// Letters of a pipeline or a sink that is gone for good went nowhere: they are told as dropped, not as
/// replayed. A table says which of them it has. Under `letters_mutex`.
Status Engine::State::DropUndeliverable(const LetterReplay& replay, const ActiveReplay& active) {
  Catalog catalog = control->catalog();
  ControlEvent event;
  event.kind = ControlKind::kDeadDropped;
  event.name = event.letters.stream = replay.stream;
  event.who = options.who;
  for (const auto& [to, part] : active.again) {
    const bool may_come = catalog.MayRun(to.pipeline, to.generation) && HasSink(to.pipeline, to.sink);
    if (may_come) continue;
    for (const auto& [partition, letters] : part.letters)
      for (const auto& [offset, number] : letters)
        if (!HasCome(to, part.slot + partition, offset)) event.letters.letters.Insert(number);
    event.selection =
        fmt::format("{} of pipeline {}, to which they were being sent, is gone", to.sink, to.pipeline);
  }
  // Somebody may have dropped them himself.
  event.letters.letters = event.letters.letters.Common(control->letters()->replays().at(replay.id).letters);
  return event.letters.letters.empty() ? OkStatus() : control->Append(std::move(event));
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
  if (!has_letters || replay.letters.empty()) return refused;
  FAIL_IF_ERROR(dead_letters->Each(replay.stream, replay.letters.last() + 1, [&](DeadLetter& letter) {
    refused += letter.replay == replay.id;
    return true;
  }));
  return refused;
}

Status Engine::State::StepReplay(const LetterReplay& replay, ActiveReplay& active) {
  if (active.found != replay.letters.count()) RETURN_IF_ERROR(FindAgain(replay, active));
  if (!active.appended && replay.appended > 0) RETURN_IF_ERROR(AppendLetters(replay, active));
  active.appended = true;
  ASSIGN_OR_RETURN(bool done, DeliverLetters(active));
  if (!done) return OkStatus();
  ASSIGN_OR_RETURN(uint64_t refused, CountRefused(replay));
  std::unique_lock lock(letters_mutex);
  RETURN_IF_ERROR(DropUndeliverable(replay, active));
  ControlEvent event;
  event.kind = ControlKind::kDeadReplayed;
  event.name = replay.stream;
  event.who = options.who;
  event.letters.id = replay.id;
  event.position = active.position;
  event.refused = active.refused + refused;
  RETURN_IF_ERROR(control->Append(std::move(event)));
  lock.unlock();
  active.refused += refused;
  active.finished = true;
  for (const auto& [to, part] : active.again)
    if (auto pipeline = FindPipeline(to.pipeline)) pipeline->ForgetReplay(replay.id);
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
    Catalog catalog = control->catalog();
    std::erase_if(active.again, [&](auto& again) {
      auto& [to, part] = again;
      if (!part.sink.starts_with("table:") || !catalog.MayRun(to.pipeline, to.generation)) return true;
      std::erase_if(part.letters, [&, &to = to, &part = part](const auto& entry) {
        return HasCome(to, part.slot + entry.first, entry.second.rbegin()->first);
      });
      return part.letters.empty();
    });
    if (!active.again.empty()) lost.push_back(std::move(active));
  }
  return OkStatus();
}

bool Engine::State::AreLettersToCome() {
  const std::vector<uint64_t> pending = control->letters()->Pending();
  std::lock_guard lock(letter_replays_mutex);
  return letter_replayer.joinable() && std::any_of(pending.begin(), pending.end(), [&](uint64_t id) {
           return !letter_replays[id].waits_for_removed;
         });
}

void Engine::State::RunLetterReplays(std::stop_token stop) {
  std::vector<ActiveReplay> lost;
  if (Status status = FindLostReplays(lost); !status.ok() && options.logger != nullptr)
    options.logger->Warn("replays of dead letters", {{"reason", status.message()}});
  while (!stop.stop_requested()) {
    int64_t wait_us = kRetryUs;
    std::erase_if(lost, [&](ActiveReplay& active) {
      auto done = DeliverLetters(active);
      if (!done || !*done) {
        if (!active.waits_for_removed) wait_us = kLookUs;
        return false;
      }
      for (const auto& [to, part] : active.again)
        if (auto pipeline = FindPipeline(to.pipeline)) pipeline->ForgetReplay(part.id);
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
      if (status.ok() && !active.waits_for_removed) wait_us = kLookUs;
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

}  // namespace millstream
