// Settings: the parts of millstream.yaml as Specs: server, streams, sources, pipelines.
//
// Place: floor 4. Parsing (load.cc), `millstream schema`, help and the reference docs (reference.cc) all read
// these declarations; nothing else knows the names. Values. What depends on the kinds that exist stays a Node
// here and is read by load.cc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "catalog/project.h"
#include "stage/spec.h"

namespace millstream {

struct LogSettings {
  std::string level = "info", format = "console";
};
struct QuerySettings {
  Duration deadline{30'000'000};
  uint32_t concurrent = 8;
};
struct LimitSettings {
  ByteSize event, body, inflated, header, batch_bytes;
  uint32_t depth = 128, connections = 1024, batch_events = 10'000;
  Share free_space;
};
struct SandboxesSettings {
  uint32_t count = 8;
  ByteSize disk, memory;
};
struct ServerSettings {
  std::string listen, data;
  std::vector<TokenConfig> tokens;
  LogSettings log;
  ByteSize memory;
  QuerySettings query;
  LimitSettings limits;
  SandboxesSettings sandboxes;
};
Spec<ServerSettings> ServerSettingsSpec();

struct EnvelopeSettings {
  std::string id, source, type, subject, time;
};
struct RetainSettings {
  Duration age;
  ByteSize size;
};
struct DedupeSettings {
  std::vector<std::string> by;
  Duration window;
};
struct StreamSettings {
  std::vector<std::string> key;
  EnvelopeSettings envelope;
  uint32_t partitions = 1;
  std::string ack, codec, on_violation;
  RetainSettings retain;
  std::optional<DedupeSettings> dedupe;
  Node contract;
};
Spec<StreamSettings> StreamSettingsSpec();

/// `{type: varchar, from: /sender/login}`.
struct ContractFieldSettings {
  SqlText type;
  std::string from;
};
Spec<ContractFieldSettings> ContractFieldSettingsSpec();

struct RetrySettings {
  Duration min{100'000}, max{30'000'000};
};
/// Settings that every source kind takes beside its own.
struct CommonSourceSettings {
  std::optional<Duration> every;
  RetrySettings retry;
};
Spec<CommonSourceSettings> CommonSourceSettingsSpec();

struct SourceSettings {
  Node from;
  std::string to;
};
/// `registry` decides which kinds the schema shows.
Spec<SourceSettings> SourceSettingsSpec(const Registry& registry);

struct LetterLimitSettings {
  std::optional<Share> share;
  std::optional<uint64_t> count;
  Duration over{600'000'000};
};

struct PipelineSettings {
  std::string from, start;
  bool adopt = false;
  Node filters, to;
  std::optional<LetterLimitSettings> max_dead_letters;
};
Spec<PipelineSettings> PipelineSettingsSpec(const Registry& registry);

struct CommandSettings {
  Node input, require, emit;
  std::vector<std::string> key;
  std::string consistency;
};
Spec<CommandSettings> CommandSettingsSpec();

/// The file's outermost keys.
struct ProjectSettings {
  ServerSettings server;
  Node streams, sources, pipelines, commands;
};
Spec<ProjectSettings> ProjectSettingsSpec(const Registry& registry);

}  // namespace millstream
