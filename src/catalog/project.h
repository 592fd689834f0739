// Project: what the files (or `_control`) say exists: server, streams, sources, pipelines, commands. A plain
// description.
//
// Place: floor 4. Made by LoadProject from millstream.yaml and the .sql files that it names, or by
// ParseProject from a JSON that `_control` keeps. The runtime (pipeline/) runs it. Values; immutable once
// loaded. Failure: every fault of a project is reported at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fault.h"
#include "event/assembler.h"
#include "event/position.h"
#include "log/log.h"
#include "sql/filter_chain.h"
#include "sql/sql_workers.h"
#include "stage/node.h"
#include "stage/stage.h"
#include "tables/table_store.h"

namespace millstream {

struct TokenConfig {
  std::string name;
  std::string role;   // read, write, admin
  std::string token;  // resolved
};

struct LimitsConfig {
  uint64_t event_bytes = 1 << 20, body_bytes = 16 << 20, inflated_bytes = 256 << 20, header_bytes = 16 << 10;
  uint32_t depth = 128, connections = 1024, batch_events = 10'000;
  uint64_t batch_bytes = 8 << 20;
  double free_space = 0.05;
};

/// Bounds of sandboxes (query/sandboxes.h).
struct SandboxesConfig {
  uint32_t count = 8;
  uint64_t disk_bytes = 10ull << 30, memory_bytes = 256ull << 20;  // of each
};

struct ServerConfig {
  std::string listen = "127.0.0.1:8410";
  std::string data = ".millstream";
  std::vector<TokenConfig> tokens;
  std::string log_level = "info", log_format = "console";
  uint64_t memory_bytes = 1ull << 30;
  int64_t query_deadline_us = 30'000'000;
  uint32_t query_concurrent = 8;
  LimitsConfig limits;
  SandboxesConfig sandboxes;
};

struct StreamConfig {
  StreamShape shape;  // name, partitions, codec, contract, key, envelope pointers, event limits
  AckMode ack = AckMode::kDurable;
  Retention retention;
  std::vector<std::string> dedupe_by;  // empty: none
  int64_t dedupe_window_us = 24ll * 3600 * 1'000'000;
  bool reject = false;    // on_violation: reject
  bool doubtful = false;  // a field of the contract is at fault: its type is a guess
  Node node;              // as written
};

struct SourceConfig {
  std::string name, kind, stream;
  Node options;                     // of the kind
  std::optional<int64_t> every_us;  // pause between polls; not given: the kind's own
  int64_t retry_min_us = 100'000, retry_max_us = 30'000'000;
  Node node;
};

struct FilterConfig {
  std::string name;
  std::string kind;  // "sql" or a FilterKind; empty: at fault
  std::string sql;   // sql
  Node options;      // other kinds
  Node node;         // as written; for a .sql path: the text, with file = that path and line = 1
};

struct SinkConfig {
  std::string id;  // "KIND:TARGET" or its name
  std::string kind;
  Node options;
  Node node;         // the entry in `to`
  std::string path;  // YAML path of its options
};

struct StartConfig {
  enum class From : uint8_t { kEarliest, kLatest, kTime, kPosition } from = From::kEarliest;
  int64_t time_us = 0;
  int64_t ago_us = 0;  // kTime: not 0 = that long before the moment of the apply, in place of time_us
  Position position;
  Node node;
};

/// How many dead letters within `over` are too many; at least one of the two.
struct LetterLimit {
  std::optional<double> share;  // of the events
  std::optional<uint64_t> count;
  int64_t over_us = 600'000'000;
};

struct PipelineConfig {
  std::string name, stream;
  StartConfig start;
  std::vector<FilterConfig> filters;
  std::vector<SinkConfig> sinks;
  std::optional<LetterLimit> max_dead_letters;
  Node node;

  const SinkConfig* FindSink(const std::string& id) const {
    auto found = std::find_if(sinks.begin(), sinks.end(), [&](const auto& sink) { return sink.id == id; });
    return found == sinks.end() ? nullptr : &*found;
  }
};

/// One `MESSAGE: SELECT` of a command's `require`: a row refuses the command with the message.
struct CommandRule {
  std::string message, sql;
  Node node;
};

struct CommandConfig {
  std::string name;
  StreamShape input;             // contract, key and limits of the command's own JSON; one partition
  std::vector<std::string> key;  // fields of the input
  bool eventual = false;         // consistency: eventual
  std::vector<CommandRule> rules;
  std::string stream;  // that it emits into
  CommandRule emit;    // without a message
  bool doubtful = false;
  Node node;
};

struct Project {
  std::string directory;
  ServerConfig server;
  std::map<std::string, StreamConfig> streams;
  std::map<std::string, SourceConfig> sources;
  std::map<std::string, PipelineConfig> pipelines;
  std::map<std::string, CommandConfig> commands;
  std::vector<std::string> files;  // that it was read from
  std::string hash;                // over all files' texts
  bool sound = true;               // no fault was found while loading
  std::set<std::string> unread;    // parts that are no YAML: "streams.orders" (catalog/salvage.h)
  Node root;  // as written, .sql files inlined, `${…}` unresolved: what `_control` keeps

  /// False: the files name it, in a part that is no YAML.
  bool IsRead(const std::string& section, const std::string& name) const {
    return !unread.contains(section) && !unread.contains(section + "." + name);
  }
  const StreamConfig* FindStream(const std::string& name) const {
    auto it = streams.find(name);
    return it == streams.end() ? nullptr : &it->second;
  }
};

/// Reads DIRECTORY/millstream.yaml and what it names. All faults that can be seen without binding SQL are
/// added.
Project LoadProject(FileSystem& fs, const std::string& directory, const Registry& registry, Faults& faults);
/// From the tree that `_control` keeps.
Project ParseProject(const Node& root, const std::string& directory, const Registry& registry,
                     Faults& faults);
struct CheckOptions {
  SqlWorkers* workers = nullptr;  // where all of it is bound first: what does not survive is a fault
  std::function<void(const std::string& path)> step{};  // called before each text is bound
};
/// Binds every pipeline's filters and sinks against each other in a database without data (made here): SQL
/// faults with the user's text and a caret, tables' keys and columns, cycles, a filter that reads its own
/// pipeline's table, missing order, volatile functions. `warnings` get what is legal but doubtful. A project
/// that was loaded with faults may be given too: what is at fault already is left out.
void CheckProject(const Project& project, const Registry& registry, Faults& faults, Faults& warnings,
                  const CheckOptions& options = {});
/// The spec of a table sink's target, over all pipelines that write it.
std::map<std::string, TableSpec> TablesOf(const Project& project);
/// "ok: 1 stream, 1 source, 2 pipelines, 3 tables".
std::string Summary(const Project& project);

}  // namespace millstream
