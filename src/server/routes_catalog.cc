// Definitions of streams, sources, pipelines and filters, and what can be done to them.
#include "event/json_scan.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr const char* kSections[] = {"streams", "sources", "pipelines"};

/// Names of a section, live.
std::vector<std::string> NamesOf(const Project& project, std::string_view section) {
  std::vector<std::string> names;
  const Node* items = project.root.Find(section);
  if (items != nullptr)
    for (const auto& [name, node] : items->members) names.push_back(name);
  return names;
}

HttpResponse Missing(const Project& project, std::string section, const std::string& name) {
  std::string nearest = Nearest(name, NamesOf(project, section));
  section.pop_back();
  return Problem(NotFound("no {} '{}'{}", section, name, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

/// The part of the status document that is about one item.
std::string StatusOf(const EngineStatus& status, std::string_view section, const std::string& name) {
  std::string document = status.ToJson();
  auto members = JsonMembers(document);
  for (const auto& [key, value] : *members) {
    if (key != section) continue;
    auto items = JsonElements(value);
    for (std::string_view item : *items) {
      auto fields = JsonMembers(item);
      for (const auto& [field, text] : *fields)
        if (field == "name" && text == "\"" + name + "\"") return std::string(item);
    }
  }
  return "null";
}

std::string ItemJson(const EngineStatus& status, const std::string& section, const std::string& name, const Node& definition) {
  return fmt::format("{{\"name\":\"{}\",\"definition\":{},\"status\":{}}}", name, ToJson(definition), StatusOf(status, section, name));
}

void GetItems(Services& services, const std::string& section, Responder responder) {
  std::shared_ptr<const Project> project = services.engine.project();
  EngineStatus status = services.engine.TakeStatus();
  std::string json = "[";
  if (const Node* items = project->root.Find(section)) {
    for (const auto& [name, node] : items->members) {
      if (json.size() > 1) json += ',';
      json += ItemJson(status, section, name, node);
    }
  }
  responder.Send({.body = json + "]"});
}

void GetItem(Services& services, const std::string& section, const HttpRequest& request, Responder responder) {
  std::shared_ptr<const Project> project = services.engine.project();
  const std::string& name = request.PathValue("name");
  const Node* items = project->root.Find(section);
  const Node* item = items == nullptr ? nullptr : items->Find(name);
  if (item == nullptr) return responder.Send(Missing(*project, section, name));
  responder.Send({.body = ItemJson(services.engine.TakeStatus(), section, name, *item)});
}

void GetFilter(Services& services, const HttpRequest& request, Responder responder) {
  std::shared_ptr<const Project> project = services.engine.project();
  auto pipeline = project->pipelines.find(request.PathValue("name"));
  if (pipeline == project->pipelines.end()) return responder.Send(Missing(*project, "pipelines", request.PathValue("name")));
  const std::string& name = request.PathValue("filter");
  std::vector<std::string> names;
  for (const FilterConfig& filter : pipeline->second.filters) {
    names.push_back(filter.name);
    if (filter.name != name) continue;
    std::string json = fmt::format("{{\"pipeline\":\"{}\",\"name\":\"{}\",\"kind\":\"{}\",\"definition\":", pipeline->first, name, filter.kind);
    if (filter.kind == "sql") {
      AppendJsonString(json, filter.sql);
    } else {
      json += ToJson(filter.options);
    }
    return responder.Send({.body = json + "}"});
  }
  std::string nearest = Nearest(name, names);
  responder.Send(Problem(NotFound("pipeline '{}' has no filter '{}'{}", pipeline->first, name, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest))));
}

void SetPaused(Services& services, const std::string& section, bool paused, const HttpRequest& request, Responder responder) {
  const std::string& name = request.PathValue("name");
  Status status = section == "sources" ? services.engine.SetSourcePaused(name, paused, request.who) : services.engine.SetPipelinePaused(name, paused, request.who);
  responder.Send(status.ok() ? HttpResponse{.body = paused ? "{\"state\":\"paused\"}" : "{\"state\":\"running\"}"} : Problem(status));
}

}  // namespace

void AddCatalogRoutes(Router& router, Services& services) {
  for (std::string section : kSections) {
    router.Add({.method = "GET",
                .path = "/v1/" + section,
                .summary = "All " + section + ": definition and status.",
                .handler = [&services, section](const HttpRequest&, Responder responder) { GetItems(services, section, std::move(responder)); }});
    router.Add({.method = "GET",
                .path = "/v1/" + section + "/{name}",
                .summary = "One of the " + section + ": definition and status.",
                .handler = [&services, section](const HttpRequest& request, Responder responder) { GetItem(services, section, request, std::move(responder)); }});
    if (section == "streams") continue;
    for (bool paused : {true, false}) {
      router.Add({.method = "POST",
                  .path = "/v1/" + section + "/{name}/" + (paused ? "pause" : "resume"),
                  .role = Role::kAdmin,
                  .summary = paused ? "Stop after what is under way; it stays so over a restart." : "Go on.",
                  .handler = [&services, section, paused](const HttpRequest& request, Responder responder) {
                    SetPaused(services, section, paused, request, std::move(responder));
                  }});
    }
  }
  router.Add({.method = "GET",
              .path = "/v1/pipelines/{name}/filters/{filter}",
              .summary = "One filter of a pipeline.",
              .handler = [&services](const HttpRequest& request, Responder responder) { GetFilter(services, request, std::move(responder)); }});
}

}  // namespace millstream
