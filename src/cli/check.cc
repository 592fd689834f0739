// millstream check: every fault of a project at once.
#include <cstdio>
#include <memory>

#include "cli/target.h"
#include "cli/verbs.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

void AppendFault(std::string& json, const Fault& fault) {
  json += "{\"file\":";
  AppendJsonString(json, fault.file);
  fmt::format_to(std::back_inserter(json), ",\"line\":{},\"column\":{},\"path\":", fault.line, fault.column);
  AppendJsonString(json, fault.path);
  json += ",\"message\":";
  AppendJsonString(json, fault.message);
  json += ",\"expected\":";
  AppendJsonString(json, fault.expected);
  json += ",\"hint\":";
  AppendJsonString(json, fault.hint);
  json += '}';
}

std::string FaultsJson(const Faults& faults, const Faults& warnings) {
  std::string json = "{\"faults\":[";
  for (size_t i = 0; i < faults.size(); ++i) {
    if (i > 0) json += ',';
    AppendFault(json, faults[i]);
  }
  json += "],\"warnings\":[";
  for (size_t i = 0; i < warnings.size(); ++i) {
    if (i > 0) json += ',';
    AppendFault(json, warnings[i]);
  }
  return json + "]}";
}

int Check(const Everywhere& everywhere, bool connect) {
  Machine machine;
  std::string directory = FindProject(everywhere);
  if (Status status = CheckProjectExists(everywhere, directory); !status.ok()) return Complain(status);
  Faults faults, warnings;
  Project project = LoadProject(machine.fs, directory, *everywhere.registry, faults);
  CheckProject(project, *everywhere.registry, faults, warnings, {.workers = &machine.sql_workers});
  if (everywhere.json) {
    std::printf("%s\n", FaultsJson(faults, warnings).c_str());
    return faults.empty() ? kExitDone : kExitNo;
  }
  for (const Fault& fault : faults) std::printf("%s\n", fault.ToString().c_str());
  for (const Fault& warning : warnings) std::printf("warning: %s\n", warning.ToString().c_str());
  // No kind of stage that there is today has a peer to ask.
  const char* peers = connect ? "" : "; peers not asked (--connect)";
  if (faults.empty()) {
    std::printf("%s\n", Summary(project).c_str());
    return kExitDone;
  }
  size_t files = std::max<size_t>(1, project.files.size());
  std::printf("%zu fault%s in %zu file%s%s\n", faults.size(), faults.size() == 1 ? "" : "s", files,
              files == 1 ? "" : "s", peers);
  return kExitNo;
}

}  // namespace

Verb CheckVerb() {
  struct Given {
    std::string directory;
    bool connect = false;
  };
  auto given = std::make_shared<Given>();
  Verb verb("check", "find every fault of a project's files");
  verb.Argument("DIR", &given->directory, "project folder (default: here or above)", false)
      .Flag("--connect", &given->connect, "also ask each peer")
      .Example("millstream check shop", "all faults, each with file, line, column and what to do")
      .Run([given](const Everywhere& everywhere) {
        Everywhere here = everywhere.In(given->directory);
        return Check(here, given->connect);
      });
  return verb;
}

}  // namespace millstream
