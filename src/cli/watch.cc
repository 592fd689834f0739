#include "cli/watch.h"

#include <condition_variable>
#include <mutex>

namespace millstream {
namespace {

constexpr auto kLook =
    std::chrono::milliseconds(250);  // files must be the same for one look to count as saved

}  // namespace

Watcher::Watcher(Engine& engine, const Registry& registry, const Logger& logger, std::string directory,
                 std::string who)
    : engine_(engine),
      registry_(registry),
      logger_(logger),
      directory_(std::move(directory)),
      who_(std::move(who)),
      thread_([this](std::stop_token stop) { Run(stop); }) {}

void Watcher::Run(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  PosixFileSystem fs;
  Faults none;
  std::string seen = LoadProject(fs, directory_, registry_, none).hash, applied = seen;
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex);
      wake.wait_for(lock, stop, kLook, [] { return false; });
    }
    Faults faults;
    Project project = LoadProject(fs, directory_, registry_, faults);
    bool is_settled = project.hash == seen;
    seen = project.hash;
    if (!is_settled || project.hash == applied || stop.stop_requested()) continue;
    applied = project.hash;
    if (faults.empty()) {
      Apply(std::move(project));
      continue;
    }
    for (const Fault& fault : faults) logger_.Warn(fault.ToString());
    logger_.Warn("the files are at fault; what ran before runs on",
                 {{"faults", std::to_string(faults.size())}});
  }
}

void Watcher::Apply(Project project) {
  ChangeRequest request;
  request.files = std::move(project);
  request.options.keep_live = true;
  request.who = who_;
  auto applied = engine_.Apply(request);
  if (!applied) {
    for (const Fault& fault : applied.error().faults) logger_.Warn(fault.ToString());
    logger_.Warn("the files are not applied; what ran before runs on",
                 {{"reason", applied.error().status.message()}});
    return;
  }
  for (const PlannedChange& change : applied->changes)
    logger_.Info(change.what.path,
                 {{"change", change.what.change}, {"how", change.what.how}, {"note", change.what.note}});
  logger_.Info("applied", {{"version", std::to_string(applied->version)}});
}

}  // namespace millstream
