#include "pipeline/command_runner.h"

#include <set>

#include "base/thread.h"

namespace millstream {
namespace {

constexpr int64_t kIdleUs = 1'000'000;
constexpr size_t kMostPrograms = 64;

}  // namespace

CommandRunner::CommandRunner(const StreamConfig& config, CommandContext context)
    : context_(std::move(context)), next_config_(config) {}

CommandRunner::~CommandRunner() { Stop(); }

void CommandRunner::Start() {
  thread_ = std::jthread([this](std::stop_token stop) {
    NameThread("command");
    Run(std::move(stop));
  });
}

void CommandRunner::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  learning_.reset();
  std::vector<Item> left;
  std::vector<Settling> settling;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    left.assign(waiting_.begin(), waiting_.end());
    left.insert(left.end(), inbox_.begin(), inbox_.end());
    waiting_.clear(), inbox_.clear();
    settling.swap(settling_);
    settling.insert(settling.end(), settling_inbox_.begin(), settling_inbox_.end());
    settling_inbox_.clear();
  }
  for (const Item& item : left) Refuse(item, Because(Unavailable("the server is stopping")));
  for (Settling& each : settling) each.item->done(std::move(each.answer));
}

void CommandRunner::SetStream(const StreamConfig& config) {
  std::lock_guard lock(mutex_);
  next_config_ = config;
}

void CommandRunner::Submit(std::shared_ptr<PendingCommand> command) {
  {
    std::unique_lock lock(mutex_);
    if (stopped_ || waiting_count_ >= kMostWaiting) {
      Status status = stopped_ ? Unavailable("the server is stopping")
                               : Exhausted("{} commands wait for stream '{}' already", kMostWaiting,
                                           context_.stream->name());
      lock.unlock();
      return Refuse(command, Because(std::move(status)));
    }
    ++waiting_count_;
    inbox_.push_back(std::move(command));
  }
  dirty_ = true;
  context_.progress->Notify();
}

void CommandRunner::TakeInbox() {
  std::lock_guard lock(mutex_);
  waiting_.insert(waiting_.end(), std::make_move_iterator(inbox_.begin()),
                  std::make_move_iterator(inbox_.end()));
  inbox_.clear();
  settling_.insert(settling_.end(), std::make_move_iterator(settling_inbox_.begin()),
                   std::make_move_iterator(settling_inbox_.end()));
  settling_inbox_.clear();
}

void CommandRunner::TakeConfig() {
  std::lock_guard lock(mutex_);
  if (!next_config_) return;
  config_ = std::move(*next_config_);
  next_config_.reset();
  assembler_.reset(), checks_.reset();
}

void CommandRunner::ReadTables() {
  for (auto& [table, next] : tables_) next = context_.next_of(table);
}

uint64_t CommandRunner::NextFor(const PendingCommand& item) const {
  uint64_t least = UINT64_MAX;
  for (const std::string& table : item.command->tables()) {
    auto found = tables_.find(table);
    if (found == tables_.end()) return 0;  // read with the next look
    auto next = found->second.find(item.partition);
    least = std::min(least, next == found->second.end() ? 0 : next->second);
  }
  return least;
}

bool CommandRunner::HasWork() {
  if (dirty_.exchange(false)) return true;
  for (const Settling& each : settling_)
    if (context_.holds(each.answer.position, each.item->wait_tables)) return true;
  if (waiting_.empty()) return false;
  if (gather_until_ns_ != 0 && context_.clock->MonotonicNs() >= gather_until_ns_) return true;
  auto before = tables_;
  ReadTables();
  return before != tables_;
}

int64_t CommandRunner::WaitUs() const {
  int64_t first_ns = INT64_MAX, now_ns = context_.clock->MonotonicNs();
  for (const Item& item : waiting_) first_ns = std::min(first_ns, item->deadline_ns);
  for (const Settling& each : settling_) first_ns = std::min(first_ns, each.item->deadline_ns);
  if (first_ns == INT64_MAX) return kIdleUs;
  if (gather_until_ns_ > now_ns) first_ns = std::min(first_ns, gather_until_ns_);
  return std::clamp<int64_t>((first_ns - now_ns) / 1000, 0, kIdleUs);
}

void CommandRunner::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    context_.progress->Wait(WaitUs(), stop, [&] { return HasWork(); });
    TakeConfig();
    do {
      TakeInbox();
      for (const Item& item : waiting_)
        for (const std::string& table : item->command->tables()) tables_.try_emplace(table);
      ReadTables();
      TakeLearned();
      Settle();
      Expire();
    } while (!stop.stop_requested() && Round());
    if (waiting_.empty()) tables_.clear();
  }
}

void CommandRunner::Settle() {
  int64_t now_ns = context_.clock->MonotonicNs();
  std::erase_if(settling_, [&](Settling& each) {
    const PendingCommand& item = *each.item;
    if (context_.holds(each.answer.position, item.wait_tables)) {
      item.done(std::move(each.answer));
      return true;
    }
    if (now_ns < item.deadline_ns) return false;
    std::string position = each.answer.position.ToString();
    CommandRefusal late{
        Deadline("the events are appended at {}; the table does not hold them within the time", position),
        "deadline",
        {},
        {},
        position};
    item.done(tl::unexpected(std::move(late)));
    return true;
  });
}

void CommandRunner::Expire() {
  int64_t now_ns = context_.clock->MonotonicNs();
  size_t before = waiting_.size();
  std::erase_if(waiting_, [&](const Item& item) {
    if (now_ns < item->deadline_ns) return false;
    uint64_t needs = context_.sequencer->With(
        item->partition, [&](const KeySequencer& machine) { return machine.Needs(item->hash); });
    std::string far = learning_ && item->if_match ? "; the log is being read for its version" : "";
    for (const std::string& table : item->command->tables()) {
      uint64_t next = tables_[table][item->partition];
      if (next < needs)
        far += fmt::format("; table '{}' holds {} events of partition {}, the key needs {}", table, next,
                           item->partition, needs);
    }
    Refuse(item,
           Because(Unavailable("the command waited for earlier ones of its key and was not decided within "
                               "its time{}",
                               far)));
    return true;
  });
  std::lock_guard lock(mutex_);
  waiting_count_ -= before - waiting_.size();
}

/// At most one a key, in the order in which they came. Their keys are being decided from here on.
std::vector<CommandRunner::Item> CommandRunner::Choose() {
  std::vector<Item> chosen;
  std::set<std::pair<uint32_t, KeySequencer::Key>> met;
  std::deque<Item> left;
  size_t before = waiting_.size();
  for (Item& item : waiting_) {
    bool is_first = met.emplace(item->partition, item->hash).second;
    auto begin = [&](KeySequencer& machine) {
      if (machine.At(item->hash, NextFor(*item)) != KeySequencer::Look::kReady) return false;
      machine.Begin(item->hash);
      return true;
    };
    if (!is_first || chosen.size() >= kMostRound || !context_.sequencer->With(item->partition, begin)) {
      left.push_back(std::move(item));
      continue;
    }
    bool is_known = KnowsVersion(*item);
    if (is_known && MatchesVersion(item)) {
      chosen.push_back(std::move(item));
      continue;
    }
    context_.sequencer->With(item->partition, [&](KeySequencer& machine) { machine.End(item->hash); });
    if (is_known) {  // refused
      met.erase({item->partition, item->hash});
      continue;
    }
    Learn(*item);
    left.push_back(std::move(item));
  }
  waiting_ = std::move(left);
  std::lock_guard lock(mutex_);
  waiting_count_ -= before - waiting_.size();
  return chosen;
}

/// What a round costs is mostly the same for one command and for many, and clients that wait for their
/// answers come back together: a round waits a moment for as many as came before.
bool CommandRunner::IsGathered() {
  if (waiting_.size() >= most_) return true;
  int64_t now_ns = context_.clock->MonotonicNs();
  if (gather_until_ns_ == 0) gather_until_ns_ = now_ns + kGatherUs * 1000;
  return now_ns >= gather_until_ns_;
}

Result<std::unique_ptr<EventBatch>> CommandRunner::RequestsOf(const std::vector<Item>& items) {
  Assembler assembler(items.front()->command->config().input);
  for (const Item& item : items)
    if (auto rejection = assembler.Add({}, item->data)) return Fail(Invalid("{}", rejection->message));
  EncodedBatch encoded = assembler.Finish(0, {});
  BatchPlace place;
  place.count = encoded.count;
  return EventBatch::Open(place, encoded.codec, std::move(encoded.payload));
}

Status CommandRunner::CheckTogether(const std::vector<Item>& items,
                                    std::map<const PendingCommand*, CommandRefusal>& refused) {
  ASSIGN_OR_RETURN(CommandProgram * program, ProgramOf(items.front()->command));
  ASSIGN_OR_RETURN(auto requests, RequestsOf(items));
  ASSIGN_OR_RETURN(auto violations, program->Check(*requests, kDecideUs));
  for (const ContractChecks::Violation& each : violations)
    refused.emplace(items[each.row].get(), CommandDefinition::AtFault(each.rejection));
  return OkStatus();
}

/// Of all that came since the last round; nothing waits for those that are refused.
void CommandRunner::CheckInputs() {
  std::map<const CommandDefinition*, std::vector<Item>> unchecked;
  for (const Item& item : waiting_)
    if (!std::exchange(item->is_checked, true)) unchecked[item->command.get()].push_back(item);
  std::map<const PendingCommand*, CommandRefusal> refused;
  for (const auto& [command, items] : unchecked) {
    if (!ContractChecks::Needed(command->config().input.contract) || CheckTogether(items, refused).ok())
      continue;
    for (const Item& item : items)  // which one cannot be checked?
      if (Status own = CheckTogether({item}, refused); !own.ok()) refused.emplace(item.get(), Because(own));
  }
  if (refused.empty()) return;
  std::erase_if(waiting_, [&](const Item& item) {
    auto found = refused.find(item.get());
    if (found == refused.end()) return false;
    Refuse(item, std::move(found->second));
    return true;
  });
  std::lock_guard lock(mutex_);
  waiting_count_ -= refused.size();
}

bool CommandRunner::Round() {
  if (waiting_.empty() || in_log_ > 0 || !IsGathered()) return false;
  CheckInputs();
  size_t before = waiting_.size();
  std::vector<Item> chosen = Choose();
  context_.sequencer->Release();
  gather_until_ns_ = 0;
  if (chosen.empty()) {  // they wait for tables, not for others
    most_ = std::min(most_, waiting_.size());
    return waiting_.size() != before;
  }
  most_ = std::max(chosen.size(), most_ * 7 / 8);
  std::vector<Given> given;
  Decide(chosen, given);
  std::map<uint32_t, Part> parts;
  std::map<const PendingCommand*, CommandRefusal> refused;
  while (!given.empty()) {
    Status laid = Lay(given, parts, refused);
    if (!laid.ok()) {
      assembler_.reset();
      for (const Given& each : given) refused.try_emplace(each.item.get(), Because(laid));
    }
    if (refused.empty()) break;
    std::erase_if(given, [&](const Given& each) {
      auto found = refused.find(each.item.get());
      if (found == refused.end()) return false;
      Refuse(each.item, std::move(found->second));
      return true;
    });
    refused.clear(), parts.clear();
  }
  for (auto& [partition, part] : parts) Append(partition, std::move(part));
  for (const Item& item : chosen)
    context_.sequencer->With(item->partition, [&](KeySequencer& machine) { machine.End(item->hash); });
  context_.sequencer->Release();
  return true;
}

Result<CommandProgram*> CommandRunner::ProgramOf(const std::shared_ptr<const CommandDefinition>& command) {
  auto found = programs_.find(command.get());
  if (found == programs_.end()) {
    if (programs_.size() >= kMostPrograms) programs_.clear();
    ASSIGN_OR_FAIL(auto program,
                   CommandProgram::Make(*context_.database, *context_.tables, *context_.watchdog, command));
    found = programs_.emplace(command.get(), std::move(program)).first;
  }
  return found->second.get();
}

void CommandRunner::Decide(const std::vector<Item>& chosen, std::vector<Given>& given) {
  std::map<const CommandDefinition*, std::vector<Item>> by_command;
  for (const Item& item : chosen) by_command[item->command.get()].push_back(item);
  for (auto& [command, items] : by_command) {
    size_t count = given.size();
    Status status = DecideTogether(items, given);
    if (status.ok()) continue;
    given.resize(count);
    // One of them is at fault, or all are refused for the same reason.
    for (const Item& item : items) {
      bool alone = items.size() > 1 && status.code() == Code::kInvalid;
      Status own = alone ? DecideTogether({item}, given) : status;
      if (own.ok()) continue;
      Refuse(item, Because(own.code() == Code::kInvalid ? own.Within("the command cannot be decided") : own));
    }
  }
}

/// On failure nobody was answered.
Status CommandRunner::DecideTogether(const std::vector<Item>& items, std::vector<Given>& given) {
  const std::shared_ptr<const CommandDefinition>& command = items.front()->command;
  ASSIGN_OR_RETURN(CommandProgram * program, ProgramOf(command));
  ASSIGN_OR_RETURN(auto requests, RequestsOf(items));
  Watchdog::Guard guard(*context_.watchdog, kDecideUs, [program] { program->Interrupt(); });
  ASSIGN_OR_RETURN(std::vector<int> refusals, program->Refusals(*requests));
  std::vector<uint32_t> accepted;
  for (uint32_t row = 0; row < items.size(); ++row)
    if (refusals[row] < 0) accepted.push_back(row);
  std::vector<EmittedEvent> events;
  if (!accepted.empty()) {
    ASSIGN_OR_RETURN(events, program->Emit(*requests, accepted));
  }
  size_t next = 0;
  for (uint32_t row = 0; row < items.size(); ++row) {
    if (refusals[row] >= 0) {
      const std::string& message = command->config().rules[static_cast<size_t>(refusals[row])].message;
      Refuse(items[row], Because(Conflict("{}", message), "refused"));
      continue;
    }
    Given& each = given.emplace_back(Given{items[row], {}});
    while (next < events.size() && events[next].row == row) each.events.push_back(std::move(events[next++]));
  }
  return OkStatus();
}

/// Checks the events as the stream takes them, and encodes them. `refused`: whose events it does not take;
/// then all is to be laid out again without these.
Status CommandRunner::Lay(const std::vector<Given>& given, std::map<uint32_t, Part>& parts,
                          std::map<const PendingCommand*, CommandRefusal>& refused) {
  const StreamShape& shape = config_.shape;
  if (!assembler_) assembler_ = std::make_unique<Assembler>(shape);
  auto refuse = [&](const Item& item, const Rejection& rejection) {
    CommandRefusal refusal = CommandDefinition::AtFault(rejection);
    refusal.status =
        refusal.status.Within(fmt::format("stream '{}' does not take what the command emits", shape.name));
    refused.emplace(item.get(), std::move(refusal));
  };
  auto refuse_key = [&](const Item& item) {
    refuse(item, {"contract", "", fmt::format("its key is not the command's ('{}')", item->key)});
  };
  for (const Given& each : given) {
    uint32_t count = 0;
    for (const EmittedEvent& event : each.events) {
      uint32_t partition = 0;
      if (auto rejection = assembler_->Add(event.envelope(), event.data, &partition))
        refuse(each.item, *rejection);
      else if (partition != each.item->partition)
        refuse_key(each.item);
      else
        ++count;
    }
    parts[each.item->partition].items.emplace_back(each.item, count);
  }
  for (auto& [partition, part] : parts) {
    if (!refused.empty() || assembler_->count(partition) == 0) continue;
    if (ContractChecks::Needed(shape.contract)) {
      if (!checks_) {
        ASSIGN_OR_RETURN(checks_, ContractChecks::Make(*context_.database, *context_.watchdog, shape.name,
                                                       shape.contract));
      }
      ASSIGN_OR_RETURN(auto batch, assembler_->Preview(partition));
      ASSIGN_OR_RETURN(auto violations, checks_->Run(*batch, kDecideUs));
      for (const ContractChecks::Violation& violation : violations) {
        uint32_t end = 0;
        for (const auto& [item, count] : part.items)
          if (violation.row < (end += count)) {
            refuse(item, violation.rejection);
            break;
          }
      }
    }
    Receipts receipts;
    uint32_t first = 0;
    for (const auto& [item, count] : part.items) {
      for (Receipt receipt : item->receipts) {
        receipt.first_event = first, receipt.events = count;
        if (count > 0) receipts.push_back(std::move(receipt));
      }
      first += count;
    }
    part.batch = assembler_->Finish(partition, std::move(receipts));
    ASSIGN_OR_RETURN(part.keys, KeysOf(part.batch));
    uint32_t event = 0;
    for (const auto& [item, count] : part.items)
      for (uint32_t end = event + count; event < end; ++event)
        if (part.keys[event] != item->hash) refuse_key(item);
  }
  if (!refused.empty()) assembler_.reset();
  return OkStatus();
}

void CommandRunner::Append(uint32_t partition, Part part) {
  std::erase_if(part.items, [&](const auto& each) {
    if (each.second > 0) return false;
    Answer(each.first, {});  // nothing happened, and nothing was to happen
    return true;
  });
  if (part.items.empty()) return;
  context_.sequencer->With(partition, [&](KeySequencer& machine) { machine.Queue(part.keys); });
  auto done = [self = shared_from_this(), partition, bytes = part.batch.data_bytes,
               items = std::move(part.items)](Result<Appended> appended) {
    uint64_t first = appended ? appended->first_offset : 0;
    for (const auto& [item, count] : items) {
      if (!appended) {
        Refuse(item, Because(appended.error()));
        continue;
      }
      IngestAnswer answer;
      answer.accepted = count;
      answer.position.stream = self->context_.stream->name();
      answer.position.offsets[partition] = first + count - 1;
      answer.partitions.push_back({partition, first, first + count - 1});
      first += count;
      self->Answer(item, std::move(answer));
    }
    if (appended) self->context_.count_in(appended->count, bytes);
    --self->in_log_;
    self->dirty_ = true;
    self->context_.progress->Notify();
  };
  ++in_log_;
  context_.sequencer->AppendQueued(partition, std::move(part.batch), config_.ack, std::move(part.keys),
                                   std::move(done));
}

void CommandRunner::Answer(const Item& item, IngestAnswer answer) {
  if (item->wait_tables.empty() || answer.accepted == 0) return item->done(std::move(answer));
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) {
      settling_inbox_.push_back({item, std::move(answer)});
      return;
    }
  }
  item->done(std::move(answer));
}

}  // namespace millstream
