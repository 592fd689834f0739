#include "query/past_tables.h"

#include <atomic>
#include <chrono>
#include <iterator>

#include "base/text.h"
#include "catalog/lineage.h"
#include "sql/sql_checker.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr uint64_t kSpillMax = 16ull << 30;  // bytes on disk that one of them may take

}  // namespace

std::string PastGround::ToJson() const {
  std::string out = "{\"time\":";
  AppendJsonString(out, FormatTime(time_us));
  out += fmt::format(",\"run\":\"{}\",\"positions\":{{", as_now ? "as_now" : "as_run");
  for (const auto& [stream, position] : positions) {
    if (!out.ends_with('{')) out += ',';
    AppendJsonString(out, stream);
    out += ':';
    AppendJsonString(out, position);
  }
  out += "},\"versions\":{";
  for (const auto& [pipeline, numbers] : versions) {
    if (!out.ends_with('{')) out += ',';
    AppendJsonString(out, pipeline);
    out += fmt::format(":[{}]", fmt::join(numbers, ","));
  }
  out += "},\"not_reproducible\":";
  AppendJsonStrings(out, not_reproducible);
  return out + fmt::format(",\"events\":{},\"dead_letters\":{},\"seconds\":{:.3f}}}", events, dead_letters,
                           seconds);
}

HistoryRun::Options HistoryOptions(Engine& engine, uint64_t memory_bytes) {
  static std::atomic<uint64_t> number{0};
  HistoryRun::Options options;
  options.log = &engine.log();
  options.fs = &engine.fs();
  options.clock = &engine.clock();
  options.random = &engine.random();
  options.registry = &engine.registry();
  std::shared_ptr<const Project> project = engine.project();
  options.project_directory = project->directory;
  options.limits = project->server.limits;
  options.memory_bytes = memory_bytes;
  options.temp_directory = fmt::format("{}/history-{}", engine.temporary_directory(), ++number);
  options.temp_bytes = kSpillMax;
  if (auto space = engine.fs().Space(engine.temporary_directory()))
    options.temp_bytes = std::min(kSpillMax, std::max<uint64_t>(1, space->free_bytes / 2));
  return options;
}

FilterTraits TraitsOf(Connection& connection, const FilterConfig& filter) {
  FilterTraits traits;
  if (filter.kind != "sql") {
    traits.not_reproducible.push_back("runs a program");
    return traits;
  }
  SqlFault ignored;
  auto tree = ParseSelect(connection, filter.sql, &ignored);
  if (!tree) return traits;  // what does not bind is told by the run
  traits.tables = TablesIn(*tree);
  for (const std::string& function : CheckFilterTree(*tree, filter.sql).flags.volatile_functions)
    traits.not_reproducible.push_back(function + "()");
  for (const std::string& table : traits.tables)
    traits.not_reproducible.push_back(fmt::format("joins table {}, made as of the same events", table));
  return traits;
}

SinkConfig RenamedSink(const SinkConfig& sink, const std::string& name, bool keeps_key) {
  SinkConfig renamed;
  renamed.id = "table:" + name;
  renamed.kind = "table";
  renamed.options.kind = Node::Kind::kMap;
  renamed.options.members.emplace_back("name", ScalarNode(name));
  if (keeps_key && sink.options.kind == Node::Kind::kMap)
    for (const auto& [option, value] : sink.options.members)
      if (option != "name") renamed.options.members.emplace_back(option, value);
  return renamed;
}

/// Finds out which pipelines made the tables, and in which order they must run.
class PastBuilder {
 public:
  PastBuilder(Engine& engine, const PastRequest& request, PastTables& past)
      : engine_(engine), request_(request), past_(past), ground_(past.ground_) {}

  Status Build(uint64_t memory_bytes, const std::stop_token& stop) {
    auto begun = std::chrono::steady_clock::now();
    if (request_.as_now) {
      pipelines_ = engine_.PipelinesNow();
    } else {
      ASSIGN_OR_RETURN(pipelines_, engine_.PipelinesAt(request_.as_of.time_us));
    }
    ASSIGN_OR_RETURN(past_.run_, HistoryRun::Open(HistoryOptions(engine_, memory_bytes)));
    ASSIGN_OR_RETURN(connection_, past_.run_->database().Connect());
    ground_.as_now = request_.as_now;
    ground_.time_us = request_.as_of.time_us;
    for (const std::string& table : request_.tables) RETURN_IF_ERROR(Add(table));
    if (!request_.rows_of.empty()) RETURN_IF_ERROR(Add(request_.rows_of));
    Engine::PastPlace& place = *past_.place_;
    for (const auto& level : levels_) place.total += past_.run_->EventsOf(level);
    uint64_t before = 0;
    for (auto& level : levels_) {
      uint64_t events = past_.run_->EventsOf(level);
      auto show = [&](const HistoryRun::Done& done) { place.done = before + done.events; };
      RETURN_IF_ERROR(past_.run_->Run(std::move(level), stop, show));
      before += events;
    }
    place.is_answered = true;
    for (const PipelineRuntime::Work& work : past_.run_->work()) ground_.events += work.events;
    ground_.dead_letters = past_.run_->letters().count();
    std::sort(ground_.not_reproducible.begin(), ground_.not_reproducible.end());
    ground_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    return OkStatus();
  }

 private:
  std::string TargetOf(const SinkConfig& sink) const {
    return engine_.registry().sinks().at(sink.kind).target(sink.options);
  }
  std::string TableOf(const SinkConfig& sink) const { return sink.kind == "table" ? TargetOf(sink) : ""; }

  /// True if the version made something of what came before `ends`.
  static bool Owns(const PipelineVersion& version, const Boundary& ends) {
    return std::any_of(ends.begin(), ends.end(), [&](const auto& end) {
      auto from = version.from.find(end.first);
      return (from == version.from.end() ? 0 : from->second) < end.second;
    });
  }

  /// The events of the pipeline that went to the table, and by which versions; nothing if none did. The one
  /// that was active then is the last: its sinks and columns were there, and may have been filled from
  /// history, before it had an event of its own.
  std::optional<HistoryPart> PartOf(const std::string& name, const PastPipeline& pipeline,
                                    const std::string& table) {
    HistoryPart part;
    part.pipeline = name;
    part.generation = pipeline.generation;
    part.from = pipeline.start;
    if (pipeline.versions.empty()) return std::nullopt;
    std::vector<PipelineRuntime::Version> versions =
        pipeline.VersionsFor([&](const SinkConfig& sink) { return TableOf(sink) == table; });
    part.stream = versions.front()->config.stream;
    auto ends = request_.as_of.streams.find(part.stream);
    if (ends == request_.as_of.streams.end()) return std::nullopt;
    part.to = ends->second;
    for (size_t i = 0; i < versions.size(); ++i) {
      const auto& version = versions[i];
      if (i > 0 && version->number > pipeline.active_version && !Owns(*version, ends->second)) break;
      auto sink = std::find_if(version->config.sinks.begin(), version->config.sinks.end(),
                               [&](const SinkConfig& each) { return TableOf(each) == table; });
      if (sink != version->config.sinks.end()) {
        part.sinks = {*sink};
        part.to = ends->second;
      } else if (!part.sinks.empty()) {  // taken out here
        for (auto& [partition, end] : part.to)
          if (auto from = version->from.find(partition); from != version->from.end())
            end = std::min(end, from->second);
        break;
      }
      part.versions.push_back(version);
    }
    if (part.sinks.empty()) return std::nullopt;
    if (pipeline.ended) {
      auto ended = pipeline.ended->find(part.sinks[0].id);
      if (ended == pipeline.ended->end()) return std::nullopt;
      Boundary to;
      for (const auto& [partition, end] : ended->second)
        if (auto then = part.to.find(partition); then != part.to.end())
          to[partition] = std::min(end, then->second);
      part.to = std::move(to);
    }
    return part;
  }

  Status CheckKept(const HistoryPart& part, const std::string& table) {
    Stream* stream = engine_.log().Find(part.stream);
    if (stream == nullptr) return NotFound("table {}: stream '{}' is gone", table, part.stream);
    for (const auto& [partition, end] : part.to) {
      auto from = part.from.find(partition);
      uint64_t first = from == part.from.end() ? 0 : from->second;
      uint64_t kept = stream->partition(partition).bounds().start;
      if (first < kept && first < end)
        return Invalid(
            "table {} stands on events of {}/{} that retention has removed: the earliest is {}/{}:{}", table,
            part.stream, partition, part.stream, partition, kept);
    }
    return OkStatus();
  }

  Status Add(const std::string& table) {
    if (levels_of_.contains(table)) return OkStatus();
    if (!on_way_.insert(table).second) return Invalid("table {} joins itself through other pipelines", table);
    std::vector<HistoryPart> parts;
    size_t level = 0;
    for (const auto& [name, pipeline] : pipelines_) {
      std::optional<HistoryPart> part = PartOf(name, pipeline, table);
      if (!part) continue;
      RETURN_IF_ERROR(CheckKept(*part, table));
      for (const auto& version : part->versions) {
        bool owns = version == part->versions.front() || Owns(*version, part->to);
        for (const FilterConfig& filter : version->config.filters) {
          FilterTraits traits = TraitsOf(*connection_, filter);
          for (const std::string& trait : traits.not_reproducible)
            if (owns) Note(fmt::format("{}.{}: {}", name, filter.name, trait));
          for (const std::string& joined : traits.tables) {
            RETURN_IF_ERROR(Add(joined));
            level = std::max(level, levels_of_.at(joined) + 1);
          }
        }
        std::vector<uint64_t>& numbers = ground_.versions[name];
        if (owns && std::find(numbers.begin(), numbers.end(), version->number) == numbers.end())
          numbers.push_back(version->number);
      }
      std::string position = AsOf{0, {{part->stream, part->to}}}.PositionsOf({part->stream});
      NamePositions(part->stream);
      std::string& of_table = past_.table_positions_[table];
      if (!position.empty()) of_table += (of_table.empty() ? "" : " ") + position;
      if (table == request_.rows_of) {
        past_.rows_.push_back({name, part->stream, fmt::format("rows_{}", past_.rows_.size())});
        part->sinks = {RenamedSink(part->sinks[0], past_.rows_.back().table, false)};
      }
      parts.push_back(std::move(*part));
    }
    if (parts.empty())
      return NotFound("no pipeline wrote table '{}' {}", table,
                      request_.as_now ? "as they are now"
                                      : fmt::format("at {}; --as-now makes it by the pipelines of today",
                                                    FormatTime(request_.as_of.time_us)));
    on_way_.erase(table);
    levels_of_[table] = level;
    if (levels_.size() <= level) levels_.resize(level + 1);
    std::move(parts.begin(), parts.end(), std::back_inserter(levels_[level]));
    return OkStatus();
  }

  /// Of a stream that was read, and of those that pipelines made its events of: these are read as recorded.
  void NamePositions(const std::string& stream) {
    if (!ground_.positions.try_emplace(stream, request_.as_of.PositionsOf({stream})).second) return;
    for (const auto& [name, pipeline] : pipelines_)
      for (const auto& version : pipeline.versions)
        for (const SinkConfig& sink : version->config.sinks)
          if (sink.kind == "stream" && TargetOf(sink) == stream) NamePositions(version->config.stream);
  }

  void Note(const std::string& text) {
    std::vector<std::string>& notes = ground_.not_reproducible;
    if (std::find(notes.begin(), notes.end(), text) == notes.end()) notes.push_back(text);
  }

  Engine& engine_;
  const PastRequest& request_;
  PastTables& past_;
  PastGround& ground_;
  std::unique_ptr<Connection> connection_;
  PastPipelines pipelines_;
  std::set<std::string> on_way_;
  std::map<std::string, size_t> levels_of_;
  std::vector<std::vector<HistoryPart>> levels_;  // those that join tables after those that make them
};

Result<std::shared_ptr<PastTables>> PastTables::Build(Engine& engine, const PastRequest& request,
                                                      uint64_t memory_bytes, std::stop_token stop) {
  std::shared_ptr<PastTables> past(new PastTables());
  ASSIGN_OR_FAIL(past->place_, engine.TakePastPlace());
  FAIL_IF_ERROR(PastBuilder(engine, request, *past).Build(memory_bytes, stop));
  return past;
}

std::string PastTables::PositionsOf(const std::string& table) const {
  auto found = table_positions_.find(table);
  return found == table_positions_.end() ? "" : found->second;
}

}  // namespace millstream
