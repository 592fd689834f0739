// SourceRunner: polls one source on a thread of its own and takes its events into the stream.
//
// Place: floor 5; owned by the Engine. Threads: Run is the thread; the rest from any.
// Failure: an error of the source is retried with back-off (state `degraded`); kCorrupt and kInvalid end it
// (`failed`).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "base/random.h"
#include "catalog/project.h"
#include "pipeline/parallel_ingest.h"
#include "pipeline/status.h"
#include "pipeline/stream_ingest.h"
#include "stage/stage.h"

namespace millstream {

class SourceRunner final : public EventTaker {
 public:
  SourceRunner(SourceConfig config, std::shared_ptr<StreamIngest> ingest, Clock& clock, Random& random);
  /// Makes the source itself.
  Status Open(const Registry& registry, FileSystem& fs, const std::string& project_directory);

  void Run(std::stop_token stop);
  /// Polls until nothing new comes (`run --once`).
  Status RunToEnd(std::stop_token stop);
  void SetPaused(bool paused) { paused_ = paused; }
  SourceStatus status() const;

  Status Take(const SourceEvent& event) override;
  Status TakeLines(SourceLines lines) override;
  Status Commit() override;
  Status Mark(const std::string& part, const std::string& position) override;
  std::optional<std::string> Position(const std::string& part) override;
  std::vector<std::pair<std::string, std::string>> Positions() override;

 private:
  Status CommitPart(bool everywhere);
  Status FinishLines();
  void SetState(const std::string& state, const std::string& reason);
  void Sleep(int64_t us, std::stop_token stop);

  const SourceConfig config_;
  const std::shared_ptr<StreamIngest> ingest_;
  Clock& clock_;
  Random& random_;
  const std::string origin_;
  OriginWriter writer_;
  std::unique_ptr<ParallelIngest> lines_;  // from the first TakeLines on
  std::unique_ptr<Source> source_;
  std::string part_, position_;
  bool marked_ = false;  // position_ is not stored yet
  std::atomic<bool> paused_{false};
  std::atomic<uint64_t> events_{0};  // of Take
  mutable std::mutex mutex_;
  std::string state_ = "starting", reason_;
};

}  // namespace millstream
