// millstream run: serve a project until told to stop, or once to the end.
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/text.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/watch.h"
#include "server/server.h"

namespace millstream {
namespace {

constexpr int64_t kStopDeadlineUs = 4'000'000;  // then requests in flight are dropped

struct RunOptions {
  std::string directory, listen;
  bool once = false, watch = false;
};

Logger MakeLogger(const Everywhere& everywhere, const ServerConfig& config) {
  LoggerOptions options;
  options.format = config.log_format == "json" ? LogFormat::kJson : LogFormat::kConsole;
  options.level = everywhere.quiet ? LogLevel::kWarn : LogLevel::kInfo;
  if (config.log_level == "debug") options.level = LogLevel::kDebug;
  if (config.log_level == "warn") options.level = LogLevel::kWarn;
  if (config.log_level == "error") options.level = LogLevel::kError;
  options.color = everywhere.color == "always"  ? LogColor::kAlways
                  : everywhere.color == "never" ? LogColor::kNever
                                                : LogColor::kAuto;
  return Logger(options);
}

int RunOnce(const Everywhere& everywhere, Engine& engine, StopSignals& signals) {
  ProgressLine progress(everywhere.quiet);
  Status status =
      engine.RunOnce(signals.token(), [&](const EngineStatus& now) { progress.Show(ProgressText(now)); });
  progress.Clear();
  EngineStatus now = engine.TakeStatus();
  if (signals.received()) signals.ExitOnNext();
  Status stopped = engine.Stop();
  if (!everywhere.quiet) PrintSummary(now);
  if (status.ok()) status = stopped;
  if (status.ok() && signals.received()) return kExitInterrupted;
  if (status.ok() && engine.is_held_back()) return kExitNo;  // the notices have told what
  return Complain(status);
}

int Serve(Engine& engine, const ServerConfig& config, const RunOptions& given, const Logger& logger,
          StopSignals& signals) {
  if (Status status = engine.Start(); !status.ok()) return Complain(status);
  ServerOptions options;
  options.listen = given.listen.empty() ? config.listen : given.listen;
  options.tokens = config.tokens;
  options.limits = config.limits;
  auto server = Server::Start(engine, options, logger);
  if (!server) {
    (void)Complain(server.error());
    return server.error().code() == Code::kUnavailable ? kExitNo : ExitCode(server.error());
  }
  if (Status status = engine.Announce((*server)->url()); !status.ok()) return Complain(status);
  std::shared_ptr<const Project> project = engine.project();
  logger.Info("ready",
              {{"url", (*server)->url()}, {"project", Summary(*project).substr(4)}});  // without "ok: "
  std::unique_ptr<Watcher> watcher;
  if (given.watch)
    watcher = std::make_unique<Watcher>(engine, engine.registry(), logger, project->directory, WhoAmI());
  signals.Wait();
  watcher.reset();
  logger.Info("stopping", {{"again", "a second signal ends at once"}});
  signals.ExitOnNext();
  (*server)->Stop(kStopDeadlineUs);
  Status status = engine.Stop();
  if (status.ok()) logger.Info("stopped");
  return Complain(status);
}

}  // namespace

Verb RunVerb() {
  auto given = std::make_shared<RunOptions>();
  Verb verb("run", "serve a project: take events in, deliver, answer");
  verb.Argument("DIR", &given->directory, "project folder (default: here or above)", false)
      .Option("--listen", &given->listen, "ADDRESS",
              "address and port (default: server.listen, 127.0.0.1:8410)")
      .Flag("--watch", &given->watch, "apply the files whenever they are saved; broken ones change nothing")
      .Flag("--once", &given->once, "read every source to its present end, deliver, exit; no listener")
      .About(
          "Applies the files of the project if they changed since the last time, then runs until SIGINT or "
          "SIGTERM: it stops "
          "accepting, finishes and commits what is under way, and exits with 0.")
      .Example("millstream run shop", "serve the project in the folder shop")
      .Example("millstream run --once", "one round for cron or CI")
      .Run([given](const Everywhere& everywhere) {
        Everywhere here = everywhere.In(given->directory);
        StopSignals signals;
        Machine machine;
        std::string directory = FindProject(here);
        Faults faults;
        Project project = LoadProject(machine.fs, directory, *here.registry, faults);
        Logger logger = MakeLogger(here, project.server);
        auto engine = OpenEngine(here, machine, logger, directory, false);
        if (!engine) return Complain(engine.error());
        for (const std::string& notice : (*engine)->notices()) logger.Info(notice);
        if (given->once) return RunOnce(here, **engine, signals);
        return Serve(**engine, project.server, *given, logger, signals);
      });
  return verb;
}

}  // namespace millstream
