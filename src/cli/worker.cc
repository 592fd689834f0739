#include "cli/worker.h"

#include "catalog/trial.h"

namespace millstream {

int RunWorker(const Registry& registry) {
  DatabaseOptions options;
  options.memory_bytes = kWorkerMemoryBytes / 2;
  std::unique_ptr<Database> database;
  return RunSqlWorker(
      [&] {
        if (auto opened = Database::Open("", options)) database = std::move(*opened);
      },
      [&](const std::string& request, const WorkerStep& step) {
        if (database) RunTrial(request, registry, *database, step);
      });
}

}  // namespace millstream
