#include "cli/local_client.h"

#include <condition_variable>
#include <cstdlib>
#include <mutex>

#include "base/text.h"
#include "server/api.h"

namespace millstream {
namespace {

/// Collects an answer instead of sending it over a connection.
class LocalChannel final : public ResponseChannel {
 public:
  explicit LocalChannel(const HttpClient::Request& request) : request_(request) {}

  void Send(HttpResponse response) override {
    std::lock_guard lock(mutex_);
    TakeHead(response);
    if (response.status == 200 && request_.on_data) {
      request_.on_data(response.body);
    } else {
      answer_.body = std::move(response.body);
    }
    Done(true);
  }
  void Begin(HttpResponse head) override { TakeHead(head); }
  Status Write(std::string piece) override {
    if (!request_.on_data) {
      answer_.body += piece;
      return OkStatus();
    }
    if (request_.on_data(piece)) return OkStatus();
    return Cancelled("the caller has enough");
  }
  void End(bool complete) override {
    std::lock_guard lock(mutex_);
    Done(complete);
  }
  void OnGone(std::function<void()>) override {}
  std::stop_token stop_token() const override { return stop_.get_token(); }

  Result<HttpAnswer> Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
    if (!complete_ && !request_.on_data) return Fail(Unavailable("the answer broke off"));
    return std::move(answer_);
  }

 private:
  void TakeHead(const HttpResponse& head) {
    answer_.status = head.status;
    for (const auto& [name, value] : head.headers) answer_.headers[Lower(name)] = value;
  }
  void Done(bool complete) {
    done_ = true;
    complete_ = complete;
    changed_.notify_all();
  }
  const HttpClient::Request& request_;
  std::stop_source stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false, complete_ = false;
  HttpAnswer answer_;
};

}  // namespace

struct LocalClient::State {
  Machine machine;
  Logger logger;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Access> access;
  std::unique_ptr<WorkerPool> pool;
  std::unique_ptr<Api> api;
};

LocalClient::LocalClient() : state_(std::make_unique<State>()) {}

LocalClient::~LocalClient() {
  if (state_->pool) state_->pool->Stop();
  state_->api.reset();
  if (state_->engine) (void)state_->engine->Stop();
}

Result<std::unique_ptr<HttpClient>> LocalClient::Open(const Everywhere& everywhere,
                                                      const std::string& project_directory, bool read_only,
                                                      bool applies_files) {
  auto client = std::unique_ptr<LocalClient>(new LocalClient());
  State& state = *client->state_;
  ASSIGN_OR_FAIL(state.engine, OpenEngine(everywhere, state.machine, state.logger, project_directory,
                                          read_only, applies_files));
  ASSIGN_OR_FAIL(Access access, Access::Make("127.0.0.1:0", {}));
  state.access = std::make_unique<Access>(std::move(access));
  state.pool = std::make_unique<WorkerPool>(WorkerPoolOptions{.quick_threads = 1});
  state.api =
      std::make_unique<Api>(*state.engine, *state.access, *state.pool, LimitsConfig().inflated_bytes, false);
  return client;
}

std::shared_ptr<const Engine> LocalClient::engine(const std::string& sandbox) const {
  if (sandbox.empty()) return {std::shared_ptr<const void>(), state_->engine.get()};
  auto opened = state_->api->sandboxes().Use(sandbox);
  return opened ? std::shared_ptr<const Engine>(*opened, &(*opened)->engine()) : nullptr;
}

Result<HttpAnswer> LocalClient::Send(const Request& request) {
  auto http = std::make_shared<HttpRequest>();
  size_t mark = request.path.find('?');
  http->method = request.method;
  http->path = request.path.substr(0, mark);
  if (mark != std::string::npos) http->raw_query = request.path.substr(mark + 1);
  http->headers.emplace_back("host", "127.0.0.1");
  for (const std::string& header : request.headers) {
    size_t colon = header.find(':');
    http->headers.emplace_back(
        Lower(header.substr(0, colon)),
        header.substr(std::min(header.size(), header.find_first_not_of(' ', colon + 1))));
  }
  http->body = BodyBuffer(request.body);
  http->content_length = request.body.size();
  if (auto refusal = state_->api->Admit(*http)) {
    HttpAnswer answer;
    answer.status = refusal->status;
    answer.body = std::move(refusal->body);
    return answer;
  }
  auto channel = std::make_shared<LocalChannel>(request);
  state_->api->Handle(http, Responder(channel));
  return channel->Wait();
}

}  // namespace millstream
