// Watcher: applies the project's files whenever they are saved (`run --watch`).
//
// Place: floor 8. A thread of its own from Start to its destruction. Files that are at fault change nothing:
// the last good version runs on, and the faults are logged once.
#pragma once

#include <string>
#include <thread>

#include "base/logging.h"
#include "pipeline/engine.h"

namespace millstream {

class Watcher {
 public:
  /// All of these outlive it. `directory`: the project's.
  Watcher(Engine& engine, const Registry& registry, const Logger& logger, std::string directory,
          std::string who);

 private:
  void Run(std::stop_token stop);
  void Apply(Project project);

  Engine& engine_;
  const Registry& registry_;
  const Logger& logger_;
  const std::string directory_, who_;
  std::jthread thread_;
};

}  // namespace millstream
