#include "pipeline/key_sequencer.h"

#include <algorithm>

#include "base/status.h"

namespace millstream {

bool KeySequencer::MayQueue(std::span<const Key> keys) const {
  return std::none_of(keys.begin(), keys.end(), [&](Key key) {
    auto found = keys_.find(key);
    return found != keys_.end() && found->second.deciding;
  });
}

void KeySequencer::Queue(std::span<const Key> keys) {
  for (Key key : keys) ++keys_[key].queued;
}

void KeySequencer::Land(std::span<const Key> keys, uint64_t first) {
  for (Key key : keys) {
    State& state = keys_[key];
    --state.queued;
    state.last = std::max(state.last.value_or(0), first++);
  }
  if (keys_.size() > most_keys_) Forget();
}

void KeySequencer::Fail(std::span<const Key> keys) {
  for (Key key : keys) {
    --keys_[key].queued;
    Leave(key);
  }
}

void KeySequencer::Leave(Key key) {
  auto found = keys_.find(key);
  if (found == keys_.end()) return;
  const State& state = found->second;
  if (!state.last && state.queued == 0 && !state.deciding) keys_.erase(found);
}

KeySequencer::Look KeySequencer::At(Key key, uint64_t next) const {
  auto found = keys_.find(key);
  if (found != keys_.end() && (found->second.queued > 0 || found->second.deciding)) return Look::kBusy;
  return next < Needs(key) ? Look::kBehind : Look::kReady;
}

uint64_t KeySequencer::Needs(Key key) const {
  std::optional<uint64_t> last = Last(key);
  return last ? *last + 1 : floor_;
}

void KeySequencer::Begin(Key key) {
  State& state = keys_[key];
  CHECK(!state.deciding && state.queued == 0);
  state.deciding = true;
}

void KeySequencer::End(Key key) {
  keys_[key].deciding = false;
  Leave(key);
}

std::optional<uint64_t> KeySequencer::Last(Key key) const {
  auto found = keys_.find(key);
  return found == keys_.end() ? std::nullopt : found->second.last;
}

void KeySequencer::Learn(Key key, uint64_t offset) {
  State& state = keys_[key];
  state.last = std::max(state.last.value_or(0), offset);
}

void KeySequencer::LowerFloor(uint64_t floor) { floor_ = std::min(floor_, floor); }

void KeySequencer::Forget() {
  std::erase_if(keys_, [&](const auto& entry) {
    const State& state = entry.second;
    if (state.queued > 0 || state.deciding) return false;
    floor_ = std::max(floor_, state.last.value_or(0) + 1);
    return true;
  });
}

}  // namespace millstream
