// Commands of an Engine: what can be asked for, one runner a stream, Idempotency-Keys.
#include <set>

#include "pipeline/engine_state.h"

namespace millstream {
namespace {

/// The answers of Idempotency-Keys are kept as those of ingest.
IngestRefusal AsIngest(const CommandRefusal& refusal) {
  IngestRefusal as{refusal.status, {}};
  as.faults.emplace_back().code = refusal.code;
  for (const Fault& fault : refusal.faults) as.faults.push_back({0, 0, "", fault.path, fault.message, {}});
  return as;
}

CommandRefusal AsCommand(const IngestRefusal& refusal) {
  CommandRefusal as = Because(refusal.status);
  if (refusal.faults.empty()) return as;
  as.code = refusal.faults[0].code;
  for (size_t i = 1; i < refusal.faults.size(); ++i) {
    Fault& fault = as.faults.emplace_back();
    fault.path = refusal.faults[i].path, fault.message = refusal.faults[i].message;
  }
  return as;
}

/// The first answer to a request with this key, as the log has it; kInvalid: the key was another request's.
Result<std::optional<IngestAnswer>> FindAnswer(Stream& stream, const std::string& key,
                                               const std::string& body) {
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    auto receipt = stream.partition(p).FindReceipt(kKeyOrigin + stream.name(), key);
    if (!receipt) continue;
    if (receipt->position != body) return Fail(Invalid("this Idempotency-Key was used with another body"));
    IngestAnswer answer;
    answer.replayed = true;
    answer.accepted = receipt->events;
    uint64_t last = receipt->first_offset + receipt->events - 1;
    answer.position = {stream.name(), {{p, last}}};
    answer.partitions.push_back({p, receipt->first_offset, last});
    return answer;
  }
  return std::nullopt;
}

/// Takes part in what is known of an Idempotency-Key. False: the command was or will be answered.
bool Enter(IdempotencyTable& keys, Stream& stream, const std::string& key, const std::string& body,
           PendingCommand& pending) {
  CommandDone asked = std::move(pending.done);
  auto done = [asked](tl::expected<IngestAnswer, IngestRefusal> answer) {
    if (answer)
      asked(std::move(*answer));
    else
      asked(tl::unexpected(AsCommand(answer.error())));
  };
  auto begin = keys.Enter(key, body, done);
  if (begin == IdempotencyTable::Begin::kReplay) return false;
  if (begin == IdempotencyTable::Begin::kMismatch) {
    asked(tl::unexpected(Because(Invalid("this Idempotency-Key was used with another body"))));
    return false;
  }
  if (begin == IdempotencyTable::Begin::kBusy) {
    asked(tl::unexpected(Because(Conflict("the first request with this Idempotency-Key is still running"))));
    return false;
  }
  auto found = FindAnswer(stream, key, body);
  if (!found || *found) {
    if (found)
      keys.Finish(key, **found), asked(std::move(**found));
    else
      keys.Abandon(key, {found.error(), {}}), asked(tl::unexpected(Because(found.error())));
    return false;
  }
  pending.receipts.push_back({kKeyOrigin + stream.name(), key, body, 0, 0, 0});
  pending.done = [&keys, key, asked](tl::expected<IngestAnswer, CommandRefusal> answer) {
    // Events that nobody waits for any more are there all the same, and a retry finds them in the log.
    if (answer && answer->accepted > 0)
      keys.Finish(key, *answer);
    else
      keys.Abandon(
          key, answer ? IngestRefusal{Unavailable("send the command again"), {}} : AsIngest(answer.error()));
    asked(std::move(answer));
  };
  return true;
}

}  // namespace

void Engine::Decide(const CommandRequest& request, CommandDone done) {
  State& s = *state_;
  std::shared_ptr<CommandDefinition> command;
  std::shared_ptr<CommandRunner> runner;
  std::shared_ptr<StreamIngest> ingest;
  std::vector<std::string> names;
  {
    std::shared_lock lock(s.mutex);
    for (const auto& [name, each] : s.commands) names.push_back(name);
    if (auto found = s.commands.find(request.command); found != s.commands.end()) {
      command = found->second;
      const std::string& stream = command->config().stream;
      if (auto known = s.command_runners.find(stream); known != s.command_runners.end())
        runner = known->second;
      if (auto known = s.ingests.find(stream); known != s.ingests.end()) ingest = known->second;
    }
  }
  auto refuse = [&](CommandRefusal refusal) { done(tl::unexpected(std::move(refusal))); };
  if (!command) {
    std::string nearest = Nearest(request.command, names);
    return refuse(Because(NotFound("no command '{}'{}", request.command,
                                   nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest))));
  }
  if (!runner || !ingest) return refuse(Because(Unavailable("the server is stopping")));
  for (const std::string& table : request.wait_tables)
    if (!s.tables->Find(table)) return refuse(Because(NotFound("no table '{}'", table)));
  auto parsed = command->Parse(request.body);
  if (!parsed) return refuse(std::move(parsed.error()));
  auto pending = std::make_shared<PendingCommand>();
  pending->data = std::move(parsed->data);
  pending->key = std::move(parsed->key);
  pending->hash = KeyOf(pending->key);
  pending->partition = PartitionOf(pending->key, ingest->stream().partitions());
  pending->if_match = request.if_match;
  pending->wait_tables = request.wait_tables;
  int64_t timeout_us = request.timeout_us > 0 ? request.timeout_us : kCommandTimeoutUs;
  pending->deadline_ns = s.options.clock->MonotonicNs() + timeout_us * 1000;
  pending->done = std::move(done);
  if (request.idempotency_key) {
    std::string key = Hash128(command->config().stream + "\n" + *request.idempotency_key);
    std::string body = Hash128(request.command + "\n" + pending->data);
    if (!Enter(s.keys, ingest->stream(), key, body, *pending)) return;
  }
  pending->command = std::move(command);
  runner->Submit(std::move(pending));
}

std::map<uint32_t, uint64_t> Engine::State::TableNext(const std::string& stream,
                                                      const std::string& table) const {
  std::map<uint32_t, uint64_t> next;
  bool is_first = true;
  std::shared_lock lock(mutex);
  for (const auto& [name, pipeline] : project->pipelines) {
    if (pipeline.stream != stream || !pipelines.contains(name)) continue;
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table" || TableOf(sink) != table) continue;
      std::map<uint32_t, uint64_t> delivered = pipelines.at(name)->Delivered(sink.id);
      if (std::exchange(is_first, false)) {
        next = std::move(delivered);
        continue;
      }
      for (auto& [partition, offset] : next) offset = std::min(offset, delivered[partition]);
    }
  }
  return next;
}

CommandContext Engine::State::MakeCommandContext(const std::string& name, StreamIngest& ingest) {
  CommandContext context;
  context.database = database.get();
  context.tables = tables.get();
  context.clock = options.clock;
  context.watchdog = &watchdog;
  context.progress = &deliveries;
  context.stream = &ingest.stream();
  context.sequencer = ingest.sequencer();
  context.next_of = [this, name](const std::string& table) { return TableNext(name, table); };
  context.holds = [this](const Position& position, const std::vector<std::string>& tables_asked) {
    return HowFar(position, tables_asked).is_there;
  };
  context.count_in = [this, name](uint64_t events, uint64_t bytes) {
    if (auto found = FindIngest(name)) found->CountIn(events, bytes);
  };
  return context;
}

Status Engine::State::OpenCommands(bool quiet) {
  std::shared_ptr<const Project> live;
  std::map<std::string, std::shared_ptr<CommandDefinition>> next;
  {
    std::shared_lock lock(mutex);
    live = project;
    next = commands;
  }
  std::erase_if(next, [&](const auto& each) { return !live->commands.contains(each.first); });
  std::set<std::string> streams;
  for (const auto& [name, config] : live->commands) {
    streams.insert(config.stream);
    auto known = next.find(name);
    if (known != next.end() && known->second->config().node == config.node) continue;
    ASSIGN_OR_RETURN(next[name], CommandDefinition::Make(*database, config));
  }
  for (const std::string& stream : streams) {
    std::shared_ptr<StreamIngest> ingest = FindIngest(stream);
    if (!ingest) return NotFound("no stream '{}'", stream);
    RETURN_IF_ERROR(ingest->sequencer()->TurnOn(quiet));
    std::unique_lock lock(mutex);
    std::shared_ptr<CommandRunner>& runner = command_runners[stream];
    if (runner) {
      runner->SetStream(live->streams.at(stream));
      continue;
    }
    runner = std::make_shared<CommandRunner>(live->streams.at(stream), MakeCommandContext(stream, *ingest));
    runner->Start();
  }
  std::vector<std::shared_ptr<CommandRunner>> ended;
  {
    std::unique_lock lock(mutex);
    commands = std::move(next);
    for (auto& [stream, runner] : command_runners)
      if (!streams.contains(stream)) ended.push_back(std::move(runner));
    std::erase_if(command_runners, [](const auto& each) { return each.second == nullptr; });
  }
  for (const auto& runner : ended) runner->Stop();
  return OkStatus();
}

void Engine::State::StopCommands() {
  std::vector<std::shared_ptr<CommandRunner>> running;
  {
    std::shared_lock lock(mutex);
    for (const auto& [stream, runner] : command_runners) running.push_back(runner);
  }
  for (const auto& runner : running) runner->Stop();
}

}  // namespace millstream
