// Log: the segmented, partitioned, append-only store of every event: the source of truth.
//
// Place: floor 2. Above: pipeline/ (ingest, delivery, control), sources and stream sinks. The same small
// interface (append, read from an offset, bounds, offset for a time) will stand before Kafka, where offsets
// have gaps: no reader may assume density.
//
// Operation. `DIR/NAME/PARTITION/` holds segments named by their first offset (docs/log-format.md). Append
// queues a batch and returns; the partition's writer thread takes all that gathered while its last sync ran,
// stamps, writes and syncs it once, and then answers each (group commit, no linger). A full segment is
// sealed: a footer with the sparse index is written and synced. Tiny batches of sealed segments are merged in
// the background, into a new file that is synced and renamed over the old one; who reads the old one goes on.
// Readers use pread and see durable offsets only.
// Concurrency. All public functions are thread-safe, but a Reader belongs to one thread.
// Failure. A failed sync is fatal: waiters get kIo, the partition refuses further appends, and on_fatal is
// called (the process exits 74). A write that fails (disk full) fails every append queued behind it too, so
// that who appends in order may have many under way. Limitations. One process a data folder (its lock file is
// pipeline/'s).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/random.h"
#include "base/status.h"
#include "event/batch.h"

namespace millstream {

class Metrics;

enum class AckMode : uint8_t { kDurable, kWritten };

struct Retention {
  int64_t age_us = 0;  // 0 = for ever
  uint64_t bytes = 0;  // 0 = no limit; of all partitions of the stream
};

struct LogOptions {
  uint64_t segment_bytes = 256ull << 20;
  uint64_t index_every_bytes = 1 << 20;     // sparse index: one entry at least every so many bytes
  uint32_t merge_below_events = 1024;       // at seal, batches with fewer events are merged ...
  uint32_t merged_events = 10'000;          // ... up to so many
  uint64_t max_queued_bytes = 64ull << 20;  // a partition: beyond it Append answers kExhausted
  int64_t sync_interval_us = 50'000;        // AckMode::kWritten: longest time without a sync
  double free_space_floor = 0.05;           // share of the disk: below it Append answers kExhausted (507)
  uint64_t reserve_bytes = 16ull << 20;     // reserve file that keeps room for `_control` and dead letters
  bool merge_in_background = true;          // else only MergeSealed merges
  int64_t key_receipt_window_us =
      24ll * 3600 * 1'000'000;            // receipts of idempotency keys are kept so long ...
  uint64_t max_key_receipts = 1'000'000;  // ... and no more than so many, over all partitions
  Metrics* metrics = nullptr;             // millstream_fsync_seconds, a stream each; null: not measured
};

/// Where an append landed.
struct Appended {
  uint64_t first_offset = 0;
  uint32_t count = 0;
  uint32_t epoch = 0;
  int64_t ingested_at_us = 0;
};

/// What a partition holds. Offsets are "next" where they are ends.
struct Bounds {
  uint64_t start = 0;        // earliest offset kept
  uint64_t durable_end = 0;  // readers see offsets below it
  uint64_t end = 0;          // written, perhaps not durable
  uint32_t epoch = 0;
  uint64_t bytes = 0;
  uint64_t segments = 0;
  int64_t key_receipts_since_us =
      0;  // every idempotency key stamped at or after it is known: the effective window
};

/// An epoch and where it ends. A position of this epoch at or beyond `end_offset` was lost in a crash (never
/// acknowledged as durable).
struct EpochEnd {
  uint32_t epoch = 0;
  uint64_t first_offset = 0;
  uint64_t end_offset = UINT64_MAX;  // of the current epoch: still open
  bool operator==(const EpochEnd&) const = default;
};

/// A receipt with where its events lie. `receipt.first_event` is 0.
struct PlacedReceipt {
  Receipt receipt;
  uint64_t offset = 0;  // of the first event; the next offset for a receipt without events
  uint32_t epoch = 0;
  int64_t ingested_at_us = 0;
  bool operator==(const PlacedReceipt&) const = default;
};

/// A leap of the wall clock of over an hour against monotonic progress. Stamps go on from the last one until
/// the clock agrees or is accepted.
struct ClockLeap {
  int64_t wall_us = 0;      // what the clock said
  int64_t expected_us = 0;  // the stamp that was given instead
};

struct SegmentInfo {
  std::string file;  // relative to the log's folder
  uint64_t first_offset = 0, end_offset = 0, bytes = 0, batches = 0;
  int64_t first_us = 0, last_us = 0;
  bool sealed = false;
};

struct PartitionSegments {
  std::string stream;
  uint32_t partition = 0;
  std::vector<SegmentInfo> segments{};
};

class PartitionReader {
 public:
  virtual ~PartitionReader() = default;
  /// The next batch at or after the position, or null at the durable end. The first batch may begin below the
  /// asked offset: skip its rows. kNotFound if the position lies below the start ("earliest is N"); kCorrupt
  /// names file and byte.
  virtual Result<std::unique_ptr<EventBatch>> Next() = 0;
  virtual void Seek(uint64_t offset) = 0;
};

class Partition {
 public:
  using Done = std::function<void(Result<Appended>)>;
  virtual ~Partition() = default;
  /// Queues a batch. `done` is called once, on the writer's thread, when the mode's promise holds; it must
  /// not block. A batch that is refused at once (kExhausted: queue or disk full; kCancelled: closed; kIo:
  /// failed before; kInvalid: too large) is answered on the caller's thread, before Append returns.
  virtual void Append(EncodedBatch batch, AckMode mode, Done done) = 0;
  /// Append and wait.
  Result<Appended> AppendAndWait(EncodedBatch batch, AckMode mode = AckMode::kDurable);
  virtual Bounds bounds() const = 0;
  virtual Result<std::unique_ptr<PartitionReader>> Read(uint64_t from) = 0;
  /// The first offset whose running-maximum append stamp exceeds `time_us` is in the answered batch's range:
  /// exact per event.
  virtual Result<uint64_t> OffsetForTime(int64_t time_us) = 0;
  /// The newest receipt of an origin and part in this partition, if it is still kept.
  virtual std::optional<Receipt> FindReceipt(const std::string& origin, const std::string& part) const = 0;
  /// The same with its place, e.g. for the answer to a repeated request.
  virtual std::optional<PlacedReceipt> FindPlacedReceipt(const std::string& origin,
                                                         const std::string& part) const = 0;
  /// The newest receipt of each part of an origin.
  virtual std::vector<Receipt> FindReceipts(const std::string& origin) const = 0;
  /// Waits until durable_end > offset, the deadline passes, or a stop is asked. True if there is something to
  /// read.
  virtual bool WaitBeyond(uint64_t offset, int64_t timeout_us, std::stop_token stop) = 0;
  virtual std::vector<SegmentInfo> segments() const = 0;
  /// Nothing at or above this offset may be removed by retention. Without a call nothing is held back.
  virtual void SetLowWater(uint64_t offset) = 0;
  /// All epochs so far, the current one last.
  virtual std::vector<EpochEnd> EpochEnds() const = 0;
};

/// What Verify found.
struct LogDamage {
  std::string file;
  uint64_t position = 0;  // byte in the file
  std::string message;
};

struct LogRecovery {
  uint64_t truncated_bytes = 0;
  bool unclean = false;
  std::vector<LogDamage> damage;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual const std::string& name() const = 0;
  virtual uint32_t partitions() const = 0;
  virtual Partition& partition(uint32_t index) = 0;
  /// Used when segments are sealed and merged; before the first call nothing is merged or removed.
  virtual void SetLayout(Contract contract, Codec codec, Retention retention) = 0;
};

class Log {
 public:
  virtual ~Log() = default;
  /// `on_fatal` is called at most once, from any thread, when a sync failed.
  static Result<std::unique_ptr<Log>> Open(FileSystem& fs, Clock& clock, Random& random,
                                           std::string directory, LogOptions options,
                                           std::function<void(Status)> on_fatal);
  /// Opens a stream or makes it. kConflict if it exists with another number of partitions. Recovers each
  /// partition: the tail is cut at the first incomplete batch, rewritten and synced; a bad batch followed by
  /// good ones is kCorrupt (see `log repair`).
  virtual Result<Stream*> OpenStream(const std::string& name, uint32_t partitions) = 0;
  virtual Stream* Find(const std::string& name) = 0;
  /// Removes a stream with all of its events: its folder is renamed out of sight, then deleted (by the next
  /// Open if not by this call). Who holds the Stream may go on asking it and gets errors; appends get
  /// kCancelled. No such stream: nothing to do. kIo.
  virtual Status RemoveStream(const std::string& name) = 0;
  virtual std::vector<Stream*> streams() = 0;
  virtual const Uuid& uuid() const = 0;
  virtual const LogRecovery& recovery() const = 0;
  /// The segments of all partitions at one moment: an append that followed another's answer is not in it
  /// without that other.
  virtual std::vector<PartitionSegments> SegmentsNow() = 0;
  /// Leaps of the clock since Open.
  virtual std::vector<ClockLeap> clock_leaps() const = 0;
  /// Takes the wall clock as it now is for right.
  virtual void AcceptClock() = 0;
  /// Deletes sealed segments that retention allows; called now and then.
  virtual Status Retain() = 0;
  /// Seals each partition's last segment if it holds a batch. For tests, backups and benchmarks.
  virtual Status SealAll() = 0;
  /// Merges the tiny batches of all sealed segments that have some, now.
  virtual Status MergeSealed() = 0;
  /// Writes and syncs what is queued, writes the clean-stop marks, ends the writers. Appends after it answer
  /// kCancelled. A log that is destroyed without it is as after a crash of the process.
  virtual Status Close() = 0;

  /// Reads every byte of a stream and checks it, without opening it for writing.
  static Result<std::vector<LogDamage>> Verify(FileSystem& fs, const std::string& directory,
                                               const std::string& stream);
  /// Calls with every sound batch of a stream, in its order, without opening the log, and with the file (from
  /// the log's folder) and the byte at which it lies. An error of `take` ends it.
  static Status ReadSound(
      FileSystem& fs, const std::string& directory, const std::string& stream,
      const std::function<Status(EventBatch& batch, const std::string& file, uint64_t byte)>& take);
  /// Moves damaged ranges aside (FILE.damaged-POSITION) and keeps all that is sound.
  static Result<std::vector<LogDamage>> Repair(FileSystem& fs, const std::string& directory,
                                               const std::string& stream);
};

}  // namespace millstream
