// ControlLog: the stream `_control`: reads it into the Catalog at start, appends to it.
//
// Place: floor 5; owned by the Engine. Threads: thread-safe; appends are one after another, each durable
// before it counts. Failure: kCorrupt where the chain does not hold; kIo, kExhausted of the log.
#pragma once

#include <memory>
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

  /// Seals the event (its time is set here), appends it and replays it. Durable on return.
  Status Append(ControlEvent event);
  /// An event that has no more than a kind, a name and who.
  Status Append(ControlKind kind, const std::string& name, const std::string& who);

  /// The catalog now.
  Catalog catalog() const;
  std::shared_ptr<const LetterBook> letters() const;

 private:
  ControlLog(Partition& partition, Clock& clock) : partition_(partition), clock_(clock) {}
  Partition& partition_;
  Clock& clock_;
  mutable std::mutex mutex_;
  Catalog catalog_;
};

}  // namespace millstream
