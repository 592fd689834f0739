// Streams, sources, pipelines: what is defined, how it does, pause and resume.
#include <charconv>

#include "base/text.h"
#include "catalog/edit.h"
#include "event/json_scan.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

/// The element of `list` in the status document whose name is `name`; "null" if there is none.
std::string StatusOf(const std::string& status, std::string_view list, const std::string& name) {
  auto members = JsonMembers(status);
  for (const auto& [member, value] : *members) {
    if (member != list) continue;
    auto elements = JsonElements(value);
    for (std::string_view element : *elements) {
      auto fields = JsonMembers(element);
      std::string scratch;
      for (const auto& [field, text] : *fields)
        if (field == "name" && JsonStringValue(MakeJsonValue(text), scratch) == name)
          return std::string(element);
    }
  }
  return "null";
}

/// One kind of item: how it is called, its list in the project.
template <typename Config>
struct Items {
  const char* kind;  // "stream"
  const char* list;  // "streams", in the path and in the status document
  const std::map<std::string, Config> Project::*of;
};

template <typename Config>
std::string ItemJson(const Items<Config>& items, const std::string& name, const Config& config,
                     const std::string& status) {
  std::string out;
  {
    JsonObject object(out);
    object.Text("name", name);
    object.Json("definition", config.node.kind == Node::Kind::kNull ? "{}" : ToJson(config.node));
    object.Json("status", StatusOf(status, items.list, name));
  }
  return out;
}

template <typename Config>
void AddItems(Router& router, Engine& engine, Items<Config> items) {
  std::string path = std::string("/v1/") + items.list;
  router.Add({"GET",
              path,
              Role::kRead,
              Lane::kQuick,
              fmt::format("All {}: definition and status.", items.list),
              {},
              {},
              {kJsonType},
              [&engine, items](const HttpRequest&, Responder responder) {
                auto project = engine.project();
                std::string status = engine.TakeStatus().ToJson();
                HttpResponse response;
                response.body = "[";
                for (const auto& [name, config] : (*project).*items.of) {
                  if (response.body.size() > 1) response.body += ',';
                  response.body += ItemJson(items, name, config, status);
                }
                response.body += ']';
                responder.Send(std::move(response));
              }});
  router.Add({"GET",
              fmt::format("{}/{{{}}}", path, items.kind),
              Role::kRead,
              Lane::kQuick,
              fmt::format("One {}: definition and status.", items.kind),
              {},
              {},
              {kJsonType},
              [&engine, items](const HttpRequest& request, Responder responder) {
                auto project = engine.project();
                const auto& all = (*project).*items.of;
                const std::string& name = request.PathValue(items.kind);
                auto found = all.find(name);
                if (found == all.end()) {
                  std::vector<std::string> names;
                  for (const auto& [each, config] : all) names.push_back(each);
                  return responder.Send(NotThere(items.kind, name, names));
                }
                HttpResponse response;
                response.body = ItemJson(items, name, found->second, engine.TakeStatus().ToJson());
                response.headers.emplace_back("ETag", "\"" + EtagOf(found->second.node) + "\"");
                responder.Send(std::move(response));
              }});
}

void GetFilter(Engine& engine, const HttpRequest& request, Responder responder) {
  auto project = engine.project();
  const std::string& pipeline = request.PathValue("pipeline");
  auto found = project->pipelines.find(pipeline);
  std::vector<std::string> names;
  if (found == project->pipelines.end()) {
    for (const auto& [name, config] : project->pipelines) names.push_back(name);
    return responder.Send(NotThere("pipeline", pipeline, names));
  }
  const std::string& filter = request.PathValue("filter");
  for (const FilterConfig& config : found->second.filters) {
    names.push_back(config.name);
    if (config.name != filter) continue;
    HttpResponse response;
    JsonObject(response.body)
        .Text("name", filter)
        .Text("kind", config.kind)
        .Json("definition", ToJson(config.node));
    response.headers.emplace_back("ETag", "\"" + EtagOf(config.node) + "\"");
    return responder.Send(std::move(response));
  }
  responder.Send(NotThere("filter", filter, names));
}

void PostSkip(Engine& engine, const HttpRequest& request, Responder responder) {
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  std::string sink;
  uint64_t events = 1;
  std::optional<uint32_t> partition;
  for (const auto& [name, value] : body.members) {
    auto number = ParseNumber<uint64_t>(value.scalar);
    if (name == "sink")
      sink = value.scalar;
    else if (name == "events" && number && *number > 0)
      events = *number;
    else if (name == "partition" && number && *number < UINT32_MAX)
      partition = static_cast<uint32_t>(*number);
    else
      return responder.Send(Problem(400, "bad_request", name + ": expected sink, events and partition"));
  }
  if (!faults.empty() || sink.empty())
    return responder.Send(Problem(400, "bad_request", "expected {\"sink\":ID,\"events\":1}"));
  auto to = engine.SkipEvents(request.PathValue("pipeline"), sink, partition, events, request.who);
  if (!to) return responder.Send(Problem(to.error()));
  HttpResponse response;
  JsonObject(response.body).Text("position", to->ToString());
  responder.Send(std::move(response));
}

using Setter = Status (Engine::*)(const std::string&, bool, const std::string&);

void AddPause(Router& router, Engine& engine, const char* kind, Setter set) {
  for (bool paused : {true, false}) {
    router.Add({"POST",
                fmt::format("/v1/{0}s/{{{0}}}/{1}", kind, paused ? "pause" : "resume"),
                Role::kAdmin,
                Lane::kQuick,
                fmt::format("{} a {}.", paused ? "Pause" : "Resume", kind),
                {},
                {},
                {kJsonType},
                [&engine, kind, set, paused](const HttpRequest& request, Responder responder) {
                  Status status = (engine.*set)(request.PathValue(kind), paused, request.who);
                  if (!status.ok()) return responder.Send(Problem(status));
                  HttpResponse response;
                  JsonObject(response.body).Text("state", paused ? "paused" : "running");
                  responder.Send(std::move(response));
                }});
  }
}

}  // namespace

void AddCatalogRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  AddItems(router, engine, Items<StreamConfig>{"stream", "streams", &Project::streams});
  AddItems(router, engine, Items<SourceConfig>{"source", "sources", &Project::sources});
  AddItems(router, engine, Items<PipelineConfig>{"pipeline", "pipelines", &Project::pipelines});
  AddItems(router, engine, Items<CommandConfig>{"command", "commands", &Project::commands});
  router.Add({"GET",
              "/v1/pipelines/{pipeline}/filters/{filter}",
              Role::kRead,
              Lane::kQuick,
              "One filter: kind and definition.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                GetFilter(engine, request, std::move(responder));
              }});
  AddPause(router, engine, "source", &Engine::SetSourcePaused);
  AddPause(router, engine, "pipeline", &Engine::SetPipelinePaused);
  router.Add(
      {"POST",
       "/v1/pipelines/{pipeline}/skip",
       Role::kAdmin,
       Lane::kQuick,
       "Sets events aside as dead letters that a sink cannot take: {\"sink\":ID,\"events\":1}, for each "
       "partition that is stuck, or for one \"partition\".",
       {},
       {kJsonType},
       {kJsonType},
       [&engine](const HttpRequest& request, Responder responder) {
         PostSkip(engine, request, std::move(responder));
       }});
}

}  // namespace millstream
