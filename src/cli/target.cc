#include "cli/target.h"

#include <pwd.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "pipeline/data_folder.h"

namespace millstream {
namespace {

constexpr char kDefaultServer[] = "http://127.0.0.1:8410";
constexpr int64_t kAliveTimeoutMs = 3000;
constexpr auto kLockWait = std::chrono::seconds(5);
constexpr auto kLockPoll = std::chrono::milliseconds(50);

void TellOfWait(const LockHolder& holder, const std::string& data) {
  std::fprintf(stderr, "waiting for process %d, which holds %s%s%s\n", holder.pid, data.c_str(),
               holder.url.empty() ? "" : " and listens on ", holder.url.c_str());
}

/// Who holds the data folder, once it is a server: another verb, or a server that is starting, is waited for.
Result<std::optional<LockHolder>> AwaitHolder(const Everywhere& everywhere, const std::string& data) {
  auto until = std::chrono::steady_clock::now() + kLockWait;
  bool told = false;
  while (true) {
    auto holder = FindLockHolder(data);
    if (!holder || !holder->url.empty()) return holder;
    if (std::chrono::steady_clock::now() >= until)
      return Fail(Conflict("the data folder {} is in use by process {}; try again when it is done", data,
                           holder->pid));
    if (!told && !everywhere.quiet && holder->pid > 0) {
      TellOfWait(*holder, data);
      told = true;
    }
    std::this_thread::sleep_for(kLockPoll);
  }
}

/// A fault of a problem document. Its file and path name the request, which the user did not write.
Fault ReadFault(const JsonView& json) {
  Fault fault;
  if (!json["index"].missing()) fault.index = static_cast<long long>(json["index"].number());
  if (json["path"].text() != "sql") fault.path = json["path"].text();
  fault.message = json["message"].text();
  fault.expected = json["expected"].text();
  fault.hint = json["hint"].text();
  fault.excerpt = json["excerpt"].text();
  fault.caret_start = static_cast<int>(json["column"].number()) - 1;
  auto is_word = [&](size_t at) {
    auto c = static_cast<unsigned char>(fault.excerpt[at]);
    return std::isalnum(c) != 0 || c == '_' || c >= 0x80;
  };
  for (auto at = static_cast<size_t>(std::max(fault.caret_start, 0));
       at < fault.excerpt.size() && is_word(at); ++at)
    ++fault.caret_length;
  return fault;
}

}  // namespace

std::string Command(const Everywhere& everywhere) {
  std::string command = "millstream";
  for (const auto& [option, value] :
       {std::pair(" -C ", everywhere.project), {" --server ", everywhere.server}})
    if (!value.empty()) command += option + value;
  return command;
}

std::string FindProject(const Everywhere& everywhere) {
  std::error_code error;
  if (!everywhere.project.empty())
    return std::filesystem::absolute(everywhere.project, error).lexically_normal().string();
  for (std::filesystem::path folder = std::filesystem::current_path(error); !error;
       folder = folder.parent_path()) {
    if (std::filesystem::exists(folder / "millstream.yaml", error)) return folder.string();
    if (folder == folder.parent_path()) break;
  }
  return "";
}

std::string DataDirectory(const Everywhere& everywhere, const Project& project) {
  std::filesystem::path data = everywhere.data.empty()
                                   ? std::filesystem::path(project.directory) / project.server.data
                                   : std::filesystem::path(everywhere.data);
  return std::filesystem::absolute(data).lexically_normal().string();
}

std::unique_ptr<HttpClient> InSandbox(const Everywhere& everywhere, std::unique_ptr<HttpClient> client) {
  if (everywhere.sandbox.empty()) return client;
  return std::make_unique<SandboxClient>(std::move(client), everywhere.sandbox);
}

Result<Target> FindTarget(const Everywhere& everywhere) {
  Target target;
  if (!everywhere.server.empty()) {
    target.server = InSandbox(everywhere, std::make_unique<CurlClient>(everywhere.server, everywhere.token));
    return target;
  }
  target.project_directory = FindProject(everywhere);
  if (target.project_directory.empty()) {
    target.server = std::make_unique<CurlClient>(kDefaultServer, everywhere.token);
    if (!target.server->Send({"GET", "/health/live", {}, {}, {}, kAliveTimeoutMs}))
      return Fail(
          Unavailable("no millstream.yaml here or above, and nothing listens on {}; name a project with -C "
                      "DIR or a server with --server URL",
                      kDefaultServer));
    target.server = InSandbox(everywhere, std::move(target.server));
    return target;
  }
  FAIL_IF_ERROR(CheckProjectExists(everywhere, target.project_directory));
  Machine machine;
  Faults faults;
  Project project = LoadProject(machine.fs, target.project_directory, *everywhere.registry, faults);
  ASSIGN_OR_FAIL(auto holder, AwaitHolder(everywhere, DataDirectory(everywhere, project)));
  if (holder)
    target.server =
        InSandbox(everywhere, std::make_unique<CurlClient>(holder->url, everywhere.token, holder->uuid));
  return target;
}

Result<std::unique_ptr<HttpClient>> OpenApi(const Everywhere& everywhere, bool read_only) {
  ASSIGN_OR_FAIL(Target target, FindTarget(everywhere));
  if (target.server) return std::move(target.server);
  ASSIGN_OR_FAIL(auto local, LocalClient::Open(everywhere, target.project_directory, read_only));
  return InSandbox(everywhere, std::move(local));
}

Status CheckProjectExists(const Everywhere& everywhere, const std::string& directory) {
  if (directory.empty())
    return NotFound(
        "no millstream.yaml here or above; `millstream init DIR` makes a project, -C DIR names one");
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::path(directory) / "millstream.yaml", error)) return OkStatus();
  return NotFound("no millstream.yaml in {0}; `millstream init {0}` makes a project", everywhere.project);
}

Result<Project> LoadProjectOrComplain(const Everywhere& everywhere, Machine& machine,
                                      const std::string& directory, bool bind) {
  FAIL_IF_ERROR(CheckProjectExists(everywhere, directory));
  Faults faults, warnings;
  Project project = LoadProject(machine.fs, directory, *everywhere.registry, faults);
  if (bind || !faults.empty())  // all faults at once
    CheckProject(project, *everywhere.registry, faults, warnings, {.workers = &machine.sql_workers});
  for (const Fault& fault : faults) std::fprintf(stderr, "%s\n", fault.ToString().c_str());
  if (!faults.empty())
    return Fail(Invalid("{} fault{}; nothing was started", faults.size(), faults.size() == 1 ? "" : "s"));
  if (!everywhere.quiet)
    for (const Fault& warning : warnings) std::fprintf(stderr, "warning: %s\n", warning.ToString().c_str());
  return project;
}

Result<std::string> ProjectFilesJson(const Everywhere& everywhere) {
  constexpr uint64_t kFileBytesMax = uint64_t{16} << 20;
  Machine machine;
  std::string directory = FindProject(everywhere);
  ASSIGN_OR_FAIL(Project project, LoadProjectOrComplain(everywhere, machine, directory, false));
  std::string files = "{";
  for (const std::string& file : project.files) {
    ASSIGN_OR_FAIL(
        std::string text,
        ReadFile(machine.fs, file.starts_with('/') ? file : directory + "/" + file, kFileBytesMax));
    if (files.size() > 1) files += ',';
    AppendJsonString(files, file);
    files += ':';
    AppendJsonString(files, text);
  }
  return files + "}";
}

std::string WhoAmI() {
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  const passwd* user = getpwuid(geteuid());
  return fmt::format("{}@{}", user == nullptr ? "unknown" : user->pw_name, host);
}

Result<std::unique_ptr<Engine>> OpenEngine(const Everywhere& everywhere, Machine& machine,
                                           const Logger& logger, const std::string& project_directory,
                                           bool read_only, bool applies_files) {
  ASSIGN_OR_FAIL(Project project, LoadProjectOrComplain(everywhere, machine, project_directory, !read_only));
  EngineOptions options;
  options.fs = &machine.fs;
  options.clock = &machine.clock;
  options.random = &machine.random;
  options.registry = everywhere.registry;
  options.sql_workers = &machine.sql_workers;
  options.logger = &logger;
  options.data_directory = DataDirectory(everywhere, project);
  options.project = std::move(project);
  options.who = WhoAmI();
  options.read_only = read_only;
  options.applies_files = applies_files;
  options.on_fatal = [](Status status) {
    std::fprintf(stderr, "millstream: %s; ending, so that nothing is acknowledged that is not durable\n",
                 status.message().c_str());
    std::_Exit(kExitIo);
  };
  if (auto holder = FindLockHolder(options.data_directory); holder && holder->pid > 0 && !everywhere.quiet)
    TellOfWait(*holder, options.data_directory);
  auto engine = Engine::Open(std::move(options));
  if (engine || engine.error().code() != Code::kCorrupt ||
      engine.error().message().starts_with("the tables' file"))
    return engine;
  return Fail(
      Corrupt("{}\n  millstream verify names every damaged place; millstream log repair STREAM sets it aside "
              "and keeps what is sound",
              engine.error().message()));
}

Status StatusOfProblem(const HttpAnswer& answer) {
  JsonView problem(answer.body);
  std::string detail = problem["detail"].text();
  for (const JsonView& each : problem["faults"].items()) {
    Fault fault = ReadFault(each);
    // What the detail says already is not said again.
    if (detail.ends_with(fault.message)) {
      detail.resize(detail.size() - fault.message.size());
      detail += fault.ToString();
    } else {
      detail += "\n  " + fault.ToString();
    }
  }
  if (detail.empty()) detail = fmt::format("the server answered {}", answer.status);
  // The server speaks of the header; here it has a name of its own.
  if (answer.status == 401)
    detail = detail.substr(0, detail.find(": -H")) + " (--token TOKEN, or MILLSTREAM_TOKEN)";
  switch (answer.status) {
    case 404:
      return Status(Code::kNotFound, detail);
    case 408:
    case 504:
      return Status(Code::kDeadline, detail);
    case 409:
      return Status(Code::kConflict, detail);
    case 429:
    case 507:
      return Status(Code::kExhausted, detail);
    case 503:
      return Status(Code::kUnavailable, detail);
    case 500:
      return Status(problem["code"].text() == "damaged" ? Code::kCorrupt : Code::kInternal, detail);
    default:
      return Status(Code::kInvalid, detail);
  }
}

Result<std::string> CallServer(HttpClient& server, const std::string& method, const std::string& path,
                               const std::string& body, const std::string& content_type) {
  HttpClient::Request request;
  request.method = method;
  request.path = path;
  request.body = body;
  if (method == "POST" || method == "PUT") request.headers.push_back("Content-Type: " + content_type);
  request.headers.push_back("Millstream-Who: " + WhoAmI());
  ASSIGN_OR_FAIL(HttpAnswer answer, server.Send(request));
  if (answer.status >= 300) return Fail(StatusOfProblem(answer));
  return std::move(answer.body);
}

}  // namespace millstream
