// Target: which server or data folder a verb works on (SURFACE, "Which server").
//
// Place: floor 8.
//   --server or MILLSTREAM_SERVER if given (down: exit 3). Else the project: its lock names the running
//   server's URL, and with no lock the verb opens the data folder itself. No project: http://127.0.0.1:8410;
//   nothing there: exit 3, naming -C.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/logging.h"
#include "base/random.h"
#include "catalog/project.h"
#include "cli/http_client.h"
#include "cli/verb.h"
#include "cli/worker.h"
#include "pipeline/engine.h"

namespace millstream {

/// The machine, for an Engine in this process.
struct Machine {
  PosixFileSystem fs;
  SystemClock clock;
  SystemRandom random;
  SqlWorkers sql_workers{{"/proc/self/exe", kWorkerArgument}, clock};
};

struct Target {
  std::unique_ptr<HttpClient> server;  // null: no server runs, use the project's data folder
  std::string project_directory;       // empty: no project
};

/// How to call Millstream from where the user stands, for hints: "millstream", with -C or --server as given.
std::string Command(const Everywhere& everywhere);
/// The project's folder: -C, or the nearest folder upwards with millstream.yaml; empty if there is none.
std::string FindProject(const Everywhere& everywhere);
/// A client whose requests work in the sandbox of --sandbox, if it is given.
std::unique_ptr<HttpClient> InSandbox(const Everywhere& everywhere, std::unique_ptr<HttpClient> client);
/// Waits while another process holds the data folder without a URL, and names it (bound: kLockWait, then
/// kConflict). kUnavailable (exit 3) if there is neither a server nor a project.
Result<Target> FindTarget(const Everywhere& everywhere);
/// The HTTP API of the target: a server's, or over an Engine of this process. `read_only`: the verb changes
/// nothing.
Result<std::unique_ptr<HttpClient>> OpenApi(const Everywhere& everywhere, bool read_only = true);

/// kNotFound, saying what to do, if the folder has no millstream.yaml.
Status CheckProjectExists(const Everywhere& everywhere, const std::string& directory);
/// Loads the project's files; prints every fault on stderr. kInvalid if there was one.
Result<Project> LoadProjectOrComplain(const Everywhere& everywhere, Machine& machine,
                                      const std::string& directory, bool bind);
/// {"millstream.yaml":"…",…}: the texts of the project as they are on disk, as POST /v1/plan takes them.
Result<std::string> ProjectFilesJson(const Everywhere& everywhere);
/// Where the project keeps its data.
std::string DataDirectory(const Everywhere& everywhere, const Project& project);
/// "USER@HOST".
std::string WhoAmI();

/// An Engine in this process over the project's data folder. `applies_files`: what they changed since the
/// last time is applied first.
Result<std::unique_ptr<Engine>> OpenEngine(const Everywhere& everywhere, Machine& machine,
                                           const Logger& logger, const std::string& project_directory,
                                           bool read_only, bool applies_files = true);

/// Calls a JSON route of the server; a problem document becomes a Status with its detail and faults.
Result<std::string> CallServer(HttpClient& server, const std::string& method, const std::string& path,
                               const std::string& body = "",
                               const std::string& content_type = "application/json");
/// The status that a problem document stands for.
Status StatusOfProblem(const HttpAnswer& answer);

}  // namespace millstream
