#include "server/server.h"

#include "server/http_server.h"
#include "server/routes.h"

namespace millstream {

struct Server::State {
  State(Engine& engine, Access given, const ServerOptions& options, const Logger& log)
      : logger(log), access(std::move(given)), pool({}), queries(engine), services{engine, queries}, router(access, pool, options.limits.inflated_bytes) {
    AddAllRoutes(router, services);
  }
  const Logger& logger;
  Access access;
  WorkerPool pool;
  QueryRunner queries;
  Services services;
  Router router;
  std::unique_ptr<HttpServer> http;
};

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  if (state_->http) Stop(0);
}

Result<std::unique_ptr<Server>> Server::Start(Engine& engine, const ServerOptions& options, const Logger& logger) {
  ASSIGN_OR_FAIL(Access access, Access::Make(options.listen, options.tokens));
  auto state = std::make_unique<State>(engine, std::move(access), options, logger);
  HttpServerOptions http;
  http.listen = options.listen;
  http.limits.header_bytes = options.limits.header_bytes;
  http.limits.body_bytes = options.limits.body_bytes;
  http.limits.connections = options.limits.connections;
  http.headers.emplace_back("Millstream-Data", engine.data_uuid());
  ASSIGN_OR_FAIL(state->http, HttpServer::Start(std::move(http), state->router));
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

std::string Server::url() const { return "http://" + state_->http->address(); }

void Server::Stop(int64_t deadline_us) {
  state_->http->Stop(deadline_us);
  state_->pool.Stop();
  state_->http.reset();
}

}  // namespace millstream
