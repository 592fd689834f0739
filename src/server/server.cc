#include "server/server.h"

#include "server/api.h"
#include "server/http_server.h"

namespace millstream {

struct Server::State {
  Logger logger;
  std::unique_ptr<Api> api;
  std::unique_ptr<HttpServer> http;  // uses api
};

Server::Server() : state_(std::make_unique<State>()) {}
Server::~Server() { Stop(0); }

Result<std::unique_ptr<Server>> Server::Start(Engine& engine, ServerOptions options, const Logger& logger) {
  std::unique_ptr<Server> server(new Server);
  State& state = *server->state_;
  state.logger = logger;
  ASSIGN_OR_FAIL(state.api, Api::Make(engine, {options.listen, options.tokens, options.limits}, logger));
  HttpServerOptions http;
  http.listen = options.listen;
  http.limits.header_bytes = options.limits.header_bytes;
  http.limits.body_bytes = options.limits.body_bytes;
  http.limits.connections = options.limits.connections;
  http.headers = {{"Millstream-Data", engine.data_uuid()}, {"X-Content-Type-Options", "nosniff"}};
  ASSIGN_OR_FAIL(state.http, HttpServer::Start(std::move(http), state.api->handler()));
  return server;
}

std::string Server::url() const { return "http://" + state_->http->address(); }

void Server::Stop(int64_t deadline_us) {
  if (state_->http) state_->http->Stop(deadline_us);
  if (state_->api) state_->api->Stop();
}

}  // namespace millstream
