// If-Match of a CommandRunner: versions from before the server's start are read from the log.
#include "pipeline/command_runner.h"

namespace millstream {

bool CommandRunner::KnowsVersion(const PendingCommand& item) const {
  return !item.if_match || context_.sequencer->With(item.partition, [&](const KeySequencer& machine) {
    return machine.Last(item.hash) || *item.if_match >= machine.floor();
  });
}

void CommandRunner::Learn(const PendingCommand& item) {
  if (learning_) return;
  learning_ = std::make_unique<Learning>();
  learning_->partition = item.partition, learning_->from = *item.if_match;
  learning_->thread = std::jthread([this, learning = learning_.get()](std::stop_token stop) {
    learning->status = context_.sequencer->LearnFrom(learning->partition, learning->from, stop);
    learning->done = true;
    dirty_ = true;
    context_.progress->Notify();
  });
}

void CommandRunner::TakeLearned() {
  if (!learning_ || !learning_->done) return;
  std::unique_ptr<Learning> learned = std::move(learning_);
  if (learned->status.ok()) return;
  size_t before = waiting_.size();
  std::erase_if(waiting_, [&](const Item& item) {
    bool is_told = item->if_match && item->partition == learned->partition &&
                   *item->if_match <= learned->from && !KnowsVersion(*item);
    if (is_told) Refuse(item, {learned->status, learned->status.code() == Code::kNotFound ? "version" : ""});
    return is_told;
  });
  std::lock_guard lock(mutex_);
  waiting_count_ -= before - waiting_.size();
}

bool CommandRunner::MatchesVersion(const Item& item) {
  if (!item->if_match) return true;
  uint64_t wanted = *item->if_match;
  auto last = context_.sequencer->With(item->partition,
                                       [&](const KeySequencer& machine) { return machine.Last(item->hash); });
  if (last == wanted) return true;
  CommandRefusal refusal{last ? Conflict("the key's version is {}, not {}", *last, wanted)
                              : Conflict("the key has no event at offset {} or later", wanted),
                         "version"};
  refusal.version = last;
  Refuse(item, std::move(refusal));
  return false;
}

}  // namespace millstream
