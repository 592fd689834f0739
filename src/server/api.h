// Api: the whole HTTP API of an Engine: the routes, and the same routes over each of its sandboxes.
//
// Place: floor 7; Server puts it behind a listener, cli/ calls it in its own process. A request that carries
// Millstream-Sandbox is answered by the sandbox's own table of routes, and by nothing else: a route that does
// not work in a sandbox is refused, so that nothing meant for one ever reaches the live Engine.
// Threads: as an HttpHandler. The Engine, the Access and the pool must outlive it; nothing may be under way
// in the pool when it is stopped. Failure: problems (problem.h).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "server/routes.h"

namespace millstream {

class Api final : public HttpHandler {
 public:
  /// `serves`: sandboxes are opened and kept running (query/sandboxes.h).
  Api(Engine& engine, const Access& access, WorkerPool& pool, uint64_t inflated_max, bool serves);
  ~Api() override;
  /// Closes the sandboxes.
  void Stop();

  std::optional<HttpResponse> Admit(HttpRequest& head) override;
  void Handle(std::shared_ptr<HttpRequest> request, Responder responder) override;
  Sandboxes& sandboxes() { return sandboxes_; }

 private:
  /// The routes over one sandbox, for as long as it is the same.
  struct Inside;
  void HandleInside(const std::shared_ptr<Sandbox>& sandbox, std::shared_ptr<HttpRequest> request,
                    Responder responder);
  std::shared_ptr<Inside> InsideOf(const std::string& name, const std::shared_ptr<Sandbox>& sandbox);

  const Access& access_;
  WorkerPool& pool_;
  const uint64_t inflated_max_;
  QueryRunner queries_;
  Sandboxes sandboxes_;
  Services services_;
  Router router_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Inside>> insides_;
};

}  // namespace millstream
