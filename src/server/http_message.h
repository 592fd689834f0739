// HttpRequest, HttpResponse, Responder: what a handler gets and what it answers with.
//
// Place: floor 7. Free of Boost: made and carried out by HttpServer (http_server.h).
// Threads: an HttpRequest belongs to whoever handles it. A Responder may be handed to any thread, which then
// answers once: whole (Send), or piece by piece (Begin, Write …, End). Write blocks while the client is
// slower than the handler, so a streaming handler runs on a thread of its own. Failure: a client that has
// left makes Write answer kCancelled; a Responder that is dropped without an answer answers 500, one that is
// dropped within a stream cuts the connection, so that the client sees that the answer is not whole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace millstream {

/// Bytes with 64 readable ones after their end (the JSON scanner reads ahead).
class BodyBuffer {
 public:
  static constexpr size_t kTail = 64;

  BodyBuffer() = default;
  explicit BodyBuffer(std::string_view bytes) { Append(bytes); }
  BodyBuffer(BodyBuffer&& other) noexcept { *this = std::move(other); }
  BodyBuffer& operator=(BodyBuffer&& other) noexcept;

  std::string_view view() const { return {bytes_ ? bytes_.get() : kEmpty, size_}; }
  size_t size() const { return size_; }
  /// Room for `bytes` more after the end; Commit takes them in.
  char* Prepare(size_t bytes);
  void Commit(size_t bytes);
  void Append(std::string_view bytes);

 private:
  struct Free {
    void operator()(char* bytes) const;
  };
  static constexpr char kEmpty[kTail] = {};
  std::unique_ptr<char, Free> bytes_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;     // as sent
  std::string path;       // as sent, without the query
  std::string raw_query;  // after '?', as sent
  HttpHeaders headers;    // names in lower case, in the order of the request
  BodyBuffer body;        // as sent: perhaps compressed until the worker inflated it
  std::string peer;       // the client's address
  std::optional<uint64_t> content_length;

  // Filled by the router.
  std::vector<std::pair<std::string, std::string>> query;        // decoded
  std::vector<std::pair<std::string, std::string>> path_values;  // of {…} in the route's pattern, decoded
  std::string who;                                               // the token's name, or what the client says
  size_t route = 0;

  /// The value of a header (name in lower case), or null.
  const std::string* Header(std::string_view name) const;
  /// The value of a query parameter, or null; of several the first.
  const std::string* Query(std::string_view name) const;
  const std::string& PathValue(std::string_view name) const;
};

inline constexpr char kJsonType[] = "application/json";

struct HttpResponse {
  int status = 200;
  std::string content_type = kJsonType;
  std::string body;
  HttpHeaders headers{};  // beside those that the server sets
};

/// The server's side of a Responder.
class ResponseChannel {
 public:
  virtual ~ResponseChannel() = default;
  virtual void Send(HttpResponse response) = 0;
  virtual void Begin(HttpResponse head) = 0;
  virtual Status Write(std::string piece) = 0;
  virtual void End(bool complete) = 0;
  virtual void OnGone(std::function<void()> call) = 0;
  virtual std::stop_token stop_token() const = 0;
};

class Responder {
 public:
  explicit Responder(std::shared_ptr<ResponseChannel> channel) : channel_(std::move(channel)) {}
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&&) = delete;
  ~Responder();

  /// The whole answer.
  void Send(HttpResponse response);
  /// Status and headers of a streamed answer; its body is ignored.
  void Begin(HttpResponse head);
  /// A piece of it. Blocks while too much is not yet sent. kCancelled: the client has left, or the server
  /// stops at once.
  Status Write(std::string piece);
  /// The answer is whole.
  void End();
  /// The answer will not be whole: closes the connection without the last chunk.
  void Abort();
  /// Calls `call` (soon, briefly, from another thread) if the client leaves before the answer is whole.
  void OnGone(std::function<void()> call) { channel_->OnGone(std::move(call)); }
  /// Asked to stop when the server stops: an endless answer should end.
  std::stop_token stop_token() const { return channel_->stop_token(); }
  bool begun() const { return begun_; }

 private:
  std::shared_ptr<ResponseChannel> channel_;
  bool begun_ = false;
  bool done_ = false;
};

/// What the server does with requests.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Once the head is read, before the body: an answer that refuses it (the connection is then closed if a
  /// body was coming). On an I/O thread; must not block.
  virtual std::optional<HttpResponse> Admit(HttpRequest& head) = 0;
  /// The whole request. On an I/O thread; must not block.
  virtual void Handle(std::shared_ptr<HttpRequest> request, Responder responder) = 0;
};

}  // namespace millstream
