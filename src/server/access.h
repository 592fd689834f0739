// Access: who may do what: tokens with roles, and the Host and Origin of a request.
//
// Place: floor 7. Immutable; thread-safe. Without tokens the server listens on loopback only and whoever
// reaches it may do all, except a web page: a page's requests carry a foreign Origin, or a foreign Host (DNS
// rebinding), and are refused (SEMANTICS, "Start, folder, network").
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "catalog/project.h"
#include "server/http_message.h"

namespace millstream {

enum class Role : uint8_t { kNone, kRead, kWrite, kAdmin };
std::string_view RoleName(Role role);

/// True for localhost, *.localhost, 127.0.0.0/8 and ::1.
bool IsLoopback(std::string_view host);

class Access {
 public:
  /// kInvalid if other addresses than loopback are listened on without tokens, or a role is not known.
  static Result<Access> Make(const std::string& listen, const std::vector<TokenConfig>& tokens);

  /// Fills request.who. A refusal (400, 401, 403) if the request may not do what needs `role`.
  std::optional<HttpResponse> Check(HttpRequest& request, Role role) const;

 private:
  struct Token {
    std::string name;
    Role role;
    std::array<unsigned char, 32> digest;  // SHA-256: compared in constant time, whatever the length
  };
  Access() = default;
  bool IsOurs(std::string_view authority) const;

  std::string listen_host_;
  std::vector<Token> tokens_;
};

}  // namespace millstream
