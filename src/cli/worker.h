// `millstream --worker`: a process in which SQL is bound before a server binds it (sql/sql_workers.h).
//
// Place: floor 8. No verb of users: it is started by Millstream itself.
#pragma once

#include "stage/stage.h"

namespace millstream {

inline constexpr const char* kWorkerArgument = "--worker";

/// Answers requests on standard input until its end. Returns the exit code.
int RunWorker(const Registry& registry);

}  // namespace millstream
