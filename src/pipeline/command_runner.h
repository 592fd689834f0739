// CommandRunner: decides the commands of one stream, in rounds: all whose keys and tables are ready, at most
// one a key, in one SQL run a command; what they give goes into the log as one batch a partition.
//
// Place: floor 5; one a stream that commands emit into, owned by the Engine. The next round is decided when
// the last one is durable. Order of a key's commands: that of Submit. Threads: Submit from any;
// one thread of its own decides, and one reads the log where a version is older than the server's start;
// `done` comes from the first, or from the log's writer. Bounds: kMostWaiting
// commands wait (then kExhausted), each for its timeout; kMostRound are decided at once, within kDecideUs.
// Failure: nothing of a refused command is appended.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/watchdog.h"
#include "pipeline/command_definition.h"
#include "pipeline/command_program.h"
#include "pipeline/progress.h"
#include "pipeline/stream_sequencer.h"

namespace millstream {

struct CommandContext {
  Database* database = nullptr;
  TableStore* tables = nullptr;
  Clock* clock = nullptr;
  Watchdog* watchdog = nullptr;
  Progress* progress = nullptr;  // of deliveries; Submit and the log's answers tell it too
  Stream* stream = nullptr;
  std::shared_ptr<StreamSequencer> sequencer;
  /// Up to which offset, by partition of the stream, a table holds its events.
  std::function<std::map<uint32_t, uint64_t>(const std::string& table)> next_of;
  /// Counts events and bytes that were appended.
  std::function<void(uint64_t events, uint64_t bytes)> count_in;
  /// Whether the tables hold what lies at the position.
  std::function<bool(const Position&, const std::vector<std::string>& tables)> holds;
};

/// A command on its way.
struct PendingCommand {
  std::shared_ptr<const CommandDefinition> command;
  std::string data, key;
  KeySequencer::Key hash = 0;
  uint32_t partition = 0;
  std::optional<uint64_t> if_match;
  Receipts receipts;  // of its Idempotency-Key; where its events lie is filled in
  std::vector<std::string> wait_tables;
  int64_t deadline_ns = 0;
  bool is_checked = false;  // against the checks of `input`
  CommandDone done;
};

class CommandRunner : public std::enable_shared_from_this<CommandRunner> {
 public:
  static constexpr size_t kMostWaiting = 4096;
  static constexpr size_t kMostRound = 1024;
  static constexpr int64_t kDecideUs = 5'000'000;
  static constexpr int64_t kGatherUs = 1'000;  // at most, for those who were answered just now

  CommandRunner(const StreamConfig& config, CommandContext context);
  ~CommandRunner();
  void Start();
  /// Refuses what waits and ends the thread. What the log holds already is answered by it.
  void Stop();

  void Submit(std::shared_ptr<PendingCommand> command);
  /// From the next round on.
  void SetStream(const StreamConfig& config);

 private:
  using Item = std::shared_ptr<PendingCommand>;
  struct Settling {  // appended, waits for tables
    Item item;
    IngestAnswer answer;
  };
  struct Part {                                    // of a round: one partition's batch
    std::vector<std::pair<Item, uint32_t>> items;  // with how many events
    EncodedBatch batch;
    StreamSequencer::Keys keys;
  };
  struct Given {  // what an accepted command gives
    Item item;
    std::vector<EmittedEvent> events;
  };

  void Run(std::stop_token stop);
  bool HasWork();
  void TakeInbox();
  void TakeConfig();
  void ReadTables();
  uint64_t NextFor(const PendingCommand& item) const;
  void Settle();
  void Expire();
  int64_t WaitUs() const;
  std::vector<Item> Choose();
  bool KnowsVersion(const PendingCommand& item) const;
  /// Reads the log for its version, on another thread.
  void Learn(const PendingCommand& item);
  /// What was read, or could not be: then who waits for it is refused.
  void TakeLearned();
  bool MatchesVersion(const Item& item);
  bool IsGathered();
  void CheckInputs();
  /// `refused`: why some are not what `input` says.
  Status CheckTogether(const std::vector<Item>& items,
                       std::map<const PendingCommand*, CommandRefusal>& refused);
  static Result<std::unique_ptr<EventBatch>> RequestsOf(const std::vector<Item>& items);
  bool Round();
  void Decide(const std::vector<Item>& chosen, std::vector<Given>& given);
  Status DecideTogether(const std::vector<Item>& items, std::vector<Given>& given);
  Result<CommandProgram*> ProgramOf(const std::shared_ptr<const CommandDefinition>& command);
  Status Lay(const std::vector<Given>& given, std::map<uint32_t, Part>& parts,
             std::map<const PendingCommand*, CommandRefusal>& refused);
  void Append(uint32_t partition, Part part);
  void Answer(const Item& item, IngestAnswer answer);
  static void Refuse(const Item& item, CommandRefusal refusal) {
    item->done(tl::unexpected(std::move(refusal)));
  }

  const CommandContext context_;
  std::mutex mutex_;
  std::vector<Item> inbox_;
  std::vector<Settling> settling_inbox_;
  std::optional<StreamConfig> next_config_;
  size_t waiting_count_ = 0;  // of both queues
  bool stopped_ = false;
  std::atomic<bool> dirty_{false};
  std::atomic<size_t> in_log_{0};  // batches of the last round that are not durable yet

  // Of the thread:
  StreamConfig config_;
  std::unique_ptr<Assembler> assembler_;
  std::unique_ptr<ContractChecks> checks_;
  std::deque<Item> waiting_;
  size_t most_ = 0;              // commands of the last rounds: as many may come back
  int64_t gather_until_ns_ = 0;  // 0: nothing is waited for
  std::vector<Settling> settling_;
  std::map<std::string, std::map<uint32_t, uint64_t>> tables_;  // read by what waits: next offsets
  std::map<const CommandDefinition*, std::unique_ptr<CommandProgram>> programs_;
  struct Learning {
    uint32_t partition = 0;
    uint64_t from = 0;
    std::atomic<bool> done{false};
    Status status;  // once `done`
    std::jthread thread;
  };
  std::unique_ptr<Learning> learning_;  // one at a time
  std::jthread thread_;
};

}  // namespace millstream
