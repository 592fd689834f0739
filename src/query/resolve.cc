#include "query/resolve.h"

#include "query/stream_feed.h"
#include "query/system_tables.h"
#include "sql/sql_tree.h"

namespace millstream {

/// "; did you mean 'x'?" or nothing.
std::string Hint(const std::string& name, const std::vector<std::string>& names) {
  std::string nearest = Nearest(name, names);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

namespace {

Status ResolveStream(Engine& engine, Connection& connection, const QueryRequest& request,
                     const std::string& name, Resolved& resolved) {
  std::shared_ptr<const Project> project = engine.project();
  const StreamConfig* config = project->FindStream(name);
  Stream* stream = engine.FindStream(name);
  if (stream == nullptr) {
    std::vector<std::string> names;
    for (const auto& [each, unused] : project->streams) names.push_back(each);
    return Invalid("no stream '{}'{}", name, Hint(name, names));
  }
  std::string key = "_streams." + name;
  ASSIGN_OR_RETURN(StreamBounds bounds,
                   FindStreamBounds(connection, request.sql, key, request.parameters, nullptr));
  std::optional<Boundary> end;
  if (resolved.as_of) end = resolved.as_of->streams[name];
  resolved.streams.push_back(name);
  const Contract contract = config == nullptr ? Contract() : config->shape.contract;  // of ours: JSON alone
  resolved.make_scans.emplace_back(key, [name, stream, bounds, end, contract](Database& database) {
    return StreamScan::Make(database, name, contract, {"/v1/streams/" + name, name},
                            [stream, bounds, end] { return MakeStreamFeed(*stream, bounds, end); });
  });
  return OkStatus();
}

Status ResolveTable(Engine& engine, Connection& connection, const QueryRequest& request,
                    const TableReference& reference, Resolved& resolved) {
  std::string name = Lower(reference.name), schema = Lower(reference.schema);
  if (schema.empty()) {
    ASSIGN_OR_RETURN(std::optional<std::string> system, SystemTableSql(engine, name));
    if (system && resolved.as_of)
      return Invalid("'{}' tells of now; of the past there are the tables and _streams.NAME", name);
    if (system) {
      resolved.replacements[name] = std::move(*system);
      return OkStatus();
    }
  }
  if (resolved.as_of && (schema.empty() || schema == "main")) {
    resolved.tables.push_back(name);  // whether it was there then is found out when it is made
    return OkStatus();
  }
  std::optional<TableInfo> table;
  if (schema.empty() || schema == "main") table = engine.tables().Find(name);
  if (table) {
    resolved.tables.push_back(name);
    std::vector<ColumnInfo> columns;
    for (const std::string& key : table->spec.key)
      for (const ColumnInfo& column : table->columns)
        if (Lower(column.name) == Lower(key)) columns.push_back(column);
    if (columns.empty()) return OkStatus();
    std::string written = schema.empty() ? name : schema + "." + name;
    ASSIGN_OR_RETURN(std::vector<std::string> key,
                     FindKey(connection, request.sql, written, columns, request.parameters));
    if (!key.empty()) resolved.rows.push_back({written, name, std::move(key)});
    return OkStatus();
  }
  std::vector<std::string> names{"_pipelines", "_filters", "_dead_letters", "_segments"};
  for (const TableInfo& each : engine.tables().List()) names.push_back(each.spec.name);
  if (engine.project()->FindStream(name) != nullptr)
    return Invalid("no table '{}'; the events of the stream are '_streams.{}'", name, name);
  return Invalid("no table '{}'{}", schema.empty() ? name : schema + "." + name, Hint(name, names));
}

}  // namespace

Status Resolve(Engine& engine, Connection& connection, const QueryRequest& request,
               const TableReference& reference, Resolved& resolved) {
  if (Lower(reference.schema) == "_streams")
    return ResolveStream(engine, connection, request, Lower(reference.name), resolved);
  return ResolveTable(engine, connection, request, reference, resolved);
}

}  // namespace millstream
