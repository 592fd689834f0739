// Simulator: what must hold.
#pragma once

#include "pipeline/simulator_for_test.h"

namespace millstream {

inline void Simulator::AfterStep(uint64_t how) {
  if (IsDead() || !process_) Restart(how);
  if (!violation_.empty()) return;
  if (!CheckLog(false)) return;
  for (const Answer& answer : std::exchange(answers_, {})) TakeAnswer(answer);
  for (auto& [name, target] : machine_.outside.targets) CheckRows(name, target);
  Trace(machine_.fs.changes());
  for (uint64_t end : readable_) Trace(end);
  for (const auto& [name, target] : machine_.outside.targets) Trace(target.rows.size());
}

inline void Simulator::TakeAnswer(const Answer& answer) {
  Producer& producer = producers_[answer.producer];
  producer.in_flight = false;
  if (!answer.result) {
    if (answer.result.error().status.code() == Code::kInvalid)
      Violated("a request was refused: {}", answer.result.error().status.ToString());
    // It is there in part, or not at all.
    producer.pending = MayRepeat(producer);
    return;
  }
  producer.pending = false;
  const IngestAnswer& given = *answer.result;
  if (given.quarantined != producer.malformed.size() ||
      given.accepted + given.duplicates != producer.sound.size())
    Violated("{} sound and {} malformed events were answered with {} accepted, {} duplicates, {} quarantined",
             producer.sound.size(), producer.malformed.size(), given.accepted, given.duplicates,
             given.quarantined);
  acknowledged_.insert(producer.sound.begin(), producer.sound.end());
  acknowledged_letters_.insert(producer.malformed.begin(), producer.malformed.end());
  if (machine_.written) return;
  for (uint64_t n : producer.sound)
    if (!where_.contains(n)) Violated("event {} was acknowledged and cannot be read", n);
  for (const PartitionRange& range : given.partitions)
    for (uint64_t offset = range.first; offset <= range.last; ++offset)
      if (auto at = numbers_[range.partition].find(offset);
          at == numbers_[range.partition].end() || std::ranges::count(producer.sound, at->second) == 0)
        Violated("the answer names {}:{}, where other events lie", range.partition, offset);
}

/// New events, or all that the log holds. False: a fault that was asked for met the check; later, then.
inline bool Simulator::CheckLog(bool all) {
  for (uint32_t p = 0; p < SimulatedProcess::kPartitions && violation_.empty(); ++p) {
    Partition& partition = process_->partition(p);
    const Bounds bounds = partition.bounds();
    if (bounds.durable_end < readable_[p])
      Violated("partition {} ends at {}, and was readable up to {}", p, bounds.durable_end, readable_[p]);
    if (bounds.start > start_max_[p])
      Violated("partition {} begins at {}: sinks need what lies from {} on", p, bounds.start, start_max_[p]);
    uint64_t next = all ? bounds.start : std::max(bounds.start, readable_[p]);
    if (next >= bounds.durable_end) continue;
    auto reader = partition.Read(next);
    while (reader && violation_.empty()) {
      auto batch = (*reader)->Next();
      if (!batch && batch.error().code() == Code::kExhausted && disk_fails_) return false;
      if (!batch) Violated("partition {} cannot be read: {}", p, batch.error().ToString());
      if (!batch || !*batch) break;
      auto data = (*batch)->Data();
      if (!data) Violated("partition {} cannot be read: {}", p, data.error().ToString());
      if (!data) break;
      for (uint32_t row = 0; row < (*batch)->count(); ++row) {
        const uint64_t offset = (*batch)->place().base_offset + row;
        if (offset < next) continue;
        if (offset != next) Violated("partition {}: {} follows {}", p, offset, next - 1);
        CheckEvent({p, offset}, std::string((*data)->String(row)));
        next = offset + 1;
      }
    }
    if (next != bounds.durable_end)
      Violated("partition {} ends at {}, and {} is the last event", p, bounds.durable_end, next - 1);
    readable_[p] = bounds.durable_end;
  }
  return violation_.empty();
}

inline void Simulator::CheckEvent(Place place, const std::string& text) {
  const uint64_t n = NumberOf(text);
  auto sent = sent_.find(n);
  if (sent == sent_.end() || sent->second != text || malformed_.contains(n))
    return Violated("{}:{} holds what nobody sent: {}", place.partition, place.offset, text);
  auto [at, is_new] = numbers_[place.partition].try_emplace(place.offset, n);
  if (at->second != n)
    return Violated("{}:{} was event {} and is {} now", place.partition, place.offset, at->second, n);
  if (!is_new) return;
  if (!where_.try_emplace(n, place).second) return Violated("event {} is there twice", n);
  uint64_t& last = last_of_key_[text.substr(0, text.find(','))];
  if (n <= last) Violated("event {} stands behind {}, which has its key", n, last);
  last = n;
}

/// As `_control` has it, the one truth about who owns what.
inline void Simulator::ReadVersions() {
  ownership_ = {};
  Catalog catalog = process_->control().catalog();
  for (const ActivatedVersion& version : catalog.pipelines().at("p").versions)
    ownership_.Activate(version.version, version.boundary);
}

/// Rows that are new, each as it comes.
inline void Simulator::CheckRows(const std::string& name, Outside::Target& target) {
  for (const auto& [partition, next] : target.next)
    if (next > readable_[partition])
      Violated("sink {} has come to {}:{}, and the log ends at {}", name, partition, next,
               readable_[partition]);
  size_t& checked = checked_rows_[name];
  checked = std::min(checked, target.rows.size());
  for (; checked < target.rows.size() && violation_.empty(); ++checked) {
    const Outside::Row& row = target.rows[checked];
    auto event = numbers_[row.partition].find(row.offset);
    if (event == numbers_[row.partition].end() || event->second != row.n)
      Violated("sink {} has a row of event {} at {}:{}, which is another", name, row.n, row.partition,
               row.offset);
    const uint64_t owner = ownership_.OwnerOf(row.partition, row.offset).version;
    if (row.version != owner)
      Violated("sink {} has a row of {}:{} by version {}, which is version {}'s", name, row.partition,
               row.offset, row.version, owner);
  }
}

/// All that is there, and all that has to be.
inline void Simulator::CheckAll() {
  for (uint64_t n : acknowledged_)
    if (!where_.contains(n)) return Violated("event {} was acknowledged and is lost", n);
  for (const auto& [name, target] : machine_.outside.targets) CheckTarget(name, target);
  if (violation_.empty()) CheckLetters();
}

inline void Simulator::CheckTarget(const std::string& name, const Outside::Target& target) {
  std::map<std::pair<uint32_t, uint64_t>, std::vector<const Outside::Row*>> rows;
  for (const Outside::Row& row : target.rows) rows[{row.partition, row.offset}].push_back(&row);
  for (const auto& [partition, next] : target.next) {
    for (const auto& [offset, n] : numbers_[partition]) {
      if (offset >= next) break;
      if (HasMissed(target, partition, offset)) continue;
      const uint64_t owner = ownership_.OwnerOf(partition, offset).version;
      const Fate fate = FateOf(owner, target.keeping, n);
      std::vector<uint64_t> times(fate.is_letter ? 0 : fate.rows);
      for (const Outside::Row* row : rows[{partition, offset}]) {
        if (row->version == owner && row->ordinal < static_cast<int64_t>(times.size()))
          ++times[static_cast<size_t>(row->ordinal)];
        else if (target.keeping != Keeping::kPrinted)
          Violated("sink {} has a row of {}:{} that version {} does not make", name, partition, offset,
                   owner);
      }
      for (uint64_t each : times)
        if (each == 0 || (each > 1 && target.keeping != Keeping::kPrinted))
          Violated("sink {} has a row of event {} ({}:{}) {} times", name, n, partition, offset, each);
      rows.erase({partition, offset});
    }
  }
  for (const auto& [place, left] : rows)
    if (!left.empty() && target.keeping != Keeping::kPrinted)
      Violated("sink {} has rows of {}:{}, and has not come so far", name, place.first, place.second);
}

inline void Simulator::CheckLetters() {
  std::set<std::tuple<std::string, int64_t, int64_t>> letters;
  std::map<uint64_t, uint64_t> of_ingest;
  Status status = process_->letters().Each("orders", 0, [&](DeadLetter& letter) {
    const uint64_t n = NumberOf(letter.data);
    if (letter.at == "ingest") {
      if (!malformed_.contains(n)) Violated("a dead letter of event {}, which is sound", n);
      ++of_ingest[n];
      return violation_.empty();
    }
    const auto partition = static_cast<uint32_t>(letter.partition);
    const auto offset = static_cast<uint64_t>(letter.offset);
    auto target = machine_.outside.targets.find(letter.sink.substr(letter.sink.find(':') + 1));
    const uint64_t owner = ownership_.OwnerOf(partition, offset).version;
    if (letter.version != owner)
      Violated("a dead letter of {}:{} by version {}, which is version {}'s", partition, offset,
               letter.version, owner);
    else if (target == machine_.outside.targets.end() || !FateOf(owner, target->second.keeping, n).is_letter)
      Violated("a dead letter of event {} for {}, which takes it", n, letter.sink);
    else if (!letters.emplace(target->first, letter.partition, letter.offset).second)
      Violated("two dead letters of {}:{} for {}", partition, offset, letter.sink);
    return violation_.empty();
  });
  if (!status.ok()) Violated("dead letters cannot be read: {}", status.ToString());
  for (uint64_t n : acknowledged_letters_)
    if (!of_ingest.contains(n)) Violated("event {} was quarantined, and there is no letter", n);
  for (const auto& [name, target] : machine_.outside.targets)
    for (const auto& [partition, next] : target.next)
      for (const auto& [offset, n] : numbers_[partition]) {
        if (offset >= next) break;
        if (HasMissed(target, partition, offset)) continue;
        const uint64_t owner = ownership_.OwnerOf(partition, offset).version;
        if (FateOf(owner, target.keeping, n).is_letter &&
            !letters.contains({name, partition, static_cast<int64_t>(offset)}))
          Violated("event {} has no rows in {} and no dead letter", n, name);
      }
}

}  // namespace millstream
