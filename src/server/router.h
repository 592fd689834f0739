// Router: the one table of routes: method, path, role, what it takes and gives, who answers. Admission,
// dispatch and /openapi.json come from it.
//
// Place: floor 7. Routes are added by the files routes_*.cc, then the table is frozen. Threads: immutable
// while it serves; handlers run on the lane that their route names.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/access.h"
#include "server/http_message.h"
#include "server/worker_pool.h"

namespace millstream {

/// The sandbox that a request works in, in place of the live Engine (header, in lower case as requests have
/// it).
inline constexpr char kSandboxHeader[] = "millstream-sandbox";

/// Where a handler runs.
enum class Lane : uint8_t {
  kInline,  // on the I/O thread: answers from memory, at once
  kQuick,   // milliseconds
  kLong,    // a thread of its own: queries, waits
  kFeed,    // the same for what stays: feeds, taps
};

struct Parameter {
  std::string name;
  std::string in;  // query, header
  std::string description;
  std::string type = "string";  // of JSON Schema: string, integer, boolean
};

struct Route {
  std::string method;
  std::string path;  // "/v1/streams/{stream}/events"
  Role role = Role::kRead;
  Lane lane = Lane::kQuick;
  std::string summary;
  std::vector<Parameter> parameters{};
  std::vector<std::string> takes{};  // media types of the body; empty: no body
  std::vector<std::string> gives{"application/json"};
  std::function<void(const HttpRequest&, Responder)> handler;
  bool takes_any_query = false;  // else parameters that it does not name are refused
};

class Router final : public HttpHandler {
 public:
  /// `access` and `pool` must outlive the router. `inflated_max`: bound of an inflated body.
  Router(const Access& access, WorkerPool& pool, uint64_t inflated_max)
      : access_(access), pool_(pool), inflated_max_(inflated_max) {}

  void Add(Route route);
  const std::vector<Route>& routes() const { return routes_; }

  std::optional<HttpResponse> Admit(HttpRequest& head) override;
  void Handle(std::shared_ptr<HttpRequest> request, Responder responder) override;

 private:
  std::optional<HttpResponse> Find(HttpRequest& head) const;
  static std::optional<HttpResponse> CheckQuery(const HttpRequest& head, const Route& route);
  static std::optional<HttpResponse> CheckBodyType(const HttpRequest& head, const Route& route);

  const Access& access_;
  WorkerPool& pool_;
  const uint64_t inflated_max_;
  std::vector<Route> routes_;
  std::vector<std::vector<std::string>> patterns_;  // of each route: its path's segments
};

/// Whether requests of a route may work in a sandbox: what asks and what takes events in. A sandbox is not
/// changed otherwise; another is made.
bool WorksInSandbox(const Route& route);

/// The OpenAPI 3.1 document of these routes.
std::string OpenApiJson(const std::vector<Route>& routes, const std::string& version);

}  // namespace millstream
