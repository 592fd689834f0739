// StreamIngest: the way into one stream (pipeline/ingest.h says what for).
//
// Place: floor 5; one a stream, shared by the Engine and what is under way, used by HTTP, files, source
// runners and stream sinks alike. Threads: thread-safe. Prepare runs in parallel on assemblers of a pool;
// Commit takes the commit lock for the time it needs to queue the batches; it blocks only where dead letters
// of a request that can come again must be durable first. Dead letters of a request are durable before its
// events are appended if the request can come again (key, origin); so what receipts cover is complete.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "catalog/project.h"
#include "pipeline/contract_checks.h"
#include "pipeline/dead_letters.h"
#include "pipeline/dedupe.h"
#include "pipeline/idempotency.h"
#include "pipeline/ingest.h"
#include "pipeline/stream_sequencer.h"

namespace millstream {

class StreamIngest;

/// Origin of the receipts of a stream's Idempotency-Keys begins so, then comes the stream: the log keeps
/// these for a window only.
inline constexpr char kKeyOrigin[] = "key/";

/// Requests of which none is appended once one before it has failed. Held while a request's batches are
/// queued, and taken by the answer of one that failed, which the log gives before it takes appends again
/// (log.h): so nothing slips between. Recursive, for a refusal may be answered while they are queued.
struct IngestOrder {
  std::recursive_mutex mutex;
  Status failure;
  /// Keeps the first failure and answers it.
  Status Note(const Status& status) {
    std::lock_guard lock(mutex);
    if (failure.ok()) failure = status;
    return failure;
  }
};

/// A request that was checked and laid out, not yet appended.
class PreparedIngest {
 public:
  ~PreparedIngest();

 private:
  friend class StreamIngest;
  friend class OriginWriter;
  friend class ParallelIngest;
  std::shared_ptr<StreamIngest> stream;
  std::shared_ptr<IngestOrder> order;    // null: it stands alone
  std::unique_ptr<Assembler> assembler;  // returned to the pool
  std::optional<IngestRefusal> refusal;  // of the whole request
  std::vector<EncodedBatch> batches;     // by partition; count 0 and no payload = nothing to append
  std::vector<bool> durable;             // by partition: a first attempt of this request is there already
  std::vector<DeadLetter> letters;
  std::vector<size_t> letter_faults;     // first of each letter's in faults, SIZE_MAX beyond the bound
  std::vector<uint64_t> letter_indexes;  // of each letter's event in the request
  std::vector<IngestFault> faults;
  uint64_t events = 0;  // in the request
  uint64_t quarantined = 0;
  uint64_t skipped = 0;        // covered by receipts
  Receipts receipts;           // of the request, for every batch
  std::string key, body_hash;  // Idempotency-Key
  bool repeatable = false;     // key or origin
  bool everywhere = false;     // receipts also into partitions that got nothing
};

class StreamIngest : public std::enable_shared_from_this<StreamIngest> {
 public:
  StreamIngest(const StreamConfig& config, Stream& stream, DeadLetters& dead_letters, Database& database,
               Watchdog& watchdog, IdempotencyTable& keys, Clock& clock);
  /// The same stream with other settings: what is under way in `before` goes on there, and both see each
  /// other's duplicates if `dedupe` is as it was; else Recover.
  StreamIngest(const StreamConfig& config, const StreamIngest& before);
  ~StreamIngest();

  /// Reads the log's end back into the dedupe window. Before the first Commit.
  Status Recover();

  std::shared_ptr<PreparedIngest> Prepare(const IngestRequest& request);
  void Commit(std::shared_ptr<PreparedIngest> prepared, IngestDone done);
  /// Of the newest `most` events in the log: how many there were to look at, and how many of them would be
  /// refused if they came now. Appends nothing.
  struct Looked {
    uint64_t events = 0, refused = 0;
  };
  Result<Looked> LookBack(uint64_t most);

  /// Events of an origin's part that the receipts of every partition cover.
  std::optional<Receipt> FindOrigin(const std::string& origin, const std::string& part) const;

  const StreamConfig& config() const { return config_; }
  Stream& stream() { return stream_; }
  const std::shared_ptr<StreamSequencer>& sequencer() const { return sequencer_; }
  uint64_t events_in() const { return events_in_.load(std::memory_order_relaxed); }
  /// Events that others than its Commit appended.
  void CountIn(uint64_t events, uint64_t bytes) {
    events_in_.fetch_add(events, std::memory_order_relaxed);
    bytes_in_.fetch_add(bytes, std::memory_order_relaxed);
  }
  uint64_t bytes_in() const { return bytes_in_.load(std::memory_order_relaxed); }
  int64_t dedupe_window_us();

 private:
  friend class PreparedIngest;
  friend class OriginWriter;
  struct Commitment;
  class Gatherer;

  void MakeCommits();
  void Split(const IngestRequest& request, Gatherer& gatherer);
  void Lay(Gatherer& gatherer, bool reject);
  void RunChecks(Gatherer& gatherer);
  int64_t DedupeNowUs() const;
  Status DropDuplicates(PreparedIngest& prepared, Commitment& commitment);
  void Encode(PreparedIngest& prepared);
  bool AnswerFromReceipts(PreparedIngest& prepared, Commitment& commitment, IngestRefusal& refusal);
  static void NumberFaults(PreparedIngest& prepared, uint64_t first);
  void AppendEvents(const std::shared_ptr<Commitment>& commitment);
  void Finished(const std::shared_ptr<Commitment>& commitment);
  void Complete(const std::shared_ptr<Commitment>& commitment);
  bool ReceiptsDue(const std::string& origin, const std::string& part, size_t bytes);

  std::unique_ptr<Assembler> TakeAssembler();
  void ReturnAssembler(std::unique_ptr<Assembler> assembler);

  const StreamConfig config_;
  Stream& stream_;
  const std::shared_ptr<StreamSequencer> sequencer_;  // of the stream, whatever its settings
  DeadLetters& dead_letters_;
  Database& database_;
  Watchdog& watchdog_;
  IdempotencyTable& keys_;
  Clock& clock_;
  const int64_t started_wall_us_;  // wall less monotonic clock: leaps later on do not move the dedupe window
  const std::string default_source_;

  std::mutex pool_mutex_;
  std::vector<std::unique_ptr<Assembler>> assemblers_;
  std::vector<std::unique_ptr<ContractChecks>> checks_;
  std::map<std::string, int64_t>
      receipts_written_ns_;  // origin and part: when every partition last got a receipt

  struct Commits {
    std::mutex mutex;
    std::unique_ptr<DedupeWindow> dedupe;
    uint64_t next_sequence = 0;
    std::map<uint64_t, std::shared_ptr<Commitment>>
        in_flight;  // by sequence; those that must be durable before a duplicate's answer
  };
  std::shared_ptr<Commits> commits_;

  std::atomic<uint64_t> events_in_{0};
  std::atomic<uint64_t> bytes_in_{0};
};

/// The way in of one origin that can be read again (a source, a stream sink): gathers events of one part at a
/// time and commits them with a receipt. Events whose sequence a partition's receipt covers are skipped
/// there. Belongs to one thread.
class OriginWriter {
 public:
  OriginWriter(StreamIngest& ingest, std::string origin);
  ~OriginWriter();
  /// `sequence` grows along the part, from 1. `at` says where the event stood, for a dead letter. A rejection
  /// is quarantined, or only told.
  std::optional<Rejection> Add(const std::string& part, const Envelope& envelope, std::string_view data,
                               uint64_t sequence, std::string_view at, bool quarantine,
                               std::optional<uint64_t> replay_of = {});
  /// The same for what could not be read as an event at all.
  void Refuse(const std::string& part, std::string_view data, uint64_t sequence, std::string_view at,
              Rejection rejection, std::optional<uint64_t> replay_of);
  /// Events and bytes gathered since the last Commit.
  uint64_t count() const;
  uint64_t bytes() const;
  /// Forgets what was gathered.
  void Drop();
  /// Appends what was gathered, and the position (its text begins with the decimal sequence reached). Durable
  /// on return. `everywhere`: the receipt also goes to partitions that got nothing.
  tl::expected<IngestAnswer, IngestRefusal> Commit(const std::string& part, const std::string& position,
                                                   bool everywhere, bool reject);

 private:
  void Begin(const std::string& part);
  StreamIngest& ingest_;
  const std::string origin_;
  std::unique_ptr<StreamIngest::Gatherer> gatherer_;
};

}  // namespace millstream
