// What replays, dead letters that go again and sandboxes add to the Catalog.
#include "catalog/control.h"

namespace millstream {

void Catalog::ApplyReplay(const ControlEvent& event) {
  constexpr size_t kMostKept = 1000;
  if (event.kind == ControlKind::kReplayStarted) {
    ReplayRecord& record = replays_[event.replay.id];
    record.spec = event.replay;
    record.who = event.who;
    record.started_us = event.when_us;
    record.root = shared_root_;
    for (const auto& [pipeline, start] : event.replay.starts) {
      record.versions[pipeline] = pipelines_[pipeline].versions;
      record.generations[pipeline] = pipelines_[pipeline].generation;
    }
    last_replay_ = std::max(last_replay_, event.replay.id);
    while (replays_.size() > kMostKept && !replays_.begin()->second.is_open())
      replays_.erase(replays_.begin());
    return;
  }
  auto found = replays_.find(event.replay.id);
  if (found == replays_.end()) return;
  ReplayRecord& record = found->second;
  using State = ReplayRecord::State;
  record.state = event.kind == ControlKind::kReplayPaused      ? State::kPaused
                 : event.kind == ControlKind::kReplayResumed   ? State::kRunning
                 : event.kind == ControlKind::kReplayCancelled ? State::kCancelled
                                                               : State::kFinished;
  if (record.is_open()) return;
  record.ended_us = event.when_us;
  record.events = event.events, record.dead_letters = event.dead_letters;
  record.root.reset(), record.versions.clear();
}

void Catalog::ApplyCutover(const ControlEvent& event) {
  for (const auto& [pipeline, sinks] : event.rebuilt)
    for (const std::string& sink : sinks) {
      PipelineRecord& record = pipelines_[pipeline];
      Rebuilt& rebuilt = record.rebuilt[sink] = {event.version, event.replay.id, std::nullopt};
      auto before = event.letters_before.find(record.start.stream);
      if (before != event.letters_before.end()) rebuilt.letters_before = before->second;
    }
  if (event.obsolete.empty()) return;
  auto letters = std::make_shared<LetterBook>(*letters_);
  for (const auto& [stream, obsolete] : event.obsolete) letters->DropOpen(stream, obsolete);
  letters_ = std::move(letters);
}

bool Catalog::WasRunAnew(const std::string& pipeline, const std::string& sink, uint64_t letter,
                         uint64_t rebuild) const {
  auto record = pipelines_.find(pipeline);
  if (record == pipelines_.end()) return false;
  auto made = record->second.rebuilt.find(sink);
  return made != record->second.rebuilt.end() && letter < made->second.letters_before.value_or(0) &&
         rebuild != made->second.replay;
}

void Catalog::ApplySandbox(const ControlEvent& event) {
  if (event.kind != ControlKind::kSandboxCreated) {
    sandboxes_.erase(event.name);
    return;
  }
  SandboxRecord& record = sandboxes_[event.name] = event.sandbox;
  record.name = event.name, record.who = event.who, record.created_us = event.when_us;
}

Status Catalog::ReplayLetters(const ControlEvent& event) {
  auto letters = std::make_shared<LetterBook>(*letters_);
  if (event.kind == ControlKind::kDeadReplay) RETURN_IF_ERROR(letters->Begin(event.letters, event.slots));
  if (event.kind == ControlKind::kDeadReplayed) RETURN_IF_ERROR(letters->Finish(event.letters.id));
  if (event.kind == ControlKind::kDeadDropped)
    RETURN_IF_ERROR(letters->Drop(event.name, event.letters.letters));
  letters_ = std::move(letters);
  return OkStatus();
}

}  // namespace millstream
