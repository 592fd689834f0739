#include "catalog/trial.h"

#include "base/text.h"
#include "catalog/checker.h"
#include "catalog/edit.h"

namespace millstream {
namespace {

// Whatever the machine does beside it; the worker's own bounds are CPU time.
constexpr int64_t kProjectTimeoutUs = 60'000'000;

/// What `path` names, or the nearest above it that is there.
const Node& NearestNode(const Node& root, std::string path) {
  while (!path.empty()) {
    if (const Node* node = FindPath(root, path)) return *node;
    const size_t dot = path.rfind('.');
    path.resize(dot == std::string::npos ? 0 : dot);
  }
  return root;
}

void BindQuery(const Node& trial, Database& database) {
  const std::string& query = trial.Find("query")->scalar;
  auto connection = database.ConnectBounded({query});
  if (!connection) return;
  for (const Node& table : trial.Find("tables")->items)
    if (!(*connection)->Run(table.scalar).ok()) return;
  (void)(*connection)->Prepare(query);
}

}  // namespace

bool TryProject(const Project& project, SqlWorkers& workers, Faults& faults) {
  std::string request = R"({"directory":)", where;
  AppendJsonString(request, project.directory);
  request += R"(,"project":)" + ToJson(project.root) + "}";
  Status tried = workers.Try(request, kProjectTimeoutUs, {}, &where);
  if (tried.ok()) return true;
  const bool is_at_fault = tried.code() == Code::kInvalid;  // else it was not told in time
  faults.push_back(
      FaultAt(NearestNode(project.root, where), where,
              fmt::format("{}: {}", is_at_fault ? "refused" : "SQL could not be tried", tried.message()),
              is_at_fault ? "constants are computed while SQL is bound: make them smaller"
                          : "the machine may be too busy; try again"));
  return false;
}

std::string TriedTable(size_t index) { return fmt::format("_tried{}", index); }

std::string QueryTrial(const std::vector<std::vector<ColumnInfo>>& tables, const std::string& sql) {
  std::vector<std::string> made;
  for (size_t i = 0; i < tables.size(); ++i)
    made.push_back(fmt::format("CREATE TEMP TABLE {} ({})", TriedTable(i), ColumnList(tables[i])));
  std::string request = R"({"tables":)";
  AppendJsonStrings(request, made);
  request += R"(,"query":)";
  AppendJsonString(request, sql);
  return request + "}";
}

void RunTrial(const std::string& request, const Registry& registry, Database& database,
              const WorkerStep& step) {
  Faults ignored, warnings;
  const Node trial = ParseJson(request, "", ignored);
  if (trial.Find("query") != nullptr) return BindQuery(trial, database);
  const Project project =
      ParseProject(*trial.Find("project"), trial.Find("directory")->scalar, registry, ignored);
  CheckProject(project, registry, ignored, warnings, {.step = step});
}

}  // namespace millstream
