#include "server/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/text.h"
#include "server/http_text.h"
#include "server/problem.h"

namespace millstream {
namespace {

constexpr size_t kWhoBytesMax = 128;

std::array<unsigned char, 32> Digest(std::string_view text) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kRead:
      return "read";
    case Role::kWrite:
      return "write";
    case Role::kAdmin:
      return "admin";
    default:
      return "none";
  }
}

bool IsLoopback(std::string_view host) {
  if (host == "localhost" || host.ends_with(".localhost") || host == "::1") return true;
  if (!host.starts_with("127.")) return false;
  auto parts = Split(host, '.');
  return parts.size() == 4 && std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
           return !part.empty() && part.size() <= 3 && part.find_first_not_of("0123456789") == part.npos;
         });
}

Result<Access> Access::Make(const std::string& listen, const std::vector<TokenConfig>& tokens) {
  Access access;
  auto host = HostOf(listen);
  if (!host) return Fail(Invalid("server.listen: '{}' is not HOST:PORT, e.g. 127.0.0.1:8410", listen));
  access.listen_host_ = *host;
  if (tokens.empty() && !IsLoopback(*host))
    return Fail(
        Invalid("server.listen: {} is not a loopback address; other addresses are listened on only with "
                "server.tokens",
                listen));
  for (const TokenConfig& token : tokens) {
    Role role = token.role == "read"    ? Role::kRead
                : token.role == "write" ? Role::kWrite
                : token.role == "admin" ? Role::kAdmin
                                        : Role::kNone;
    if (role == Role::kNone)
      return Fail(
          Invalid("server.tokens: role '{}' of '{}' is not read, write or admin", token.role, token.name));
    if (token.token.empty()) return Fail(Invalid("server.tokens: the token of '{}' is empty", token.name));
    access.tokens_.push_back({token.name, role, Digest(token.token)});
  }
  return access;
}

bool Access::IsOurs(std::string_view authority) const {
  auto host = HostOf(authority);
  return host && (IsLoopback(*host) || *host == listen_host_);
}

std::optional<HttpResponse> Access::Check(HttpRequest& request, Role role) const {
  const std::string* host = request.Header("host");
  // With tokens a foreign page can do nothing, and a proxy may pass on its own name.
  if (tokens_.empty() && host != nullptr && !IsOurs(*host))
    return Problem(
        403, "forbidden",
        fmt::format("Host '{}' is foreign; call the server by the address it listens on, or as localhost",
                    *host));
  if (const std::string* origin = request.Header("origin")) {
    size_t scheme = origin->find("://");
    std::string_view authority =
        scheme == origin->npos ? std::string_view() : std::string_view(*origin).substr(scheme + 3);
    bool is_same = host != nullptr && !tokens_.empty() && authority == *host;
    if (!is_same && !IsOurs(authority))
      return Problem(403, "forbidden",
                     fmt::format("Origin '{}' is foreign: no web page may use this server", *origin));
  }
  if (tokens_.empty()) {
    const std::string* who = request.Header("millstream-who");
    request.who = who == nullptr ? "anonymous" : who->substr(0, kWhoBytesMax) + " (unverified)";
    return std::nullopt;
  }
  if (role == Role::kNone) return std::nullopt;
  const std::string* authorization = request.Header("authorization");
  if (authorization == nullptr || LowerAscii(authorization->substr(0, 7)) != "bearer ")
    return Problem(401, "unauthorized", "this server wants a token: -H 'Authorization: Bearer TOKEN'");
  auto digest = Digest(Trim(std::string_view(*authorization).substr(7)));
  const Token* found = nullptr;
  for (const Token& token : tokens_)
    if (CRYPTO_memcmp(token.digest.data(), digest.data(), digest.size()) == 0) found = &token;
  if (found == nullptr) return Problem(401, "unauthorized", "the token is not known");
  if (found->role < role)
    return Problem(403, "forbidden",
                   fmt::format("the token '{}' has the role {}; this needs {}", found->name,
                               RoleName(found->role), RoleName(role)));
  request.who = found->name;
  return std::nullopt;
}

}  // namespace millstream
