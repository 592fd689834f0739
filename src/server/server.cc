#include "server/server.h"

#include <sys/resource.h>

#include "server/api.h"
#include "server/http_server.h"

namespace millstream {

struct Server::State {
  State(Engine& engine, Access rules, uint64_t inflated_max)
      : access(std::move(rules)), pool({}), api(engine, access, pool, inflated_max, true) {}

  const Access access;
  WorkerPool pool;
  Api api;
  std::unique_ptr<HttpServer> http;  // last: it uses the others
};

namespace {

constexpr uint64_t kFilesBesideConnections = 4096;  // segments, tables, sources

/// A shell's usual limit of 1,024 open files is less than the connections that may come.
void RaiseFileLimit(uint64_t connections) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  rlim_t wanted = std::min<rlim_t>(files.rlim_max, connections + kFilesBesideConnections);
  if (files.rlim_cur >= wanted) return;
  files.rlim_cur = wanted;
  (void)setrlimit(RLIMIT_NOFILE, &files);  // as far as it goes: accepting pauses when files run out
}

}  // namespace

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() { Stop(0); }

Result<std::unique_ptr<Server>> Server::Start(Engine& engine, const ServerOptions& options,
                                              const Logger& logger) {
  ASSIGN_OR_FAIL(Access access, Access::Make(options.listen, options.tokens));
  auto state = std::make_unique<State>(engine, std::move(access), options.limits.inflated_bytes);
  RaiseFileLimit(options.limits.connections);
  HttpServerOptions http;
  http.listen = options.listen;
  http.limits.header_bytes = options.limits.header_bytes;
  http.limits.body_bytes = options.limits.body_bytes;
  http.limits.connections = options.limits.connections;
  http.headers = {{"Millstream-Data", engine.data_uuid()}, {"X-Content-Type-Options", "nosniff"}};
  ASSIGN_OR_FAIL(state->http, HttpServer::Start(std::move(http), state->api));
  logger.Debug("listening", {{"address", state->http->address()}});
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

std::string Server::url() const { return "http://" + state_->http->address(); }

void Server::Stop(int64_t deadline_us) {
  if (state_->http) state_->http->Stop(deadline_us);
  state_->pool.Stop();
  state_->api.Stop();
}

}  // namespace millstream
