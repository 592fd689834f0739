#include "query/sandbox_maker.h"

#include <set>

#include "base/text.h"
#include "log/fork.h"
#include "pipeline/control_log.h"
#include "query/as_of.h"

namespace millstream {
namespace {

constexpr int kForksMax = 20;  // retention may overtake a fork; each time it begins anew

/// Streams that a pipeline of these definitions writes.
std::set<std::string> WrittenStreams(const Project& project, const Registry& registry) {
  std::set<std::string> written;
  for (const auto& [name, pipeline] : project.pipelines)
    for (const SinkConfig& sink : pipeline.sinks)
      if (sink.kind == "stream") written.insert(registry.sinks().at(sink.kind).target(sink.options));
  return written;
}

/// The forked `_control`, brought to a point at which an Engine may go on.
class ControlFork {
 public:
  ControlFork(Engine& live, const Registry& isolated, const SandboxRecord& record)
      : live_(live), isolated_(isolated), record_(record) {}

  Status Settle(const std::string& log_directory) {
    LogOptions options;
    options.reserve_bytes = 0;
    options.merge_in_background = false;
    ASSIGN_OR_RETURN(log_, Log::Open(live_.fs(), live_.clock(), live_.random(), log_directory, options, {}));
    for (const auto& [name, ends] : record_.ends) {
      auto stream = log_->OpenStream(name, static_cast<uint32_t>(ends.size()));
      if (!stream) return stream.error();
    }
    ASSIGN_OR_RETURN(control_, ControlLog::Open(*log_, live_.clock()));
    catalog_ = control_->catalog();
    if (catalog_.version() == 0)
      return NotFound("nothing had been applied yet as of {}; --with DIR gives the sandbox a project",
                      record_.as_of);
    ASSIGN_OR_RETURN(Project project, Parse(catalog_.root()));
    RETURN_IF_ERROR(CheckStreams(project));
    for (const auto& [name, pipeline] : project.pipelines) RETURN_IF_ERROR(CheckPipeline(name, pipeline));
    RETURN_IF_ERROR(Decide());
    return log_->Close();
  }

 private:
  Result<Project> Parse(const Node& root) {
    Faults faults;
    Project project = ParseProject(root, live_.project()->directory, isolated_, faults);
    if (faults.empty()) return project;
    return Fail(Invalid("the definitions of then do not parse any more: {}", faults[0].ToString()));
  }

  Status CheckStreams(const Project& project) {
    for (const auto& [name, config] : project.streams) {
      auto ends = record_.ends.find(name);
      if (ends == record_.ends.end())
        return NotFound("stream '{}' was there as of {} and has been removed since", name, record_.as_of);
    }
    return OkStatus();
  }

  /// Its versions may run, its tables' events are there, and what it has written was made of events that are.
  Status CheckPipeline(const std::string& name, const PipelineConfig& pipeline) {
    const PipelineRecord& known = catalog_.pipelines().at(name);
    for (const ActivatedVersion& version : known.versions) {
      ASSIGN_OR_RETURN(Project project, Parse(*version.root));
      auto old = project.pipelines.find(name);
      if (old == project.pipelines.end()) continue;
      project.pipelines = {{name, old->second}};
      RETURN_IF_ERROR(CheckPrograms(project, record_));
    }
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind == "table") RETURN_IF_ERROR(CheckHistory(name, pipeline, known));
      if (sink.kind == "stream") RETURN_IF_ERROR(CheckChain(name, pipeline, known, sink));
    }
    return OkStatus();
  }

  Status CheckHistory(const std::string& name, const PipelineConfig& pipeline, const PipelineRecord& known) {
    Stream* stream = live_.log().Find(pipeline.stream);
    for (const auto& [partition, end] : record_.ends.at(pipeline.stream)) {
      auto start = known.start.offsets.find(partition);
      const uint64_t from = start == known.start.offsets.end() ? 0 : start->second;
      const uint64_t earliest = stream->partition(partition).bounds().start;
      if (from < std::min(earliest, end))
        return Invalid(
            "pipeline {} begins at {}/{}:{}, and the log begins at offset {}: its tables cannot be made "
            "again. "
            "With `sandbox create --with DIR` they are made of what the log has",
            name, pipeline.stream, partition, from, earliest);
    }
    return OkStatus();
  }

  Status CheckChain(const std::string& name, const PipelineConfig& pipeline, const PipelineRecord& known,
                    const SinkConfig& sink) {
    Stream* target = log_->Find(isolated_.sinks().at(sink.kind).target(sink.options));
    if (target == nullptr) return OkStatus();
    const std::string origin = fmt::format("pipeline/{}.{}/{}", name, known.generation, sink.id);
    for (uint32_t p = 0; p < target->partitions(); ++p)
      for (const Receipt& receipt : target->partition(p).FindReceipts(origin)) {
        auto partition = static_cast<uint32_t>(std::strtoul(receipt.part.c_str(), nullptr, 10));
        const uint64_t next = std::strtoull(receipt.position.c_str(), nullptr, 10);
        auto end = record_.ends.at(pipeline.stream).find(partition);
        if (end == record_.ends.at(pipeline.stream).end() || next <= end->second) continue;
        return Invalid(
            "{} leaves out events of {}/{} from offset {} on, but has what pipeline {} made of them in {}; "
            "name "
            "a time, or a position of {}",
            record_.as_of, pipeline.stream, partition, end->second, name, target->name(), pipeline.stream);
      }
    return OkStatus();
  }

  Status Append(ControlKind kind, const std::function<void(ControlEvent&)>& fill) {
    ControlEvent event;
    event.kind = kind;
    event.who = record_.who;
    fill(event);
    return control_->Append(std::move(event));
  }

  Status Decide() {
    for (const auto& [id, replay] : catalog_.replays())
      if (replay.is_open())
        RETURN_IF_ERROR(
            Append(ControlKind::kReplayCancelled, [id = id](ControlEvent& event) { event.replay.id = id; }));
    for (const auto& [name, known] : catalog_.pipelines()) {
      if (known.paused)
        RETURN_IF_ERROR(
            Append(ControlKind::kPipelineResumed, [name = name](ControlEvent& event) { event.name = name; }));
      if (known.versions.empty() || !catalog_.IsPending(name)) continue;
      RETURN_IF_ERROR(Append(ControlKind::kActivated, [&, name = name, &known = known](ControlEvent& event) {
        event.name = name;
        event.version = catalog_.version();
        event.generation = known.generation;
        event.boundary = record_.ends.at(known.start.stream);
      }));
    }
    return OkStatus();
  }

  Engine& live_;
  const Registry& isolated_;
  const SandboxRecord& record_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<ControlLog> control_;
  Catalog catalog_;
};

/// Only what other definitions read: their streams, save those that they, or the live ones, write.
Status KeepRead(Engine& live, const Project& files, std::map<std::string, Boundary>& ends) {
  std::set<std::string> written = WrittenStreams(files, live.registry());
  written.merge(WrittenStreams(*live.project(), live.registry()));
  std::erase_if(ends, [&](const auto& stream) {
    return files.FindStream(stream.first) == nullptr || written.contains(stream.first);
  });
  for (const auto& [name, of_stream] : ends) {
    const uint32_t wanted = files.FindStream(name)->shape.partitions;
    if (wanted != of_stream.size())
      return Conflict("streams.{}.partitions: the stream has {}, not {}", name, of_stream.size(), wanted);
  }
  return OkStatus();
}

/// Pipelines of the same name begin where the live ones did, or where the log now begins.
std::map<std::string, Position> StartsOf(Engine& live, const Project& files,
                                         const std::map<std::string, Boundary>& ends) {
  std::map<std::string, Position> starts;
  Catalog catalog = live.catalog();
  for (const auto& [name, known] : catalog.pipelines()) {
    auto pipeline = files.pipelines.find(name);
    auto end = ends.find(known.start.stream);
    if (pipeline == files.pipelines.end() || pipeline->second.stream != known.start.stream ||
        end == ends.end())
      continue;
    Position& start = starts[name] = known.start;
    for (auto& [partition, offset] : start.offsets) {
      offset = std::max(offset, live.log().Find(start.stream)->partition(partition).bounds().start);
      if (auto last = end->second.find(partition); last != end->second.end())
        offset = std::min(offset, last->second);
    }
  }
  return starts;
}

}  // namespace

Status CheckPrograms(const Project& project, const SandboxRecord& record) {
  if (record.allow_exec) return OkStatus();
  for (const auto& [name, pipeline] : project.pipelines)
    for (const FilterConfig& filter : pipeline.filters)
      if (filter.kind != "sql")
        return Invalid(
            "filter {}.{} runs a program ({}), and what that does is not kept inside; `sandbox create "
            "--allow-exec` lets it run all the same",
            name, filter.name, filter.kind);
  return OkStatus();
}

Result<SandboxMade> MakeSandbox(Engine& live, const std::string& directory, const Project* files,
                                const Registry& isolated, SandboxRecord& record) {
  SandboxMade made;
  const std::string log_directory = directory + "/log", asked = record.as_of;
  Status forked;
  for (int attempt = 0; attempt < kForksMax; ++attempt) {
    if (live.fs().Exists(directory)) FAIL_IF_ERROR(live.fs().RemoveAll(directory));
    ASSIGN_OR_FAIL(ForkPoint point, ResolveFork(live, asked));
    record.as_of = asked.empty() ? FormatTime(point.time_us) : asked;
    record.ends = std::move(point.ends);
    if (files != nullptr) {
      FAIL_IF_ERROR(KeepRead(live, *files, record.ends));
      made.starts = StartsOf(live, *files, record.ends);
    }
    forked = ForkLog(live.fs(), live.log(), live.log_directory(), record.ends, log_directory);
    if (forked.code() != Code::kConflict) break;
  }
  if (!forked.ok()) return Fail(forked);
  if (files == nullptr) FAIL_IF_ERROR(ControlFork(live, isolated, record).Settle(log_directory));
  return made;
}

}  // namespace millstream
