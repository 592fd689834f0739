#include "server/http_server.h"

#include "base/thread.h"
#include "server/http_session.h"

namespace millstream {

using namespace http_internal;  // NOLINT: this file is the other half of it

struct HttpServer::State {
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  std::vector<std::shared_ptr<Loop>> loops;
  std::optional<tcp::acceptor> acceptor;
  std::string address;
  bool stopped = false;

  asio::awaitable<void> Accept() {
    for (size_t turn = 0; !shared->stopping; ++turn) {
      const std::shared_ptr<Loop>& loop = loops[turn % loops.size()];
      error_code error;
      tcp::socket socket =
          co_await acceptor->async_accept(loop->context, asio::redirect_error(asio::use_awaitable, error));
      if (shared->stopping) break;
      if (error) {  // out of descriptors, mostly
        asio::steady_timer pause(loops[0]->context, kAcceptRetry);
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      if (shared->connections.load() >= shared->options.limits.connections) {
        TurnAway(socket);
        continue;
      }
      shared->connections.fetch_add(1);
      auto session = std::make_shared<Session>(loop, shared, std::move(socket));
      asio::co_spawn(
          loop->context, [session]() -> asio::awaitable<void> { co_await session->Run(); }, asio::detached);
    }
  }

  /// Answers without waiting for the client: it has no place here.
  void TurnAway(tcp::socket& socket) {
    HttpResponse full = Problem(503, "unavailable",
                                fmt::format("all {} connections are in use (limits: connections)",
                                            shared->options.limits.connections));
    std::string text = fmt::format("HTTP/1.1 503 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
                                   ReasonPhrase(503), full.content_type, full.body.size());
    for (const auto& [name, value] : full.headers) text += fmt::format("{}: {}\r\n", name, value);
    text += "Connection: close\r\n\r\n" + full.body;
    error_code error;
    socket.non_blocking(true, error);
    socket.write_some(asio::buffer(text), error);
    socket.shutdown(tcp::socket::shutdown_send, error);
    std::array<char, 4096> dropped;  // a close over unread bytes would destroy the answer on its way
    for (int i = 0; i < kDroppedReads && !error; ++i) socket.read_some(asio::buffer(dropped), error);
  }

  void ForEachSession(void (Session::*call)()) {
    // What waits in a loop's context must not own the loop: what never ran would keep both for ever.
    for (auto& loop : loops)
      asio::post(loop->context, [loop = loop.get(), call] {
        for (Session* session : loop->sessions) (session->*call)();
      });
  }

  /// True once no connection is left.
  bool WaitUntilEmpty(SteadyClock::time_point until) {
    while (shared->connections.load() > 0 && SteadyClock::now() < until)
      std::this_thread::sleep_for(kStopPoll);
    return shared->connections.load() == 0;
  }
};

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() { Stop(0); }

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options, HttpHandler& handler) {
  size_t colon = options.listen.rfind(':');
  auto host = colon == options.listen.npos ? std::nullopt : HostOf(options.listen);
  if (!host)
    return Fail(Invalid("server.listen: '{}' is not HOST:PORT, e.g. 127.0.0.1:8410", options.listen));
  std::string port = options.listen.substr(colon + 1);

  auto state = std::make_unique<State>();
  Shared& shared = *state->shared;
  shared.handler = &handler;
  for (const auto& [name, value] : options.headers)
    shared.fixed_headers += fmt::format("{}: {}\r\n", name, value);
  uint32_t threads =
      options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  std::string listen = options.listen;
  shared.options = std::move(options);
  for (uint32_t i = 0; i < threads; ++i) state->loops.push_back(std::make_shared<Loop>());

  error_code error;
  auto addresses =
      tcp::resolver(state->loops[0]->context).resolve(*host, port, tcp::resolver::passive, error);
  if (error || addresses.empty()) return Fail(Invalid("server.listen: '{}': {}", listen, error.message()));
  tcp::endpoint endpoint = *addresses.begin();
  auto& acceptor = state->acceptor.emplace(state->loops[0]->context);
  if (!error) acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Fail(Unavailable("cannot listen on {}: {}", listen, error.message()));
  endpoint = acceptor.local_endpoint(error);
  std::string text = endpoint.address().to_string();
  state->address =
      fmt::format("{}:{}", endpoint.address().is_v6() ? "[" + text + "]" : text, endpoint.port());

  asio::co_spawn(state->loops[0]->context, state->Accept(), asio::detached);
  for (auto& loop : state->loops)
    loop->thread = std::thread([loop] {
      NameThread("http");
      loop->context.run();
    });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

std::string HttpServer::address() const { return state_->address; }
uint32_t HttpServer::connections() const { return state_->shared->connections.load(); }

void HttpServer::Stop(int64_t deadline_us) {
  State& s = *state_;
  if (std::exchange(s.stopped, true)) return;
  auto until = SteadyClock::now() + std::chrono::microseconds(deadline_us);
  s.shared->stopping = true;
  asio::post(s.loops[0]->context, [&s] {
    error_code error;
    s.acceptor->close(error);
  });
  s.shared->stop.request_stop();
  s.ForEachSession(&Session::CloseIfIdle);
  if (!s.WaitUntilEmpty(until)) {
    s.ForEachSession(&Session::Cut);
    s.WaitUntilEmpty(SteadyClock::now() + kCutWait);
  }
  for (auto& loop : s.loops) {
    loop->work.reset();
    loop->context.stop();
  }
  for (auto& loop : s.loops) loop->thread.join();
  // What was posted before the end runs now, on this thread: sessions' coroutines own their loops until they
  // end.
  for (auto& loop : s.loops) {
    loop->context.restart();
    loop->context.poll();
  }
  s.acceptor.reset();
}

}  // namespace millstream
