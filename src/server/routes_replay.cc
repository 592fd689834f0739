// Replays: history through filters into other places.
#include <fmt/ranges.h>

#include <set>

#include "base/text.h"
#include "catalog/edit.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

/// "50%", or 0.5.
Result<double> ShareOf(const std::string& text) {
  if (text.empty()) return 1;
  char* end = nullptr;
  double share = std::strtod(text.c_str(), &end);
  if (*end == '%') share /= 100, ++end;
  if (end == text.c_str() || *end != '\0') return Fail(Invalid("share: '{}' is no share, e.g. 50%", text));
  return share;
}

/// The pipeline's filters as the request has them: one or the other replaced by name, or all.
std::function<Result<Node>(const Node&)> EditOf(Engine& engine, const Node& body, const std::string& name) {
  const Node* set = body.Find("set");
  const Node* filters = body.Find("filters");
  bool sets = set != nullptr && !set->members.empty();
  if (!sets && filters == nullptr) return nullptr;
  return [&engine, name, set = sets ? *set : Node(),
          filters = filters == nullptr ? std::optional<Node>() : *filters](const Node& root) -> Result<Node> {
    Node edited = root;
    std::string path = "pipelines." + name;
    const Node* pipeline = FindPath(root, path);
    if (filters && pipeline != nullptr) {
      Node changed = *pipeline;
      std::erase_if(changed.members, [](const auto& member) { return member.first == "filters"; });
      changed.members.emplace_back("filters", *filters);
      ASSIGN_OR_FAIL(edited, EditItem(root, "pipelines", name, changed));
    }
    for (const auto& [filter, value] : set.members) {
      if (pipeline != nullptr && FindPath(edited, path + ".filters." + filter) == nullptr)
        return Fail(NotFound("pipeline {} has no filter '{}'", name, filter));
      ASSIGN_OR_FAIL(edited, EditFilter(edited, {name, filter, value, "", "", false}));
    }
    FAIL_IF_ERROR(OnlyKnownPrograms(engine, edited));
    return edited;
  };
}

void Start(Engine& engine, const HttpRequest& request, Responder responder) {
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  if (!faults.empty())
    return responder.Send(Problem(400, "bad_request", "the body is not JSON: " + faults[0].message));
  static const std::set<std::string> kMembers{"pipeline", "from",    "to",      "set",  "filters",
                                              "into",     "cutover", "effects", "share"};
  for (const auto& [name, value] : body.members)
    if (!kMembers.contains(name))
      return responder.Send(
          Problem(400, "bad_request",
                  fmt::format("'{}' is not known; there are {}", name, fmt::join(kMembers, ", "))));
  ReplayRequest replay;
  replay.pipeline = body.TextOf("pipeline");
  replay.from = body.TextOf("from"), replay.to = body.TextOf("to");
  replay.cutover = body.TextOf("cutover") == "true";
  replay.effects = body.TextOf("effects") == "true";
  replay.who = request.who;
  if (const Node* into = body.Find("into")) replay.into = *into;
  if (replay.into.members.empty() != replay.cutover)
    return responder.Send(
        Problem(400, "bad_request", "name one of into ({\"table\":{\"name\":\"r2\"}}) and cutover (true)"));
  auto share = ShareOf(body.TextOf("share"));
  if (!share) return responder.Send(Problem(share.error()));
  replay.share = *share;
  replay.edit = EditOf(engine, body, replay.pipeline);
  auto started = engine.StartReplay(replay);
  if (!started) return responder.Send(Problem(started.error().status, started.error().faults));
  responder.Send(
      {201, kJsonType, started->ToJson(), {{"Location", fmt::format("/v1/replays/{}", started->id)}}});
}

Result<uint64_t> IdOf(const HttpRequest& request) {
  const std::string& text = request.PathValue("id");
  auto id = ParseNumber<uint64_t>(text);
  if (!id) return Fail(NotFound("'{}' is not the number of a replay", text));
  return *id;
}

void Show(Engine& engine, const HttpRequest& request, Responder responder) {
  auto id = IdOf(request);
  if (!id) return responder.Send(Problem(id.error()));
  auto status = engine.FindReplay(*id);
  if (!status) return responder.Send(Problem(status.error()));
  responder.Send({200, kJsonType, status->ToJson()});
}

void Act(Engine& engine, const HttpRequest& request, const std::string& action, Responder responder) {
  auto id = IdOf(request);
  if (!id) return responder.Send(Problem(id.error()));
  Status status = action == "cancel" ? engine.CancelReplay(*id, request.who)
                                     : engine.SetReplayPaused(*id, action == "pause", request.who);
  if (!status.ok()) return responder.Send(Problem(status));
  Show(engine, request, std::move(responder));
}

}  // namespace

void AddReplayRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"POST",
              "/v1/replays",
              Role::kAdmin,
              Lane::kLong,
              "Run history through filters into another place, or make a pipeline's tables anew.",
              {},
              {kJsonType},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                Start(engine, request, std::move(responder));
              }});
  router.Add({"GET",
              "/v1/replays",
              Role::kRead,
              Lane::kQuick,
              "All replays, also those that have ended.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest&, Responder responder) {
                HttpResponse response;
                response.body = "[";
                for (const ReplayStatus& status : engine.Replays())
                  response.body += (response.body.size() > 1 ? "," : "") + status.ToJson();
                response.body += "]";
                responder.Send(std::move(response));
              }});
  router.Add({"GET",
              "/v1/replays/{id}",
              Role::kRead,
              Lane::kQuick,
              "How far a replay is.",
              {},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                Show(engine, request, std::move(responder));
              }});
  for (const char* action : {"pause", "resume", "cancel"})
    router.Add({"POST",
                fmt::format("/v1/replays/{{id}}/{}", action),
                Role::kAdmin,
                Lane::kLong,
                fmt::format("{}{} a replay.", static_cast<char>(std::toupper(*action)), action + 1),
                {},
                {},
                {kJsonType},
                [&engine, action](const HttpRequest& request, Responder responder) {
                  Act(engine, request, action, std::move(responder));
                }});
}

}  // namespace millstream
