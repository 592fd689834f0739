#include "pipeline/stream_ingest.h"

#include <charconv>
#include <future>

#include "pipeline/gatherer.h"

namespace millstream {
namespace {

constexpr size_t kMaxPooled = 16;  // assemblers kept for reuse
constexpr size_t kMaxDedupeKeys = 1'000'000;
constexpr int64_t kChecksUs = 30'000'000;   // of one request and partition, as filters have
constexpr size_t kReceiptsBytes = 1 << 20;  // pieces from this size on carry receipts to every partition
constexpr int64_t kReceiptsIntervalNs = 10'000'000'000;  // SEMANTICS, 5

}  // namespace

/// A commit under way: what remains to become durable, and the answer that is filled meanwhile.
struct StreamIngest::Commitment {
  std::shared_ptr<StreamIngest> ingest;
  std::shared_ptr<PreparedIngest> prepared;
  IngestDone done;
  std::mutex mutex;
  size_t remaining = 1;  // appends under way, one more while they are being queued
  IngestAnswer answer;
  Status failure;
  std::map<uint32_t, std::vector<DedupeWindow::Identity>> inserted;  // by partition, not durable there yet
  uint64_t sequence = 0;
  bool in_flight = false;          // has a sequence
  bool waits_for_earlier = false;  // has duplicates of events that may not be durable yet
  bool durable = false;
};

PreparedIngest::~PreparedIngest() {
  if (assembler) stream->ReturnAssembler(std::move(assembler));
}

StreamIngest::StreamIngest(const StreamConfig& config, Stream& stream, DeadLetters& dead_letters,
                           Database& database, Watchdog& watchdog, IdempotencyTable& keys, Clock& clock)
    : config_(config),
      stream_(stream),
      sequencer_(std::make_shared<StreamSequencer>(stream)),
      dead_letters_(dead_letters),
      database_(database),
      watchdog_(watchdog),
      keys_(keys),
      clock_(clock),
      started_wall_us_(clock.WallUs() - clock.MonotonicNs() / 1000),
      default_source_("/v1/streams/" + config.shape.name) {
  MakeCommits();
}

StreamIngest::StreamIngest(const StreamConfig& config, const StreamIngest& before)
    : config_(config),
      stream_(before.stream_),
      sequencer_(before.sequencer_),
      dead_letters_(before.dead_letters_),
      database_(before.database_),
      watchdog_(before.watchdog_),
      keys_(before.keys_),
      clock_(before.clock_),
      started_wall_us_(before.started_wall_us_),
      default_source_(before.default_source_),
      events_in_(before.events_in()),
      bytes_in_(before.bytes_in()) {
  if (config_.dedupe_by == before.config_.dedupe_by &&
      config_.dedupe_window_us == before.config_.dedupe_window_us)
    commits_ = before.commits_;
  else
    MakeCommits();
}

void StreamIngest::MakeCommits() {
  commits_ = std::make_shared<Commits>();
  if (!config_.dedupe_by.empty())
    commits_->dedupe = std::make_unique<DedupeWindow>(config_.dedupe_by, config_.dedupe_window_us,
                                                      kMaxDedupeKeys, default_source_);
}

StreamIngest::~StreamIngest() = default;

Status StreamIngest::Recover() {
  if (!commits_->dedupe) return OkStatus();
  // Stamps tell how long before the newest event the others came. How long ago that was they do not: the
  // clock may have leapt since. So the window goes on from there.
  int64_t newest_us = 0;
  for (uint32_t p = 0; p < stream_.partitions(); ++p)
    for (const SegmentInfo& segment : stream_.partition(p).segments())
      newest_us = std::max(newest_us, segment.last_us);
  const int64_t now_us = DedupeNowUs(), later_us = now_us - newest_us;
  std::vector<std::pair<int64_t, DedupeWindow::Identity>> seen;
  bool is_cut = false;
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    ASSIGN_OR_RETURN(uint64_t from,
                     stream_.partition(p).OffsetForTime(newest_us - commits_->dedupe->window_us()));
    uint64_t end = stream_.partition(p).bounds().durable_end;
    uint64_t share = commits_->dedupe->max_keys() / stream_.partitions();
    if (end - from > share) {
      from = end - share;
      is_cut = true;
    }
    ASSIGN_OR_RETURN(auto reader, stream_.partition(p).Read(from));
    while (true) {
      ASSIGN_OR_RETURN(auto batch, reader->Next());
      if (batch == nullptr) break;
      ASSIGN_OR_RETURN(auto identities, commits_->dedupe->Identify(*batch, config_.shape.contract));
      for (uint32_t row = 0; row < batch->count(); ++row)
        if (identities[row] != DedupeWindow::Identity{} && batch->place().base_offset + row >= from)
          seen.emplace_back(batch->IngestedAtUs(row) + later_us, identities[row]);
    }
  }
  commits_->dedupe->Restore(std::move(seen), is_cut, now_us);
  return OkStatus();
}

int64_t StreamIngest::DedupeNowUs() const { return started_wall_us_ + clock_.MonotonicNs() / 1000; }

std::unique_ptr<Assembler> StreamIngest::TakeAssembler() {
  std::lock_guard lock(pool_mutex_);
  if (assemblers_.empty()) return std::make_unique<Assembler>(config_.shape);
  auto assembler = std::move(assemblers_.back());
  assemblers_.pop_back();
  return assembler;
}

void StreamIngest::ReturnAssembler(std::unique_ptr<Assembler> assembler) {
  if (assembler->count() > 0) return;  // a refused request's events lie in it still
  std::lock_guard lock(pool_mutex_);
  if (assemblers_.size() < kMaxPooled) assemblers_.push_back(std::move(assembler));
}

std::shared_ptr<PreparedIngest> StreamIngest::Prepare(const IngestRequest& request) {
  Gatherer gatherer(*this, std::make_shared<PreparedIngest>(),
                    request.named.empty() ? request.subject : request.named);
  PreparedIngest& prepared = gatherer.prepared();
  if (request.idempotency_key) {
    prepared.key = Hash128(config_.shape.name + "\n" + *request.idempotency_key);
    prepared.body_hash = Hash128(request.body);
    prepared.receipts.push_back(
        {kKeyOrigin + config_.shape.name, prepared.key, prepared.body_hash, 0, UINT32_MAX, 0});
    prepared.repeatable = true;
    prepared.assembler->SpreadTo(PartitionOf(prepared.key, stream_.partitions()));
  }
  if (request.origin) {
    prepared.receipts.push_back(
        {request.origin->origin, request.origin->part, request.origin->position, 0, UINT32_MAX, 0});
    prepared.everywhere = ReceiptsDue(request.origin->origin, request.origin->part,
                                      request.body.empty() ? SIZE_MAX : request.body.size());
    gatherer.Cover(request.origin->origin, request.origin->part);
  }
  Split(request, gatherer);
  if (!prepared.refusal) Lay(gatherer, request.reject.value_or(config_.reject));
  return gatherer.shared();
}

Result<StreamIngest::Looked> StreamIngest::LookBack(uint64_t most) {
  constexpr uint64_t kMostBytes = 64u << 20;
  Looked looked;
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    const Bounds bounds = stream_.partition(p).bounds();
    const uint64_t each = most / stream_.partitions();
    const uint64_t from = std::max(bounds.start, bounds.durable_end > each ? bounds.durable_end - each : 0);
    if (from >= bounds.durable_end) continue;
    ASSIGN_OR_FAIL(auto reader, stream_.partition(p).Read(from));
    for (uint64_t bytes = 0; bytes < kMostBytes / stream_.partitions();) {
      ASSIGN_OR_FAIL(auto batch, reader->Next());
      if (!batch) break;
      ASSIGN_OR_FAIL(const Column* data, batch->Data());
      std::string body = "[";
      const uint64_t base = batch->place().base_offset;
      for (uint32_t row = from > base ? static_cast<uint32_t>(from - base) : 0; row < batch->count(); ++row)
        if (!batch->Erased(row)) body.append(body.size() == 1 ? "" : ",").append(data->String(row));
      bytes += body.size();
      body += ']';
      body.reserve(body.size() + 64);
      IngestRequest request;
      request.stream = config_.shape.name;
      request.body = body;
      request.reject = false;
      std::shared_ptr<PreparedIngest> prepared = Prepare(request);
      if (prepared->refusal) return Fail(prepared->refusal->status);
      looked.events += prepared->events;
      looked.refused += prepared->quarantined;
    }
  }
  return looked;
}

void StreamIngest::Lay(Gatherer& gatherer, bool reject) {
  PreparedIngest& prepared = gatherer.prepared();
  RunChecks(gatherer);
  if (prepared.refusal) return;
  gatherer.SortFaults();
  if (prepared.quarantined > 0 && reject) {
    prepared.refusal =
        IngestRefusal{Invalid("{} of {} events are at fault; nothing of the request was appended",
                              prepared.quarantined, prepared.events),
                      prepared.faults};
    return;
  }
  gatherer.SkipCovered();
  if (commits_->dedupe) return;
  Encode(prepared);
  ReturnAssembler(std::move(prepared.assembler));
}

bool StreamIngest::ReceiptsDue(const std::string& origin, const std::string& part, size_t bytes) {
  int64_t now = clock_.MonotonicNs();
  std::lock_guard lock(pool_mutex_);
  int64_t& last = receipts_written_ns_[origin + "\n" + part];
  if (bytes < kReceiptsBytes && last != 0 && now - last < kReceiptsIntervalNs) return false;
  last = now;
  return true;
}

void StreamIngest::RunChecks(Gatherer& gatherer) {
  PreparedIngest& prepared = gatherer.prepared();
  if (!ContractChecks::Needed(config_.shape.contract) || prepared.assembler->count() == 0) return;
  std::unique_ptr<ContractChecks> checks;
  {
    std::lock_guard lock(pool_mutex_);
    if (!checks_.empty()) {
      checks = std::move(checks_.back());
      checks_.pop_back();
    }
  }
  auto run = [&]() -> Status {
    if (!checks) {
      ASSIGN_OR_RETURN(
          checks, ContractChecks::Make(database_, watchdog_, config_.shape.name, config_.shape.contract));
    }
    for (uint32_t p = 0; p < stream_.partitions(); ++p) {
      if (prepared.assembler->count(p) == 0) continue;
      ASSIGN_OR_RETURN(auto batch, prepared.assembler->Preview(p));
      ASSIGN_OR_RETURN(auto violations, checks->Run(*batch, kChecksUs));
      if (!violations.empty()) RETURN_IF_ERROR(gatherer.Withdraw(p, *batch, std::move(violations)));
    }
    return OkStatus();
  };
  Status status = run();
  if (!status.ok()) {
    prepared.refusal = IngestRefusal{status.Within("evaluating the contract's checks"), {}};
    return;
  }
  std::lock_guard lock(pool_mutex_);
  if (checks_.size() < kMaxPooled) checks_.push_back(std::move(checks));
}

void StreamIngest::Encode(PreparedIngest& prepared) {
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    if (prepared.durable[p]) continue;
    if (prepared.assembler->count(p) > 0) {
      prepared.batches[p] = prepared.assembler->Finish(p, prepared.receipts);
    } else if (prepared.everywhere) {
      prepared.batches[p] = EncodeReceipts(prepared.receipts);
    }
  }
}

Status StreamIngest::DropDuplicates(PreparedIngest& prepared, Commitment& commitment) {
  int64_t now_us = DedupeNowUs();
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    if (prepared.assembler->count(p) == 0 || prepared.durable[p]) continue;
    ASSIGN_OR_RETURN(auto batch, prepared.assembler->Preview(p));
    ASSIGN_OR_RETURN(auto identities, commits_->dedupe->Identify(*batch, config_.shape.contract));
    std::vector<uint32_t> duplicates;
    for (uint32_t row = 0; row < identities.size(); ++row) {
      if (identities[row] == DedupeWindow::Identity{}) continue;
      if (commits_->dedupe->Insert(identities[row], now_us)) {
        commitment.inserted[p].push_back(identities[row]);
      } else {
        duplicates.push_back(row);
      }
    }
    commitment.answer.duplicates += duplicates.size();
    batch.reset();
    if (!duplicates.empty()) prepared.assembler->Remove(p, duplicates);
  }
  commitment.waits_for_earlier = commitment.answer.duplicates > 0;
  return OkStatus();
}

bool StreamIngest::AnswerFromReceipts(PreparedIngest& prepared, Commitment& commitment,
                                      IngestRefusal& refusal) {
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    auto receipt = stream_.partition(p).FindReceipt(kKeyOrigin + config_.shape.name, prepared.key);
    if (!receipt) continue;
    if (receipt->position != prepared.body_hash) {
      refusal.status = Invalid("this Idempotency-Key was used with another body");
      return false;
    }
    commitment.answer.replayed = true;
    prepared.durable[p] = true;
    prepared.batches[p] = {};
    if (receipt->events == 0) continue;
    commitment.answer.partitions.push_back(
        {p, receipt->first_offset, receipt->first_offset + receipt->events - 1});
    commitment.answer.accepted += receipt->events;
  }
  auto first = dead_letters_.FindFirst(config_.shape.name, kKeyOrigin + config_.shape.name, prepared.key);
  if (first && !prepared.letters.empty()) {
    commitment.answer.replayed = true;
    NumberFaults(prepared, *first);
    prepared.letters.clear();
  }
  return true;
}

void StreamIngest::Commit(std::shared_ptr<PreparedIngest> prepared, IngestDone done) {
  if (prepared->refusal) return done(tl::unexpected(*prepared->refusal));
  auto commitment = std::make_shared<Commitment>();
  commitment->ingest = shared_from_this();
  commitment->prepared = prepared;
  commitment->answer.duplicates = prepared->skipped;
  commitment->answer.ack = config_.ack;
  if (!prepared->key.empty()) {
    auto begin = keys_.Enter(prepared->key, prepared->body_hash, done);
    if (begin == IdempotencyTable::Begin::kReplay) return;
    IngestRefusal refusal{Invalid("this Idempotency-Key was used with another body"), {}};
    if (begin == IdempotencyTable::Begin::kBusy)
      refusal.status = Conflict("the first request with this Idempotency-Key is still running");
    if (begin != IdempotencyTable::Begin::kFirst) return done(tl::unexpected(refusal));
    commitment->done = [this, key = prepared->key, done](tl::expected<IngestAnswer, IngestRefusal> answer) {
      if (answer) {
        keys_.Finish(key, *answer);
      } else {
        keys_.Abandon(key, answer.error());
      }
      done(std::move(answer));
    };
    if (!AnswerFromReceipts(*prepared, *commitment, refusal))
      return commitment->done(tl::unexpected(refusal));
  } else {
    commitment->done = std::move(done);
  }
  commitment->answer.quarantined = prepared->quarantined;
  // A letter of a request that may come again is durable before its events are appended, so that receipts
  // beside events cover it too. It is waited for here, so that pieces of an origin stay in order.
  if (prepared->repeatable && !prepared->letters.empty()) {
    auto first = dead_letters_.AppendAndWait(config_.shape.name, prepared->letters, prepared->receipts);
    if (first) {
      NumberFaults(*prepared, *first);
    } else {
      commitment->failure = first.error();
    }
  }
  AppendEvents(commitment);
}

void StreamIngest::NumberFaults(PreparedIngest& prepared, uint64_t first) {
  std::vector<IngestFault>& faults = prepared.faults;
  for (size_t i = 0; i < prepared.letters.size(); ++i) {
    const size_t begin = prepared.letter_faults[i];
    for (size_t k = begin; k < faults.size() && faults[k].index == faults[begin].index; ++k)
      faults[k].dead = first + i;
  }
}

void StreamIngest::AppendEvents(const std::shared_ptr<Commitment>& commitment) {
  PreparedIngest& prepared = *commitment->prepared;
  if (commitment->failure.ok()) {
    std::lock_guard lock(commits_->mutex);
    if (commits_->dedupe) {
      commitment->failure = DropDuplicates(prepared, *commitment);
      if (commitment->failure.ok()) Encode(prepared);
      commitment->sequence = commits_->next_sequence++;
      commitment->in_flight = true;
      commits_->in_flight.emplace(commitment->sequence, commitment);
    }
    std::shared_ptr<IngestOrder> order = prepared.order;
    std::unique_lock<std::recursive_mutex> in_order;
    if (order) in_order = std::unique_lock(order->mutex);
    if (order) commitment->failure = order->Note(commitment->failure);
    const bool taken = commitment->failure.ok();
    for (uint32_t p = 0; p < prepared.batches.size() && taken; ++p) {
      EncodedBatch& batch = prepared.batches[p];
      if (batch.payload.empty()) continue;
      {
        std::lock_guard inner(commitment->mutex);
        ++commitment->remaining;
      }
      bytes_in_.fetch_add(batch.data_bytes, std::memory_order_relaxed);
      sequencer_->Append(p, std::move(batch), config_.ack,
                         [this, commitment, p, order](Result<Appended> appended) {
                           if (order && !appended) (void)order->Note(appended.error());
                           {
                             std::lock_guard inner(commitment->mutex);
                             if (!appended) {
                               commitment->failure = appended.error();
                             } else if (appended->count > 0) {
                               commitment->inserted.erase(p);
                               commitment->answer.partitions.push_back(
                                   {p, appended->first_offset, appended->first_offset + appended->count - 1});
                               commitment->answer.accepted += appended->count;
                             }
                           }
                           Finished(commitment);
                         });
    }
    if (!prepared.repeatable && !prepared.letters.empty()) {
      {
        std::lock_guard inner(commitment->mutex);
        ++commitment->remaining;
      }
      dead_letters_.Append(config_.shape.name, prepared.letters, {},
                           [this, commitment](Result<uint64_t> first) {
                             {
                               std::lock_guard inner(commitment->mutex);
                               if (first) {
                                 NumberFaults(*commitment->prepared, *first);
                               } else {
                                 commitment->failure = first.error();
                               }
                             }
                             Finished(commitment);
                           });
    }
  }
  Finished(commitment);
}

void StreamIngest::Finished(const std::shared_ptr<Commitment>& commitment) {
  {
    std::lock_guard lock(commitment->mutex);
    if (--commitment->remaining > 0) return;
  }
  if (!commitment->in_flight) return Complete(commitment);
  // Answers with duplicates wait until all that was queued before them is durable: the event that they repeat
  // may be among it.
  std::vector<std::shared_ptr<Commitment>> ready;
  {
    std::lock_guard lock(commits_->mutex);
    commitment->durable = true;
    if (!commitment->failure.ok()) {
      for (const auto& [p, identities] : commitment->inserted)
        for (const auto& identity : identities) commits_->dedupe->Erase(identity);
      for (auto& [sequence, later] : commits_->in_flight)
        if (sequence > commitment->sequence && later->waits_for_earlier && later->failure.ok())
          later->failure =
              Unavailable("an event that this request repeats could not be stored; send it again");
    }
    bool all_before_durable = true;
    for (auto it = commits_->in_flight.begin(); it != commits_->in_flight.end();) {
      Commitment& each = *it->second;
      if (each.durable && (all_before_durable || !each.waits_for_earlier)) {
        ready.push_back(it->second);
        it = commits_->in_flight.erase(it);
      } else {
        if (!each.durable) all_before_durable = false;
        ++it;
      }
    }
  }
  for (const auto& each : ready) Complete(each);
}

void StreamIngest::Complete(const std::shared_ptr<Commitment>& commitment) {
  // What was prepared goes back before the answer: once all are answered, nothing holds on to this object.
  std::shared_ptr<PreparedIngest> prepared = std::move(commitment->prepared);
  if (!commitment->failure.ok()) {
    prepared.reset();
    return commitment->done(tl::unexpected(IngestRefusal{commitment->failure, {}}));
  }
  IngestAnswer& answer = commitment->answer;
  events_in_.fetch_add(answer.accepted, std::memory_order_relaxed);
  std::sort(answer.partitions.begin(), answer.partitions.end(),
            [](const auto& a, const auto& b) { return a.partition < b.partition; });
  answer.position.stream = config_.shape.name;
  for (const PartitionRange& range : answer.partitions) answer.position.offsets[range.partition] = range.last;
  // The first answer's duplicates are no longer known: they are what is left.
  if (answer.replayed) answer.duplicates = prepared->events - answer.quarantined - answer.accepted;
  answer.faults = std::move(prepared->faults);
  prepared.reset();
  commitment->done(std::move(answer));
}

std::optional<Receipt> StreamIngest::FindOrigin(const std::string& origin, const std::string& part) const {
  std::optional<Receipt> least;
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {
    auto receipt = stream_.partition(p).FindReceipt(origin, part);
    if (!receipt) return std::nullopt;
    if (!least || LeadingNumber(receipt->position) < LeadingNumber(least->position))
      least = std::move(receipt);
  }
  return least;
}

int64_t StreamIngest::dedupe_window_us() {
  std::lock_guard lock(commits_->mutex);
  return commits_->dedupe ? commits_->dedupe->effective_window_us() : 0;
}

}  // namespace millstream
