// Dead letters: a list by time, code and place; one with its bytes.
#include <charconv>

#include "base/text.h"
#include "server/json_object.h"
#include "server/problem.h"
#include "server/routes.h"
#include "stage/node.h"

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
  if (const std::string* at = request.Query("filter")) selection.at = *at;
  const std::string* state = request.Query("state");
  if (state != nullptr && *state != "all" && *state != "open")
    return responder.Send(Problem(400, "bad_request", "state: expected open or all"));
  std::shared_ptr<const LetterBook> letters = engine.letters();
  const LetterBook& book = *letters;
  if (state == nullptr || *state == "open")
    selection.wants = [&](uint64_t number) { return book.StateOf(stream, number) == LetterState::kOpen; };
  auto listing = engine.dead_letters().List(stream, selection);
  if (!listing) return responder.Send(Problem(listing.error()));
  HttpResponse response;
  {
    JsonObject object(response.body);
    object.Number("total", listing->total).Number("open", book.OpenOf(stream, listing->total));
    object.Array("letters", listing->letters, [&](const DeadLetter& letter) {
      response.body += letter.ToJson(false, NameOf(book.StateOf(stream, letter.number)));
    });
  }
  responder.Send(std::move(response));
}

void Get(Engine& engine, const HttpRequest& request, Responder responder) {
  const std::string& stream = request.PathValue("stream");
  if (engine.project()->FindStream(stream) == nullptr)
    return responder.Send(NotThere("stream", stream, StreamNames(engine)));
  const std::string& text = request.PathValue("number");
  auto number = ParseNumber<uint64_t>(text);
  if (!number)
    return responder.Send(
        Problem(404, "not_found", fmt::format("'{}' is not the number of a dead letter", text)));
  auto letter = engine.dead_letters().Get(stream, *number);
  if (!letter) return responder.Send(Problem(letter.error()));
  responder.Send(
      {200, "application/json", letter->ToJson(true, NameOf(engine.letters()->StateOf(stream, *number)))});
}

/// The body of replay and drop.
std::optional<HttpResponse> ReadSelection(Engine& engine, const HttpRequest& request, LettersRequest& given) {
  given.stream = request.PathValue("stream");
  given.who = request.who;
  if (engine.project()->FindStream(given.stream) == nullptr)
    return NotThere("stream", given.stream, StreamNames(engine));
  Faults faults;
  Node body = ParseJson(request.body.view(), "", faults);
  if (!faults.empty() || body.kind != Node::Kind::kMap)
    return Problem(400, "bad_request", "the body is no JSON object, e.g. {\"ids\":[41]}");
  bool all = false, filters = false;
  for (const auto& [name, value] : body.members) {
    if (name == "ids") {
      for (const Node& item : value.items) {
        auto one = LetterSet::Parse(item.scalar);
        if (!one || one->count() != 1)
          return Problem(400, "bad_request", "ids: expected numbers of dead letters");
        given.ids.push_back(one->first());
      }
    } else if (name == "all") {
      all = value.scalar == "true";
    } else if (name == "since") {
      auto time = ParseTimeOrAgo(value.scalar, engine.clock());
      if (!time) return Problem(400, "bad_request", "since: " + time.error().message());
      given.selection.since_us = *time, filters = true;
    } else if (name == "code") {
      given.selection.code = value.scalar, filters = true;
    } else if (name == "filter") {
      given.selection.at = value.scalar, filters = true;
    } else {
      return Problem(400, "bad_request", fmt::format("{}: expected ids, since, code, filter or all", name));
    }
    if (!given.asked.empty()) given.asked += ' ';
    given.asked += name == "ids" ? "ids" : fmt::format("{}={}", name, value.scalar);
  }
  if (int(!given.ids.empty()) + int(all) + int(filters) != 1)
    return Problem(400, "bad_request", "say which: ids, or since, code and filter, or all");
  return std::nullopt;
}

void PostReplay(Engine& engine, const HttpRequest& request, Responder responder) {
  constexpr int64_t kWaitUs = 10'000'000;  // then it goes on without the caller
  LettersRequest given;
  if (auto problem = ReadSelection(engine, request, given)) return responder.Send(std::move(*problem));
  given.wait_us = kWaitUs;
  auto answer = engine.ReplayLetters(given, responder.stop_token());
  if (!answer) return responder.Send(Problem(answer.error()));
  responder.Send(
      {answer->state == LetterState::kReplaying ? 202 : 200, "application/json", answer->ToJson()});
}

void PostDrop(Engine& engine, const HttpRequest& request, Responder responder) {
  LettersRequest given;
  if (auto problem = ReadSelection(engine, request, given)) return responder.Send(std::move(*problem));
  auto answer = engine.DropLetters(given);
  if (!answer) return responder.Send(Problem(answer.error()));
  responder.Send({200, "application/json", answer->ToJson()});
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
               {"state", "query", "open (default), or all: those sent again or dropped too"},
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
  router.Add(
      {"POST",
       "/v1/dead/{stream}/replay",
       Role::kAdmin,
       Lane::kLong,
       "Sends dead letters again: {\"ids\":[41]}, or since, code and filter, or all. 202 if it goes on.",
       {},
       {"application/json"},
       {"application/json"},
       [&engine](const HttpRequest& request, Responder responder) {
         PostReplay(engine, request, std::move(responder));
       }});
  router.Add({"POST",
              "/v1/dead/{stream}/drop",
              Role::kAdmin,
              Lane::kLong,
              "Counts dead letters no more; they stay in the log. The body is as for replay.",
              {},
              {"application/json"},
              {"application/json"},
              [&engine](const HttpRequest& request, Responder responder) {
                PostDrop(engine, request, std::move(responder));
              }});
}

}  // namespace millstream
