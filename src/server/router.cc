#include "server/router.h"

#include "base/fault.h"
#include "base/text.h"
#include "event/decompress.h"
#include "server/http_text.h"
#include "server/problem.h"

namespace millstream {
namespace {

constexpr size_t kInflateStepBytes = 256 << 10;
// What small bodies may inflate to besides the bound of the project: events compress to a fifth or a tenth, a
// bomb of some hundred kilobytes to a thousandth, and several at once would take the memory.
constexpr uint64_t kInflateRatioMax = 50;
constexpr uint64_t kInflateFreeBytes = 8 << 20;

/// Of a Content-Encoding; nothing: not known.
std::optional<Compression> CompressionNamed(const std::string* encoding) {
  std::string name = encoding == nullptr ? "" : LowerAscii(*encoding);
  if (name.empty() || name == "identity") return Compression::kNone;
  if (name == "gzip" || name == "x-gzip") return Compression::kGzip;
  if (name == "zstd") return Compression::kZstd;
  return std::nullopt;
}

/// Inflates the body in place; a problem if it does not decode or grows beyond the bound.
std::optional<HttpResponse> InflateBody(HttpRequest& request, uint64_t max_bytes) {
  Compression compression = *CompressionNamed(request.Header("content-encoding"));
  if (compression == Compression::kNone) return std::nullopt;
  max_bytes = std::min(max_bytes, std::max(kInflateFreeBytes, kInflateRatioMax * request.body.view().size()));
  auto inflater = Inflater::Make(compression, max_bytes);
  BodyBuffer inflated;
  std::string_view in = request.body.view();
  std::string piece;
  Status status;
  do {
    piece.clear();
    status = inflater->Inflate(in, piece, kInflateStepBytes);
    inflated.Append(piece);
  } while (status.ok() && (!in.empty() || piece.size() == kInflateStepBytes));
  if (status.ok()) status = inflater->Finish();
  if (status.code() == Code::kExhausted)
    return Problem(413, "too_large",
                   fmt::format("the body inflates to more than {} (limits: inflated, and {} times its size); "
                               "send it in pieces",
                               FormatBytes(max_bytes), kInflateRatioMax));
  if (!status.ok()) return Problem(400, "bad_request", "the body does not decode: " + status.message());
  request.body = std::move(inflated);
  return std::nullopt;
}

bool IsPlaceholder(std::string_view segment) { return segment.starts_with('{'); }

/// The values of a pattern's placeholders, if the path's segments match.
std::optional<std::vector<std::pair<std::string, std::string>>> Match(
    const std::vector<std::string>& pattern, const std::vector<std::string_view>& path) {
  if (pattern.size() != path.size()) return std::nullopt;
  std::vector<std::pair<std::string, std::string>> values;
  for (size_t i = 0; i < path.size(); ++i) {
    if (!IsPlaceholder(pattern[i])) {
      if (pattern[i] != path[i]) return std::nullopt;
      continue;
    }
    auto value = PercentDecode(path[i], false);
    if (!value || value->empty()) return std::nullopt;
    values.emplace_back(pattern[i].substr(1, pattern[i].size() - 2), std::move(*value));
  }
  return values;
}

void Run(const std::function<void(const HttpRequest&, Responder)>& handler, const HttpRequest& request,
         Responder responder) {
  try {
    handler(request, std::move(responder));
  } catch (const std::bad_alloc&) {  // the Responder answered 500, or cut the stream, as it went
  }
}

}  // namespace

bool WorksInSandbox(const Route& route) {
  return route.path.starts_with("/v1/") && route.role < Role::kAdmin &&
         !route.path.starts_with("/v1/sandboxes");
}

void Router::Add(Route route) {
  std::vector<std::string> pattern;
  for (std::string_view segment : Split(route.path, '/')) pattern.emplace_back(segment);
  patterns_.push_back(std::move(pattern));
  routes_.push_back(std::move(route));
}

/// Fills route, path_values and query, or answers 404 and 405.
std::optional<HttpResponse> Router::Find(HttpRequest& head) const {
  std::string_view method = head.method == "HEAD" ? "GET" : std::string_view(head.method);
  std::vector<std::string_view> segments = Split(head.path, '/');
  std::string allowed;
  for (size_t i = 0; i < routes_.size(); ++i) {
    auto values = Match(patterns_[i], segments);
    if (!values) continue;
    if (routes_[i].method != method) {
      if (!allowed.empty()) allowed += ", ";
      allowed += routes_[i].method == "GET" ? "GET, HEAD" : routes_[i].method;
      continue;
    }
    head.route = i;
    head.path_values = std::move(*values);
    auto query = ParseQuery(head.raw_query);
    if (!query) return Problem(400, "bad_request", "the query of the URL is not percent-encoded UTF-8");
    head.query = std::move(*query);
    return std::nullopt;
  }
  if (!allowed.empty()) {
    HttpResponse response =
        Problem(405, "method_not_allowed",
                fmt::format("{} is not for {}; allowed: {}", head.method, head.path, allowed));
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  std::vector<std::string> paths;
  for (const Route& route : routes_) paths.push_back(route.path);
  std::string nearest = Nearest(head.path, paths);
  return Problem(404, "not_found",
                 fmt::format("no route {}{}; GET /openapi.json has them all", head.path,
                             nearest.empty() ? "" : ", perhaps " + nearest));
}

/// 415 with the header to add: what a browser form or a plain `curl -d` sends is none of ours, so no web page
/// can post here.
std::optional<HttpResponse> Router::CheckBodyType(const HttpRequest& head, const Route& route) {
  if (route.takes.empty()) return std::nullopt;
  if (const std::string* encoding = head.Header("content-encoding"); !CompressionNamed(encoding))
    return Problem(415, "unsupported_media_type",
                   fmt::format("Content-Encoding '{}' is not known; use gzip or zstd", *encoding));
  const std::string* type = head.Header("content-type");
  std::string media = type == nullptr ? "" : MediaType(*type);
  bool is_binary_cloud_event =
      head.Header("ce-specversion") != nullptr && (media == "application/json" || media.ends_with("+json"));
  if (is_binary_cloud_event || std::find(route.takes.begin(), route.takes.end(), media) != route.takes.end())
    return std::nullopt;
  std::string others;
  for (size_t i = 1; i < route.takes.size(); ++i) others += (i == 1 ? " (or " : ", ") + route.takes[i];
  if (!others.empty()) others += ')';
  return Problem(
      415, "unsupported_media_type",
      fmt::format("{} is not taken here; add -H 'Content-Type: {}'{}",
                  media.empty() ? "a body without Content-Type" : "'" + media + "'", route.takes[0], others));
}

/// A parameter that does not exist would be left out of what was asked.
std::optional<HttpResponse> Router::CheckQuery(const HttpRequest& head, const Route& route) {
  if (head.query.empty() || route.takes_any_query || !route.path.starts_with("/v1/")) return std::nullopt;
  std::vector<std::string> names;
  for (const Parameter& parameter : route.parameters)
    if (parameter.in == "query") names.push_back(parameter.name);
  for (const auto& [name, value] : head.query) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string nearest = Nearest(name, names), all;
    for (const std::string& each : names) all += (all.empty() ? "; it has " : ", ") + each;
    return Problem(400, "bad_request",
                   fmt::format("{} {} has no parameter '{}'{}", head.method, head.path, name,
                               nearest.empty() ? all : fmt::format("; did you mean '{}'?", nearest)));
  }
  return std::nullopt;
}

std::optional<HttpResponse> Router::Admit(HttpRequest& head) {
  auto missing = Find(head);
  // Host and Origin are looked at first: a foreign page learns nothing, not even which routes there are.
  Role role = missing ? Role::kNone : routes_[head.route].role;
  if (auto refusal = access_.Check(head, role)) return refusal;
  if (missing) return missing;
  if (auto refusal = CheckQuery(head, routes_[head.route])) return refusal;
  return CheckBodyType(head, routes_[head.route]);
}

void Router::Handle(std::shared_ptr<HttpRequest> request, Responder responder) {
  const Route& route = routes_[request->route];
  if (route.lane == Lane::kInline) return Run(route.handler, *request, std::move(responder));
  // A task is a std::function, which is copied; a Responder is not.
  auto shared = std::make_shared<Responder>(std::move(responder));
  auto task = [&route, request, shared, max = inflated_max_] {
    if (request->body.size() > 0)
      if (auto problem = InflateBody(*request, max)) return shared->Send(std::move(*problem));
    Run(route.handler, *request, std::move(*shared));
  };
  if (route.lane == Lane::kQuick) {
    if (pool_.RunQuick(std::move(task))) return;
    return shared->Send(Problem(503, "unavailable", "the server is busy; try again soon"));
  }
  bool is_feed = route.lane == Lane::kFeed;
  if (is_feed ? pool_.RunFeed(std::move(task)) : pool_.RunLong(std::move(task))) return;
  shared->Send(Problem(
      429, "busy",
      fmt::format("too many {} at once; try again soon", is_feed ? "feeds and taps" : "queries and waits")));
}

}  // namespace millstream
