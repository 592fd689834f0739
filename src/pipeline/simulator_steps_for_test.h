// Simulator: what happens.
#pragma once

#include "pipeline/simulator_for_test.h"

namespace millstream {

inline void Simulator::Do(const Happening& each) {
  switch (each.what) {
    case Operation::post:
      return Post(each.a % kProducers, each.b);
    case Operation::write:
      if (each.b % 4 == 0) process_->WriteLetters();
      return process_->WriteQueued(each.a % SimulatedProcess::kPartitions);
    case Operation::deliver:
      return Deliver(each.a, 1 + each.b % 3, false);
    case Operation::change:
      return Change(each.b % 3 == 0);
    case Operation::meanwhile:
      meanwhile_ = {static_cast<Moment>(1 + each.a % 5), each.a / 5, each.b};
      return;
    case Operation::kill:
    case Operation::cut:
      dead_ = true;
      is_cut_ = each.what == Operation::cut;
      return;
    case Operation::stop:
    case Operation::death:
    case Operation::sync_fails:
    case Operation::disk_full:
    case Operation::write_fails:
    case Operation::trouble:
      return Fault(each);
    default:
      return Maintain(each);
  }
}

inline void Simulator::Post(size_t index, uint64_t how) {
  Producer& producer = producers_[index];
  if (producer.in_flight) return;
  if (!producer.pending) MakeBody(index, how);
  producer.pending = producer.in_flight = true;
  std::string key = producer.has_keys ? fmt::format("{}/{}", index, producer.requests) : "";
  std::string body = producer.body;
  body.reserve(body.size() + 64);
  process_->Post(body, key, [this, index](auto result) { answers_.push_back({index, std::move(result)}); });
}

inline void Simulator::MakeBody(size_t index, uint64_t how) {
  Producer& producer = producers_[index];
  ++producer.requests;
  producer.starts_since_leap = 0;
  producer.body.clear(), producer.sound.clear(), producer.malformed.clear();
  for (uint64_t left = 1 + how % 5; left > 0; --left) {
    const uint64_t n = next_number_++;
    const bool is_malformed = (n * 7 + how) % 12 == 0;
    std::string text = is_malformed ? fmt::format("{{\"n\":{},\"bad\":tru}}", n)
                                    : fmt::format("{{\"k\":\"p{}.{}\",\"n\":{},\"pad\":\"{}\"}}", index,
                                                  n % 2, n, std::string(how % 150, 'p'));
    (is_malformed ? producer.malformed : producer.sound).push_back(n);
    if (is_malformed) malformed_.insert(n);
    producer.body += text + "\n";
    sent_[n] = std::move(text);
  }
}

/// While a change holds the claims, a loop whose claim would wait gives up instead, and comes again later.
inline void Simulator::Deliver(uint64_t which, uint64_t steps, bool held) {
  std::stop_source stop;
  if (held) stop.request_stop();
  for (; steps > 0 && !IsDead(); --steps) {
    std::vector<DeliveryLoop*> loops = process_->runtime().loops();
    const size_t index = which % loops.size();
    // A sink of one lock serves one delivery at a time.
    if (delivering_ && *delivering_ / SimulatedProcess::kPartitions == index / SimulatedProcess::kPartitions)
      return;
    DeliveryLoop& loop = *loops[index];
    std::optional<size_t> outer = std::exchange(delivering_, index);
    DeliveryLoop::Next next = loop.Step(stop.get_token());
    delivering_ = outer;
    Trace(loop.next() * 8 + next.kind);
    if (loop.failed() && !IsDead()) Violated("a loop has failed: {}", loop.snapshot().reason);
  }
}

inline void Simulator::Change(bool toggles) {
  if (changing_) return;
  changing_ = true;
  // Taking a sink out ends its loops, one of which may be at work here.
  const bool printed = process_->has_printed() != (toggles && !delivering_);
  Status status = process_->Change(printed);
  changing_ = false;
  MayFail("change", status);
  if (!IsDead()) ReadVersions();
}

inline void Simulator::Fault(const Happening& each) {
  auto target = std::next(machine_.outside.targets.begin(), static_cast<ptrdiff_t>(each.a % 3));
  const auto nth = static_cast<int>(1 + each.a % 4);
  disk_fails_ |= each.what >= Operation::sync_fails && each.what <= Operation::write_fails;
  switch (each.what) {
    case Operation::death:
      machine_.fs.PowerOffAt(1 + each.a % 12);
      is_cut_ = each.b % 2 == 0;
      return;
    case Operation::stop: {
      Status status = process_->Close();
      MayFail("stop", status);
      process_.reset();
      if (machine_.fs.powered_off()) return;
      machine_.fs.StopFailing();
      Start(each.b);
      return;
    }
    case Operation::sync_fails:
      machine_.fs.FailAt(FileCall::kSync, nth, IoError("EIO"));
      is_cut_ = true;  // what a failed sync leaves is as uncertain
      return;
    case Operation::disk_full:
      if (each.b % 2 == 0) {
        machine_.fs.FailAt(FileCall::kWrite, nth, Exhausted("ENOSPC"));
      } else {
        machine_.fs.FailAt(FileCall::kOpen, nth, Exhausted("EMFILE"));
      }
      return;
    case Operation::write_fails:
      machine_.fs.FailAt(FileCall::kWrite, nth, IoError("EIO"));
      return;
    default:
      (each.b % 3 == 0   ? target->second.away
       : each.b % 3 == 1 ? target->second.refuses
                         : target->second.loses_answers) += 1 + each.b % 2;
  }
}

inline void Simulator::Maintain(const Happening& each) {
  Status status;
  switch (each.what) {
    case Operation::checkpoint:
      for (auto& [name, target] : machine_.outside.targets)
        if (each.a % 2 == 0 || target.keeping == Keeping::kTable) target.Checkpoint();
      return;
    case Operation::retain:
      for (uint32_t p = 0; p < SimulatedProcess::kPartitions; ++p) {
        const uint64_t low = process_->runtime().LowWater(p);
        start_max_[p] = std::max(start_max_[p], std::min(low, readable_[p]));
        process_->partition(p).SetLowWater(low);
      }
      status = process_->log().Retain();
      // A sink that was taken out holds nothing back.
      for (uint32_t p = 0; p < SimulatedProcess::kPartitions && !process_->has_printed(); ++p)
        missed_[p] = process_->partition(p).bounds().start;
      break;
    case Operation::seal:
      status = process_->log().SealAll();
      break;
    case Operation::merge:
      status = process_->log().MergeSealed();
      break;
    default: {
      constexpr int64_t kPasses[] = {kSecond / 1000, kSecond, 40 * kSecond, 11 * kMinute, 2 * kHour};
      constexpr int64_t kLeaps[] = {-kHour, kHour, -10 * 365 * 24 * kHour, 10 * 365 * 24 * kHour};
      if (each.a % 4 != 0) return machine_.clock.AdvanceUs(kPasses[each.b % 5]);
      machine_.clock.JumpWallUs(kLeaps[each.b % 4]);
      has_leapt_ |= each.b % 4 >= 2;
      return;
    }
  }
  MayFail(kOperationNames[static_cast<int>(each.what)], status);
}

/// Only for a reason.
inline void Simulator::MayFail(const char* what, const Status& status) {
  if (!status.ok() && !IsDead() && !disk_fails_) Violated("{}: {}", what, status.ToString());
}

/// Something else happens in the midst of a step.
inline void Simulator::At(Moment moment) {
  if (opening_ || IsDead() || meanwhile_.moment != moment) return;
  const auto [unused, a, b] = std::exchange(meanwhile_, {});
  switch (a % 5) {
    case 0:
      dead_ = true;
      is_cut_ = b % 2 == 0;
      return;
    case 1:
      return Change(false);
    case 2:
      return process_->WriteQueued(b % SimulatedProcess::kPartitions);
    case 3:
      return Post(b % kProducers, b);
    default:
      return Deliver(b, 1 + b % 2, changing_);
  }
}

/// Without keys, and without `dedupe`, nobody may send again what was not answered. A start takes the clock
/// as it is, and stamps beyond a leap tell nothing of the time between. So after a leap a window may be over:
/// that of keys at once, that of `dedupe` from the second start on.
inline bool Simulator::MayRepeat(const Producer& producer) const {
  if (!producer.has_keys) return machine_.dedupe && producer.starts_since_leap <= 1;
  return producer.starts_since_leap == 0;
}

inline void Simulator::Start(uint64_t how) {
  for (Producer& producer : producers_) {
    if (has_leapt_ || producer.starts_since_leap > 0) ++producer.starts_since_leap;
    producer.pending = producer.pending && MayRepeat(producer);
  }
  has_leapt_ = false;
  // The start may meet its end too, a few times in a row.
  for (int attempt = 0;; ++attempt) {
    if (at_ > 0 && attempt < 3 && (how >> attempt) % 4 == 0) machine_.fs.PowerOffAt(1 + how % 14);
    process_ = std::make_unique<SimulatedProcess>(machine_);
    opening_ = true;
    Status status = process_->Open();
    opening_ = false;
    if (status.ok() && !IsDead()) break;
    if (!machine_.fs.powered_off()) return Violated("it does not start: {}", status.ToString());
    process_.reset();
    machine_.outside.LoseProcess();
    const bool is_cut = how % 2 == 0;
    machine_.fs.Crash(how + static_cast<uint64_t>(attempt), is_cut ? Survivors::kAny : Survivors::kAll);
    if (is_cut) LosePower();
  }
  ReadVersions();
  (void)CheckLog(true);
  CheckAll();
}

inline void Simulator::Restart(uint64_t how) {
  ++deaths_;
  const bool is_cut = is_cut_;
  dead_ = true;
  process_.reset();
  constexpr Survivors kWays[] = {Survivors::kAny, Survivors::kNone, Survivors::kPrefix};
  machine_.fs.Crash(how, is_cut ? kWays[how % 3] : Survivors::kAll);
  machine_.outside.LoseProcess();
  // What was printed in the last step comes again, perhaps by a version that takes over first.
  checked_rows_["printed"] = machine_.outside.targets["printed"].rows.size();
  answers_.clear();
  for (Producer& producer : producers_) producer.in_flight = false;
  if (is_cut) LosePower();
  dead_ = is_cut_ = disk_fails_ = false;
  meanwhile_ = {};
  Start(how);
}

/// With `ack: written` only what was synced is promised beyond a power cut.
inline void Simulator::LosePower() {
  if (machine_.written) std::erase_if(acknowledged_, [&](uint64_t n) { return !where_.contains(n); });
}

/// Trouble is over: everything must be taken and delivered now.
inline void Simulator::Settle() {
  machine_.fs.StopFailing();
  machine_.outside.Heal();
  meanwhile_ = {};
  for (int round = 0; round < kSettleRoundsMax && violation_.empty(); ++round) {
    bool is_quiet = true;
    machine_.clock.AdvanceUs(31 * kSecond);  // longer than any wait
    for (size_t i = 0; i < kProducers; ++i)
      if (producers_[i].pending && !producers_[i].in_flight) is_quiet = false, Post(i, 0);
    process_->WriteLetters();
    for (uint32_t p = 0; p < SimulatedProcess::kPartitions; ++p) process_->WriteQueued(p);
    const size_t loops = process_->runtime().loops().size();
    for (size_t i = 0; i < loops && !IsDead(); ++i) Deliver(i, 1, false);
    for (DeliveryLoop* loop : process_->runtime().loops()) is_quiet &= loop->is_open();
    AfterStep(0);
    if (!violation_.empty()) return;
    for (uint32_t p = 0; p < SimulatedProcess::kPartitions; ++p)
      is_quiet &= process_->partition(p).bounds().end == readable_[p];  // nothing waits for its sync
    for (size_t i = 0; i < process_->runtime().loops().size(); ++i)
      is_quiet &= process_->runtime().loops()[i]->next() >= readable_[i % SimulatedProcess::kPartitions];
    if (is_quiet) return CheckAll();
  }
  std::string states;
  for (DeliveryLoop* loop : process_->runtime().loops())
    states += fmt::format(", {} at {} {}", loop->snapshot().state, loop->next(), loop->snapshot().reason);
  Violated("it does not come to rest: the log ends at {} and {}{}", readable_[0], readable_[1], states);
}

}  // namespace millstream
