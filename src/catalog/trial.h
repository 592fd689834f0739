// Trials: what SqlWorkers (sql/sql_workers.h) are asked, and what a worker does with it.
//
// Place: floor 4. A trial says only whether SQL survives being bound; what else is wrong with it is found,
// and told, by whoever binds it afterwards. Stateless.
#pragma once

#include <string>
#include <vector>

#include "catalog/project.h"
#include "sql/database.h"
#include "sql/sql_worker.h"
#include "sql/sql_workers.h"

namespace millstream {

/// Checks a project in a worker. False: it does not survive, and the fault says which part and why.
bool TryProject(const Project& project, SqlWorkers& workers, Faults& faults);

/// "_tried0": the name of a trial's table.
std::string TriedTable(size_t index);
/// Binds a query over tables without rows: `tables[i]` has these columns and is called TriedTable(i).
std::string QueryTrial(const std::vector<std::vector<ColumnInfo>>& tables, const std::string& sql);

/// In a worker: what one of the above asks. `database` has no tables.
void RunTrial(const std::string& request, const Registry& registry, Database& database,
              const WorkerStep& step);

}  // namespace millstream
