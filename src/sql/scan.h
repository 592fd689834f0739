// BatchScan and RowScan: events, and rows of filters, as tables that SQL can read.
//
// Place: floor 2. Two table functions, `_batch(ID)` and `_rows(ID)`, are registered once a database (a
// function cannot be dropped); ID names a scan object. A statement that reads one is prepared once and
// executed many times, each time over what Set gave. Threads: the object belongs to the thread that executes
// the statements over it. What Set gave must live until the execution ends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "event/assembler.h"
#include "event/batch.h"
#include "sql/database.h"
#include "sql/row_batch.h"

namespace millstream {

/// Events [begin, end) of a batch.
struct BatchRange {
  EventBatch* batch = nullptr;
  uint32_t begin = 0;
  uint32_t end = 0;
};

/// Defaults of absent attributes (SURFACE, "Sources").
struct AttributeDefaults {
  std::string source;  // ce_source
  std::string type;    // ce_type
};

/// A stream's events: the contract's fields, then kReservedColumns with `_ordinal` 0. Only the columns that
/// the statement reads are decoded.
class BatchScan {
 public:
  static Result<std::unique_ptr<BatchScan>> Make(Database& database, std::string stream, Contract contract,
                                                 AttributeDefaults defaults);
  ~BatchScan();
  /// "(SELECT …, _ordinal FROM _batch(7))": to stand after FROM, in the order said above.
  std::string Sql() const;
  void Set(std::span<const BatchRange> ranges);
  /// After an execution: what could not be read in a batch (`EventBatch::unconvertible`) fails the execution
  /// with kInvalid; use these to tell which.
  Status read_status() const;

 private:
  friend class StreamScan;
  struct State;
  explicit BatchScan(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with the statements that bound it
};

/// A stream's events for a query: columns as BatchScan's, pulled batch by batch while the statement runs. A
/// field that an event's data does not convert to is NULL (contracts are enforced at append).
class StreamScan {
 public:
  /// The next events; a null batch = the end.
  struct Piece {
    std::unique_ptr<EventBatch> batch;
    uint32_t begin = 0, end = 0;
  };
  using Feed = std::function<Result<Piece>()>;
  /// `make_feed` is called for each scan of an execution: a query may name the stream several times.
  static Result<std::unique_ptr<StreamScan>> Make(Database& database, std::string stream, Contract contract,
                                                  AttributeDefaults defaults,
                                                  std::function<Result<Feed>()> make_feed);
  ~StreamScan();
  /// To stand after FROM.
  std::string Sql() const;

 private:
  explicit StreamScan(std::unique_ptr<BatchScan> scan);
  std::unique_ptr<BatchScan> scan_;
};

/// Rows of a RowBatch with given columns.
class RowScan {
 public:
  static Result<std::unique_ptr<RowScan>> Make(Database& database, std::vector<ColumnInfo> columns);
  ~RowScan();
  /// "_rows(8)".
  std::string Sql() const;
  void Set(std::span<const Chunk> chunks);

 private:
  struct State;
  explicit RowScan(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with the statements that bound it
};

}  // namespace millstream
