// millstream demo: a project of its own, served while cli/demo_show.h shows what it does.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "cli/demo_files.h"
#include "cli/demo_show.h"
#include "cli/local_client.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "server/server.h"

namespace millstream {
namespace {

/// A folder for this run, removed at its end.
class TemporaryProject {
 public:
  TemporaryProject() {
    std::string pattern = (std::filesystem::temp_directory_path() / "millstream-demo-XXXXXX").string();
    path_ = mkdtemp(pattern.data()) == nullptr ? "" : pattern;
  }
  ~TemporaryProject() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int Demo(const Everywhere& everywhere) {
  StopSignals signals;
  Machine machine;
  Logger logger;
  Screen screen(everywhere.color);
  TemporaryProject folder;
  if (folder.path().empty()) return Complain(IoError("cannot make a folder for the demo"));
  if (Status status = WriteFileDurably(machine.fs, folder.path() + "/millstream.yaml", DemoProject());
      !status.ok())
    return Complain(status);
  Everywhere here = everywhere;
  here.project = folder.path();
  here.data.clear();
  auto engine = OpenEngine(here, machine, logger, folder.path(), false);
  if (!engine) return Complain(engine.error());
  if (Status status = (*engine)->Start(); !status.ok()) return Complain(status);
  ServerOptions options;
  auto server = Server::Start(**engine, options, logger);
  if (!server) {
    options.listen = "127.0.0.1:0";
    server = Server::Start(**engine, options, logger);
  }
  if (!server) return Complain(server.error());
  if (Status status = (*engine)->Announce((*server)->url()); !status.ok()) return Complain(status);
  std::printf("Millstream %s, project in %s, serving\n%s\n", MILLSTREAM_VERSION, folder.path().c_str(),
              (*server)->url().c_str());
  CurlClient api((*server)->url(), "");
  Status status = DemoShow(**engine, api, machine.clock, signals, screen).Run();
  bool stays = status.ok() && !signals.received() && isatty(STDOUT_FILENO) == 1;
  if (stays) {
    screen.Title("It goes on serving until Ctrl-C. From another terminal:");
    screen.Text(
        fmt::format("millstream -C {0} query \"SELECT * FROM people\"\nmillstream -C {0} top\ncurl "
                    "{1}/v1/tables/by_sender?order=events.desc",
                    folder.path(), (*server)->url()));
    signals.Wait();
  }
  signals.ExitOnNext();
  (*server)->Stop(2'000'000);
  Status stopped = (*engine)->Stop();
  if (status.ok() || status.code() == Code::kCancelled) status = stopped;
  if (!status.ok()) return Complain(status);
  std::printf("\nDone.\n");
  return kExitDone;
}

}  // namespace

Verb DemoVerb() {
  Verb verb("demo", "see it work: events, filters, tables, a change, a replay, the past");
  verb.About(
          "Makes a project of its own in a temporary folder. On a terminal it goes on serving until Ctrl-C, "
          "elsewhere it ends.")
      .Example("millstream demo", "a minute with it")
      .Run(Demo);
  return verb;
}

}  // namespace millstream
