// Dead letters: a list by time, code and place; one with its bytes.
#include <charconv>

#include "base/text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"

namespace millstream {
namespace {

constexpr uint64_t kListDefault = 100;
constexpr uint64_t kListMax = 10'000;

void List(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& stream = request.PathValue("stream");
  if (engine.project()->FindStream(stream) == nullptr)
    return responder.Send(NotThere("stream", stream, StreamNames(engine)));
  DeadLetters::Selection selection;
  if (const std::string* since = request.Query("since")) {
    auto time = ParseTimeOrAgo(*since, engine.clock());
    if (!time) return responder.Send(Problem(400, "bad_request", "since: " + time.error().message()));
    selection.since_us = *time;
  }
  auto limit = CountOf(request, "limit", kListDefault);
  if (!limit) return responder.Send(Problem(400, "bad_request", limit.error().message()));
  selection.limit = std::min(*limit, kListMax);
  if (const std::string* code = request.Query("code")) selection.code = *code;
  for (const char* name : {"filter", "at"})
    if (const std::string* at = request.Query(name)) selection.at = *at;
  auto listing = engine.dead_letters().List(stream, selection);
  if (!listing) return responder.Send(Problem(listing.error()));
  HttpResponse response;
  {
    JsonObject object(response.body);
    object.Number("total", listing->total);
    object.Array("letters", listing->letters,
                 [&](const DeadLetter& letter) { response.body += letter.ToJson(false); });
  }
  responder.Send(std::move(response));
}

void Get(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& stream = request.PathValue("stream");
  if (engine.project()->FindStream(stream) == nullptr)
    return responder.Send(NotThere("stream", stream, StreamNames(engine)));
  const std::string& text = request.PathValue("number");
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || *end != '\0')
    return responder.Send(
        Problem(404, "not_found", fmt::format("'{}' is not the number of a dead letter", text)));
  auto letter = engine.dead_letters().Get(stream, number);
  if (!letter) return responder.Send(Problem(letter.error()));
  responder.Send({200, "application/json", letter->ToJson(true)});
}

}  // namespace

void AddDeadRoutes(Router& router, Services& services) {
  Engine& engine = services.engine;
  router.Add({"GET",
              "/v1/dead/{stream}",
              Role::kRead,
              Lane::kQuick,
              "The newest dead letters of a stream, without their data.",
              {{"since", "query", "RFC 3339 or a duration ago"},
               {"code", "query", "json utf8 depth size contract sql exec sink resource"},
               {"filter", "query", "where: ingest, PIPELINE.FILTER or PIPELINE.SINK"},
               {"limit", "query", "default 100", "integer"}},
              {},
              {"application/json"},
              [&engine](const HttpRequest& request, Responder responder) {
                List(engine, request, std::move(responder));
              }});
  router.Add({"GET",
              "/v1/dead/{stream}/{number}",
              Role::kRead,
              Lane::kQuick,
              "One dead letter with its data.",
              {},
              {},
              {"application/json"},
              [&engine](const HttpRequest& request, Responder responder) {
                Get(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
