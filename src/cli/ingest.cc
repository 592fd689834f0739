// millstream ingest: files and stdin into a stream, through a server or straight into the data folder.
#include <boost/json.hpp>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/input_bytes.h"
#include "cli/input_feed.h"
#include "cli/json_view.h"
#include "cli/local_client.h"
#include "cli/sandbox.h"
#include "cli/signals.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "pipeline/parallel_ingest.h"

namespace millstream {
namespace {

struct IngestOptions {
  std::string stream, format, records;
  std::vector<std::string> files, csv;
  bool strict = false, again = false, no_deliver = false;
};

using Totals = ParallelIngest::Totals;

/// Where pieces go: an Engine here or a server.
class Destination {
 public:
  virtual ~Destination() = default;
  /// Stored position of a file, or nothing.
  virtual Result<std::string> Stored(const std::string& stream, const std::string& part) = 0;
  /// The stream's contract, for CSV.
  virtual Result<Contract> ContractOf(const std::string& stream) = 0;
  /// Hands a piece over; pieces are appended in this order. `body` keeps request.body alive. Earlier failures
  /// come out here.
  virtual Status Send(IngestRequest request, std::shared_ptr<const void> body) = 0;
  /// Waits until all is durable.
  virtual Status Finish() = 0;
  /// Waits too; what came of all that was sent since the last call.
  virtual Totals TakeTotals() = 0;
};

class EngineDestination final : public Destination {
 public:
  explicit EngineDestination(Engine& engine) : engine_(engine) {}

  Result<std::string> Stored(const std::string& stream, const std::string& part) override {
    ASSIGN_OR_FAIL(auto found, engine_.FindOrigin(stream, "file/" + stream, part));
    return found ? found->position : "";
  }

  Result<Contract> ContractOf(const std::string& stream) override {
    const StreamConfig* config = engine_.project()->FindStream(stream);
    if (config != nullptr) return config->shape.contract;
    std::vector<std::string> names;
    for (const auto& [name, each] : engine_.project()->streams) names.push_back(name);
    std::string nearest = Nearest(stream, names);
    return Fail(NotFound("no stream '{}'{}", stream,
                         nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
  }

  Status Send(IngestRequest request, std::shared_ptr<const void> body) override {
    if (!ingest_) {
      ASSIGN_OR_RETURN(ingest_, engine_.OpenIngest(request.stream));
    }
    return ingest_->Send(std::move(request), std::move(body));
  }

  Status Finish() override { return ingest_ ? ingest_->Finish() : OkStatus(); }
  Totals TakeTotals() override {
    if (!ingest_) return {};
    (void)Finish();
    Totals totals = ingest_->totals();
    ingest_.reset();
    return totals;
  }

 private:
  Engine& engine_;
  std::unique_ptr<ParallelIngest> ingest_;
};

class ServerDestination final : public Destination {
 public:
  explicit ServerDestination(HttpClient& server) : server_(server) {}

  Result<std::string> Stored(const std::string& stream, const std::string& part) override {
    ASSIGN_OR_FAIL(std::string body,
                   CallServer(server_, "GET",
                              fmt::format("/v1/streams/{}/origins?origin={}&part={}", UrlEncode(stream),
                                          UrlEncode("file/" + stream), UrlEncode(part))));
    return Member(body, "position");
  }

  Result<Contract> ContractOf(const std::string& stream) override {
    ASSIGN_OR_FAIL(std::string body, CallServer(server_, "GET", "/v1/streams/" + UrlEncode(stream)));
    Contract contract;
    boost::json::error_code error;
    boost::json::value root = boost::json::parse(body, error);
    if (error || !root.is_object())
      return Fail(Internal("the server's answer about stream '{}' is no JSON object", stream));
    const auto* definition = root.as_object().if_contains("definition");
    const auto* fields = definition != nullptr && definition->is_object()
                             ? definition->as_object().if_contains("contract")
                             : nullptr;
    if (fields == nullptr || !fields->is_object()) return contract;
    for (const auto& [name, value] : fields->as_object()) {
      const boost::json::value* text = &value;
      if (value.is_object()) text = value.as_object().if_contains("type");
      if (text == nullptr || !text->is_string()) continue;
      ASSIGN_OR_FAIL(Field field, ParseField(std::string(name), std::string_view(text->as_string())));
      contract.fields.push_back(std::move(field));
    }
    return contract;
  }

  Status Send(IngestRequest request, std::shared_ptr<const void>) override {
    HttpClient::Request http;
    http.method = "POST";
    http.path = fmt::format("/v1/streams/{}/events", UrlEncode(request.stream));
    http.headers = {request.format == BodyFormat::kNdjson ? "Content-Type: application/x-ndjson"
                                                          : "Content-Type: application/json",
                    fmt::format("Millstream-Line: {}", request.first_line)};
    if (!request.subject.empty()) http.headers.push_back("Millstream-Subject: " + UrlEncode(request.subject));
    if (request.origin) {
      http.headers.push_back("Millstream-Origin: " + UrlEncode(request.origin->origin));
      http.headers.push_back("Millstream-Origin-Part: " + UrlEncode(request.origin->part));
      http.headers.push_back(fmt::format("Millstream-Origin-First: {}", request.origin->first));
      http.headers.push_back("Millstream-Origin-Position: " + UrlEncode(request.origin->position));
    }
    http.body = request.body;
    ASSIGN_OR_RETURN(HttpAnswer answer, server_.Send(http));
    if (answer.status != 200) return RefusalOf(answer).ToStatus(request.subject);
    IngestAnswer counted;
    for (auto [name, to] :
         {std::pair("accepted", &counted.accepted), std::pair("quarantined", &counted.quarantined),
          std::pair("duplicates", &counted.duplicates)})
      *to = std::strtoull(Member(answer.body, name).c_str(), nullptr, 10);
    if (auto position = ParsePosition(Member(answer.body, "position")))
      counted.position = std::move(*position);
    totals_.Add(counted);
    return OkStatus();
  }

  Status Finish() override { return OkStatus(); }
  Totals TakeTotals() override { return std::exchange(totals_, Totals()); }

 private:
  /// As an Engine here would answer it.
  static IngestRefusal RefusalOf(const HttpAnswer& answer) {
    if (answer.status != 422) return {StatusOfProblem(answer), {}};
    JsonView problem(answer.body);
    IngestRefusal refusal{Invalid("{}", problem["detail"].text()), {}};
    for (const JsonView& fault : problem["faults"].items())
      refusal.faults.push_back({fault["index"].number(), fault["line"].number(), "",
                                std::string(fault["path"].text()), std::string(fault["message"].text()),
                                std::nullopt});
    return refusal;
  }

  static std::string Member(const std::string& json, std::string_view name) {
    for (const auto& [key, value] :
         JsonMembers(json).value_or(std::vector<std::pair<std::string, std::string_view>>{})) {
      if (key != name) continue;
      std::string scratch;
      JsonValue text{value.starts_with('"') ? JsonKind::kString : JsonKind::kNumber,
                     value.find('\\') != std::string_view::npos, value};
      return text.kind == JsonKind::kString ? std::string(JsonStringValue(text, scratch))
             : value == "null"              ? ""
                                            : std::string(value);
    }
    return "";
  }
  HttpClient& server_;
  Totals totals_;
};

std::string RateText(uint64_t events, double seconds) {
  double rate = seconds > 0 ? static_cast<double>(events) / seconds : 0;
  return rate >= 1e6 ? fmt::format("{:.1f} M/s", rate / 1e6)
                     : fmt::format("{}/s", FormatCount(static_cast<uint64_t>(rate)));
}

/// How far a file or stdin came.
struct Reached {
  std::string position;  // of the file, up to which all is acknowledged
  uint64_t quarantined = 0;
  bool has_unanswered = false;  // what lies behind it may be taken all the same

  /// What is said when a signal ended it.
  Status Interrupted(const IngestOptions& given, const std::string& path) const {
    const std::string name = path == "-" ? "stdin" : path;
    const uint64_t events = std::strtoull(position.c_str(), nullptr, 10);
    const std::string text = position.empty()
                                 ? fmt::format("interrupted before events of {} were acknowledged", name)
                                 : fmt::format("interrupted after {} event{} of {}", FormatCount(events),
                                               events == 1 ? "" : "s", name);
    // The stream knows what it took of a file, but not of stdin, nor of a file that is a new one each time.
    if (path != "-" && !given.again) return Cancelled("{}; the same command goes on where it stopped", text);
    return Cancelled("{}{}", text, has_unanswered ? "; those sent last may be taken all the same" : "");
  }
};

/// One file, or stdin as "-". kCancelled: a signal ended it.
Status IngestFile(const Everywhere& everywhere, const IngestOptions& given, Machine& machine,
                  Destination& destination, const std::string& path, StopSignals& signals, Reached& reached) {
  FeedOptions options;
  options.path = path;
  options.format = given.format;
  options.records = given.records;
  options.stop = signals.token();
  for (const std::string& setting : given.csv) {
    size_t equals = setting.find('=');
    if (equals == std::string::npos)
      return Invalid("--csv {}: expected NAME=VALUE with delimiter, header, quote or null", setting);
    options.csv[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
  ASSIGN_OR_RETURN(options.contract, destination.ContractOf(given.stream));
  std::string part, resume;
  if (path != "-") {
    ASSIGN_OR_RETURN(part, FileIdentity(machine.fs, path));
    if (given.again) part += fmt::format("|again {}", machine.clock.WallUs());
    ASSIGN_OR_RETURN(resume, destination.Stored(given.stream, part));
    if (resume.ends_with(" done")) {
      if (!everywhere.quiet)
        std::fprintf(stderr, "%s: is in %s already (--again takes it once more)\n", path.c_str(),
                     given.stream.c_str());
      return OkStatus();
    }
    if (!resume.empty() && !everywhere.quiet)
      std::fprintf(stderr, "%s: going on after %s events\n", path.c_str(),
                   FormatCount(std::strtoull(resume.c_str(), nullptr, 10)).c_str());
  }
  reached.position = resume;
  ASSIGN_OR_RETURN(auto feed, InputFeed::Open(machine.fs, options, resume));
  ProgressLine progress(everywhere.quiet);
  uint64_t read = 0;
  int64_t begun_ns = machine.clock.MonotonicNs(), shown_ns = begun_ns;
  uint64_t first_bytes = 0;
  std::string& position = reached.position;
  auto request_of = [&](const FeedPiece& piece) {
    IngestRequest request;
    request.stream = given.stream;
    request.format = piece.format;
    request.body = piece.body;
    request.first_line = piece.first_line;
    if (path != "-") {
      request.subject = path;
      request.origin = OriginRange{"file/" + given.stream, part, piece.first_event, piece.position};
    }
    return request;
  };
  Status status;
  while (status.ok() && !signals.received()) {
    auto piece = feed->Next();
    if (!piece) {
      status = piece.error();
      break;
    }
    if (!*piece) break;
    read += (*piece)->events;
    if (first_bytes == 0) first_bytes = (*piece)->bytes_read - (*piece)->body.size();
    uint64_t bytes = (*piece)->bytes_read;
    status = destination.Send(request_of(**piece), std::move((*piece)->owner));
    if (status.ok()) position = std::move((*piece)->position);
    reached.has_unanswered = status.code() == Code::kCancelled;
    int64_t now_ns = machine.clock.MonotonicNs();
    if (now_ns - shown_ns < kProgressNs) continue;
    shown_ns = now_ns;
    double seconds = static_cast<double>(now_ns - begun_ns) / 1e9;
    std::string left;
    if (feed->total_bytes() > 0 && bytes > first_bytes) {
      double done = static_cast<double>(bytes - first_bytes),
             all = static_cast<double>(feed->total_bytes() - first_bytes);
      left = fmt::format("  {:3.0f}%  {} left",
                         100.0 * static_cast<double>(bytes) / static_cast<double>(feed->total_bytes()),
                         FormatDuration(static_cast<int64_t>(seconds * (all - done) / done * 1e6)));
    }
    progress.Show(fmt::format("{}: {} events  {}{}", path, FormatCount(read), RateText(read, seconds), left));
  }
  const bool is_interrupted = signals.received() && (status.ok() || status.code() == Code::kCancelled);
  if (status.ok() || is_interrupted) status = destination.Finish();
  if (status.ok() && is_interrupted) status = Cancelled("interrupted");
  if (status.ok() && !given.records.empty() && position.empty())
    status = Invalid("{}: nothing lies at {} (--records)", path == "-" ? "stdin" : path, given.records);
  if (status.ok() && path != "-") {
    // The mark that the file is done goes to every partition.
    FeedPiece last;
    last.first_event = std::strtoull(position.c_str(), nullptr, 10);
    last.position = (position.empty() ? "0" : position) + " done";
    static constexpr char kReadable[64] = {};
    last.body = std::string_view(kReadable);  // empty, and readable beyond its end
    status = destination.Send(request_of(last), nullptr);
    Status finished = destination.Finish();
    if (status.ok()) status = finished;
  }
  progress.Clear();
  const Totals totals = destination.TakeTotals();
  reached.quarantined = totals.quarantined;
  double seconds = static_cast<double>(machine.clock.MonotonicNs() - begun_ns) / 1e9;
  if (everywhere.json) {
    std::printf(
        "{\"file\":\"%s\",\"read\":%llu,\"accepted\":%llu,\"quarantined\":%llu,\"duplicates\":%llu,"
        "\"position\":\"%s\"}\n",
        path.c_str(), static_cast<unsigned long long>(read), static_cast<unsigned long long>(totals.accepted),
        static_cast<unsigned long long>(totals.quarantined),
        static_cast<unsigned long long>(totals.duplicates),
        totals.position.offsets.empty() ? "" : totals.position.ToString().c_str());
  } else if (!everywhere.quiet) {
    std::string line = fmt::format("{}: {} read, {} accepted", path == "-" ? "stdin" : path,
                                   FormatCount(read), FormatCount(totals.accepted));
    if (totals.quarantined > 0)
      line += fmt::format(", {} quarantined ({} dead list {})", FormatCount(totals.quarantined),
                          Command(everywhere), given.stream);
    if (totals.duplicates > 0) line += fmt::format(", {} duplicates", FormatCount(totals.duplicates));
    line += fmt::format(", {:.1f} s, {}", seconds, RateText(read, seconds));
    if (!totals.position.offsets.empty()) line += ", durable at " + totals.position.ToString();
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  return status;
}

int Ingest(const Everywhere& everywhere, const IngestOptions& given) {
  if (!given.format.empty() && !ParseRecordFormat(given.format)) {
    (void)Complain(given.format == "parquet"
                       ? ParquetRefusal(given.files.empty() ? "-" : given.files.front())
                       : Invalid("--format {}: expected ndjson, json or csv", given.format));
    return kExitUsage;
  }
  StopSignals signals;
  Machine machine;
  auto target = FindTarget(everywhere);
  if (!target) return Complain(target.error());
  Logger logger;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Destination> destination;
  const bool rests_in_sandbox = !target->server && !everywhere.sandbox.empty();
  if (rests_in_sandbox) {
    auto local = LocalClient::Open(everywhere, target->project_directory, false, false);
    if (!local) return Complain(local.error());
    target->server = InSandbox(everywhere, std::move(*local));
  }
  if (target->server) {
    target->server->EndOn(signals.token());
    destination = std::make_unique<ServerDestination>(*target->server);
  } else {
    auto opened = OpenEngine(everywhere, machine, logger, target->project_directory, false);
    if (!opened) return Complain(opened.error());
    engine = std::move(*opened);
    if (!given.no_deliver) engine->StartDelivery();
    destination = std::make_unique<EngineDestination>(*engine);
  }
  uint64_t quarantined = 0;
  Status status;
  std::vector<std::string> files = given.files.empty() ? std::vector<std::string>{"-"} : given.files;
  for (const std::string& file : files) {
    Reached reached;
    status = IngestFile(everywhere, given, machine, *destination, file, signals, reached);
    quarantined += reached.quarantined;
    if (status.code() == Code::kCancelled) status = reached.Interrupted(given, file);
    if (!status.ok()) break;
  }
  destination.reset();
  if (rests_in_sandbox && status.ok() && !given.no_deliver)
    status = AwaitDelivered(everywhere, *target->server, signals);
  if (engine) {
    if (status.ok() && !given.no_deliver && !signals.received()) {
      ProgressLine progress(everywhere.quiet);
      status = engine->DeliverAll(signals.token(),
                                  [&](const EngineStatus& now) { progress.Show(ProgressText(now)); });
    }
    Status stopped = engine->Stop();
    if (status.ok()) status = stopped;
  }
  if (!status.ok()) return Complain(status);
  if (signals.received()) return kExitInterrupted;
  return given.strict && quarantined > 0 ? kExitNo : kExitDone;
}

}  // namespace

Verb IngestVerb() {
  auto given = std::make_shared<IngestOptions>();
  Verb verb("ingest", "take events from files or stdin into a stream");
  verb.Argument("STREAM", &given->stream, "the stream")
      .Arguments("FILE", &given->files, "files, or - for stdin (default)")
      .Option("--format", &given->format, "FORMAT",
              "ndjson, json or csv (default: by the name, else by the beginning)")
      .Option("--records", &given->records, "POINTER",
              "the events' place in a JSON document, e.g. /entry/*/resource")
      .Option("--csv", &given->csv, "NAME=VALUE", "delimiter, header, quote or null of CSV")
      .Flag("--strict", &given->strict, "exit with 1 if an event was quarantined")
      .Flag("--again", &given->again, "take a file that was taken before")
      .Flag("--no-deliver", &given->no_deliver, "without a server: only append, do not deliver")
      .About(
          "A file is known by its path, its size and a hash of its beginning: one that was interrupted goes "
          "on where it stopped, one that is "
          "done is not taken twice. An event that brings no id gets PATH#LINE, whatever lay at that path "
          "before; a stream "
          "that drops duplicates by ce_id needs ids of the events' own. gzip and zstd are inflated, by the "
          "name or the first bytes. What has no "
          "telling "
          "name, as stdin, is lines; an array if it begins with '['; documents if its first line is '{', or "
          "with --records. Into a stream with 'on_violation: reject' a file goes in pieces of 1 MiB: the "
          "first that holds an event at fault ends the verb with 1, and nothing of it is taken. Without a "
          "server the events are appended and delivered too, as `run "
          "--once` does.")
      .Example("millstream ingest orders orders.ndjson", "a file")
      .Example("kcat -C -b localhost -t orders -e | millstream ingest orders -", "from Kafka, today")
      .Example("curl -s URL | millstream ingest orders - --records '/items/*'", "from a page of an API")
      .Example("millstream ingest users users.csv --csv delimiter=';'", "CSV, typed by the stream's contract")
      .InSandbox()
      .Run([given](const Everywhere& everywhere) { return Ingest(everywhere, *given); });
  return verb;
}

}  // namespace millstream
