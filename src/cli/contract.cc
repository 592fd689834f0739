// millstream contract infer: proposes a contract from data.
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/input_feed.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "event/infer.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

/// Events of a file, as `ingest` would read it.
Status SampleFile(Machine& machine, const std::string& path, uint64_t most, ContractInference& inference) {
  FeedOptions options;
  options.path = path;
  ASSIGN_OR_RETURN(auto feed, InputFeed::Open(machine.fs, options, ""));
  while (inference.samples() < most) {
    ASSIGN_OR_RETURN(std::optional<FeedPiece> piece, feed->Next());
    if (!piece) return OkStatus();
    std::vector<std::string_view> events =
        piece->format == BodyFormat::kNdjson
            ? Split(piece->body, '\n')
            : JsonElements(piece->body).value_or(std::vector<std::string_view>{});
    for (std::string_view event : events) {
      if (inference.samples() >= most) break;
      // What is no JSON object says nothing about the fields; `ingest` will quarantine it.
      if (!Trim(event).empty()) (void)inference.Add(Trim(event)).ok();
    }
  }
  return OkStatus();
}

/// The first events of a stream.
Status SampleStream(const Everywhere& everywhere, const std::string& stream, uint64_t most,
                    ContractInference& inference) {
  ASSIGN_OR_RETURN(auto api, OpenApi(everywhere));
  HttpClient::Request request;
  request.path = fmt::format("/v1/streams/{}/events?limit={}", UrlEncode(stream), most);
  request.headers = {"Accept: application/x-ndjson"};
  ASSIGN_OR_RETURN(HttpAnswer answer, api->Send(request));
  if (answer.status != 200) return StatusOfProblem(answer);
  for (std::string_view line : Split(answer.body, '\n'))
    if (!line.empty()) (void)inference.Add(JsonView(line)["data"].raw()).ok();
  return OkStatus();
}

int Infer(const Everywhere& everywhere, const std::string& from, int64_t sample) {
  Machine machine;
  auto info = machine.fs.Stat(from);
  bool is_file = info && !info->is_directory;
  if (!is_file && !CheckName(from).ok())
    return Complain(NotFound("no file '{}', and no stream has such a name", from));
  ContractInference inference(from.find(".csv") != std::string::npos);
  Status status = is_file ? SampleFile(machine, from, static_cast<uint64_t>(sample), inference)
                          : SampleStream(everywhere, from, static_cast<uint64_t>(sample), inference);
  if (!status.ok()) return Complain(status);
  if (inference.samples() == 0) return Complain(Invalid("no JSON object in {}", from));
  std::printf("contract:\n%s", ContractToYaml(inference.Finish(), 2).c_str());
  if (!everywhere.quiet)
    std::fprintf(stderr, "from %llu events\n", static_cast<unsigned long long>(inference.samples()));
  return kExitDone;
}

}  // namespace

Verb ContractVerb() {
  auto from = std::make_shared<std::string>();
  auto sample = std::make_shared<int64_t>(10'000);
  Verb verb("contract", "contracts: the typed fields that a stream's events must have");
  verb.Below(
      Verb("infer", "propose a contract from data, as YAML")
          .Argument("STREAM|FILE", from.get(), "a stream, or a file of NDJSON, JSON or CSV")
          .Option("--sample", sample.get(), "N", "so many events at most")
          .Example("millstream contract infer orders.ndjson", "what to write under streams: orders:")
          .Run([from, sample](const Everywhere& everywhere) { return Infer(everywhere, *from, *sample); }));
  return verb;
}

}  // namespace millstream
