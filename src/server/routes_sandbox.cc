// Sandboxes: POST, GET and DELETE /v1/sandboxes.
#include <fmt/ranges.h>

#include <set>

#include "base/text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

Status ReadMember(const std::string& name, const Node& value, SandboxRequest& request) {
  static const std::set<std::string> kMembers{"name", "as_of", "files", "expires", "disk", "allow_exec"};
  if (!kMembers.contains(name))
    return Invalid("'{}' is not known; there are {}", name, fmt::join(kMembers, ", "));
  if (name == "files") return OkStatus();
  if (!value.IsScalar()) return Invalid("{}: expected one value", name);
  if (name == "name") request.name = value.scalar;
  if (name == "as_of") request.as_of = value.scalar;
  if (name == "allow_exec") request.allow_exec = value.scalar == "true";
  if (name == "expires") {
    auto expires = ParseDurationUs(value.scalar);
    if (!expires) return Invalid("expires: {}", expires.error().message());
    request.expires_us = *expires;
  }
  if (name == "disk") {
    auto disk = ParseBytes(value.scalar);
    if (!disk) return Invalid("disk: {}", disk.error().message());
    request.disk_bytes = *disk;
  }
  return OkStatus();
}

void Create(Services& services, const HttpRequest& request, Responder responder) {
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  if (!faults.empty())
    return responder.Send(Problem(400, "bad_request", "the body is not JSON: " + faults[0].message));
  SandboxRequest wanted;
  wanted.who = request.who;
  for (const auto& [name, value] : body.members)
    if (Status status = ReadMember(name, value, wanted); !status.ok())
      return responder.Send(Problem(400, "bad_request", status.message()));
  if (body.Find("files") != nullptr) {
    if (auto problem = ReadProjectFiles(services.engine, body, wanted.files.emplace()))
      return responder.Send(std::move(*problem));
  }
  auto made = services.sandboxes->Create(std::move(wanted), faults);
  if (!made && made.error().code() == Code::kExhausted) return responder.Send(AppendProblem(made.error()));
  if (!made) return responder.Send(Problem(made.error(), faults));
  responder.Send({201, kJsonType, made->ToJson(), {{"Location", "/v1/sandboxes/" + made->record.name}}});
}

void List(Services& services, Responder responder) {
  HttpResponse response{200, kJsonType, "["};
  for (const SandboxStatus& status : services.sandboxes->List())
    response.body += (response.body.size() > 1 ? "," : "") + status.ToJson();
  response.body += "]";
  responder.Send(std::move(response));
}

void Show(Services& services, const HttpRequest& request, Responder responder) {
  auto status = services.sandboxes->Find(request.PathValue("sandbox"));
  if (!status) return responder.Send(Problem(status.error()));
  responder.Send({200, kJsonType, status->ToJson()});
}

void Drop(Services& services, const HttpRequest& request, Responder responder) {
  const std::string& name = request.PathValue("sandbox");
  if (Status status = services.sandboxes->Drop(name, request.who); !status.ok())
    return responder.Send(Problem(status));
  HttpResponse response;
  JsonObject(response.body).Text("dropped", name);
  responder.Send(std::move(response));
}

}  // namespace

void AddSandboxRoutes(Router& router, Services& services) {
  router.Add(
      {"POST",
       "/v1/sandboxes",
       Role::kAdmin,
       Lane::kLong,
       "Make an isolated copy: {\"name\",\"as_of\",\"files\",\"expires\",\"disk\",\"allow_exec\"}. It is "
       "used through the header Millstream-Sandbox.",
       {},
       {kJsonType},
       {kJsonType},
       [&services](const HttpRequest& request, Responder responder) {
         Create(services, request, std::move(responder));
       }});
  router.Add(
      {"GET",
       "/v1/sandboxes",
       Role::kRead,
       Lane::kQuick,
       "All sandboxes.",
       {},
       {},
       {kJsonType},
       [&services](const HttpRequest&, Responder responder) { List(services, std::move(responder)); }});
  router.Add({"GET",
              "/v1/sandboxes/{sandbox}",
              Role::kRead,
              Lane::kQuick,
              "How a sandbox stands: how far its tables are, what it holds.",
              {},
              {},
              {kJsonType},
              [&services](const HttpRequest& request, Responder responder) {
                Show(services, request, std::move(responder));
              }});
  router.Add({"DELETE",
              "/v1/sandboxes/{sandbox}",
              Role::kAdmin,
              Lane::kLong,
              "Drop a sandbox with all that is in it.",
              {},
              {},
              {kJsonType},
              [&services](const HttpRequest& request, Responder responder) {
                Drop(services, request, std::move(responder));
              }});
}

}  // namespace millstream
