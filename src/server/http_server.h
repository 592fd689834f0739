// HttpServer: HTTP/1.1 over TCP: connections, limits, time limits, bodies, answers whole or streamed, an
// orderly stop.
//
// Place: floor 7; under Server (server.h), which brings routes. Knows nothing of events. This header is free
// of Boost: Asio and Beast live in http_server.cc alone. Operation. One I/O thread a core, each with its own
// event loop; a connection stays on one. Requests of a connection are handled one after another, so pipelined
// ones are answered in order. A head is read whole, checked for shapes that another server may read otherwise
// (http_text.h), then admitted or refused by the handler before its body is read; the body is read into one
// buffer. Threads: Start and Stop by the owner; the handler is called on I/O threads and must not block.
// Bounds: HttpLimits. Failure: Start answers kUnavailable or kInvalid if the address cannot be listened on.
// Faults of a client are answered with problem documents and harm no other connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/http_message.h"

namespace millstream {

struct HttpLimits {
  uint64_t header_bytes = 16 << 10;        // of a head: 431
  uint64_t body_bytes = 16 << 20;          // of a body as sent: 413
  uint64_t buffered_bytes = 512ull << 20;  // of all bodies that are being read or handled: 503
  uint32_t connections = 1024;             // 503
  uint64_t unsent_bytes = 256 << 10;       // of a streamed answer: then Write blocks
  int64_t header_timeout_us = 10'000'000;  // from a head's first byte to its last: 408
  int64_t body_timeout_us = 10'000'000;    // what a body may take beside ...
  uint64_t body_bytes_per_s = 8 << 10;     // ... its bytes at this rate: 408
  int64_t idle_timeout_us = 75'000'000;    // between two requests
  int64_t write_timeout_us = 30'000'000;   // for any piece of an answer
};

struct HttpServerOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT; port 0 = any
  uint32_t threads = 0;                // 0 = cores
  HttpLimits limits;
  HttpHeaders headers{};  // of every answer
};

class HttpServer {
 public:
  /// Listens and serves. `handler` must outlive the server.
  static Result<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, HttpHandler& handler);
  /// Stops at once if Stop was not called.
  ~HttpServer();

  /// "127.0.0.1:8410": the address that is listened on, with the real port.
  std::string address() const;
  /// Accepts no more, closes idle connections, lets answers that are under way finish within `deadline_us`,
  /// then cuts what is left.
  void Stop(int64_t deadline_us);
  uint32_t connections() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
