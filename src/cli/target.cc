#include "cli/target.h"

#include <pwd.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>

#include "cli/local_client.h"
#include "pipeline/data_folder.h"

namespace millstream {

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

Result<Target> FindTarget(const Everywhere& everywhere) {
  constexpr char kDefaultServer[] = "http://127.0.0.1:8410";
  constexpr int64_t kAliveTimeoutMs = 3000;
  Target target;
  if (!everywhere.server.empty()) {
    target.server = std::make_unique<CurlClient>(everywhere.server, everywhere.token);
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
    return target;
  }
  Machine machine;
  Faults faults;
  Project project = LoadProject(machine.fs, target.project_directory, *everywhere.registry, faults);
  auto holder = FindLockHolder(DataDirectory(everywhere, project));
  if (holder && !holder->url.empty())
    target.server = std::make_unique<CurlClient>(holder->url, everywhere.token);
  return target;
}

Result<std::unique_ptr<HttpClient>> OpenApi(const Everywhere& everywhere, bool read_only) {
  ASSIGN_OR_FAIL(Target target, FindTarget(everywhere));
  if (target.server) return std::move(target.server);
  return LocalClient::Open(everywhere, target.project_directory, read_only);
}

Result<Project> LoadProjectOrComplain(const Everywhere& everywhere, Machine& machine,
                                      const std::string& directory, bool bind) {
  if (directory.empty())
    return Fail(NotFound(
        "no millstream.yaml here or above; `millstream init DIR` makes a project, -C DIR names one"));
  Faults faults, warnings;
  Project project = LoadProject(machine.fs, directory, *everywhere.registry, faults);
  if (bind && faults.empty()) CheckProject(project, *everywhere.registry, faults, warnings);
  for (const Fault& fault : faults) std::fprintf(stderr, "%s\n", fault.ToString().c_str());
  if (!faults.empty())
    return Fail(Invalid("{} fault{}; nothing was started", faults.size(), faults.size() == 1 ? "" : "s"));
  if (!everywhere.quiet)
    for (const Fault& warning : warnings) std::fprintf(stderr, "warning: %s\n", warning.ToString().c_str());
  return project;
}

std::string WhoAmI() {
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  const passwd* user = getpwuid(geteuid());
  return fmt::format("{}@{}", user == nullptr ? "unknown" : user->pw_name, host);
}

Result<std::unique_ptr<Engine>> OpenEngine(const Everywhere& everywhere, Machine& machine,
                                           const Logger& logger, const std::string& project_directory,
                                           bool read_only) {
  ASSIGN_OR_FAIL(Project project, LoadProjectOrComplain(everywhere, machine, project_directory, !read_only));
  EngineOptions options;
  options.fs = &machine.fs;
  options.clock = &machine.clock;
  options.random = &machine.random;
  options.registry = everywhere.registry;
  options.logger = &logger;
  options.data_directory = DataDirectory(everywhere, project);
  options.project = std::move(project);
  options.who = WhoAmI();
  options.read_only = read_only;
  options.on_fatal = [](Status status) {
    std::fprintf(stderr, "millstream: %s; ending, so that nothing is acknowledged that is not durable\n",
                 status.message().c_str());
    std::_Exit(kExitIo);
  };
  return Engine::Open(std::move(options));
}

Status StatusOfProblem(const HttpAnswer& answer) {
  std::string detail;
  boost::json::error_code error;
  boost::json::value root = boost::json::parse(answer.body, error);
  if (!error && root.is_object()) {
    const boost::json::object& object = root.as_object();
    if (const auto* text = object.if_contains("detail"); text != nullptr && text->is_string())
      detail = std::string(text->as_string());
    if (const auto* faults = object.if_contains("faults"); faults != nullptr && faults->is_array()) {
      for (const auto& fault : faults->as_array()) {
        const auto* message = fault.is_object() ? fault.as_object().if_contains("message") : nullptr;
        if (message != nullptr && message->is_string())
          detail += fmt::format("\n  {}", std::string_view(message->as_string()));
      }
    }
  }
  if (detail.empty()) detail = fmt::format("the server answered {}", answer.status);
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
      return Status(Code::kInternal, detail);
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
