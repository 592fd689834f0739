#include "catalog/change_plan.h"

#include "catalog/digest.h"
#include "catalog/three_way.h"
#include "stage/table_options.h"

namespace millstream {
namespace {

// "pipelines.revenue.from" → {"pipelines", "revenue", "from"}
struct PathParts {
  std::string section, name, rest;
  std::string item() const { return name.empty() ? section : section + "." + name; }
};
PathParts PartsOf(const std::string& path) {
  size_t first = path.find('.');
  if (first == std::string::npos) return {path, "", ""};
  size_t second = path.find('.', first + 1);
  if (second == std::string::npos) return {path.substr(0, first), path.substr(first + 1), ""};
  return {path.substr(0, first), path.substr(first + 1, second - first - 1), path.substr(second + 1)};
}

const Node* NodeAt(const Node& root, const PathParts& parts) {
  const Node* node = root.Find(parts.section);
  for (const std::string& name : {parts.name, parts.rest}) {
    if (node == nullptr || name.empty()) break;
    const Node* child = node->Find(name);
    if (child == nullptr) break;
    node = child;
  }
  return node;
}

void Remove(Node& root, const PathParts& parts) {
  Node* items = FindMember(root, parts.section);
  if (items != nullptr)
    std::erase_if(items->members, [&](const auto& each) { return each.first == parts.name; });
}

// A refused change leaves the old definition of its item, or none.
void KeepOld(Node& root, const Node& live, const PathParts& parts) {
  Node* items = FindMember(root, parts.section);
  Node* item = items == nullptr ? nullptr : FindMember(*items, parts.name);
  const Node* old_items = live.Find(parts.section);
  const Node* old_item = old_items == nullptr ? nullptr : old_items->Find(parts.name);
  if (item == nullptr) return;
  if (old_item != nullptr)
    *item = *old_item;
  else
    Remove(root, parts);
}

/// Whether the item waits until tables are made anew.
bool IsRebuilt(const ChangeDecision& decision, const PathParts& parts) {
  return (parts.section == "pipelines" && decision.rebuilt.pipelines.contains(parts.name)) ||
         (parts.section == "streams" && decision.rebuilt.streams.contains(parts.name));
}

const char* RefusalOf(const Change& change) {
  if (change.how != "refused") return "cannot be changed in place";
  return change.change == "add" ? "cannot be added" : "cannot be changed";
}

/// What cannot be done in place keeps its old definition, and with it what else changed in the same item.
void HoldBackAll(ChangeDecision& decision, const Project& proposed, const Catalog& catalog) {
  std::map<std::string, std::string> held;  // item, the change that holds it back
  decision.refused.clear();
  decision.files = proposed.root;
  for (const Change& change : decision.changes) {
    if (change.how == "conflict") KeepOld(decision.files, catalog.files_root(), PartsOf(change.path));
    if (change.how != "rebuild" && (change.how != "refused" || change.note.starts_with("waits for ")))
      continue;
    PathParts parts = PartsOf(change.path);
    if (change.how == "rebuild" && IsRebuilt(decision, parts)) {
      KeepOld(decision.root, catalog.root(), parts);
      continue;
    }
    const Node* node = NodeAt(proposed.root, parts);
    Fault fault = node == nullptr ? Fault() : FaultAt(*node, change.path, "");
    fault.path = change.path;
    fault.message = RefusalOf(change);
    fault.hint = change.note;
    decision.refused.push_back(std::move(fault));
    KeepOld(decision.root, catalog.root(), parts);
    KeepOld(decision.files, catalog.files_root(), parts);
    held.try_emplace(parts.item(), change.path);
  }
  for (Change& change : decision.changes) {
    auto by = held.find(PartsOf(change.path).item());
    if (by == held.end() || (change.how != "live" && change.how != "backfill")) continue;
    change.how = "refused";
    change.note = fmt::format("waits for {}, which cannot be changed in place", by->second);
  }
}

/// Whether a pipeline that is not live goes on as the one of its name that was removed.
bool Adopts(const Node& pipeline, const PipelineRecord* removed) {
  const Node *adopt = pipeline.Find("adopt"), *from = pipeline.Find("from");
  return removed != nullptr && adopt != nullptr && adopt->scalar == "true" && from != nullptr &&
         from->scalar == removed->start.stream;
}

/// A pipeline that is not live begins a new generation, unless it adopts the last one.
void NumberGenerations(ChangeDecision& decision, const Catalog& catalog) {
  decision.generations.clear(), decision.new_pipelines.clear();
  const Node* pipelines = decision.root.Find("pipelines");
  if (pipelines == nullptr) return;
  for (const auto& [name, node] : pipelines->members) {
    auto record = catalog.pipelines().find(name);
    bool known = record != catalog.pipelines().end();
    const bool adopts = Adopts(node, catalog.FindRemoved(name));
    decision.generations[name] =
        known ? record->second.generation : catalog.LastGeneration(name) + (adopts ? 0 : 1);
    if (!known) decision.new_pipelines.push_back(name);
  }
}

class Planner {
 public:
  Planner(const Project& proposed, const Project& live, const Catalog& catalog, const ChangeOptions& options,
          const std::map<std::string, uint64_t>& stream_events)
      : proposed_(proposed),
        live_(live),
        catalog_(catalog),
        options_(options),
        stream_events_(stream_events) {}

  ChangeDecision Decide(const Registry& registry) {
    decision_.version = catalog_.version() + 1;
    Merge();
    Project next = ParseProject(decision_.root, proposed_.directory, registry, decision_.faults);
    for (const std::string& purged : catalog_.purges())
      if (const StreamConfig* stream = next.FindStream(purged))
        decision_.faults.push_back(
            FaultAt(stream->node, "streams." + purged,
                    "the events of the stream that had this name before are still being removed; try again"));
    if (!decision_.faults.empty()) return std::move(decision_);
    for (Change& change : DiffProjects(live_, next)) decision_.changes.push_back(std::move(change));
    NoteRemoved(next);
    TakeRebuilds(next);
    HoldBackAll(decision_, proposed_, catalog_);
    auto rank = [](const Change& change) {
      size_t at = std::string("server streams sources pipelines commands").find(PartsOf(change.path).section);
      return at;
    };
    std::stable_sort(decision_.changes.begin(), decision_.changes.end(),
                     [&](const Change& a, const Change& b) { return rank(a) < rank(b); });
    NumberGenerations(decision_, catalog_);
    return std::move(decision_);
  }

 private:
  void Merge() {
    // An edit is compared with nothing but what is live.
    const Node& base = options_.is_edit ? catalog_.root() : catalog_.files_root();
    MergedItems merged =
        MergeItems(base, catalog_.root(), proposed_.root, options_.keep_live, options_.force);
    decision_.root = std::move(merged.root);
    for (const std::string& path : merged.lacking) {
      PathParts parts = PartsOf(path);
      auto events = stream_events_.find(parts.name);
      bool is_purged = parts.section != "streams" || events == stream_events_.end() || events->second == 0 ||
                       options_.purge.contains(parts.name);
      if (options_.prune && is_purged) {
        Remove(decision_.root, parts);
        continue;
      }
      std::string note = "not in the files; it goes on (--prune removes it)";
      if (options_.prune)
        note = fmt::format("holds {} events; --purge {} removes them", events->second, parts.name);
      decision_.changes.push_back({path, "remove", "kept", note});
      decision_.notices.push_back(fmt::format("{} is not in the files and goes on as it is", path));
    }
    for (const std::string& path : merged.conflicts) {
      decision_.changes.push_back({path, "edit", "conflict",
                                   "changed in the files and live: --force takes the files, "
                                   "`show --yaml` prints what is live"});
      decision_.notices.push_back(
          fmt::format("{} was changed in the files and live; it goes on as it is live", path));
    }
    if (!options_.keep_live) return;
    for (const std::string& path : merged.live_only)
      decision_.notices.push_back(
          fmt::format("{} was changed live and stays so; the files have another", path));
  }

  /// What becomes of what a pipeline of the same name has written, before it was removed.
  void NoteRemoved(const Project& next) {
    for (Change& change : decision_.changes) {
      PathParts parts = PartsOf(change.path);
      const PipelineRecord* removed = catalog_.FindRemoved(parts.name);
      if (parts.section != "pipelines" || change.change != "add" || !parts.rest.empty() || removed == nullptr)
        continue;
      const PipelineConfig& pipeline = next.pipelines.at(parts.name);
      if (Adopts(pipeline.node, removed)) {
        change.how = "live", change.note = "goes on where it stood when it was removed (adopt)";
        continue;
      }
      std::string doubled;
      for (const SinkConfig& sink : pipeline.sinks)
        if (sink.kind == "stream" || sink.kind == "postgres" || sink.kind == "file")
          doubled += (doubled.empty() ? "" : ", ") + sink.id;
      if (doubled.empty()) continue;
      change.note += fmt::format(
          "; a pipeline of this name was removed: {} would get rows a second time "
          "(adopt: true goes on where it stood)",
          doubled);
    }
  }

  /// The names of tables to be made anew that a pipeline writes.
  std::vector<std::string> RebuiltBy(const PipelineConfig& pipeline) const {
    std::vector<std::string> names;
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table") continue;
      Faults ignored;
      std::string name = TableOptionsSpec().Parse(sink.options, {"", proposed_.directory, &ignored}).name;
      if (options_.rebuild.contains(name)) names.push_back(sink.id);
    }
    return names;
  }

  bool IsRefused(const std::string& item) const {
    return std::any_of(decision_.changes.begin(), decision_.changes.end(), [&](const Change& change) {
      return change.how == "refused" && PartsOf(change.path).item() == item;
    });
  }

  /// The changes of an item come with tables that are made anew. False if there are none.
  bool ChangesWithTables(const std::string& item, const char* note) {
    bool changes = false;
    for (Change& change : decision_.changes) {
      if (PartsOf(change.path).item() != item || change.how == "kept" || change.how == "conflict") continue;
      change.how = "rebuild", change.note = note;
      changes = true;
    }
    return changes;
  }

  /// Pipelines that write a table which is made anew change with it, and not before; so do the contracts
  /// that they read.
  void TakeRebuilds(const Project& next) {
    std::set<std::string> streams;
    for (const auto& [name, pipeline] : next.pipelines) {
      std::vector<std::string> sinks = RebuiltBy(pipeline);
      std::string item = "pipelines." + name;
      if (sinks.empty() || !catalog_.pipelines().contains(name) || IsRefused(item)) continue;
      if (!ChangesWithTables(item, "history through it, beside the old; then one switch"))
        decision_.changes.push_back(
            {item + ".to." + sinks[0], "edit", "rebuild", "history anew, beside the old; then one switch"});
      decision_.rebuilt.pipelines[name] = pipeline.node;
      streams.insert(pipeline.stream);
    }
    for (const std::string& stream : streams) TakeContract(next, stream);
  }

  /// A contract that changes together with tables: until then events are held to the old one, and what else
  /// reads the stream stays as it is.
  void TakeContract(const Project& next, const std::string& stream) {
    const StreamConfig *before = live_.FindStream(stream), &after = next.streams.at(stream);
    const std::string item = "streams." + stream;
    if (before == nullptr || before->shape.contract == after.shape.contract || IsRefused(item)) return;
    if (!ChangesWithTables(item, "with the switch of the tables; until then the old one holds")) return;
    decision_.rebuilt.streams[stream] = after.node;
    for (const auto& [name, pipeline] : next.pipelines) {
      const std::string reader = "pipelines." + name;
      if (pipeline.stream != stream || !catalog_.pipelines().contains(name) ||
          decision_.rebuilt.pipelines.contains(name) || IsRefused(reader))
        continue;
      if (ChangesWithTables(reader, "with the contract that it reads"))
        decision_.rebuilt.pipelines[name] = pipeline.node;
    }
  }

  const Project& proposed_;
  const Project& live_;
  const Catalog& catalog_;
  const ChangeOptions& options_;
  const std::map<std::string, uint64_t>& stream_events_;
  ChangeDecision decision_;
};

}  // namespace

ChangeDecision DecideChange(const Project& proposed, const Project& live, const Catalog& catalog,
                            const Registry& registry, const ChangeOptions& options,
                            const std::map<std::string, uint64_t>& stream_events) {
  return Planner(proposed, live, catalog, options, stream_events).Decide(registry);
}

void HoldBack(ChangeDecision& decision, const Project& proposed, const Catalog& catalog, Change why) {
  auto known = std::find_if(decision.changes.begin(), decision.changes.end(),
                            [&](const Change& change) { return change.path == why.path; });
  if (known != decision.changes.end())
    *known = std::move(why);
  else
    decision.changes.push_back(std::move(why));
  HoldBackAll(decision, proposed, catalog);
  NumberGenerations(decision, catalog);
}

std::string ChangeDecision::Hash(const Catalog& catalog) const {
  std::string stands_on = fmt::format("{}\n{}\n", catalog.version(), ToJson(root));
  for (const Change& change : changes)
    stands_on += fmt::format("{} {} {} {}\n", change.path, change.change, change.how, change.note);
  return Sha256Hex(stands_on).substr(0, 8);
}

ControlEvent ApplyEvent(const ChangeDecision& decision, const Project& proposed, const Catalog& catalog,
                        bool is_edit) {
  ControlEvent event;
  event.kind = ControlKind::kApply;
  event.version = decision.version;
  event.is_edit = is_edit;
  event.files_hash = is_edit ? catalog.files_hash() : proposed.hash;
  event.root = decision.root;
  if (!is_edit && !(decision.files == decision.root)) event.files = decision.files;
  event.generations = decision.generations;
  event.changes = decision.changes;
  const Node *before = catalog.root().Find("streams"), *after = decision.root.Find("streams");
  if (before != nullptr)
    for (const auto& [name, stream] : before->members)
      if (after == nullptr || after->Find(name) == nullptr) event.purges.push_back(name);
  return event;
}

}  // namespace millstream
