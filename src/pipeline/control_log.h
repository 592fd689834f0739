// ControlLog: the stream `_control`: reads it into the Catalog at start, appends to it.
//
// Place: floor 5; owned by the Engine. Threads: thread-safe; appends are one after another, each durable before it counts.
// Failure: kCorrupt where the chain does not hold; kIo, kExhausted of the log.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "catalog/control.h"
#include "log/log.h"

namespace millstream {

inline constexpr char kControlStream[] = "_control";

class ControlLog {
 public:
  static Result<std::unique_ptr<ControlLog>> Open(Log& log, Clock& clock);

  /// Appends what `make` builds from the catalog as it stands, and replays it. Durable on return.
  Status Append(const std::function<std::string(const Catalog&, int64_t now_us)>& make);
  /// `paused`, `resumed`, `table_dropped`, `started`, `stopped`.
  Status AppendPlain(const std::string& kind, const std::string& item, const std::string& who);

  /// The catalog now.
  Catalog catalog() const;

 private:
  ControlLog(Partition& partition, Clock& clock) : partition_(partition), clock_(clock) {}
  Partition& partition_;
  Clock& clock_;
  mutable std::mutex mutex_;
  Catalog catalog_;
};

}  // namespace millstream
