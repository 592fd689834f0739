// Simulator: one machine, one process after another on it, a history of what happens, and what must hold at
// every moment of it.
//
// Place: floor 5, tests of pipeline/ only. One thread: producers, the log's writers, delivery loops and
// changes take their turns as the history says, and moments in the midst of one let another take its turn.
// Death. From the moment of a death nothing that the process still does has an effect: the disk answers no
// more, and sinks are not there. Then the process is dropped, the disk loses what it may lose, and the next
// process starts, which may die too. Checks. After each step: new events of the log and new rows of sinks.
// After each start and at the end: all there is.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipeline/simulated_history_for_test.h"
#include "pipeline/simulated_process_for_test.h"

namespace millstream {

class Simulator {
 public:
  struct Shared {  // of all simulations: costs time to make, and is asked for nothing
    std::unique_ptr<Database> database = std::move(*Database::Open("", {}));
    Watchdog watchdog;
  };
  /// The seed also chooses the stream's settings.
  Simulator(Shared& shared, uint64_t seed) : machine_(seed) {
    machine_.database = shared.database.get();
    machine_.watchdog = &shared.watchdog;
    machine_.dedupe = seed % 3 == 1;
    machine_.written = seed % 5 == 2;
    machine_.outside.is_dead = [this] { return IsDead(); };
    machine_.outside.at = [this](Moment moment) { At(moment); };
    for (size_t i = 0; i < kProducers; ++i) producers_[i].has_keys = i + 1 < kProducers;
  }
  ~Simulator() { dead_ = true; }

  /// Everything that comes again is kept again: a fault that must be found.
  void PlantDoubles() { machine_.outside.doubles = true; }

  /// What was violated, and when; empty: all held.
  std::string Run(const History& history) {
    Start(0);
    for (at_ = 0; at_ < history.size() && violation_.empty(); ++at_) {
      Do(history[at_]);
      AfterStep(history[at_].b);
    }
    if (violation_.empty()) Settle();
    return violation_;
  }
  /// The same for the same seed and history, whatever else goes on.
  uint64_t trace() const { return trace_; }
  uint64_t events() const { return where_.size(); }
  uint64_t deaths() const { return deaths_; }

 private:
  static constexpr size_t kProducers = 3;
  static constexpr int kSettleRoundsMax = 300;
  static constexpr int64_t kSecond = 1'000'000, kMinute = 60 * kSecond, kHour = 60 * kMinute;

  struct Producer {
    bool has_keys = false;
    uint64_t requests = 0;
    std::string body;
    std::vector<uint64_t> sound, malformed;  // numbers of the body's events
    bool pending = false;                    // sent, and not known to be taken
    bool in_flight = false;
    int starts_since_leap = 0;  // of the clock, since it was sent first
  };
  struct Answer {
    size_t producer;
    tl::expected<IngestAnswer, IngestRefusal> result;
  };
  struct Place {
    uint32_t partition = 0;
    uint64_t offset = 0;
    bool operator==(const Place&) const = default;
  };

  template <typename... Args>
  void Violated(fmt::format_string<Args...> form, Args&&... args) {
    if (violation_.empty())
      violation_ = fmt::format("step {}: {}", at_, fmt::format(form, std::forward<Args>(args)...));
  }
  bool IsDead() const { return dead_ || machine_.fs.powered_off() || (process_ && !process_->fatal().ok()); }
  void Trace(uint64_t value) { trace_ = (trace_ ^ value) * 0x100000001b3; }

  // simulator_steps_for_test.h
  void Do(const Happening& each);
  void Post(size_t index, uint64_t how);
  void MakeBody(size_t index, uint64_t how);
  void Deliver(uint64_t which, uint64_t steps, bool held);
  void Change(bool toggles);
  void Fault(const Happening& each);
  void Maintain(const Happening& each);
  void At(Moment moment);
  void MayFail(const char* what, const Status& status);
  void Start(uint64_t how);
  bool MayRepeat(const Producer& producer) const;
  void Restart(uint64_t how);
  void LosePower();
  void Settle();

  // simulator_checks_for_test.h
  void AfterStep(uint64_t how);
  void TakeAnswer(const Answer& answer);
  bool CheckLog(bool all);
  void CheckEvent(Place place, const std::string& text);
  void CheckRows(const std::string& name, Outside::Target& target);
  void CheckAll();
  void CheckTarget(const std::string& name, const Outside::Target& target);
  void CheckLetters();
  bool HasMissed(const Outside::Target& target, uint32_t partition, uint64_t offset) const {
    return target.keeping == Keeping::kPrinted && offset < missed_[partition];
  }
  void ReadVersions();

  SimulatedMachine machine_;
  std::unique_ptr<SimulatedProcess> process_;
  std::string violation_;
  size_t at_ = 0;
  uint64_t trace_ = 0xcbf29ce484222325, deaths_ = 0;
  bool dead_ = false, is_cut_ = false, opening_ = false, changing_ = false, disk_fails_ = false,
       has_leapt_ = false;
  struct Meanwhile {
    Moment moment = Moment::kNever;
    uint64_t a = 0, b = 0;
  } meanwhile_;
  std::optional<size_t> delivering_;  // the loop whose step is under way

  std::array<Producer, kProducers> producers_;
  std::vector<Answer> answers_;
  uint64_t next_number_ = 1;
  std::map<uint64_t, std::string> sent_;  // by number, malformed ones too
  std::set<uint64_t> malformed_;
  std::set<uint64_t> acknowledged_;  // numbers that must be there
  std::set<uint64_t> acknowledged_letters_;
  std::map<uint64_t, Place> where_;  // by number: what was ever readable
  std::array<std::map<uint64_t, uint64_t>, SimulatedProcess::kPartitions> numbers_;  // by offset
  std::array<uint64_t, SimulatedProcess::kPartitions> readable_{}, start_max_{}, missed_{};
  std::map<std::string, uint64_t> last_of_key_;
  std::map<std::string, size_t> checked_rows_;
  Ownership ownership_;
};

}  // namespace millstream
