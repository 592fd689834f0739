// What reads what: the order of binding, and cycles.
#include "catalog/checker.h"
#include "catalog/lineage.h"
#include "sql/sql_tree.h"

namespace millstream {

void Checker::MakePlans() {
  for (const auto& [name, pipeline] : project_.pipelines) {
    Plan plan;
    plan.pipeline = &pipeline;
    for (const FilterConfig& filter : pipeline.filters) {
      // What does not parse reads nothing; DescribeChain says what is wrong with it.
      plan.reads.emplace_back();
      if (filter.kind != "sql") continue;
      SqlFault ignored;
      if (auto query = ParseSelect(*connection_, filter.sql, &ignored)) plan.reads.back() = TablesIn(*query);
    }
    for (const SinkConfig& sink : pipeline.sinks) {
      std::string target = sink.kind == "table" || sink.kind == "stream"
                               ? registry_.sinks().at(sink.kind).target(sink.options)
                               : "";
      if (sink.kind == "table") plan.tables.insert(target);
      if (sink.kind == "stream") plan.streams.insert(target);
    }
    plans_.emplace(name, std::move(plan));
  }
}

void Checker::FaultOwnTables(const Plan& plan) {
  for (size_t i = 0; i < plan.reads.size(); ++i) {
    const FilterConfig& filter = plan.pipeline->filters[i];
    for (const std::string& table : plan.reads[i]) {
      if (!plan.tables.contains(table)) continue;
      std::string path = fmt::format("pipelines.{}.filters.{}", plan.pipeline->name, filter.name);
      faults_.push_back(FaultAt(filter.node, path,
                                fmt::format("reads table '{}', which this pipeline writes itself", table),
                                "what it finds there would depend on how events are batched: keep sums with "
                                "'values' of the table, or read a table of another pipeline"));
    }
  }
}

bool Checker::Reads(const Plan& reader, const Plan& writer) const {
  if (writer.streams.contains(reader.pipeline->stream)) return true;
  if (&reader == &writer) return false;  // FaultOwnTables
  for (const auto& tables : reader.reads)
    for (const std::string& table : tables)
      if (writer.tables.contains(table)) return true;
  return false;
}

void Checker::FaultCycle(const std::vector<std::string>& left) {
  // Every pipeline that is left reads one that is left: going from reader to writer comes round.
  std::vector<std::string> way = {left.front()};
  while (true) {
    const Plan& reader = plans_.at(way.back());
    auto writer = std::find_if(left.begin(), left.end(),
                               [&](const std::string& name) { return Reads(reader, plans_.at(name)); });
    if (writer == left.end()) return;
    auto seen = std::find(way.begin(), way.end(), *writer);
    if (seen == way.end()) {
      way.push_back(*writer);
      continue;
    }
    way.erase(way.begin(), seen);
    way.push_back(*writer);
    break;
  }
  const PipelineConfig& pipeline = *plans_.at(way.front()).pipeline;
  std::string text = fmt::format("{}", fmt::join(way, " reads what is written by "));
  faults_.push_back(FaultAtKey(pipeline.node, "pipelines." + pipeline.name, "a cycle: " + text,
                               "events would go round for ever: let one of them read something else"));
}

std::vector<std::string> Checker::Order() {
  std::vector<std::string> order, left;
  for (const auto& [name, plan] : plans_) left.push_back(name);
  while (!left.empty()) {
    auto ready = std::find_if(left.begin(), left.end(), [&](const std::string& name) {
      return std::none_of(left.begin(), left.end(),
                          [&](const std::string& other) { return Reads(plans_.at(name), plans_.at(other)); });
    });
    if (ready == left.end()) {
      FaultCycle(left);
      return order;
    }
    order.push_back(*ready);
    left.erase(ready);
  }
  return order;
}

}  // namespace millstream
