// Exchange: one request's answer, between the handler's thread and the connection that sends it.
//
// Place: floor 7, inside server/. Free of Boost. The handler's side is a ResponseChannel, from any thread;
// the other functions belong to the connection's thread. `notify` is called, from any thread, when there is
// something to send (kWake) or somebody wants to know whether the client leaves (kWatch). Bound: Write blocks
// while more than `unsent_max` bytes wait.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "server/http_message.h"

namespace millstream {

class Exchange final : public ResponseChannel {
 public:
  enum class Notice : uint8_t { kWake, kWatch };
  Exchange(uint64_t unsent_max, std::stop_token stop, std::function<void(Notice)> notify)
      : unsent_max_(unsent_max), stop_(std::move(stop)), notify_(std::move(notify)) {}

  void Send(HttpResponse response) override;
  void Begin(HttpResponse head) override;
  Status Write(std::string piece) override;
  void End(bool complete) override;
  void OnGone(std::function<void()> call) override;
  std::stop_token stop_token() const override { return stop_; }

  bool HasResponse();
  HttpResponse TakeResponse();
  /// Of a response that is there: whether its body comes in pieces.
  bool streamed() const { return streamed_; }
  struct Piece {
    std::string bytes;
    bool ended = false, complete = false;
  };
  Piece TakePiece();
  /// The client has left, or is cut off: Write fails from now on.
  void SetGone();
  /// The answer went out whole: nobody is told any more that the client left.
  void Finish();

 private:
  const uint64_t unsent_max_;
  const std::stop_token stop_;
  const std::function<void(Notice)> notify_;
  std::mutex mutex_;
  std::condition_variable drained_;
  std::optional<HttpResponse> response_;
  bool streamed_ = false;
  std::string pending_;
  bool ended_ = false, complete_ = false, gone_ = false;
  std::function<void()> on_gone_;
};

}  // namespace millstream
