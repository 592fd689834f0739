// PastLimit: ends a question about the past when its caller goes, or when its time is over.
//
// Place: floor 6, inside query/. Lives as long as the question, on its thread; one of its own interrupts.
// Failure: Tell says kDeadline or kCancelled in place of what an interrupted step said.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>

#include "base/watchdog.h"
#include "pipeline/engine.h"

namespace millstream {

class PastLimit {
 public:
  /// `timeout_us` 0: as long as any query may take (`server.query.deadline`).
  PastLimit(Engine& engine, int64_t timeout_us, std::stop_token caller);
  /// For what looks at one: it is asked to stop.
  std::stop_token token() const { return ended_.get_token(); }
  /// The status of the whole; why it was ended, if it was. What comes too late is no answer.
  Status Tell(Status status) const;

  /// While it lives the connection is interrupted too.
  class Watched {
   public:
    Watched(PastLimit& limit, Connection& connection) : limit_(limit) { limit_.Watch(&connection); }
    ~Watched() { limit_.Watch(nullptr); }
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

   private:
    PastLimit& limit_;
  };

 private:
  void Watch(Connection* connection);
  void End();

  const int64_t timeout_us_;
  const std::chrono::steady_clock::time_point until_;
  const std::stop_token caller_;
  std::stop_source ended_;
  std::mutex mutex_;
  Connection* connection_ = nullptr;
  Watchdog watchdog_;
  std::optional<Watchdog::Guard> guard_;
  std::optional<std::stop_callback<std::function<void()>>> on_gone_;  // last: it uses the others
};

}  // namespace millstream
