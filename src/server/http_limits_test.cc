// What a server refuses, and where its bounds lie.
#include <zlib.h>
#include <zstd.h>

#include "server/http_server_fixture.h"

namespace millstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using HttpLimitsTest = HttpServerTest;

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

TEST_F(HttpLimitsTest, CompressedBodies) {
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

TEST_F(HttpLimitsTest, CompressedBodiesAreBoundedAsTheyInflate) {
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

TEST_F(HttpLimitsTest, RequestsThatTwoServersCouldReadDifferentlyAreRefused) {
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

TEST_F(HttpLimitsTest, LimitsOfHeadAndBody) {
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

TEST_F(HttpLimitsTest, ContinueIsSaidOnlyWhenTheBodyWillBeTaken) {
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

TEST_F(HttpLimitsTest, BodiesOfOtherTypesAreToldTheHeaderToAdd) {
  Start();
  auto client = Connect();
  auto response = client.Post("/echo", "a=1", "application/x-www-form-urlencoded");
  EXPECT_EQ(response.status, 415);
  EXPECT_NE(response.body.find("-H 'Content-Type: application/json'"), std::string::npos) << response.body;
  EXPECT_EQ(Connect().Post("/echo", "{}", "application/json; charset=utf-8").status, 200);
}

TEST_F(HttpLimitsTest, ConnectionsAreBounded) {
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

TEST_F(HttpLimitsTest, SlowClientsAreCutAndFastOnesAreNot) {
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

TEST_F(HttpLimitsTest, LongTasksAreBounded) {
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

}  // namespace
}  // namespace millstream
