// millstream log and verify: the log itself.
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "pipeline/data_folder.h"

namespace millstream {
namespace {

struct ReadOptions {
  std::string stream, from, to;
  bool follow = false;
};

/// Segments, as the system table has them.
int List(const Everywhere& everywhere, const std::string& stream) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  if (!stream.empty() && !stream.starts_with('_'))
    if (auto known = CallServer(**api, "GET", "/v1/streams/" + UrlEncode(stream)); !known)
      return Complain(known.error());
  std::string sql = "{\"sql\":\"SELECT * FROM _segments";
  if (!stream.empty()) sql += " WHERE stream = $stream";
  sql += " ORDER BY ALL\",\"params\":{" + (stream.empty() ? std::string() : "\"stream\":\"" + stream + "\"") +
         "}}";
  auto body = CallServer(**api, "POST", "/v1/query", sql);
  if (!body) return Complain(body.error());
  if (everywhere.json) {
    std::printf("%s\n", body->c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> lines;
  for (const JsonView& row : JsonView(*body)["rows"].items()) {
    lines.push_back({row["file"].text(), row["first_offset"].text(), row["end_offset"].text(),
                     FormatCount(row["batches"].number()), FormatBytes(row["bytes"].number()),
                     row["first_time"].text(), row["last_time"].text(),
                     row["sealed"].text() == "true" ? "sealed" : "open"});
  }
  std::fputs(LayOut({"SEGMENT", "FIRST", "END", "BATCHES", "SIZE", "FROM", "TO", ""}, lines).c_str(), stdout);
  return kExitDone;
}

int Read(const Everywhere& everywhere, const ReadOptions& given) {
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  HttpClient::Request request;
  request.path = fmt::format("/v1/streams/{}/events?from={}", UrlEncode(given.stream),
                             given.from.empty() ? "earliest" : UrlEncode(given.from));
  if (!given.to.empty()) request.path += "&to=" + UrlEncode(given.to);
  if (given.follow) request.path += "&follow=true";
  request.headers = {"Accept: application/x-ndjson"};
  request.on_data = [](std::string_view bytes) {
    bool written = std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size();
    return written && std::fflush(stdout) == 0;
  };
  auto answer = (*api)->Send(request);
  if (!answer) return Complain(answer.error());
  return answer->status == 200 ? kExitDone : Complain(StatusOfProblem(*answer));
}

int ReportDamage(const Everywhere& everywhere, const std::vector<LogDamage>& damage, const char* what) {
  if (everywhere.json) {
    std::string json = "{\"damage\":[";
    for (const LogDamage& each : damage) {
      json += json.back() == '[' ? "{\"file\":" : ",{\"file\":";
      AppendJsonString(json, each.file);
      json += fmt::format(",\"byte\":{},\"message\":", each.position);
      AppendJsonString(json, each.message);
      json += '}';
    }
    std::printf("%s]}\n", json.c_str());
    return damage.empty() ? kExitDone : kExitNo;
  }
  for (const LogDamage& each : damage)
    std::printf("%s: byte %llu: %s\n", each.file.c_str(), static_cast<unsigned long long>(each.position),
                each.message.c_str());
  std::printf("%zu damaged place%s%s\n", damage.size(), damage.size() == 1 ? "" : "s", what);
  return damage.empty() ? kExitDone : kExitNo;
}

/// The log's folder of the project here.
Result<std::string> LogDirectory(const Everywhere& everywhere, Machine& machine) {
  std::string directory = FindProject(everywhere);
  FAIL_IF_ERROR(CheckProjectExists(everywhere, directory));
  Faults faults;
  Project project = LoadProject(machine.fs, directory, *everywhere.registry, faults);
  return DataDirectory(everywhere, project) + "/log";
}

int Repair(const Everywhere& everywhere, const std::string& stream) {
  Machine machine;
  auto directory = LogDirectory(everywhere, machine);
  if (!directory) return Complain(directory.error());
  if (!machine.fs.Exists(*directory + "/" + stream))
    return Complain(NotFound("no stream '{}' in {}", stream, *directory));
  auto folder = DataFolder::Open(machine.fs, machine.clock, DirectoryOf(*directory), 0);
  if (!folder) return Complain(folder.error());
  auto damage = Log::Repair(machine.fs, *directory, stream);
  if (!damage) return Complain(damage.error());
  ReportDamage(everywhere, *damage, " set aside");
  return kExitDone;
}

int Verify(const Everywhere& everywhere) {
  Machine machine;
  auto directory = LogDirectory(everywhere, machine);
  if (!directory) return Complain(directory.error());
  auto streams = machine.fs.List(*directory);
  if (!streams) return Complain(streams.error());
  std::vector<LogDamage> all;
  for (const std::string& stream : *streams) {
    auto info = machine.fs.Stat(*directory + "/" + stream);
    if (!info || !info->is_directory) continue;
    auto damage = Log::Verify(machine.fs, *directory, stream);
    if (!damage) return Complain(damage.error());
    all.insert(all.end(), damage->begin(), damage->end());
    if (!everywhere.quiet)
      std::fprintf(stderr, "%s: %s\n", stream.c_str(), damage->empty() ? "sound" : "damaged");
  }
  return ReportDamage(everywhere, all, "");
}

}  // namespace

Verb LogVerb() {
  Verb verb("log", "the log: its segments and its events");
  auto stream = std::make_shared<std::string>();
  auto given = std::make_shared<ReadOptions>();
  verb.Below(Verb("list", "segments")
                 .Argument("STREAM", stream.get(), "of this stream (default: all)", false)
                 .Example("millstream log list orders", "files, offsets, sizes and times")
                 .Run([stream](const Everywhere& everywhere) { return List(everywhere, *stream); }));
  verb.Below(Verb("read", "events as CloudEvents, one a line")
                 .Argument("STREAM", &given->stream, "the stream")
                 .Option("--from", &given->from, "POSITION",
                         "from here on, with it: a position, a time, or a duration ago")
                 .Option("--to", &given->to, "POSITION", "up to here, without it")
                 .Flag("--follow", &given->follow, "wait for more")
                 .Example("millstream log read orders --from 1h", "events of the last hour")
                 .Run([given](const Everywhere& everywhere) { return Read(everywhere, *given); }));
  verb.Below(Verb("repair", "set damaged places aside and keep all that is sound (no server may run)")
                 .Argument("STREAM", stream.get(), "the stream")
                 .Example("millstream log repair orders", "after verify found damage")
                 .Run([stream](const Everywhere& everywhere) { return Repair(everywhere, *stream); }));
  return verb;
}

Verb VerifyVerb() {
  auto log = std::make_shared<bool>(false);
  Verb verb("verify", "read every byte of the log and check it");
  verb.Flag("--log", log.get(), "the log's checksums and order (the default)")
      .Example("millstream verify --log", "names file and byte of any damage; exit 1 if there is any")
      .Run([log](const Everywhere& everywhere) { return Verify(everywhere); });
  return verb;
}

}  // namespace millstream
