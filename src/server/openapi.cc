// /openapi.json, made from the table of routes, so that it cannot drift from what is served.
#include <iterator>

#include "base/text.h"
#include "server/problem.h"
#include "server/router.h"

namespace millstream {
namespace {

constexpr std::string_view kComponents =
    R"("components":{"securitySchemes":{"token":{"type":"http","scheme":"bearer"}},"schemas":{"Problem":{"type":"object","required":["type","title","status","detail","code"],"properties":{"type":{"type":"string"},"title":{"type":"string"},"status":{"type":"integer"},"detail":{"type":"string"},"code":{"type":"string"},"position":{"type":"string"},"faults":{"type":"array","items":{"$ref":"#/components/schemas/Fault"}}}},"Fault":{"type":"object","required":["message"],"properties":{"file":{"type":"string"},"line":{"type":"integer"},"column":{"type":"integer"},"path":{"type":"string"},"index":{"type":"integer"},"message":{"type":"string"},"expected":{"type":"string"},"hint":{"type":"string"}}}}})";

/// "/v1/streams/{stream}/events" and POST: "postStreamsStreamEvents".
std::string OperationId(const Route& route) {
  std::string id = Lower(route.method);
  bool is_word_start = true;
  std::string_view path = route.path;
  if (path.starts_with("/v1")) path.remove_prefix(3);
  for (char c : path) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) {
      is_word_start = true;
    } else {
      id += is_word_start ? static_cast<char>(std::toupper(c)) : c;
      is_word_start = false;
    }
  }
  return id;
}

void AppendParameter(std::string& out, std::string_view name, std::string_view in, std::string_view type,
                     std::string_view description) {
  if (!out.ends_with('[')) out += ',';
  fmt::format_to(std::back_inserter(out),
                 R"({{"name":{},"in":"{}","required":{},"schema":{{"type":"{}"}},"description":{}}})",
                 JsonString(name), in, in == "path", type, JsonString(description));
}

void AppendContent(std::string& out, const std::vector<std::string>& media_types) {
  out += "\"content\":{";
  for (const std::string& type : media_types) {
    if (!out.ends_with('{')) out += ',';
    bool is_json = type.ends_with("json") && !type.ends_with("ndjson");
    fmt::format_to(std::back_inserter(out), "{}:{{\"schema\":{}}}", JsonString(type),
                   is_json ? "{}" : R"({"type":"string"})");
  }
  out += '}';
}

void AppendOperation(std::string& out, const Route& route) {
  std::string method = Lower(route.method);
  fmt::format_to(std::back_inserter(out), R"("{}":{{"operationId":"{}","summary":{},"parameters":[)", method,
                 OperationId(route), JsonString(route.summary));
  for (std::string_view segment : Split(route.path, '/'))
    if (segment.starts_with('{'))
      AppendParameter(out, segment.substr(1, segment.size() - 2), "path", "string", "");
  for (const Parameter& parameter : route.parameters)
    AppendParameter(out, parameter.name, parameter.in, parameter.type, parameter.description);
  if (WorksInSandbox(route))
    AppendParameter(out, "Millstream-Sandbox", "header", "string",
                    "a sandbox's name: the request works in it, and nowhere else");
  out += ']';
  if (!route.takes.empty()) {
    out += ",\"requestBody\":{\"required\":true,";
    AppendContent(out, route.takes);
    out += '}';
  }
  out += R"(,"responses":{"200":{"description":"OK",)";
  AppendContent(out, route.gives);
  out +=
      R"(},"default":{"description":"What went wrong","content":{"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}}}})";
  if (route.role != Role::kNone)
    fmt::format_to(std::back_inserter(out), R"(,"security":[{{}},{{"token":[]}}],"x-role":"{}")",
                   RoleName(route.role));
  out += '}';
}

}  // namespace

std::string OpenApiJson(const std::vector<Route>& routes, const std::string& version) {
  std::string out = fmt::format(
      R"({{"openapi":"3.1.0","info":{{"title":"Millstream","version":"{}","license":{{"name":"Apache-2.0","identifier":"Apache-2.0"}}}},"paths":{{)",
      version);
  std::vector<std::string> done;
  for (const Route& first : routes) {
    if (std::find(done.begin(), done.end(), first.path) != done.end()) continue;
    if (!done.empty()) out += ',';
    done.push_back(first.path);
    out += JsonString(first.path) + ":{";
    for (const Route& route : routes) {
      if (route.path != first.path) continue;
      if (!out.ends_with('{')) out += ',';
      AppendOperation(out, route);
    }
    out += '}';
  }
  return out + "}," + std::string(kComponents) + "}\n";
}

}  // namespace millstream
