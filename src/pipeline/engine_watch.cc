// What the sampler does about what it sees: pipelines with too many dead letters, pipelines that did not
// bind, the head of `_control`.
#include "base/logging.h"
#include "pipeline/engine_state.h"

namespace millstream {
namespace {

constexpr int64_t kRetryMinNs = 1'000'000'000, kRetryMaxNs = 60'000'000'000;

}  // namespace

/// Their loops stand still already; `_control` learns of it, so that it stays so over a restart.
void Engine::State::PauseExceeded() {
  std::vector<std::shared_ptr<PipelineRuntime>> running;
  {
    std::shared_lock lock(mutex);
    for (const auto& [name, pipeline] : pipelines) running.push_back(pipeline);
  }
  for (const auto& pipeline : running) {
    std::optional<std::string> reason = pipeline->TakeExceeded();
    if (!reason) continue;
    *reason += fmt::format("; millstream pipeline resume {} goes on", pipeline->name());
    ControlEvent event;
    event.kind = ControlKind::kPipelinePaused;
    event.name = pipeline->name();
    event.who = options.who;
    event.selection = *reason;
    Status status = control->Append(std::move(event));
    pipeline->SetPaused(true, *reason);
    if (options.logger == nullptr) continue;
    options.logger->Error("the pipeline is paused", {{"pipeline", pipeline->name()}, {"reason", *reason}});
    if (!status.ok()) options.logger->Warn("that it is paused is not kept", {{"reason", status.message()}});
  }
}

/// A table that it looks up may have been made meanwhile.
void Engine::State::RetryBroken() {
  int64_t now_ns = options.clock->MonotonicNs();
  if (!pipelines_started || now_ns < retry_broken_ns) return;
  std::unique_lock change(change_mutex, std::try_to_lock);
  if (!change.owns_lock()) return;
  std::set<std::string> broken;
  {
    std::shared_lock lock(mutex);
    for (const auto& [name, reason] : broken_pipelines) broken.insert(name);
  }
  if (broken.empty()) {
    retry_broken_wait_ns = 0;
    return;
  }
  for (const std::string& name : broken) {
    auto config = project->pipelines.find(name);
    if (config == project->pipelines.end() || !control->catalog().pipelines().contains(name)) continue;
    Status status = OpenPipeline(name, config->second);
    std::shared_ptr<PipelineRuntime> pipeline = FindPipeline(name);
    if (!status.ok() || pipeline == nullptr) continue;
    {
      std::unique_lock lock(mutex);
      broken_pipelines.erase(name);
    }
    Catalog catalog = control->catalog();
    const PipelineRecord& record = catalog.pipelines().at(name);
    pipeline->Start(record.paused, record.paused_because);
    if (options.logger != nullptr)
      options.logger->Info("the pipeline binds now, and runs", {{"pipeline", name}});
  }
  retry_broken_wait_ns = std::clamp(retry_broken_wait_ns * 2, kRetryMinNs, kRetryMaxNs);
  retry_broken_ns = now_ns + retry_broken_wait_ns;
}

/// Whoever keeps this line can tell later that nothing was cut off: `millstream verify --head`.
void Engine::State::LogHead(const std::string& message) {
  head_logged_ns = options.clock->MonotonicNs();
  if (options.logger == nullptr) return;
  Catalog catalog = control->catalog();
  options.logger->Info(message, {{"events", std::to_string(catalog.events())}, {"head", catalog.head()}});
}

}  // namespace millstream
