#include "server/http_server.h"

#include "server/http_server_fixture.h"

namespace millstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

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

TEST_F(HttpServerTest, LargeBodiesComeWhole) {
  Start();
  auto client = Connect();
  std::string body(5'000'000, 'a');
  for (size_t i = 0; i < body.size(); i += 7) body[i] = static_cast<char>('a' + i % 26);
  EXPECT_EQ(client.Post("/echo", body).body, body);
  EXPECT_EQ(client.Post("/echo", "").body, "");
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
