// Commands: POST /v1/commands/{command}.
#include <charconv>

#include "base/text.h"
#include "pipeline/idempotency.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr int64_t kTimeoutMaxUs = 60'000'000;

/// "17" with its quotes, as ETags are written; without them too.
std::optional<uint64_t> VersionOf(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return ParseNumber<uint64_t>(text);
}

HttpResponse ProblemOf(const CommandRefusal& refusal) {
  std::string members;
  auto add = [&](std::string_view name, const std::string& text) {
    members += fmt::format("{}\"{}\":", members.empty() ? "" : ",", name);
    AppendJsonString(members, text);
  };
  if (refusal.version) add("version", fmt::format("{}", *refusal.version));
  if (!refusal.position.empty()) add("position", refusal.position);
  const std::string& detail = refusal.status.message();
  if (refusal.code == "refused") return Problem(409, "refused", detail);
  if (refusal.code == "version") return Problem(412, "version", detail, {}, members);
  if (refusal.code == "deadline") return Problem(504, "deadline", detail, {}, members);
  if (refusal.status.code() == Code::kExhausted || refusal.status.code() == Code::kIo)
    return AppendProblem(refusal.status);
  return Problem(refusal.status, refusal.faults);
}

HttpResponse AnswerOf(const IngestAnswer& answer) {
  if (answer.accepted == 0) return {200, kJsonType, R"({"position":null,"version":null,"events":0})"};
  HttpResponse response{200, kJsonType, {}};
  {
    JsonObject object(response.body);
    object.Text("position", answer.position.ToString());
    object.Text("version", fmt::format("{}", answer.partitions[0].last));
    object.Number("events", answer.accepted);
  }
  response.headers.emplace_back("ETag", fmt::format("\"{}\"", answer.partitions[0].last));
  if (answer.replayed) response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

/// What is asked beside the body, or what is wrong with it.
Status ReadRequest(const HttpRequest& request, CommandRequest& command) {
  if (const std::string* version = request.Header("if-match")) {
    command.if_match = VersionOf(*version);
    if (!command.if_match) return Invalid("If-Match: '{}' is no version; expected e.g. \"17\"", *version);
  }
  if (const std::string* key = request.Header("idempotency-key")) {
    if (key->empty() || key->size() > IdempotencyTable::kKeyBytesMax)
      return Invalid("Idempotency-Key: 1 to 1024 characters");
    command.idempotency_key = *key;
  }
  if (const std::string* tables = request.Query("wait_table"))
    for (std::string_view table : Split(*tables, ',')) command.wait_tables.emplace_back(table);
  if (const std::string* timeout = request.Query("timeout")) {
    auto parsed = ParseDurationUs(*timeout);
    if (!parsed) return parsed.error().Within("timeout");
    command.timeout_us = std::min(*parsed, kTimeoutMaxUs);
  }
  return OkStatus();
}

void Decide(Engine& engine, const HttpRequest& request, Responder responder) {
  CommandRequest command;
  command.command = request.PathValue("command");
  command.body = request.body.view();
  if (command.body.empty())
    return responder.Send(
        Problem(400, "bad_request", "the body is empty: the command's fields are expected"));
  if (Status status = ReadRequest(request, command); !status.ok())
    return responder.Send(Problem(400, "bad_request", status.message()));
  auto shared = std::make_shared<Responder>(std::move(responder));
  engine.Decide(command, [shared](tl::expected<IngestAnswer, CommandRefusal> answer) {
    shared->Send(answer ? AnswerOf(*answer) : ProblemOf(answer.error()));
  });
}

}  // namespace

void AddCommandRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"POST",
              "/v1/commands/{command}",
              Role::kWrite,
              Lane::kQuick,
              "Decide a command and append the events that it gives. Answered when they are durable.",
              {{"If-Match", "header", "the version that the key must have: the offset of its last event"},
               {"Idempotency-Key", "header", "a retry with the same key and body gets the first answer"},
               {"wait_table", "query", "answer when these tables hold the events; names with commas between"},
               {"timeout", "query", "how long to wait for tables, e.g. 5s; at most 60s"}},
              {kJsonType},
              {kJsonType},
              [&engine](const HttpRequest& request, Responder responder) {
                Decide(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
