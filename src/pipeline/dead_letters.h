// DeadLetters: events that a contract, a filter or a sink refused, kept in a stream of their own with the
// reason.
//
// Place: floor 5. Dead letters of stream S are the stream `_dead_S`, one partition, so a letter is `S` and a
// number (SURFACE). A letter is one event of that stream: its data is the letter as JSON. A pipeline writes
// letters before it commits the rows around them; the same bytes hold a receipt (origin
// "dead/PIPELINE.GENERATION/SINK", part = partition, position = next offset), so that a restarted loop does
// not write them twice (SEMANTICS, "Dead letters"). Threads: all functions are thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "event/receipt.h"
#include "log/log.h"

namespace millstream {

struct DeadLetter {
  uint64_t number = 0;  // its offset in `_dead_S`; set by List and Get
  int64_t time_us = 0;  // when it was appended; set by List and Get
  std::string at;       // "ingest", PIPELINE.FILTER, or PIPELINE.SINK
  std::string code;     // json utf8 depth size contract sql exec sink resource
  std::string event;    // "line 3", "orders/1:97", "a.ndjson#17"
  std::string path;     // JSON pointer, may be empty
  std::string reason;
  std::string data;                   // the event's bytes, as they came
  std::string envelope;               // of ingest: the attributes that came with it (letter_envelope.h)
  bool is_cloud_event = false;        // `data` is the whole of a structured CloudEvent that could not be read
  std::optional<uint64_t> replay_of;  // the letter whose replay was refused again
  // Of a pipeline's refusal: its identity.
  std::string pipeline, sink, filter;
  uint64_t generation = 0, version = 0;
  uint64_t replay = 0;   // of dead letters, in which it was refused; 0: the live pipeline
  uint64_t rebuild = 0;  // the replay that made the sink's table anew and refused it; 0: none
  int64_t partition = -1, offset = -1;

  /// As `dead show --json` and GET /v1/dead/S/N print it, and (with the data) as the log keeps it.
  /// `state`, if given, is what became of it.
  std::string ToJson(bool with_data, std::string_view state = {}) const;
};

/// The stream of a stream's dead letters: "_dead_orders".
std::string DeadStreamName(const std::string& stream);

/// The origin of receipts for letters that one sink's loops write.
std::string LetterOrigin(const std::string& pipeline, uint64_t generation, const std::string& sink);

/// What a delivery loop does with letters, so that a part of history can be run again without leaving any.
class LetterStore {
 public:
  virtual ~LetterStore() = default;
  /// Durable on return: the number of the first.
  virtual Result<uint64_t> AppendAndWait(const std::string& stream, const std::vector<DeadLetter>& letters,
                                         Receipts receipts) = 0;
  /// The newest receipt of an origin and part.
  virtual std::optional<Receipt> FindReceipt(const std::string& stream, const std::string& origin,
                                             const std::string& part) const = 0;
  /// Offsets at or above `from` of the events of one partition for which a loop has written letters:
  /// `like` names pipeline, generation, sink, replay and partition; the rebuild whose letters count, and the
  /// number from which on those of no rebuild count too.
  virtual Result<std::set<uint64_t>> OffsetsOf(const std::string& stream, const DeadLetter& like,
                                               uint64_t from) = 0;
};

/// Keeps letters in memory, the first `limit` of them with all they say; counts the others.
class CollectedLetters : public LetterStore {
 public:
  explicit CollectedLetters(size_t limit = 1000) : limit_(limit) {}
  Result<uint64_t> AppendAndWait(const std::string& stream, const std::vector<DeadLetter>& letters,
                                 Receipts receipts) override;
  std::optional<Receipt> FindReceipt(const std::string&, const std::string&,
                                     const std::string&) const override {
    return std::nullopt;
  }
  Result<std::set<uint64_t>> OffsetsOf(const std::string&, const DeadLetter&, uint64_t) override {
    return std::set<uint64_t>();
  }
  std::vector<DeadLetter> letters() const;  // by arrival, `number` set
  uint64_t count() const;

 protected:
  /// `numbers`: of the first; none: by arrival. Returns it.
  uint64_t Collect(const std::vector<DeadLetter>& letters, std::optional<uint64_t> numbers);

 private:
  const size_t limit_;
  mutable std::mutex mutex_;
  std::vector<DeadLetter> letters_;
  uint64_t count_ = 0;
};

/// Letters of a replay that makes tables anew: kept in `store` as those of the sinks that readers see, with
/// the replay's number, since after the cutover nothing else tells what the tables lack.
class RebuildLetters : public CollectedLetters {
 public:
  RebuildLetters(LetterStore& store, uint64_t rebuild, size_t limit)
      : CollectedLetters(limit), store_(store), rebuild_(rebuild) {}
  Result<uint64_t> AppendAndWait(const std::string& stream, const std::vector<DeadLetter>& letters,
                                 Receipts receipts) override;
  std::optional<Receipt> FindReceipt(const std::string& stream, const std::string& origin,
                                     const std::string& part) const override {
    return store_.FindReceipt(stream, origin, part);
  }
  Result<std::set<uint64_t>> OffsetsOf(const std::string& stream, const DeadLetter& like,
                                       uint64_t from) override {
    DeadLetter own = Kept(like);
    own.number = UINT64_MAX;  // and nobody else's
    return store_.OffsetsOf(stream, own, from);
  }

 private:
  /// Its sink is a shadow, SINK@REPLAY (ReplaySpec::Shadow).
  DeadLetter Kept(DeadLetter letter) const;

  LetterStore& store_;
  const uint64_t rebuild_;
};

class DeadLetters : public LetterStore {
 public:
  explicit DeadLetters(Log& log) : log_(log) {}
  /// Makes `_dead_STREAM` if it is missing.
  Status Open(const std::string& stream);
  /// Appends letters of one stream in one batch with a receipt or without; `done` gets the number of the
  /// first once all are durable.
  void Append(const std::string& stream, const std::vector<DeadLetter>& letters, Receipts receipts,
              std::function<void(Result<uint64_t>)> done);
  Result<uint64_t> AppendAndWait(const std::string& stream, const std::vector<DeadLetter>& letters,
                                 Receipts receipts) override;
  std::optional<Receipt> FindReceipt(const std::string& stream, const std::string& origin,
                                     const std::string& part) const override;
  /// The number of the first letter that was appended with this receipt.
  std::optional<uint64_t> FindFirst(const std::string& stream, const std::string& origin,
                                    const std::string& part) const;

  struct Selection {
    std::optional<int64_t> since_us;
    std::string code, at;                        // empty: any
    uint64_t limit = 100;                        // the newest so many
    std::function<bool(uint64_t number)> wants;  // may be null: all
    bool Takes(const DeadLetter& letter) const;
  };
  struct Listing {
    std::vector<DeadLetter> letters;  // ascending, without data
    uint64_t total = 0;               // kept in all, whatever became of them
  };
  /// kNotFound if there is no such stream.
  Result<Listing> List(const std::string& stream, const Selection& selection);
  /// Calls with each letter from number `from` on, until `take` answers false. kNotFound: no such stream.
  Status Each(const std::string& stream, uint64_t from, const std::function<bool(DeadLetter&)>& take);
  /// The number of the first letter that `selection.since_us` lets through.
  Result<uint64_t> FirstSince(const std::string& stream, const Selection& selection);
  Result<DeadLetter> Get(const std::string& stream, uint64_t number);
  uint64_t Count(const std::string& stream) const;
  Result<std::set<uint64_t>> OffsetsOf(const std::string& stream, const DeadLetter& like,
                                       uint64_t from) override;

 private:
  Log& log_;
};

}  // namespace millstream
