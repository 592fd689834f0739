// Changes of what runs: plan, apply, PUT and DELETE of definitions, and what `_control` tells of earlier
// ones.
#include <charconv>
#include <set>

#include "base/memory_file_system.h"
#include "base/text.h"
#include "catalog/edit.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

const std::vector<std::string> kDefinitionTypes{kJsonType, "application/yaml"};
const std::vector<std::string> kFilterTypes{kJsonType, "application/yaml", "application/sql"};
const Parameter kDryRun{"dry_run", "query", "true: answers the plan, changes nothing"};
const Parameter kRebuild{"rebuild", "query", "true: make the pipeline's tables anew with it; answers 202"};
const Parameter kIfMatch{"If-Match", "header", "the ETag that the definition must have"};

HttpResponse Refusal(const ChangeRefusal& refusal) {
  if (!refusal.plan) return Problem(refusal.status, refusal.faults);
  std::string members = fmt::format("\"now\":{}", refusal.plan->ToJson());
  return Problem(409, "plan_stale", refusal.status.message(), {}, members);
}

/// 202 while tables that the change asks for are made anew.
HttpResponse Answer(const tl::expected<ChangePlan, ChangeRefusal>& plan) {
  if (!plan) return Refusal(plan.error());
  HttpResponse response{200, kJsonType, plan->ToJson()};
  if (plan->replay == 0) return response;
  response.status = 202;
  response.headers.emplace_back("Location", fmt::format("/v1/replays/{}", plan->replay));
  return response;
}

/// An edit that cannot be made: the definition stays as it was.
HttpResponse NothingChanged(const ChangePlan& plan) {
  std::string what;
  for (const Fault& fault : plan.refused)
    what += fmt::format("{}{} {} ({})", what.empty() ? "" : "; ", fault.path, fault.message, fault.hint);
  return Problem(409, "conflict", "nothing was changed: " + what, plan.refused,
                 fmt::format("\"plan\":{}", plan.ToJson()));
}

bool IsTrue(const Node& body, std::string_view name) {
  const Node* member = body.Find(name);
  return member != nullptr && member->scalar == "true";
}

/// The body of POST /v1/plan and /v1/apply.
std::optional<HttpResponse> ReadChange(Engine& engine, const HttpRequest& request, ChangeRequest& change) {
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  if (!faults.empty()) return Problem(400, "bad_request", "the body is not JSON: " + faults[0].message);
  change.plan = body.TextOf("plan");
  change.options.prune = IsTrue(body, "prune");
  change.options.force = IsTrue(body, "force");
  using Names = std::pair<const char*, std::set<std::string>*>;
  for (auto [name, names] :
       {Names{"purge", &change.options.purge}, Names{"rebuild", &change.options.rebuild}}) {
    const Node* list = body.Find(name);
    if (list == nullptr) continue;
    if (list->kind != Node::Kind::kSequence)
      return Problem(400, "bad_request", fmt::format("{}: expected a list of names", name));
    for (const Node& each : list->items) names->insert(each.scalar);
  }
  if (const Node* version = body.Find("at_version")) {
    uint64_t number = std::strtoull(version->scalar.c_str(), nullptr, 10);
    auto root = engine.DefinitionsOf(number);
    if (!root) return Problem(root.error());
    change.edit = [root = std::move(*root)](const Node&) -> Result<Node> { return root; };
    return std::nullopt;
  }
  return ReadProjectFiles(engine, body, change.files);
}

void PostPlan(Engine& engine, const HttpRequest& request, Responder responder) {
  ChangeRequest change;
  if (auto problem = ReadChange(engine, request, change)) return responder.Send(std::move(*problem));
  responder.Send(Answer(engine.Plan(change)));
}

void PostApply(Engine& engine, const HttpRequest& request, Responder responder) {
  ChangeRequest change;
  if (auto problem = ReadChange(engine, request, change)) return responder.Send(std::move(*problem));
  change.who = request.who;
  responder.Send(Answer(engine.Apply(change)));
}

/// The body of a PUT as a tree, by its content type.
std::optional<HttpResponse> ReadDefinition(const HttpRequest& request, Node& value) {
  std::string_view body = request.body.view();
  const std::string* type = request.Header("content-type");
  Faults faults;
  if (type != nullptr && type->starts_with("application/sql"))
    value = FileNode(std::string(body), "");
  else if (type != nullptr && type->starts_with("application/yaml"))
    value = ParseYaml(body, "", faults);
  else
    value = ParseJson(body, "", faults);
  if (!faults.empty()) return Problem(422, "invalid", "the definition does not parse", faults);
  return std::nullopt;
}

/// The tables of the pipeline that a path leads into.
std::set<std::string> TablesWrittenBy(Engine& engine, const std::string& path) {
  std::set<std::string> tables;
  std::string name = path.substr(path.find('.') + 1);
  auto project = engine.project();
  auto pipeline = project->pipelines.find(name.substr(0, name.find('.')));
  if (!path.starts_with("pipelines.") || pipeline == project->pipelines.end()) return tables;
  for (const SinkConfig& sink : pipeline->second.sinks)
    if (sink.kind == "table") tables.insert(engine.registry().sinks().at("table").target(sink.options));
  return tables;
}

/// Carries out an edit of the definition at `path`, or plans it.
void Edit(Engine& engine, const HttpRequest& request, Responder responder, const std::string& path,
          std::function<Result<Node>(const Node&)> edit) {
  const std::string* if_match = request.Header("if-match");
  bool differs = false;
  ChangeRequest change;
  change.who = request.who;
  if (const std::string* purge = request.Query("purge"); purge != nullptr && *purge == "true")
    change.options.purge.insert(path.substr(path.find('.') + 1));
  if (const std::string* rebuild = request.Query("rebuild"); rebuild != nullptr && *rebuild == "true") {
    change.options.rebuild = TablesWrittenBy(engine, path);
    if (change.options.rebuild.empty())
      return responder.Send(Problem(422, "invalid", "rebuild: the pipeline writes no table"));
  }
  change.edit = [&](const Node& root) -> Result<Node> {
    const Node* live = FindPath(root, path);
    differs = if_match != nullptr && (live == nullptr || *if_match != "\"" + EtagOf(*live) + "\"");
    if (differs) return Fail(Conflict("{} is not as If-Match names it", path));
    ASSIGN_OR_FAIL(Node edited, edit(root));
    FAIL_IF_ERROR(OnlyKnownPrograms(engine, edited));
    return edited;
  };
  const std::string* dry = request.Query("dry_run");
  const bool is_dry = dry != nullptr && *dry == "true";
  auto plan = is_dry ? engine.Plan(change) : engine.Apply(change);
  if (differs) return responder.Send(Problem(412, "version", plan.error().status.message()));
  if (!is_dry && plan && !plan->refused.empty() && !plan->is_applied && plan->replay == 0)
    return responder.Send(NothingChanged(*plan));
  HttpResponse response = Answer(plan);
  if (const Node* now = FindPath(engine.project()->root, path); now != nullptr && response.status < 300)
    response.headers.emplace_back("ETag", "\"" + EtagOf(*now) + "\"");
  responder.Send(std::move(response));
}

void AddEdits(Router& router, Engine& engine, const char* kind) {
  std::string section = std::string(kind) + "s";
  std::string path = fmt::format("/v1/{}/{{{}}}", section, kind);
  std::vector<Parameter> puts{kDryRun, kIfMatch};
  if (section == "pipelines") puts.push_back(kRebuild);
  router.Add({"PUT",
              path,
              Role::kAdmin,
              Lane::kLong,
              fmt::format("Make a {}, or change it while events flow.", kind),
              puts,
              kDefinitionTypes,
              {kJsonType},
              [&engine, section, kind](const HttpRequest& request, Responder responder) {
                Node value;
                if (auto problem = ReadDefinition(request, value)) return responder.Send(std::move(*problem));
                const std::string& name = request.PathValue(kind);
                Edit(engine, request, std::move(responder), section + "." + name,
                     [&](const Node& root) { return EditItem(root, section, name, value); });
              }});
  std::vector<Parameter> parameters{kDryRun, kIfMatch};
  if (section == "streams") parameters.push_back({"purge", "query", "true: with the events that it holds"});
  router.Add({"DELETE",
              path,
              Role::kAdmin,
              Lane::kLong,
              fmt::format("Remove a {}; what was made stays.", kind),
              parameters,
              {},
              {kJsonType},
              [&engine, section, kind](const HttpRequest& request, Responder responder) {
                const std::string& name = request.PathValue(kind);
                Edit(engine, request, std::move(responder), section + "." + name,
                     [&](const Node& root) { return EditItem(root, section, name, std::nullopt); });
              }});
}

std::string FilterPath(const HttpRequest& request) {
  return fmt::format("pipelines.{}.filters.{}", request.PathValue("pipeline"), request.PathValue("filter"));
}

FilterEdit FilterEditOf(const HttpRequest& request) {
  FilterEdit edit{request.PathValue("pipeline"), request.PathValue("filter"), {}, "", "", false};
  if (const std::string* before = request.Query("before")) edit.before = *before;
  if (const std::string* after = request.Query("after")) edit.after = *after;
  if (const std::string* add = request.Query("new")) edit.must_be_new = *add == "true";
  return edit;
}

void AddFilterEdits(Router& router, Engine& engine) {
  const std::string path = "/v1/pipelines/{pipeline}/filters/{filter}";
  const Parameter before{"before", "query", "put it before this filter"},
      after{"after", "query", "put it after this filter"},
      add{"new", "query", "true: 409 if there is one of this name"};
  router.Add({"PUT",
              path,
              Role::kAdmin,
              Lane::kLong,
              "Make a filter, or change it, while events flow; SQL as application/sql.",
              {before, after, add, kDryRun, kIfMatch, kRebuild},
              kFilterTypes,
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                FilterEdit edit = FilterEditOf(request);
                edit.value.emplace();
                if (auto problem = ReadDefinition(request, *edit.value))
                  return responder.Send(std::move(*problem));
                Edit(engine, request, std::move(responder), FilterPath(request),
                     [&](const Node& root) { return EditFilter(root, edit); });
              }});
  router.Add({"POST",
              path + "/move",
              Role::kAdmin,
              Lane::kLong,
              "Move a filter before or after another one.",
              {before, after, kDryRun, kIfMatch, kRebuild},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                FilterEdit edit = FilterEditOf(request);
                if (edit.before.empty() == edit.after.empty())
                  return responder.Send(Problem(400, "bad_request", "name one of before and after"));
                Edit(engine, request, std::move(responder), FilterPath(request),
                     [&](const Node& root) { return EditFilter(root, edit); });
              }});
  router.Add({"DELETE",
              path,
              Role::kAdmin,
              Lane::kLong,
              "Remove a filter while events flow; rows already made stay.",
              {kDryRun, kIfMatch, kRebuild},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                Edit(engine, request, std::move(responder), FilterPath(request), [&](const Node& root) {
                  return RemoveFilter(root, request.PathValue("pipeline"), request.PathValue("filter"));
                });
              }});
}

/// `versions`: those whose apply concerned the item, so far.
bool Concerns(const ControlEvent& event, const std::string& item, std::set<uint64_t>& versions) {
  if (item.empty()) return true;
  auto is_in = [&](const std::string& path) {
    return path == item || path.starts_with(item + ".") || item.starts_with(path + ".");
  };
  if (event.is_apply()) {
    bool concerns = std::any_of(event.changes.begin(), event.changes.end(),
                                [&](const Change& change) { return is_in(change.path); });
    if (concerns) versions.insert(event.version);
    return concerns;
  }
  if (event.kind == ControlKind::kActivated && !versions.contains(event.version)) return false;
  bool is_source = event.kind == ControlKind::kSourcePaused || event.kind == ControlKind::kSourceResumed;
  bool is_sandbox = event.kind == ControlKind::kSandboxCreated ||
                    event.kind == ControlKind::kSandboxDropped || event.kind == ControlKind::kSandboxExpired;
  return !event.name.empty() && is_in((is_source    ? "sources."
                                       : is_sandbox ? "sandboxes."
                                                    : "pipelines.") +
                                      event.name);
}

void AppendChanges(JsonObject& object, std::string& out, const std::vector<Change>& changes) {
  object.Array("changes", changes, [&](const Change& change) {
    JsonObject(out).Text("path", change.path).Text("change", change.change).Text("how", change.how);
  });
}

HttpResponse NoItem(const Node& root, const std::string& item) {
  std::string hint = "; expected a path such as pipelines.revenue.filters.gross";
  for (const char* section : {"streams", "sources", "pipelines", "commands"})
    if (std::string path = fmt::format("{}.{}", section, item); FindPath(root, path) != nullptr)
      hint = fmt::format("; did you mean '{}'?", path);
  return Problem(NotFound("nothing is or was called '{}'{}", item, hint));
}

void GetHistory(Engine& engine, const HttpRequest& request, Responder responder) {
  int64_t since_us = 0;
  if (const std::string* since = request.Query("since")) {
    auto time = ParseTimeOrAgo(*since, engine.clock());
    if (!time) return responder.Send(Problem(400, "bad_request", "since: " + time.error().message()));
    since_us = *time;
  }
  auto events = engine.History();
  if (!events) return responder.Send(Problem(events.error()));
  const std::string* item = request.Query("item");
  std::set<uint64_t> versions;
  bool is_known = item == nullptr || item->empty() || FindPath(engine.project()->root, *item) != nullptr;
  HttpResponse response;
  std::string& out = response.body;
  out = "[";
  for (size_t i = 0; i < events->size(); ++i) {
    const ControlEvent& event = (*events)[i];
    if (!Concerns(event, item == nullptr ? "" : *item, versions)) continue;
    is_known = true;
    if (event.when_us < since_us) continue;
    if (out.size() > 1) out += ',';
    JsonObject object(out);
    object.Number("event", i).Text("kind", NameOf(event.kind));
    object.Text("who", event.who).Text("when", FormatTime(event.when_us));
    if (!event.name.empty()) object.Text("name", event.name);
    if (event.version != 0) object.Number("version", event.version);
    if (event.replay.id != 0) object.Number("replay", event.replay.id);
    if (event.kind == ControlKind::kReplayStarted) object.Text("into", event.replay.Target());
    if (event.is_apply()) {
      object.Text("by", event.is_edit ? "edit" : "files");
      AppendChanges(object, out, event.changes);
    }
    if (!event.sink.empty()) object.Text("sink", event.sink);
    if (event.kind != ControlKind::kActivated && event.sink.empty()) continue;
    object.Number("generation", event.generation);
    object.Array("boundary", event.boundary, [&](const auto& each) {
      JsonObject(out).Number("partition", each.first).Number("offset", each.second);
    });
  }
  out += ']';
  if (!is_known) return responder.Send(NoItem(engine.project()->root, *item));
  responder.Send(std::move(response));
}

Result<Node> VersionOf(Engine& engine, const HttpRequest& request, const char* name) {
  auto number = CountOf(request, name, 0);
  if (!number) return Fail(number.error());
  return engine.DefinitionsOf(*number);
}

/// The definition that a change is of: a path of the definitions, or "pipelines.NAME.to.SINK"; null: not
/// there.
const Node* DefinitionAt(const Project& project, const std::string& path) {
  for (const auto& [name, pipeline] : project.pipelines) {
    const std::string sinks = fmt::format("pipelines.{}.to.", name);
    if (!path.starts_with(sinks)) continue;
    const SinkConfig* sink = pipeline.FindSink(path.substr(sinks.size()));
    return sink == nullptr ? nullptr : &sink->node;
  }
  return FindPath(project.root, path);
}

void GetHistoryDiff(Engine& engine, const HttpRequest& request, Responder responder) {
  auto from = VersionOf(engine, request, "from"), to = VersionOf(engine, request, "to");
  for (const auto* each : {&from, &to})
    if (!*each) return responder.Send(Problem(each->error()));
  std::string directory = engine.project()->directory;
  Faults ignored;  // they were live
  Project before = ParseProject(*from, directory, engine.registry(), ignored);
  Project after = ParseProject(*to, directory, engine.registry(), ignored);
  HttpResponse response;
  {
    JsonObject object(response.body);
    object.Array("changes", DiffProjects(before, after), [&](const Change& change) {
      JsonObject each(response.body);
      each.Text("path", change.path).Text("change", change.change);
      auto text = [](const Node& node) { return node.IsScalar() ? node.scalar : ToYaml(node); };
      if (const Node* was = DefinitionAt(before, change.path)) each.Text("before", text(*was));
      if (const Node* is = DefinitionAt(after, change.path)) each.Text("after", text(*is));
    });
  }
  responder.Send(std::move(response));
}

}  // namespace

std::optional<HttpResponse> ReadProjectFiles(Engine& engine, const Node& body, Project& project) {
  const Node* files = body.Find("files");
  if (files == nullptr || files->members.empty())
    return Problem(400, "bad_request", "files is missing: {\"files\":{\"millstream.yaml\":\"…\"}}");
  std::string directory = engine.project()->directory;
  MemoryFileSystem texts;
  for (const auto& [name, text] : files->members) {
    std::string path = name.starts_with('/') ? name : directory + "/" + name;
    if (Status status = texts.CreateDirectories(DirectoryOf(path)); !status.ok()) return Problem(status);
    auto file = texts.Open(path, OpenMode::kCreate);
    if (!file) return Problem(file.error());
    if (Status status = (*file)->WriteAt(0, text.scalar); !status.ok()) return Problem(status);
  }
  Faults faults;
  project = LoadProject(texts, directory, engine.registry(), faults);
  Faults warnings;
  if (!faults.empty())  // all of them are told at once
    CheckProject(project, engine.registry(), faults, warnings, {.workers = engine.sql_workers()});
  if (!faults.empty())
    return Problem(422, "invalid",
                   fmt::format("{} fault{} in the files", faults.size(), faults.size() == 1 ? "" : "s"),
                   faults);
  if (Status status = OnlyKnownPrograms(engine, project.root); !status.ok()) return Problem(status);
  return std::nullopt;
}

Status OnlyKnownPrograms(Engine& engine, const Node& root) {
  auto live = engine.project();
  Faults faults;
  Project disk = LoadProject(engine.fs(), live->directory, engine.registry(), faults);
  auto unknown = UnknownPrograms(root, {&live->root, &disk.root});
  if (unknown.empty()) return OkStatus();
  return Invalid("{}: exec names a program, and only files in the project's folder may ({})", unknown.front(),
                 live->directory);
}

void AddChangeRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"POST",
              "/v1/plan",
              Role::kAdmin,
              Lane::kLong,
              "What these files would change in what runs, and what that costs.",
              {},
              {kJsonType},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                PostPlan(engine, request, std::move(responder));
              }});
  router.Add({"POST",
              "/v1/apply",
              Role::kAdmin,
              Lane::kLong,
              "Make what runs equal to these files, or to an earlier version, while events flow.",
              {},
              {kJsonType},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                PostApply(engine, request, std::move(responder));
              }});
  for (const char* kind : {"stream", "source", "pipeline", "command"}) AddEdits(router, engine, kind);
  AddFilterEdits(router, engine);
  router.Add({"GET",
              "/v1/history",
              Role::kRead,
              Lane::kLong,
              "Every change of the configuration, as `_control` keeps it.",
              {{"item", "query", "a path: pipelines.revenue.filters.gross"},
               {"since", "query", "a time, or a duration ago"}},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                GetHistory(engine, request, std::move(responder));
              }});
  router.Add({"GET",
              "/v1/history/diff",
              Role::kRead,
              Lane::kLong,
              "What differs between two versions.",
              {{"from", "query", "version", "integer"}, {"to", "query", "version", "integer"}},
              {},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                GetHistoryDiff(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
