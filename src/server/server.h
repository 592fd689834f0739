// Server: Millstream's HTTP API over an Engine: the listener, who may do what, and the routes.
//
// Place: floor 7. Made by `run`. Threads: Start and Stop by the owner.
// Failure: Start answers kInvalid for an address that is not allowed without tokens, kUnavailable if it cannot be listened on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/logging.h"
#include "base/status.h"
#include "catalog/project.h"
#include "pipeline/engine.h"

namespace millstream {

struct ServerOptions {
  std::string listen = "127.0.0.1:8410";
  std::vector<TokenConfig> tokens;
  LimitsConfig limits;
};

class Server {
 public:
  static Result<std::unique_ptr<Server>> Start(Engine& engine, const ServerOptions& options, const Logger& logger);
  ~Server();
  /// "http://127.0.0.1:8410".
  std::string url() const;
  /// Accepts no more, lets answers that are under way finish within `deadline_us`.
  void Stop(int64_t deadline_us);

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
