// Source, Filter, Sink and the Registry: all that an author of a connector needs.
//
// Place: floor 3. A connector is one file in sources/, filters/ or sinks/: options, Spec, class, and one line
// in main.cc's list (docs/adding-a-stage.md). Threads: the runtime calls a stage from one thread at a time;
// an author writes no locks. A Sink that says `concurrent()` may be called for different partitions at once;
// Interrupt comes from another thread.
// Failure: codes of base/status.h; only the runtime decides what to do (retry, bisect, dead letter, stop).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/random.h"
#include "base/status.h"
#include "event/envelope.h"
#include "event/receipt.h"
#include "event/type.h"
#include "sql/row_batch.h"
#include "stage/node.h"
#include "stage/spec.h"

namespace millstream {

class TableStore;

/// One event that a source hands over. Views hold for the call of EventTaker::Take.
struct SourceEvent {
  Envelope envelope;
  std::string_view data;
  std::string_view part;  // what it belongs to that has a position of its own, e.g. a file's identity
  std::string_view at;    // where it stood, for dead letters: "a.ndjson#17"
  uint64_t sequence = 0;  // grows along the source's part, e.g. the byte after it, or its record number from
                          // 1: after a crash the taker skips what is stored already
  std::string fault;      // not empty: why `data` is no event; it becomes a dead letter
};

/// Whole lines of NDJSON that a source hands over at once: a file's next stretch. Empty lines are no events.
/// An event's ce_id, and its place in a dead letter, is NAME#LINE; its ce_subject PATH; its sequence the byte
/// after its line.
struct SourceLines {
  std::shared_ptr<const void> owner;  // keeps `text` alive
  std::string_view text;              // 64 readable bytes follow; the last line may lack its end
  std::string part;                   // as in SourceEvent
  std::string path;
  std::string name;         // the path, unless another content had that before
  uint64_t first_line = 1;  // of `text`
  uint64_t first_byte = 0;  // of `text`
  std::string position;     // resume position after it, as of EventTaker::Mark
};

/// Takes what a source reads. Implemented by pipeline/ingest.
class EventTaker {
 public:
  virtual ~EventTaker() = default;
  /// Checks and gathers one event; another part than before commits what was gathered. A bad one becomes a
  /// dead letter (or is counted as refused) and is no error of the source.
  virtual Status Take(const SourceEvent& event) = 0;
  /// Takes lines with their position. They are checked on several threads and appended by themselves in the
  /// order of the calls; an error is that of earlier ones, and Commit tells what became of all.
  virtual Status TakeLines(SourceLines lines) = 0;
  /// Appends what was gathered, with the position last given by Mark: durable on return. Called by the source
  /// when it has no more for now; the taker also appends by itself when its buffer is full.
  virtual Status Commit() = 0;
  /// All that was taken so far of `part` is covered by this resume position. Its text begins with the decimal
  /// `sequence` that was reached. Call it after each event or each piece.
  virtual Status Mark(const std::string& part, const std::string& position) = 0;
  /// The position of a part as stored in the stream's receipts (the minimum over partitions), if there is
  /// one.
  virtual std::optional<std::string> Position(const std::string& part) = 0;
  /// Part and position of all receipts of this source: of every partition, whatever the others have.
  virtual std::vector<std::pair<std::string, std::string>> Positions() = 0;
};

struct SourceContext {
  std::string name;
  std::string stream;
  std::string project_directory;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  EventTaker* taker = nullptr;
  Contract contract = {};  // of the stream: CSV without a header takes its names from it
};

/// Brings events in.
class Source {
 public:
  virtual ~Source() = default;
  /// Reads what there is now and hands it to the taker. True if it did something; false: nothing new (the
  /// runtime waits `poll_us` and calls again).
  virtual Result<bool> Poll(std::stop_token stop) = 0;
  /// `run --once`, after Poll has answered false: nothing more will come, so take what only waits for its end
  /// (an incomplete last line, a file that may still be written). True if it did something; called until it
  /// did not.
  virtual Result<bool> Finish(std::stop_token /*stop*/) { return false; }
  virtual int64_t poll_us() const { return 500'000; }
};

struct FilterContext {
  std::string pipeline, name, project_directory;
  Clock* clock = nullptr;
};

/// Turns a batch into a batch. (`sql` filters are fused by FilterChain and do not come through here.)
class Filter {
 public:
  virtual ~Filter() = default;
  /// Columns of the result for given columns of the input (visible and reserved).
  virtual Result<std::vector<ColumnInfo>> Describe(const std::vector<ColumnInfo>& input) = 0;
  /// kInvalid: data at fault (the runtime bisects); kUnavailable, kDeadline: retried.
  virtual Result<RowBatch> Process(RowBatch rows, std::stop_token stop) = 0;
};

struct SinkContext {
  std::string pipeline;
  uint64_t generation = 0;
  std::string data_uuid;  // of the data folder: what a sink keeps elsewhere belongs to it
  std::string id;         // sink id: KIND:TARGET or its name
  std::string stream;     // that the pipeline reads
  uint32_t partitions = 1;
  std::string project_directory;
  std::string data_directory;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Database* database = nullptr;
  TableStore* tables = nullptr;
  /// For table sinks: events of one key of the table come from one partition of this pipeline only (catalog/,
  /// TablesOf). False is right for every table, and slower to read.
  bool key_in_one_partition = false;
  /// For stream sinks: the place to append to (implemented by pipeline/).
  class StreamAppender* appender = nullptr;
};

/// What a stream sink needs of the runtime: exactly-once appends with the origin's position as a receipt.
class StreamAppender {
 public:
  virtual ~StreamAppender() = default;
  /// Opens the target. kNotFound names the nearest stream.
  virtual Status OpenTarget(const std::string& stream) = 0;
  /// Next source offset by source partition, as the target's receipts have it (minimum over the target's
  /// partitions).
  virtual Result<std::map<uint32_t, uint64_t>> Positions(const std::string& origin) = 0;
  /// The same for one source partition; 0 before its first receipts.
  virtual uint64_t Position(const std::string& origin, uint32_t part) = 0;
  struct Row {
    Envelope envelope;
    std::string_view data;
    uint64_t source_offset = 0;  // targets skip what their receipt covers
  };
  /// Appends rows of source partition `part` and the receipt (origin, part, next) to the target's partitions.
  /// Durable on return.
  virtual Status Append(const std::string& origin, uint32_t part, const std::vector<Row>& rows,
                        uint64_t next) = 0;
};

/// An event whose rows a sink can never take, and why.
struct RefusedEvent {
  uint64_t offset = 0;
  std::string reason;
};

/// Puts a batch out, and stores how far it has come.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Stored next offsets by partition; a partition that is not there has none. Called again after it failed,
  /// or after SetColumns did.
  virtual Result<std::map<uint32_t, uint64_t>> Open() = 0;
  /// Reserved columns that it wants in RowBatch beside the coordinates.
  virtual std::vector<std::string> WantedColumns() const { return {}; }
  /// Checks and adapts to the columns that rows will have (visible and reserved). Before the first delivery
  /// of a version.
  virtual Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) = 0;
  /// Whether SetColumns would take them, without changing anything: a version of the filters is asked for
  /// while the one before runs. From any thread, also beside a Deliver that hangs.
  virtual Status CheckColumns(const std::vector<ColumnInfo>& /*columns*/, uint32_t /*visible*/) const {
    return OkStatus();
  }
  /// Events that it can tell to be at fault without an attempt, by ascending offsets. They become dead
  /// letters and their rows are taken out before Deliver; faults that only Deliver finds (kInvalid) cost a
  /// bisection.
  virtual std::vector<RefusedEvent> Refuse(const RowBatch& /*rows*/) const { return {}; }
  /// Delivers all rows and stores rows.next_offset for rows.partition; called also without rows. On success
  /// both are as durable as the guarantee says.
  virtual Status Deliver(const RowBatch& rows) = 0;
  /// An event was set aside as a dead letter: it may come again, after newer ones, under a partition number
  /// of its own. Called before what follows it is delivered.
  virtual Status ExpectOlder() { return OkStatus(); }
  /// Such events come now.
  virtual Status AdmitOlder() { return OkStatus(); }
  /// Why older events must not come; empty if they may.
  virtual std::string RefusesOlder() const { return ""; }
  /// Offsets that survive a power cut (retention); by default what was delivered.
  virtual std::optional<uint64_t> DurableOffset(uint32_t /*partition*/) { return std::nullopt; }
  /// True: Deliver may be called for different partitions at once.
  virtual bool concurrent() const { return false; }
  /// True: wants rows of `_op` for deletions (FilterChain's keep_deletes).
  virtual bool wants_deletes() const { return false; }
  /// True: Open may have to wait for a peer, so a start does not wait for it.
  virtual bool remote() const { return false; }
  /// A stop: the call under way and later ones end soon, with kCancelled; only Close follows. From any
  /// thread.
  virtual void Interrupt() {}
  virtual Status Close() { return OkStatus(); }
};

/// A kind of stage: its settings and how it is made. `Check` faults what parsing cannot see.
struct SourceKind {
  SpecInfo spec;
  std::function<void(const Node&, const ParseContext&)> check;
  std::function<Result<std::unique_ptr<Source>>(const Node&, const SourceContext&)> make;
};
struct FilterKind {
  SpecInfo spec;
  std::function<void(const Node&, const ParseContext&)> check;
  std::function<Result<std::unique_ptr<Filter>>(const Node&, const FilterContext&)> make;
  /// Declared columns of its result (`output:`), given the node; empty: none are, its result is `data` alone.
  /// No function: the result has the columns of the input.
  std::function<std::vector<ColumnInfo>(const Node&)> output;
};
struct SinkKind {
  SpecInfo spec;
  std::function<void(const Node&, const ParseContext&)> check;
  std::function<Result<std::unique_ptr<Sink>>(const Node&, const SinkContext&)> make;
  /// The sink's target, for its id "KIND:TARGET".
  std::function<std::string(const Node&)> target;
};

/// What kinds there are. Filled by main.cc.
class Registry {
 public:
  void Add(SourceKind kind) {
    std::string name = kind.spec.kind;
    sources_.insert_or_assign(std::move(name), std::move(kind));
  }
  void Add(FilterKind kind) {
    std::string name = kind.spec.kind;
    filters_.insert_or_assign(std::move(name), std::move(kind));
  }
  void Add(SinkKind kind) {
    std::string name = kind.spec.kind;
    sinks_.insert_or_assign(std::move(name), std::move(kind));
  }
  const std::map<std::string, SourceKind>& sources() const { return sources_; }
  const std::map<std::string, FilterKind>& filters() const { return filters_; }
  const std::map<std::string, SinkKind>& sinks() const { return sinks_; }

 private:
  std::map<std::string, SourceKind> sources_;
  std::map<std::string, FilterKind> filters_;
  std::map<std::string, SinkKind> sinks_;
};

}  // namespace millstream
