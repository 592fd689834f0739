#include "server/access.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

HttpRequest With(HttpHeaders headers) {
  HttpRequest request;
  request.headers = std::move(headers);
  return request;
}

int StatusOf(const Access& access, HttpHeaders headers, Role role = Role::kRead) {
  HttpRequest request = With(std::move(headers));
  auto refusal = access.Check(request, role);
  return refusal ? refusal->status : 200;
}

TEST(AccessTest, WithoutTokensOnlyLoopbackIsListenedOn) {
  EXPECT_TRUE(Access::Make("127.0.0.1:8410", {}));
  EXPECT_TRUE(Access::Make("localhost:8410", {}));
  EXPECT_TRUE(Access::Make("[::1]:8410", {}));
  EXPECT_FALSE(Access::Make("0.0.0.0:8410", {}));
  EXPECT_FALSE(Access::Make("192.168.1.2:8410", {}));
  EXPECT_FALSE(Access::Make("127.evil.example:80", {}));
  EXPECT_TRUE(Access::Make("0.0.0.0:8410", {{"a", "read", "t"}}));
  EXPECT_FALSE(Access::Make("0.0.0.0:8410", {{"a", "root", "t"}}));
  EXPECT_FALSE(Access::Make("0.0.0.0:8410", {{"a", "read", ""}}));
}

TEST(AccessTest, ForeignHostsAndOriginsAreRefused) {
  auto access = Access::Make("127.0.0.1:8410", {});
  ASSERT_TRUE(access);
  EXPECT_EQ(StatusOf(*access, {{"host", "localhost:8410"}}), 200);
  EXPECT_EQ(StatusOf(*access, {{"host", "127.0.0.1:8410"}}), 200);
  EXPECT_EQ(StatusOf(*access, {{"host", "[::1]:8410"}}), 200);
  EXPECT_EQ(StatusOf(*access, {{"host", "LOCALHOST"}}), 200);
  EXPECT_EQ(StatusOf(*access, {}), 200);  // HTTP/1.0
  EXPECT_EQ(StatusOf(*access, {{"host", "evil.example"}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", "127.0.0.1.evil.example"}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", "localhost.evil.example:8410"}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", ""}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", "localhost"}, {"origin", "https://evil.example"}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", "localhost"}, {"origin", "null"}}), 403);
  EXPECT_EQ(StatusOf(*access, {{"host", "localhost"}, {"origin", "http://localhost:3000"}}), 200);
}

TEST(AccessTest, TokensHaveRoles) {
  auto access = Access::Make(
      "0.0.0.0:8410",
      {{"reader", "read", "r-secret"}, {"writer", "write", "w-secret"}, {"boss", "admin", "a-secret"}});
  ASSERT_TRUE(access);
  auto status = [&](const std::string& token, Role role) {
    return StatusOf(*access, {{"host", "data.example"}, {"authorization", "Bearer " + token}}, role);
  };
  EXPECT_EQ(status("r-secret", Role::kRead), 200);
  EXPECT_EQ(status("r-secret", Role::kWrite), 403);
  EXPECT_EQ(status("w-secret", Role::kRead), 200);
  EXPECT_EQ(status("w-secret", Role::kWrite), 200);
  EXPECT_EQ(status("w-secret", Role::kAdmin), 403);
  EXPECT_EQ(status("a-secret", Role::kAdmin), 200);
  EXPECT_EQ(status("r-secre", Role::kRead), 401);
  EXPECT_EQ(status("r-secret2", Role::kRead), 401);
  EXPECT_EQ(status("", Role::kRead), 401);
  EXPECT_EQ(StatusOf(*access, {{"host", "data.example"}}), 401);
  EXPECT_EQ(StatusOf(*access, {{"host", "data.example"}, {"authorization", "Basic r-secret"}}), 401);
  EXPECT_EQ(StatusOf(*access, {{"host", "data.example"}}, Role::kNone), 200);
  EXPECT_EQ(StatusOf(*access, {{"host", "data.example"},
                               {"origin", "https://evil.example"},
                               {"authorization", "Bearer a-secret"}}),
            403);
  EXPECT_EQ(StatusOf(*access, {{"host", "data.example"},
                               {"origin", "https://data.example"},
                               {"authorization", "Bearer a-secret"}}),
            200);

  HttpRequest request = With({{"authorization", "bearer w-secret"}});
  EXPECT_FALSE(access->Check(request, Role::kWrite));
  EXPECT_EQ(request.who, "writer");
}

}  // namespace
}  // namespace millstream
