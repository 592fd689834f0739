// Server: the HTTP API of an Engine on an address.
//
// Place: floor 7. Threads: Start and Stop by the owner. Bounds: ServerOptions.limits and HttpLimits
// (http_server.h). Failure: kInvalid for an address that may not be listened on (other than loopback without
// tokens), kUnavailable if it is taken.
#pragma once

#include <cstdint>
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
  std::vector<TokenConfig> tokens{};
  LimitsConfig limits{};
};

class Server {
 public:
  /// The Engine must outlive the server, and must not be stopped before it.
  static Result<std::unique_ptr<Server>> Start(Engine& engine, const ServerOptions& options,
                                               const Logger& logger);
  ~Server();

  /// "http://127.0.0.1:8410", with the real port.
  std::string url() const;
  /// Accepts no more, lets answers that are under way finish within `deadline_us`, ends feeds, cuts what is
  /// left.
  void Stop(int64_t deadline_us);

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
