#include "server/http_server.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <latch>

#include "server/http_test_client.h"
#include "server/problem.h"
#include "server/router.h"

namespace millstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string Gzip(std::string_view bytes) {
  z_stream stream{};
  CHECK(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::vector<char> out(bytes.size() + 1000);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  deflateEnd(&stream);
  return {out.data(), static_cast<size_t>(stream.total_out)};
}

std::string Zstd(std::string_view bytes) {
  std::vector<char> out(ZSTD_compressBound(bytes.size()));
  return {out.data(), ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3)};
}

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
                      std::this_thread::sleep_for(milliseconds(50));
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
      if (is_endless && number("pause_ms") > 0) std::this_thread::sleep_for(milliseconds(number("pause_ms")));
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
      std::this_thread::sleep_for(milliseconds(10));
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

TEST_F(HttpServerTest, AnswersAndKeepsTheConnection) {
  Start();
  auto client = Connect();
  for (int i = 0; i < 3; ++i) {
    auto response = client.Get("/hello");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "hello");
    EXPECT_EQ(response.Header("content-type"), "text/plain");
    EXPECT_EQ(response.Header("connection"), "");
    EXPECT_NE(response.Header("date"), "");
  }
  auto last = client.Get("/hello", "Connection: close\r\n");
  EXPECT_EQ(last.body, "hello");
  EXPECT_EQ(last.Header("connection"), "close");
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  auto client = Connect();
  client.Send(
      "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n"
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "3\r\n\r\nabc"
      "GET /items/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.Read().body, "later");
  EXPECT_EQ(client.Read().body, "abc");
  EXPECT_EQ(client.Read().body, "a|-|anonymous");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  Start();
  auto client = Connect();
  auto response = client.Ask("HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("content-length"), "5");
  EXPECT_EQ(client.Get("/hello").body, "hello");
}

TEST_F(HttpServerTest, Http10ClosesUnlessAsked) {
  Start();
  auto client = Connect();
  auto response = client.Ask("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(response.body, "hello");
  EXPECT_TRUE(client.IsClosed());
  auto kept = Connect();
  EXPECT_EQ(kept.Ask("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").Header("connection"),
            "keep-alive");
  EXPECT_EQ(kept.Get("/hello").body, "hello");
  auto streamed = Connect();
  streamed.Send("GET /stream?pieces=3&bytes=10 HTTP/1.0\r\n\r\n");
  streamed.ReadAll();
  std::string all = streamed.TakeBuffer();
  EXPECT_EQ(all.find("Transfer-Encoding"), all.npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\n" + std::string(30, 'x')));
}

TEST_F(HttpServerTest, PathsAndQueriesAreDecoded) {
  Start();
  auto client = Connect();
  EXPECT_EQ(client.Get("/items/a%2Fb?q=1%202+3&q=x").body, "a/b|1 2 3|anonymous");
  EXPECT_EQ(client.Get("/items/%zz").status, 404);
  EXPECT_EQ(client.Get("/items/a?q=%ff").status, 400);
  EXPECT_EQ(client.Get("/items/").status, 404);
}

TEST_F(HttpServerTest, UnknownPathsAndMethods) {
  Start();
  auto client = Connect();
  auto missing = client.Get("/helo");
  EXPECT_EQ(missing.status, 404);
  EXPECT_NE(missing.body.find("perhaps /hello"), std::string::npos) << missing.body;
  EXPECT_EQ(missing.Header("content-type"), "application/problem+json");
  auto method = client.Ask("DELETE /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.Header("allow"), "GET, HEAD");
}

TEST_F(HttpServerTest, ChunkedBodies) {
  Start();
  auto client = Connect();
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n";
  EXPECT_EQ(client.Ask(head + "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n").body,
            "abc0123456789");
  // Byte by byte, and the next request right behind.
  std::string bytes = head + "2\r\nab\r\n1\r\nc\r\n0\r\n\r\nGET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
  for (char byte : bytes) ASSERT_TRUE(client.Send({&byte, 1}));
  EXPECT_EQ(client.Read().body, "abc");
  EXPECT_EQ(client.Read().body, "hello");
}

TEST_F(HttpServerTest, CompressedBodies) {
  Start();
  auto client = Connect();
  std::string text(300'000, ' ');
  for (size_t i = 0; i < text.size(); i += 3) text[i] = static_cast<char>('a' + i * 7 % 26);
  EXPECT_EQ(client.Post("/echo", Gzip(text), "application/json", "Content-Encoding: gzip\r\n").body, text);
  EXPECT_EQ(client.Post("/echo", Zstd(text), "application/json", "Content-Encoding: zstd\r\n").body, text);
  EXPECT_EQ(client.Post("/echo", "abc", "application/json", "Content-Encoding: identity\r\n").body, "abc");
  EXPECT_EQ(client.Post("/echo", "abc", "application/json", "Content-Encoding: gzip\r\n").status, 400);
  EXPECT_EQ(client.Post("/echo", Gzip(text).substr(0, 1000), "application/json", "Content-Encoding: gzip\r\n")
                .status,
            400);
  EXPECT_EQ(client.Get("/hello").status, 200);  // the connection is sound
  EXPECT_EQ(Connect().Post("/echo", "abc", "application/json", "Content-Encoding: br\r\n").status, 415);
}

TEST_F(HttpServerTest, CompressedBodiesAreBoundedAsTheyInflate) {
  Start();
  std::string zeros(200 << 20, 0);
  for (auto [encoding, body] : {std::pair("gzip", Gzip(zeros)), std::pair("zstd", Zstd(zeros))}) {
    auto response = Connect().Post("/echo", body, "application/json",
                                   "Content-Encoding: " + std::string(encoding) + "\r\n");
    EXPECT_EQ(response.status, 413) << encoding;
    EXPECT_NE(response.body.find("limits: inflated"), std::string::npos) << response.body;
  }
  EXPECT_EQ(
      Connect()
          .Post("/echo", Gzip(zeros.substr(0, 1 << 20)), "application/json", "Content-Encoding: gzip\r\n")
          .status,
      200);
  EXPECT_EQ(Connect()
                .Post("/echo", Gzip(zeros.substr(0, (1 << 20) + 1)), "application/json",
                      "Content-Encoding: gzip\r\n")
                .status,
            413);
}

TEST_F(HttpServerTest, LargeBodiesComeWhole) {
  Start();
  auto client = Connect();
  std::string body(5'000'000, 'a');
  for (size_t i = 0; i < body.size(); i += 7) body[i] = static_cast<char>('a' + i % 26);
  EXPECT_EQ(client.Post("/echo", body).body, body);
  EXPECT_EQ(client.Post("/echo", "").body, "");
}

TEST_F(HttpServerTest, RequestsThatTwoServersCouldReadDifferentlyAreRefused) {
  Start();
  const std::string post = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  for (std::string raw : {
           post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
           post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
           post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
           post + "Content-Length: 3, 3\r\n\r\nabc",
           post + "Content-Length: +3\r\n\r\nabc",
           post + "Content-Length: -1\r\n\r\nabc",
           post + "Content-Length: 99999999999999999999999\r\n\r\nabc",
           post + "Content-Length: 0x3\r\n\r\nabc",
           post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
           post + "Transfer-Encoding: identity\r\n\r\n",
           post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
           post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
           post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
           post + "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n",
           post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n",
           post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
           post + "Transfer-Encoding: chunked\r\n\r\n" + std::string(20'000, '0') + "\r\n",
           post + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
           post + "X: a\rb\r\n\r\n",
           post + std::string("X: a\0b\r\n\r\n", 10),
           std::string("GET /hello HTTP/1.1\nHost: localhost\n\n"),
           std::string("GET /hello HTTP/1.1\r\n\r\n"),
           std::string("GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
           std::string("GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"),
           std::string("GET hello HTTP/1.1\r\nHost: localhost\r\n\r\n"),
           std::string("POST /echo HTTP/1.0\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                       "chunked\r\n\r\n0\r\n\r\n"),
           std::string("\x16\x03\x01 hello\r\n\r\n"),
       }) {
    auto client = Connect();
    auto response = client.Ask(raw);
    EXPECT_EQ(response.status, 400) << raw.substr(0, 300) << "\n" << response.body;
    EXPECT_EQ(response.Header("connection"), "close") << raw.substr(0, 300);
    EXPECT_TRUE(client.IsClosed()) << raw.substr(0, 300);
  }
  EXPECT_EQ(StatusOf("GET /hello HTTP/2.0\r\nHost: localhost\r\n\r\n"), 505);
}

TEST_F(HttpServerTest, LimitsOfHeadAndBody) {
  limits_.header_bytes = 4096;
  limits_.body_bytes = 1000;
  Start();
  EXPECT_EQ(StatusOf("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(3000, 'x') + "\r\n\r\n"),
            200);
  EXPECT_EQ(StatusOf("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(5000, 'x') + "\r\n\r\n"),
            431);
  EXPECT_EQ(StatusOf("GET /" + std::string(200'000, 'x')), 431);
  auto client = Connect();
  EXPECT_EQ(client.Post("/echo", std::string(1000, 'x')).status, 200);
  auto large = client.Post("/echo", std::string(1001, 'x'));
  EXPECT_EQ(large.status, 413);
  EXPECT_NE(large.body.find("\"code\":\"too_large\""), std::string::npos);
  std::string chunk = "1f4\r\n" + std::string(500, 'x') + "\r\n";
  EXPECT_EQ(StatusOf("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                     "application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
                     chunk + chunk + chunk + "0\r\n\r\n"),
            413);
}

TEST_F(HttpServerTest, ContinueIsSaidOnlyWhenTheBodyWillBeTaken) {
  limits_.body_bytes = 1000;
  Start();
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n";
  auto client = Connect();
  EXPECT_EQ(client.Ask(head + "Content-Length: 3\r\n\r\n").status, 100);
  EXPECT_EQ(client.Ask("abc").body, "abc");
  EXPECT_EQ(client.Ask(head + "Content-Length: 3000\r\n\r\n").status, 413);
  EXPECT_EQ(StatusOf("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nExpect: "
                     "100-continue\r\nContent-Length: 3\r\n\r\n"),
            415);
  EXPECT_EQ(StatusOf("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: "
                     "magic\r\nContent-Length: 3\r\n\r\n"),
            417);
}

TEST_F(HttpServerTest, BodiesOfOtherTypesAreToldTheHeaderToAdd) {
  Start();
  auto client = Connect();
  auto response = client.Post("/echo", "a=1", "application/x-www-form-urlencoded");
  EXPECT_EQ(response.status, 415);
  EXPECT_NE(response.body.find("-H 'Content-Type: application/json'"), std::string::npos) << response.body;
  EXPECT_EQ(Connect().Post("/echo", "{}", "application/json; charset=utf-8").status, 200);
}

TEST_F(HttpServerTest, ConnectionsAreBounded) {
  limits_.connections = 2;
  Start();
  auto first = Connect(), second = Connect();
  EXPECT_EQ(first.Get("/hello").status, 200);
  EXPECT_EQ(second.Get("/hello").status, 200);
  auto third = Connect();
  auto refused = third.Read();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("retry-after"), "2");
  first.Close();
  EXPECT_TRUE(Eventually([&] { return server_->connections() < 2; }));
  EXPECT_EQ(Connect().Get("/hello").status, 200);
}

TEST_F(HttpServerTest, SlowClientsAreCutAndFastOnesAreNot) {
  limits_.header_timeout_us = 200'000;
  limits_.body_timeout_us = 200'000;
  limits_.body_bytes_per_s = 1000;
  limits_.idle_timeout_us = 300'000;
  Start();
  auto head = Connect();
  head.Send("GET /hello HTTP/1.1\r\nHost:");
  EXPECT_EQ(head.Read().status, 408);
  EXPECT_TRUE(head.IsClosed());
  auto trickle = Connect();  // bytes come, but too few of them
  trickle.Send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "10000\r\n\r\n");
  auto started = steady_clock::now();
  while (steady_clock::now() - started < milliseconds(2000) && trickle.Send("x"))
    std::this_thread::sleep_for(milliseconds(20));
  EXPECT_LT(steady_clock::now() - started, milliseconds(1900));
  EXPECT_EQ(trickle.Read().status, 408);
  auto steady = Connect();  // slow, yet above the rate
  steady.Send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "1000\r\n\r\n");
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    steady.Send(std::string(100, 'x'));
  }
  EXPECT_EQ(steady.Read().status, 200);
  auto idle = Connect();
  EXPECT_EQ(idle.Get("/hello").status, 200);
  EXPECT_TRUE(idle.IsClosed());
}

TEST_F(HttpServerTest, StreamsWithBackPressure) {
  limits_.unsent_bytes = 64 << 10;
  Start();
  auto client = Connect();
  auto response = client.Get("/stream?pieces=100&bytes=1000");
  EXPECT_EQ(response.Header("transfer-encoding"), "chunked");
  EXPECT_TRUE(response.whole);
  EXPECT_EQ(response.body, std::string(100'000, 'x'));
  EXPECT_EQ(client.Get("/hello").body, "hello");  // the connection goes on
  written_ = 0;
  client.Send("GET /stream?pieces=2000&bytes=65536 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_LT(written_, 100'000'000);  // the handler waits for the reader: only the sockets' buffers are full
  auto all = client.Read();
  EXPECT_TRUE(all.whole);
  EXPECT_EQ(all.body.size(), 2000u * 65536u);
}

TEST_F(HttpServerTest, AFaultAfterTheFirstByteCutsTheStream) {
  Start();
  auto client = Connect();
  auto response = client.Get("/stream?pieces=10&bytes=1000&fail=1");
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.whole);
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(HttpServerTest, AHandlerHearsThatItsClientLeft) {
  Start();
  auto client = Connect();
  client.Send("GET /stream?endless=1&bytes=10&pause_ms=5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("xxxxxxxxxx"));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return left_ == 1; }));
  auto waiting = Connect();
  waiting.Send("GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(left_, 1);
  waiting.Close();
  EXPECT_TRUE(Eventually([&] { return left_ == 2; }));
}

TEST_F(HttpServerTest, LongTasksAreBounded) {
  Start();
  std::vector<std::unique_ptr<HttpTestClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<HttpTestClient>(server_->address()));
    clients.back()->Send("GET /stream?endless=1&bytes=1&pause_ms=5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_TRUE(clients.back()->ReadUntil("\r\n\r\n"));
  }
  auto refused = Connect().Get("/stream?pieces=1&bytes=1");
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.Header("retry-after"), "");
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return Connect().Get("/stream?pieces=1&bytes=1").status == 200; }));
}

TEST_F(HttpServerTest, ADroppedRequestIsAnswered) {
  Start();
  auto client = Connect();
  EXPECT_EQ(client.Get("/dropped").status, 500);
  EXPECT_EQ(client.Get("/hello").status, 200);
}

TEST_F(HttpServerTest, StopFinishesWhatRunsAndClosesIdleConnections) {
  Start();
  auto idle = Connect(), busy = Connect(), endless = Connect();
  EXPECT_EQ(idle.Get("/hello").status, 200);
  endless.Send("GET /stream?endless=1&bytes=1&pause_ms=5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  ASSERT_TRUE(endless.ReadUntil("x"));
  busy.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(20));
  auto started = steady_clock::now();
  server_->Stop(5'000'000);
  EXPECT_LT(steady_clock::now() - started, milliseconds(2000));
  auto answered = busy.Read();
  EXPECT_EQ(answered.body, "later");
  EXPECT_TRUE(idle.IsClosed());
  endless.ReadAll();
  EXPECT_TRUE(endless.TakeBuffer().ends_with("0\r\n\r\n"));  // an endless answer ends whole
}

TEST_F(HttpServerTest, StopCutsWhatDoesNotEnd) {
  Start();
  auto client = Connect();
  client.Send("GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(50));
  server_->Stop(100'000);
  EXPECT_TRUE(Eventually([&] { return left_ == 1; }));
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(HttpServerTest, TwoServersCannotHaveOneAddress) {
  Start();
  HttpServerOptions options;
  options.listen = server_->address();
  auto second = HttpServer::Start(options, *router_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kUnavailable);
  EXPECT_NE(second.error().message().find(server_->address()), std::string::npos);
}

}  // namespace
}  // namespace millstream
