#include "catalog/letters.h"

#include "base/text.h"

namespace millstream {
namespace {

Result<uint64_t> NumberOf(std::string_view text) {
  auto number = ParseNumber<uint64_t>(text);
  if (!number) return Fail(Invalid("'{}' is not the number of a dead letter", text));
  return *number;
}

}  // namespace

Result<LetterSet> LetterSet::Parse(std::string_view text) {
  LetterSet set;
  if (text.empty()) return set;
  for (std::string_view part : Split(text, ',')) {
    size_t dash = part.find('-');
    ASSIGN_OR_FAIL(uint64_t first, NumberOf(part.substr(0, dash)));
    uint64_t last = first;
    if (dash != std::string_view::npos) {
      ASSIGN_OR_FAIL(last, NumberOf(part.substr(dash + 1)));
    }
    if (last < first) return Fail(Invalid("'{}' is no range of dead letters", part));
    set.Insert(first, last);
  }
  return set;
}

void LetterSet::Insert(uint64_t first, uint64_t last) {
  auto next = ranges_.upper_bound(first);
  if (next != ranges_.begin()) {
    auto before = std::prev(next);
    if (before->second >= first || before->second + 1 == first) {
      first = before->first;
      last = std::max(last, before->second);
      ranges_.erase(before);
    }
  }
  while (next != ranges_.end() && (next->first <= last || next->first == last + 1)) {
    last = std::max(last, next->second);
    next = ranges_.erase(next);
  }
  ranges_[first] = last;
}

void LetterSet::Insert(const LetterSet& other) {
  for (const auto& [first, last] : other.ranges_) Insert(first, last);
}

bool LetterSet::Contains(uint64_t number) const {
  auto next = ranges_.upper_bound(number);
  return next != ranges_.begin() && std::prev(next)->second >= number;
}

uint64_t LetterSet::count() const {
  uint64_t count = 0;
  for (const auto& [first, last] : ranges_) count += last - first + 1;
  return count;
}

LetterSet LetterSet::Without(const LetterSet& other) const {
  LetterSet rest;
  for (const auto& range : ranges_) {
    uint64_t first = range.first;
    const uint64_t last = range.second;
    auto cut = other.ranges_.upper_bound(first);
    if (cut != other.ranges_.begin()) --cut;
    for (; cut != other.ranges_.end() && cut->first <= last && first <= last; ++cut) {
      if (cut->second < first) continue;
      if (cut->first > first) rest.Insert(first, cut->first - 1);
      first = cut->second + 1;
    }
    if (first <= last) rest.Insert(first, last);
  }
  return rest;
}

std::string LetterSet::ToText() const {
  std::string text;
  for (const auto& [first, last] : ranges_) {
    if (!text.empty()) text += ',';
    text += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
  }
  return text;
}

std::string_view NameOf(LetterState state) {
  constexpr std::string_view kNames[] = {"open", "replaying", "replayed", "dropped"};
  return kNames[static_cast<size_t>(state)];
}

LetterState LetterBook::StateOf(const std::string& stream, uint64_t number) const {
  auto taken = streams_.find(stream);
  if (taken == streams_.end()) return LetterState::kOpen;
  if (taken->second.dropped.Contains(number)) return LetterState::kDropped;
  if (!taken->second.replayed.Contains(number)) return LetterState::kOpen;
  for (uint64_t id : Pending()) {
    const LetterReplay& replay = replays_.at(id);
    if (replay.stream == stream && replay.letters.Contains(number)) return LetterState::kReplaying;
  }
  return LetterState::kReplayed;
}

uint64_t LetterBook::OpenOf(const std::string& stream, uint64_t kept) const {
  auto taken = streams_.find(stream);
  if (taken == streams_.end()) return kept;
  uint64_t gone = taken->second.replayed.count() + taken->second.dropped.count();
  return kept - std::min(kept, gone);
}

void LetterBook::Place(LetterReplay& replay, uint32_t partitions) const {
  replay.id = last_id_ + 1;
  auto taken = streams_.find(replay.stream);
  replay.sequence = taken == streams_.end() ? 0 : taken->second.sequence;
  uint32_t slot = next_slot_;
  for (ReplayPart& part : replay.parts) part.slot = slot, slot += partitions;
}

Status LetterBook::CheckOpen(const std::string& stream, const LetterSet& letters) const {
  auto taken = streams_.find(stream);
  if (taken == streams_.end()) return OkStatus();
  LetterSet all = taken->second.replayed;
  all.Insert(taken->second.dropped);
  uint64_t before = all.count();
  all.Insert(letters);
  if (all.count() == before + letters.count()) return OkStatus();
  return Corrupt("a dead letter of {} among {} was replayed or dropped before", stream, letters.ToText());
}

Status LetterBook::Begin(LetterReplay replay, uint32_t partitions) {
  RETURN_IF_ERROR(CheckOpen(replay.stream, replay.letters));
  LetterReplay placed = replay;
  Place(placed, partitions);
  if (placed.id != replay.id || placed.sequence != replay.sequence || placed.parts != replay.parts)
    return Corrupt("replay {} of dead letters has places that are not its own", replay.id);
  last_id_ = replay.id;
  next_slot_ += static_cast<uint32_t>(replay.parts.size()) * partitions;
  Taken& taken = streams_[replay.stream];
  taken.replayed.Insert(replay.letters);
  taken.sequence += replay.appended;
  replays_.emplace(replay.id, std::move(replay));
  return OkStatus();
}

Status LetterBook::Finish(uint64_t id) {
  auto found = replays_.find(id);
  if (found == replays_.end() || found->second.finished)
    return Corrupt("there is no replay {} of dead letters under way", id);
  found->second.finished = true;
  return OkStatus();
}

Status LetterBook::Drop(const std::string& stream, const LetterSet& letters) {
  LetterSet under_way;
  for (const uint64_t id : Pending())
    if (const LetterReplay& replay = replays_.at(id); replay.stream == stream)
      under_way.Insert(replay.letters.Common(letters));
  RETURN_IF_ERROR(CheckOpen(stream, letters.Without(under_way)));
  for (const uint64_t id : Pending())
    if (LetterReplay& replay = replays_.at(id); replay.stream == stream)
      replay.letters = replay.letters.Without(under_way);
  Taken& taken = streams_[stream];
  taken.replayed = taken.replayed.Without(under_way);
  taken.dropped.Insert(letters);
  return OkStatus();
}

void LetterBook::DropOpen(const std::string& stream, const LetterSet& letters) {
  Taken& taken = streams_[stream];
  taken.dropped.Insert(letters.Without(taken.replayed));
}

void LetterBook::Forget(const std::string& stream) {
  streams_.erase(stream);
  std::erase_if(replays_, [&](const auto& entry) { return entry.second.stream == stream; });
}

std::vector<uint64_t> LetterBook::Pending() const {
  std::vector<uint64_t> pending;
  for (const auto& [id, replay] : replays_)
    if (!replay.finished) pending.push_back(id);
  return pending;
}

}  // namespace millstream
