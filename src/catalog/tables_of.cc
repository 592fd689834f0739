// TablesOf, Summary.
#include "catalog/checker.h"

namespace millstream {
namespace {

std::string Counted(size_t count, const char* one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

}  // namespace

std::map<std::string, TableSpec> TablesOf(const Project& project) {
  std::map<std::string, TableSpec> tables;
  std::map<std::string, std::vector<const PipelineConfig*>> writers;
  for (const auto& [name, pipeline] : project.pipelines) {
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table") continue;
      Faults ignored;  // LoadProject has reported them
      TableOptions options = TableOptionsSpec().Parse(sink.options, {"", project.directory, &ignored});
      TableSpec& table = tables[options.name];
      table.name = options.name;
      table.key = options.key;
      table.values = options.values;
      table.delete_when = options.delete_when.text;
      table.order_by = options.order_by;
      writers[options.name].push_back(&pipeline);
    }
  }
  std::unique_ptr<Database> database;  // opened only where filters must be looked at
  std::unique_ptr<Connection> connection;
  for (auto& [name, table] : tables) {
    const std::vector<const PipelineConfig*>& from = writers[name];
    const StreamConfig* stream = project.FindStream(from.front()->stream);
    bool one = from.size() == 1 && stream != nullptr;
    if (one && !table.key.empty() && stream->shape.partitions > 1) {
      if (connection == nullptr) {
        auto opened = Database::Open("", {});
        if (opened) database = std::move(*opened);
        auto connected = database != nullptr ? database->Connect() : Fail(Internal("no database"));
        if (connected) connection = std::move(*connected);
      }
      one = connection != nullptr && OnePartitionAKey(*connection, *stream, *from.front(), table.key);
    }
    table.key_in_one_partition = one;
  }
  return tables;
}

std::string Summary(const Project& project) {
  std::set<std::string> tables;
  for (const auto& [name, pipeline] : project.pipelines)
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table") continue;
      const Node* table = sink.options.IsScalar() ? &sink.options : sink.options.Find("name");
      if (table != nullptr) tables.insert(table->scalar);
    }
  std::string commands = project.commands.empty() ? "" : ", " + Counted(project.commands.size(), "command");
  return fmt::format("ok: {}, {}, {}, {}{}", Counted(project.streams.size(), "stream"),
                     Counted(project.sources.size(), "source"), Counted(project.pipelines.size(), "pipeline"),
                     Counted(tables.size(), "table"), commands);
}

}  // namespace millstream
