// Session: one connection of HttpServer: reads requests, one after another, and writes their answers.
//
// Place: floor 7. Included by http_server.cc alone (http_loop.h). Everything runs on the thread of the
// connection's Loop. A session lives as long as its coroutine, or an answer that is under way. Time limits:
// one timer a session, armed lazily; when it fires, what waits on the socket is cancelled and timed_out_ says
// why.
#pragma once

#include "server/http_loop.h"

namespace millstream {
namespace http_internal {

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Loop> loop, std::shared_ptr<Shared> shared, tcp::socket socket)
      : loop_(std::move(loop)),
        shared_(std::move(shared)),
        limits_(shared_->options.limits),
        socket_(std::move(socket)),
        watchdog_(loop_->context),
        wake_(loop_->context) {
    wake_.expires_at(kNever);
  }

  asio::awaitable<void> Run() {
    loop_->sessions.insert(this);
    error_code error;
    socket_.set_option(tcp::no_delay(true), error);
    auto endpoint = socket_.remote_endpoint(error);
    if (!error) peer_ = endpoint.address().to_string();
    try {
      while (!shared_->stopping && co_await ServeOne()) {
      }
    } catch (const std::exception&) {  // out of memory: this connection ends
      if (exchange_) exchange_->SetGone();
    }
    socket_.close(error);
    watchdog_.cancel();
    loop_->sessions.erase(this);
    shared_->connections.fetch_sub(1);
  }

  // On the loop's thread.
  void Wake() { wake_.cancel(); }
  void CloseIfIdle() {
    error_code error;
    if (idle_) socket_.close(error);
  }
  void Cut() {
    error_code error;
    cut_ = true;
    if (exchange_) exchange_->SetGone();
    socket_.close(error);
    wake_.cancel();
  }
  /// Tells the exchange when the client leaves. What the client sends meanwhile stays unread.
  void Watch() {
    if (watching_ || !exchange_) return;
    watching_ = true;
    socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code error) {
      self->watching_ = false;
      if (error || !self->exchange_) return;
      char byte;
      ssize_t got = recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      if (got > 0) return;  // the next request, already
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return self->Watch();
      self->Cut();
    });
  }

 private:
  asio::awaitable<bool> ServeOne();
  asio::awaitable<std::optional<size_t>> ReadHead();
  std::optional<HttpResponse> ParseHead(std::string_view head, Parser& parser, HttpRequest& request);
  asio::awaitable<std::optional<HttpResponse>> ReadBody(Parser& parser, HttpRequest& request);
  asio::awaitable<bool> Answer(bool& is_whole);
  asio::awaitable<bool> WriteHead(const HttpResponse& response, std::optional<size_t> length,
                                  std::string_view body);
  asio::awaitable<bool> WriteAll(std::string_view bytes);
  asio::awaitable<bool> Refuse(HttpResponse response);
  asio::awaitable<size_t> ReadSome(char* to, size_t bytes);
  asio::awaitable<bool> WaitForWake();

  void SetDeadline(int64_t us) {
    deadline_ = SteadyClock::now() + std::chrono::microseconds(us);
    timed_out_ = false;
    if (armed_ && armed_for_ <= deadline_) return;
    Arm();
  }
  void ClearDeadline() { deadline_ = kNever; }
  void Arm() {
    armed_ = true;
    armed_for_ = deadline_;
    watchdog_.expires_at(deadline_);
    watchdog_.async_wait([weak = weak_from_this()](error_code error) {
      auto self = weak.lock();
      if (!self || error == asio::error::operation_aborted) return;  // armed anew, or closed
      self->armed_ = false;
      if (self->deadline_ == kNever) return;
      if (SteadyClock::now() < self->deadline_) return self->Arm();
      self->timed_out_ = true;
      error_code ignored;
      self->socket_.cancel(ignored);
    });
  }
  void Buffered(uint64_t bytes) {
    shared_->buffered.fetch_add(bytes);
    buffered_ += bytes;
  }
  void ReleaseBuffered() { shared_->buffered.fetch_sub(std::exchange(buffered_, 0)); }
  const std::string& Date() {
    time_t now = std::time(nullptr);
    if (now != loop_->date_second) {
      char text[40];
      std::tm parts;
      gmtime_r(&now, &parts);
      loop_->date.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
      loop_->date_second = now;
    }
    return loop_->date;
  }

  const std::shared_ptr<Loop> loop_;
  const std::shared_ptr<Shared> shared_;
  const HttpLimits& limits_;
  tcp::socket socket_;
  asio::steady_timer watchdog_;
  asio::steady_timer wake_;
  beast::flat_buffer buffer_;
  std::string peer_;
  std::shared_ptr<Exchange> exchange_;
  SteadyClock::time_point deadline_ = kNever, armed_for_ = kNever;
  uint64_t buffered_ = 0;
  bool armed_ = false, timed_out_ = false, watching_ = false, cut_ = false, idle_ = false;
  // Of the request.
  bool keep_alive_ = false, is_http_11_ = true, is_head_ = false;
};

/// Bytes read; 0 at the end, on an error, or when the deadline passed (timed_out_).
inline asio::awaitable<size_t> Session::ReadSome(char* to, size_t bytes) {
  if (timed_out_) co_return 0;
  error_code error;
  size_t got = co_await socket_.async_read_some(asio::buffer(to, bytes),
                                                asio::redirect_error(asio::use_awaitable, error));
  co_return error ? 0 : got;
}

inline asio::awaitable<bool> Session::WaitForWake() {
  error_code error;
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, error));
  co_return !cut_;
}

inline asio::awaitable<bool> Session::WriteAll(std::string_view bytes) {
  while (!bytes.empty()) {
    SetDeadline(limits_.write_timeout_us);
    error_code error;
    size_t written = co_await asio::async_write(
        socket_, asio::buffer(bytes.data(), std::min(bytes.size(), kWritePieceBytes)),
        asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    bytes.remove_prefix(written);
  }
  ClearDeadline();
  co_return true;
}

/// Head and body of an answer; no length: chunked, or until the connection closes for HTTP/1.0.
inline asio::awaitable<bool> Session::WriteHead(const HttpResponse& response, std::optional<size_t> length,
                                                std::string_view body) {
  std::string head =
      fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", response.status, ReasonPhrase(response.status), Date());
  if (response.status != 204)
    fmt::format_to(std::back_inserter(head), "Content-Type: {}\r\n", response.content_type);
  if (length && response.status != 204)
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", *length);
  if (!length && is_http_11_) head += "Transfer-Encoding: chunked\r\n";
  head += shared_->fixed_headers;
  for (const auto& [name, value] : response.headers)
    fmt::format_to(std::back_inserter(head), "{}: {}\r\n", name, value);
  if (!keep_alive_) head += "Connection: close\r\n";
  if (keep_alive_ && !is_http_11_) head += "Connection: keep-alive\r\n";
  head += "\r\n";
  if (body.size() <= kReadBytes) {  // one write is cheaper than two buffers
    head += body;
    co_return co_await WriteAll(head);
  }
  co_return co_await WriteAll(head) && co_await WriteAll(body);
}

/// Answers, closes, and reads on for a moment: a close while the client still sends would destroy the answer
/// on its way.
inline asio::awaitable<bool> Session::Refuse(HttpResponse response) {
  keep_alive_ = false;
  if (!co_await WriteHead(response, response.body.size(), is_head_ ? std::string_view() : response.body))
    co_return false;
  error_code error;
  socket_.shutdown(tcp::socket::shutdown_send, error);
  SetDeadline(kDrainUs);
  std::vector<char> dropped(16 << 10);
  for (size_t drained = 0; drained < kDrainBytes;) {
    size_t got = co_await ReadSome(dropped.data(), dropped.size());
    if (got == 0) break;
    drained += got;
  }
  co_return false;
}

/// Length of the head at the front of buffer_; 0: it is at fault in a way that was answered; nothing: the
/// connection is done.
inline asio::awaitable<std::optional<size_t>> Session::ReadHead() {
  size_t scanned = 0;
  idle_ = true;
  SetDeadline(limits_.idle_timeout_us);
  while (true) {
    std::string_view bytes(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    while (bytes.starts_with("\r\n")) buffer_.consume(2), bytes.remove_prefix(2), scanned = 0;
    if (idle_ && !bytes.empty()) idle_ = false, SetDeadline(limits_.header_timeout_us);
    size_t end = bytes.find("\r\n\r\n", scanned < 3 ? 0 : scanned - 3);
    if (end != bytes.npos && end + 4 <= limits_.header_bytes) co_return end + 4;
    if (bytes.find("\n\n") < end) {
      co_await Refuse(Problem(400, "bad_request", FindFaultOfRawHead(bytes)));
      co_return 0;
    }
    if (end != bytes.npos || bytes.size() > limits_.header_bytes) {
      co_await Refuse(Problem(431, "too_large",
                              fmt::format("the head of the request is longer than {} (limits: header)",
                                          FormatBytes(limits_.header_bytes))));
      co_return 0;
    }
    scanned = bytes.size();
    auto room = buffer_.prepare(kReadBytes);
    size_t got = co_await ReadSome(static_cast<char*>(room.data()), room.size());
    if (got == 0) {
      if (!timed_out_ || idle_) co_return std::nullopt;
      timed_out_ = false;
      co_await Refuse(Problem(408, "slow_client", "the head of the request did not come in time"));
      co_return 0;
    }
    buffer_.commit(got);
  }
}

/// Fills `request`; an answer if the head is at fault.
inline std::optional<HttpResponse> Session::ParseHead(std::string_view head, Parser& parser,
                                                      HttpRequest& request) {
  if (std::string fault = FindFaultOfRawHead(head); !fault.empty()) return Problem(400, "bad_request", fault);
  parser.header_limit(static_cast<uint32_t>(limits_.header_bytes + 1));
  parser.body_limit(limits_.body_bytes);
  parser.eager(false);
  error_code error;
  parser.put(asio::buffer(head.data(), head.size()), error);
  if (error == http::error::bad_version)
    return Problem(505, "bad_request", "only HTTP/1.1 and HTTP/1.0 are spoken here");
  bool is_too_large = error == http::error::body_limit;
  if (error && !is_too_large && error != http::error::need_more)
    return Problem(400, "bad_request", "malformed request: " + error.message());
  auto& message = parser.get();
  is_http_11_ = message.version() == 11;
  is_head_ = message.method() == http::verb::head;
  keep_alive_ = message.keep_alive() && !shared_->stopping;
  request.method = std::string(message.method_string());
  request.peer = peer_;
  for (const auto& field : message)
    request.headers.emplace_back(LowerAscii(field.name_string()), std::string(field.value()));
  bool chunked = false;
  if (std::string fault = FindFaultOfFraming(request, is_http_11_, &chunked); !fault.empty())
    return Problem(400, "bad_request", fault);
  if (is_too_large || request.content_length.value_or(0) > limits_.body_bytes)
    return Problem(413, "too_large",
                   fmt::format("the body is longer than {} (limits: body); send it in pieces",
                               FormatBytes(limits_.body_bytes)));
  std::string_view target = message.target();
  if (target.starts_with("http://")) {  // absolute form: its authority stands before Host
    target.remove_prefix(7);
    size_t slash = std::min(target.find_first_of("/?"), target.size());
    std::erase_if(request.headers, [](const auto& header) { return header.first == "host"; });
    request.headers.emplace_back("host", std::string(target.substr(0, slash)));
    target.remove_prefix(slash);
    if (target.empty()) target = "/";
  }
  if (!target.starts_with('/')) return Problem(400, "bad_request", "the target must be a path");
  size_t question = target.find('?');
  request.path = std::string(target.substr(0, question));
  if (question != target.npos) request.raw_query = std::string(target.substr(question + 1));
  return std::nullopt;
}

inline asio::awaitable<std::optional<HttpResponse>> Session::ReadBody(Parser& parser, HttpRequest& request) {
  auto slow = [] { return Problem(408, "slow_client", "the body of the request did not come in time"); };
  auto busy = [] {
    return Problem(503, "unavailable", "too many bodies are being taken in; try again soon");
  };
  auto started = SteadyClock::now();
  uint64_t received = 0;
  // What was read is allowed its time at the least rate, and the grace beside it.
  auto set_deadline = [&] {
    auto spent = std::chrono::duration_cast<std::chrono::microseconds>(SteadyClock::now() - started).count();
    SetDeadline(limits_.body_timeout_us +
                static_cast<int64_t>(received * 1'000'000 / limits_.body_bytes_per_s) - spent);
  };
  bool is_chunked = !request.content_length.has_value();
  if (!is_chunked) {
    uint64_t length = *request.content_length;
    size_t ready = std::min<size_t>(buffer_.size(), length);
    request.body.Append({static_cast<const char*>(buffer_.data().data()), ready});
    buffer_.consume(ready);
    Buffered(ready);
    while (request.body.size() < length) {
      size_t wanted = std::min<size_t>(length - request.body.size(), kBodyStepBytes);
      char* room = request.body.Prepare(wanted);
      set_deadline();
      size_t got = co_await ReadSome(room, wanted);
      if (got == 0)
        co_return timed_out_ ? slow()
                             : Problem(400, "bad_request", "the body is shorter than its Content-Length");
      request.body.Commit(got);
      received += got;
      Buffered(got);
      if (shared_->buffered > limits_.buffered_bytes) co_return busy();
    }
    co_return std::nullopt;
  }
  parser.eager(true);
  while (true) {
    size_t before = parser.get().body().size();
    error_code error;
    size_t used = parser.put(buffer_.data(), error);
    buffer_.consume(used);
    Buffered(parser.get().body().size() - before);
    if (parser.is_done()) break;
    if (error == http::error::body_limit)
      co_return Problem(413, "too_large",
                        fmt::format("the body is longer than {} (limits: body); send it in pieces",
                                    FormatBytes(limits_.body_bytes)));
    if (error && error != http::error::need_more)
      co_return Problem(400, "bad_request", "malformed chunked body: " + error.message());
    if (shared_->buffered > limits_.buffered_bytes) co_return busy();
    if (!error && used > 0) continue;
    if (buffer_.size() > limits_.header_bytes)
      co_return Problem(400, "bad_request",
                        "malformed chunked body: a chunk's line or a trailer is too long");
    set_deadline();
    auto room = buffer_.prepare(kReadBytes);
    size_t got = co_await ReadSome(static_cast<char*>(room.data()), room.size());
    if (got == 0)
      co_return timed_out_ ? slow() : Problem(400, "bad_request", "the body ends before its last chunk");
    buffer_.commit(got);
    received += got;
  }
  request.body = std::move(parser.get().body());
  co_return std::nullopt;
}

/// True if the connection goes on.
inline asio::awaitable<bool> Session::Answer(bool& is_whole) {
  while (!exchange_->HasResponse())
    if (!co_await WaitForWake()) co_return false;
  HttpResponse response = exchange_->TakeResponse();
  if (shared_->stopping) keep_alive_ = false;
  if (!exchange_->streamed()) {
    is_whole =
        co_await WriteHead(response, response.body.size(), is_head_ ? std::string_view() : response.body);
    co_return is_whole&& keep_alive_;
  }
  if (!is_http_11_ || is_head_) keep_alive_ = false;
  bool is_written = co_await WriteHead(response, std::nullopt, "");
  if (!is_written || is_head_) co_return false;
  Watch();
  while (true) {
    Exchange::Piece piece = exchange_->TakePiece();
    if (!piece.bytes.empty()) {
      if (is_http_11_) {
        std::string framed = fmt::format("{:x}\r\n", piece.bytes.size());
        framed.reserve(framed.size() + piece.bytes.size() + 2);
        framed.append(piece.bytes).append("\r\n");
        piece.bytes = std::move(framed);
      }
      if (!co_await WriteAll(piece.bytes)) co_return false;
      continue;
    }
    if (piece.ended) {
      if (!piece.complete) co_return false;
      is_whole = !is_http_11_ || co_await WriteAll("0\r\n\r\n");
      co_return is_whole&& keep_alive_;
    }
    if (!co_await WaitForWake()) co_return false;
  }
}

/// One request and its answer. False: the connection is done.
inline asio::awaitable<bool> Session::ServeOne() {
  is_head_ = false, is_http_11_ = true, keep_alive_ = false;
  auto head = co_await ReadHead();
  if (!head || *head == 0) co_return false;
  auto parser = std::make_unique<Parser>();
  auto request = std::make_shared<HttpRequest>();
  auto fault = ParseHead({static_cast<const char*>(buffer_.data().data()), *head}, *parser, *request);
  buffer_.consume(*head);
  if (fault) co_return co_await Refuse(std::move(*fault));
  bool is_chunked = parser->chunked();
  bool has_body = is_chunked || request->content_length.value_or(0) > 0;
  if (auto refusal = shared_->handler->Admit(*request)) {
    if (has_body) co_return co_await Refuse(std::move(*refusal));
    bool is_written =
        co_await WriteHead(*refusal, refusal->body.size(), is_head_ ? std::string_view() : refusal->body);
    co_return is_written&& keep_alive_;
  }
  if (const std::string* expect = request->Header("expect"); expect != nullptr && is_http_11_) {
    if (LowerAscii(*expect) != "100-continue")
      co_return co_await Refuse(Problem(417, "bad_request", "only 'Expect: 100-continue' is known"));
    if (has_body && buffer_.size() == 0 && !co_await WriteAll("HTTP/1.1 100 Continue\r\n\r\n"))
      co_return false;
  }
  if (has_body) {
    auto broken = co_await ReadBody(*parser, *request);
    if (broken) {
      timed_out_ = false;
      ReleaseBuffered();
      co_return co_await Refuse(std::move(*broken));
    }
  }
  parser.reset();
  ClearDeadline();
  exchange_ = std::make_shared<Exchange>(
      limits_.unsent_bytes, shared_->stop.get_token(), [weak = weak_from_this()](Exchange::Notice notice) {
        auto session = weak.lock();
        if (!session) return;
        asio::post(session->loop_->context, [session, notice] {
          notice == Exchange::Notice::kWake ? session->Wake() : session->Watch();
        });
      });
  shared_->handler->Handle(std::move(request), Responder(exchange_));
  bool is_whole = false;
  bool goes_on = co_await Answer(is_whole);
  is_whole ? exchange_->Finish() : exchange_->SetGone();
  exchange_.reset();
  ReleaseBuffered();
  if (watching_) {
    error_code error;
    socket_.cancel(error);
  }
  co_return goes_on && !cut_;
}

}  // namespace http_internal
}  // namespace millstream
