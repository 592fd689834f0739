#include "catalog/diff.h"

#include "stage/table_options.h"

namespace millstream {
namespace {

void AddChange(std::vector<Change>& changes, std::string path, const char* change, const char* how,
               std::string note = "") {
  changes.push_back({std::move(path), change, how, std::move(note)});
}

void DiffStream(const StreamConfig& before, const StreamConfig& after, const std::string& path,
                std::vector<Change>& changes) {
  if (before.node == after.node) return;
  const StreamShape &old_shape = before.shape, &new_shape = after.shape;
  size_t count = changes.size();
  const char* kReplay = "fixed once the stream is made: declare a new stream and send the events there";
  if (old_shape.partitions != new_shape.partitions)
    AddChange(changes, path + ".partitions", "edit", "refused",
              fmt::format("{} → {}; {}", old_shape.partitions, new_shape.partitions, kReplay));
  if (old_shape.key != new_shape.key) AddChange(changes, path + ".key", "edit", "refused", kReplay);
  if (old_shape.contract != new_shape.contract)
    AddChange(changes, path + ".contract", "edit", "live",
              "holds for events to come; older ones are read by it");
  bool rest = before.retention.age_us != after.retention.age_us ||
              before.retention.bytes != after.retention.bytes || before.ack != after.ack ||
              before.reject != after.reject || old_shape.codec != new_shape.codec ||
              before.dedupe_by != after.dedupe_by || before.dedupe_window_us != after.dedupe_window_us ||
              old_shape.id_from != new_shape.id_from || old_shape.source_from != new_shape.source_from ||
              old_shape.type_from != new_shape.type_from ||
              old_shape.subject_from != new_shape.subject_from || old_shape.time_from != new_shape.time_from;
  if (rest || changes.size() == count) AddChange(changes, path, "edit", "live");
}

template <typename Item>
const Item* ByKey(const std::vector<Item>& items, const std::string& name, std::string Item::*member) {
  for (const Item& item : items)
    if (item.*member == name) return &item;
  return nullptr;
}

// A table that is kept in another way cannot take the old rows along.
bool NeedsRebuild(const SinkConfig& before, const SinkConfig& after) {
  if (after.kind != "table") return false;
  Faults ignored;
  ParseContext context{"", "", &ignored};
  TableOptions old_table = TableOptionsSpec().Parse(before.options, context);
  TableOptions new_table = TableOptionsSpec().Parse(after.options, context);
  return old_table.key != new_table.key || old_table.values != new_table.values ||
         old_table.delete_when.text != new_table.delete_when.text || old_table.order_by != new_table.order_by;
}

void DiffFilters(const PipelineConfig& before, const PipelineConfig& after, const std::string& path,
                 std::vector<Change>& changes) {
  const char* kNote = "from the next batch on; rows already made stay";
  std::vector<std::string> old_names, new_names;
  for (const FilterConfig& filter : after.filters) {
    const FilterConfig* old_filter = ByKey(before.filters, filter.name, &FilterConfig::name);
    std::string filter_path = path + ".filters." + filter.name;
    if (old_filter == nullptr) {
      AddChange(changes, filter_path, "add", "live", kNote);
      continue;
    }
    new_names.push_back(filter.name);
    if (old_filter->kind != filter.kind || old_filter->sql != filter.sql ||
        old_filter->options != filter.options)
      AddChange(changes, filter_path, "edit", "live", kNote);
  }
  for (const FilterConfig& filter : before.filters) {
    if (ByKey(after.filters, filter.name, &FilterConfig::name) == nullptr) {
      AddChange(changes, path + ".filters." + filter.name, "remove", "live", kNote);
    } else {
      old_names.push_back(filter.name);
    }
  }
  if (old_names != new_names)
    AddChange(changes, path + ".filters", "edit", "live", "another order; " + std::string(kNote));
}

void DiffPipeline(const PipelineConfig& before, const PipelineConfig& after, const std::string& path,
                  std::vector<Change>& changes) {
  if (before.node == after.node) return;
  if (before.stream != after.stream)
    AddChange(changes, path + ".from", "edit", "refused",
              "a pipeline reads one stream: give the new one another name");
  if (before.start.node != after.start.node)
    AddChange(changes, path + ".start", "edit", "kept", "has effect only when a pipeline is first made");
  const Node *adopted = before.node.Find("adopt"), *adopts = after.node.Find("adopt");
  if (adopts != nullptr && (adopted == nullptr || !(*adopted == *adopts)))
    AddChange(changes, path + ".adopt", "edit", "kept", "has effect only when a pipeline is made again");
  DiffFilters(before, after, path, changes);
  for (const SinkConfig& sink : after.sinks) {
    const SinkConfig* old_sink = ByKey(before.sinks, sink.id, &SinkConfig::id);
    std::string sink_path = path + ".to." + sink.id;
    if (old_sink == nullptr) {
      AddChange(changes, sink_path, "add", "backfill", "catches up from the pipeline's start");
    } else if (old_sink->options != sink.options) {
      bool rebuild = NeedsRebuild(*old_sink, sink);
      AddChange(changes, sink_path, "edit", rebuild ? "rebuild" : "live",
                rebuild ? "the table must be made anew: --rebuild TABLE, or give it another name" : "");
    }
  }
  for (const SinkConfig& sink : before.sinks)
    if (ByKey(after.sinks, sink.id, &SinkConfig::id) == nullptr)
      AddChange(changes, path + ".to." + sink.id, "remove", "live", "what it has written stays");
}

// One section: added, changed and missing items.
template <typename Item, typename Diff>
void DiffSection(const std::map<std::string, Item>& before, const std::map<std::string, Item>& after,
                 const std::string& section, const char* how_added, const char* note_added,
                 const char* note_removed, std::vector<Change>& changes, Diff diff) {
  for (const auto& [name, item] : after) {
    auto old_item = before.find(name);
    if (old_item == before.end()) {
      AddChange(changes, section + "." + name, "add", how_added, note_added);
    } else {
      diff(old_item->second, item, section + "." + name, changes);
    }
  }
  for (const auto& [name, item] : before)
    if (!after.contains(name)) AddChange(changes, section + "." + name, "remove", "live", note_removed);
}

}  // namespace

std::vector<Change> DiffProjects(const Project& before, const Project& after) {
  std::vector<Change> changes;
  const Node *old_server = before.root.Find("server"), *new_server = after.root.Find("server");
  bool same =
      old_server == nullptr || new_server == nullptr ? old_server == new_server : *old_server == *new_server;
  if (!same) AddChange(changes, "server", "edit", "live", "holds from the next start on");
  DiffSection(before.streams, after.streams, "streams", "live", "", "", changes, DiffStream);
  DiffSection(
      before.sources, after.sources, "sources", "live", "", "what it has brought stays", changes,
      [](const SourceConfig& a, const SourceConfig& b, const std::string& path, std::vector<Change>& to) {
        if (a.node != b.node) AddChange(to, path, "edit", "live");
      });
  DiffSection(before.pipelines, after.pipelines, "pipelines", "backfill", "catches up from its start",
              "what it has written stays", changes, DiffPipeline);
  DiffSection(
      before.commands, after.commands, "commands", "live", "", "what it has appended stays", changes,
      [](const CommandConfig& a, const CommandConfig& b, const std::string& path, std::vector<Change>& to) {
        if (a.node != b.node) AddChange(to, path, "edit", "live", "from the next command on");
      });
  return changes;
}

}  // namespace millstream
