// PastTables: tables as they were at a point of the past, made by running history again.
//
// Place: floor 6, inside query/. As-run: by the pipelines that there were, each offset by the version that
// owned it. As-now: by today's. Tables that filters join are made first, as of the same events. A stream that
// another pipeline feeds is read as it was recorded. Owns a DuckDB instance in memory that spills into a
// folder which goes with it. Threads: immutable once built; connections may be taken from several. Failure:
// kNotFound: no pipeline wrote the table then; kInvalid: events that it stands on are gone (retention), or
// filters do not bind; kCancelled.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "pipeline/history_run.h"
#include "query/as_of.h"

namespace millstream {

/// What an answer about the past stands on.
struct PastGround {
  bool as_now = false;
  int64_t time_us = 0;
  std::map<std::string, std::string> positions;  // by stream that was read, and by those it was made of
  std::map<std::string, std::vector<uint64_t>> versions;  // by pipeline, those that own some of the events
  std::vector<std::string> not_reproducible;              // "filter p.f: now()", sorted
  uint64_t events = 0, dead_letters = 0;                  // read, over all sinks; refused
  double seconds = 0;                                     // that it took to make

  /// {"time":…,"run":"as_run","positions":{…},"versions":{…},"not_reproducible":[…],…}
  std::string ToJson() const;
};

struct PastRequest {
  AsOf as_of;
  bool as_now = false;
  std::vector<std::string> tables;
  std::string rows_of{};  // also: all rows that went to this table, of each of its pipelines apart
};

class PastTables {
 public:
  static Result<std::shared_ptr<PastTables>> Build(Engine& engine, const PastRequest& request,
                                                   uint64_t memory_bytes, std::stop_token stop);
  const PastGround& ground() const { return ground_; }
  Database& database() { return run_->database(); }
  std::optional<TableInfo> Find(const std::string& table) const { return run_->tables().Find(table); }
  HistoryRun& run() { return *run_; }
  /// Of `rows_of`: pipeline, stream and the append table with its rows.
  struct RowsOf {
    std::string pipeline, stream, table;
  };
  const std::vector<RowsOf>& rows() const { return rows_; }
  /// The events that the table stands on, by stream.
  std::string PositionsOf(const std::string& table) const;

 private:
  friend class PastBuilder;
  PastTables() = default;
  std::shared_ptr<Engine::PastPlace> place_;
  std::unique_ptr<HistoryRun> run_;
  PastGround ground_;
  std::map<std::string, std::string> table_positions_;
  std::vector<RowsOf> rows_;
};

/// Options of a HistoryRun over the engine's log with a folder of its own.
HistoryRun::Options HistoryOptions(Engine& engine, uint64_t memory_bytes);
/// What a replay of a filter cannot repeat: "now()", "a program", "joins table t as of the same events"; and
/// the tables that it joins.
struct FilterTraits {
  std::vector<std::string> not_reproducible;
  std::set<std::string> tables;
};
FilterTraits TraitsOf(Connection& connection, const FilterConfig& filter);
/// A table sink of another name; `keeps_key`: with the same key and values, else an append table.
SinkConfig RenamedSink(const SinkConfig& sink, const std::string& name, bool keeps_key);

}  // namespace millstream
