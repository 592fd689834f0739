// HttpServerTest: an HttpServer with routes of the test's own, asked through real sockets. For tests only.
//
// Place: floor 7, included by http_*_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <latch>

#include "server/http_server.h"
#include "server/http_test_client.h"
#include "server/problem.h"
#include "server/router.h"

namespace millstream {

/// A server with routes of the test's own.
class HttpServerTest : public testing::Test {
 protected:
  void Start() {
    WorkerPoolOptions pool_options;
    pool_options.long_tasks = 4;
    pool_ = std::make_unique<WorkerPool>(pool_options);
    auto access = Access::Make("127.0.0.1:0", tokens_);
    ASSERT_TRUE(access) << access.error().message();
    access_ = std::make_unique<Access>(std::move(*access));
    router_ = std::make_unique<Router>(*access_, *pool_, inflated_max_);
    router_->Add({"GET",
                  "/hello",
                  Role::kNone,
                  Lane::kInline,
                  "",
                  {},
                  {},
                  {"text/plain"},
                  [](const HttpRequest&, Responder responder) {
                    responder.Send({200, "text/plain", "hello"});
                  }});
    router_->Add({"POST",
                  "/echo",
                  Role::kWrite,
                  Lane::kQuick,
                  "",
                  {},
                  {"application/json"},
                  {"application/json"},
                  [](const HttpRequest& request, Responder responder) {
                    std::string_view body = request.body.view();
                    for (size_t i = 0; i < BodyBuffer::kTail; ++i) CHECK(body.data()[body.size() + i] == 0);
                    responder.Send({200, "application/json", std::string(body)});
                  }});
    router_->Add({"GET",
                  "/items/{name}",
                  Role::kRead,
                  Lane::kQuick,
                  "",
                  {},
                  {},
                  {"text/plain"},
                  [](const HttpRequest& request, Responder responder) {
                    const std::string* q = request.Query("q");
                    responder.Send(
                        {200, "text/plain",
                         request.PathValue("name") + "|" + (q == nullptr ? "-" : *q) + "|" + request.who});
                  }});
    router_->Add(
        {"GET",
         "/stream",
         Role::kRead,
         Lane::kLong,
         "",
         {},
         {},
         {"text/plain"},
         [this](const HttpRequest& request, Responder responder) { Stream(request, std::move(responder)); }});
    router_->Add({"GET",
                  "/later",
                  Role::kNone,
                  Lane::kInline,
                  "",
                  {},
                  {},
                  {"text/plain"},
                  [this](const HttpRequest&, Responder responder) {
                    auto shared = std::make_shared<Responder>(std::move(responder));
                    later_.emplace_back([shared] {
                      std::this_thread::sleep_for(std::chrono::milliseconds(50));
                      shared->Send({200, "text/plain", "later"});
                    });
                  }});
    router_->Add({"GET",
                  "/dropped",
                  Role::kNone,
                  Lane::kQuick,
                  "",
                  {},
                  {},
                  {"text/plain"},
                  [](const HttpRequest&, Responder) {}});
    router_->Add({"GET",
                  "/never",
                  Role::kNone,
                  Lane::kLong,
                  "",
                  {},
                  {},
                  {"text/plain"},
                  [this](const HttpRequest&, Responder responder) {
                    auto gone = std::make_shared<std::latch>(1);
                    responder.OnGone([gone] { gone->count_down(); });
                    gone->wait();
                    ++left_;
                    responder.Send({200, "text/plain", "too late"});
                  }});
    HttpServerOptions options;
    options.threads = 2;
    options.limits = limits_;
    auto server = HttpServer::Start(options, *router_);
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
  }
  void TearDown() override {
    if (server_) server_->Stop(1'000'000);
    if (pool_) pool_->Stop();
    for (std::thread& thread : later_) thread.join();
  }
  /// ?pieces=N&bytes=M, &fail=true, &endless=true
  void Stream(const HttpRequest& request, Responder responder) {
    auto number = [&](const char* name) {
      return request.Query(name) == nullptr ? 0 : std::atoll(request.Query(name)->c_str());
    };
    responder.Begin({200, "text/plain", ""});
    bool is_endless = request.Query("endless") != nullptr;
    for (long long i = 0; is_endless || i < number("pieces"); ++i) {
      if (responder.stop_token().stop_requested()) break;
      if (!responder.Write(std::string(static_cast<size_t>(number("bytes")), 'x')).ok()) {
        ++left_;
        return;
      }
      written_ += number("bytes");
      if (is_endless && number("pause_ms") > 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(number("pause_ms")));
    }
    request.Query("fail") != nullptr ? responder.Abort() : responder.End();
  }
  HttpTestClient Connect() { return HttpTestClient(server_->address()); }
  /// The status that a raw request gets on a connection of its own; 0 if it is closed without an answer.
  int StatusOf(std::string_view raw) { return Connect().Ask(raw).status; }
  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  HttpLimits limits_;
  uint64_t inflated_max_ = 1 << 20;
  std::vector<TokenConfig> tokens_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<Access> access_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<HttpServer> server_;
  std::vector<std::thread> later_;
  std::atomic<int> left_{0};
  std::atomic<long long> written_{0};
};

}  // namespace millstream
