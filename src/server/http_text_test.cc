#include "server/http_text.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

TEST(HttpTextTest, PercentDecode) {
  EXPECT_EQ(PercentDecode("a%20b+c", false), "a b+c");
  EXPECT_EQ(PercentDecode("a%20b+c", true), "a b c");
  EXPECT_EQ(PercentDecode("%C3%A4", false), "\xC3\xA4");
  for (const char* bad : {"%", "%4", "%zz", "%00", "%ff", "a%C3"})
    EXPECT_FALSE(PercentDecode(bad, false)) << bad;
}

TEST(HttpTextTest, ParseQuery) {
  EXPECT_EQ(ParseQuery("a=1&b=x%20y&&c&d=e=f"), (Pairs{{"a", "1"}, {"b", "x y"}, {"c", ""}, {"d", "e=f"}}));
  EXPECT_EQ(ParseQuery(""), Pairs{});
  EXPECT_FALSE(ParseQuery("a=%zz"));
}

TEST(HttpTextTest, HostOf) {
  EXPECT_EQ(HostOf("Example.COM:80"), "example.com");
  EXPECT_EQ(HostOf("[::1]:8410"), "::1");
  EXPECT_EQ(HostOf("localhost."), "localhost");
  for (const char* bad : {"", ":80", "a b", "a:b", "[::1", "[::1]x", "a/b", "user@host"})
    EXPECT_FALSE(HostOf(bad)) << bad;
}

TEST(HttpTextTest, Negotiate) {
  const std::vector<std::string_view> offers{"application/json", "application/x-ndjson", "text/csv"};
  auto best = [&](std::string accept) { return Negotiate(&accept, offers); };
  EXPECT_EQ(Negotiate(nullptr, offers), 0u);
  EXPECT_EQ(best("*/*"), 0u);
  EXPECT_EQ(best("text/csv"), 2u);
  EXPECT_EQ(best("text/*"), 2u);
  EXPECT_EQ(best("text/html, application/x-ndjson;q=0.5, */*;q=0.1"), 1u);
  EXPECT_EQ(best("application/json;q=0, text/csv;q=0.2"), 2u);
  EXPECT_EQ(best("image/png"), std::nullopt);
}

TEST(HttpTextTest, Framing) {
  auto fault = [](HttpHeaders headers, bool is_http_11 = true) {
    HttpRequest request;
    request.headers = std::move(headers);
    bool is_chunked = false;
    return FindFaultOfFraming(request, is_http_11, &is_chunked);
  };
  EXPECT_EQ(fault({{"host", "a"}, {"content-length", "3"}}), "");
  EXPECT_EQ(fault({{"host", "a"}, {"transfer-encoding", "Chunked"}}), "");
  EXPECT_EQ(fault({}, false), "");
  EXPECT_NE(fault({}), "");
  EXPECT_NE(fault({{"host", "a"}, {"content-length", "3"}, {"content-length", "3"}}), "");
  EXPECT_NE(fault({{"host", "a"}, {"content-length", ""}}), "");
  EXPECT_NE(fault({{"host", "a"}, {"content-length", "18446744073709551616"}}), "");
  EXPECT_NE(fault({{"host", "a"}, {"transfer-encoding", "chunked"}, {"content-length", "3"}}), "");
  EXPECT_NE(fault({{"transfer-encoding", "chunked"}}, false), "");
}

}  // namespace
}  // namespace millstream
