// millstream log and verify: the log itself.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "base/text.h"
#include "catalog/control.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "log/backup.h"
#include "pipeline/control_log.h"
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

int ReportDamage(const Everywhere& everywhere, const std::vector<LogDamage>& damage, const char* what,
                 const std::string& member = "") {
  if (everywhere.json) {
    std::string json = "{" + member + (member.empty() ? "" : ",") + "\"damage\":[";
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

/// All segments of the log at one moment, of the server or of an Engine of this process.
Result<std::vector<BackupPart>> CutOf(HttpClient& api) {
  ASSIGN_OR_FAIL(std::string body,
                 CallServer(api, "POST", "/v1/query", R"({"sql":"SELECT * FROM _segments"})"));
  std::vector<BackupPart> parts;
  for (const JsonView& row : JsonView(body)["rows"].items())
    parts.push_back({.file = row["file"].text(),
                     .bytes = row["bytes"].number(),
                     .end_offset = row["end_offset"].number(),
                     .sealed = row["sealed"].text() == "true"});
  return parts;
}

int VerifyCopy(const Everywhere& everywhere, Machine& machine, const std::string& destination) {
  auto damage = VerifyBackup(machine.fs, destination);
  if (!damage) return Complain(damage.error());
  return ReportDamage(everywhere, *damage, "");
}

int Backup(const Everywhere& everywhere, const std::string& destination, bool verify) {
  Machine machine;
  if (verify) return VerifyCopy(everywhere, machine, destination);
  if (!everywhere.server.empty()) {
    std::fprintf(stderr,
                 "millstream: log backup reads the data folder itself: run it where that is, with -C DIR "
                 "instead of --server\n");
    return kExitUsage;
  }
  auto directory = LogDirectory(everywhere, machine);
  if (!directory) return Complain(directory.error());
  auto known = ReadBackup(machine.fs, destination);
  if (!known) return Complain(known.error());
  if (!*known && machine.fs.Exists(destination + "/log"))
    return Complain(
        Conflict("{} is a data folder, or a backup that was restored; name another folder", destination));
  auto api = OpenApi(everywhere);
  if (!api) return Complain(api.error());
  // Neither a second backup nor a server may use it meanwhile.
  auto held = DataFolder::Open(machine.fs, machine.clock, destination, 0);
  if (!held) return Complain(held.error());
  const bool shows = !everywhere.quiet && isatty(STDERR_FILENO) != 0;
  int64_t shown_ns = 0;
  auto progress = [&](uint64_t bytes) {
    int64_t now_ns = machine.clock.MonotonicNs();
    if (!shows || now_ns - shown_ns < kProgressNs) return;
    shown_ns = now_ns;
    std::fprintf(stderr, "\r%s copied ", FormatBytes(bytes).c_str());
  };
  auto done = BackUp(
      machine.fs, machine.clock, *directory, destination, [&] { return CutOf(**api); }, progress);
  if (shown_ns != 0) std::fputs("\r", stderr);
  if (!done) return Complain(done.error());
  const BackupManifest& manifest = done->manifest;
  if (everywhere.json) {
    std::printf(
        "{\"number\":%llu,\"taken\":\"%s\",\"files\":%zu,\"bytes\":%llu,\"copied_files\":%llu,\"copied_"
        "bytes\":%llu}\n",
        static_cast<unsigned long long>(manifest.number), FormatTime(manifest.taken_us).c_str(),
        manifest.files.size(), static_cast<unsigned long long>(manifest.bytes()),
        static_cast<unsigned long long>(done->copied_files),
        static_cast<unsigned long long>(done->copied_bytes));
    return kExitDone;
  }
  std::printf("backup %llu of %s in %s: %zu files, %s; copied %llu files, %s\n",
              static_cast<unsigned long long>(manifest.number), FormatTime(manifest.taken_us).c_str(),
              destination.c_str(), manifest.files.size(), FormatBytes(manifest.bytes()).c_str(),
              static_cast<unsigned long long>(done->copied_files), FormatBytes(done->copied_bytes).c_str());
  return kExitDone;
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

/// Follows the hash chain of `_control`; what breaks it is damage.
Status VerifyControl(FileSystem& fs, const std::string& directory, const std::string& head, ChainCheck& chain,
                     std::vector<LogDamage>& damage) {
  bool is_whole = true;
  RETURN_IF_ERROR(Log::ReadSound(fs, directory, kControlStream,
                                 [&](EventBatch& batch, const std::string& file, uint64_t byte) -> Status {
                                   ASSIGN_OR_RETURN(const Column* data, batch.Data());
                                   for (uint32_t row = 0; is_whole && row < batch.count(); ++row) {
                                     Status status = chain.Take(data->String(row));
                                     is_whole = status.ok();
                                     if (!is_whole)
                                       damage.push_back({file, byte, "_control: " + status.message()});
                                   }
                                   return OkStatus();
                                 }));
  if (!head.empty() && is_whole && !chain.Find(head))
    damage.push_back(
        {kControlStream, 0,
         fmt::format("none of its {} events has the head {}: events were cut off its end, or all of it "
                     "was written anew",
                     chain.events(), head)});
  return OkStatus();
}

int Verify(const Everywhere& everywhere, bool log_alone, const std::string& head) {
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
  if (log_alone) return ReportDamage(everywhere, all, "");
  ChainCheck chain;
  if (Status status = VerifyControl(machine.fs, *directory, head, chain, all); !status.ok())
    return Complain(status);
  std::string control =
      fmt::format("\"control\":{{\"events\":{},\"head\":\"{}\"}}", chain.events(), chain.head());
  if (!everywhere.json)
    std::printf("_control: %llu event%s, head %s\n", static_cast<unsigned long long>(chain.events()),
                chain.events() == 1 ? "" : "s", chain.head().c_str());
  return ReportDamage(everywhere, all, "", control);
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
  auto destination = std::make_shared<std::string>();
  auto verify = std::make_shared<bool>(false);
  verb.Below(
      Verb("backup", "copy the log as it is at this moment, beside a running server")
          .Argument("DEST", destination.get(), "folder of the backup; the next run copies only what is new")
          .Flag("--verify", verify.get(), "copy nothing: read the backup and hold it against its checksums")
          .About("The backup holds all streams, `_control` and dead letters. Restore: use it, or a copy of "
                 "it, as the data folder "
                 "(server.data or --data).")
          .Example("millstream log backup /mnt/backup/shop",
                   "for cron: a run that fails leaves the backup before it")
          .Run([destination, verify](const Everywhere& everywhere) {
            return Backup(everywhere, *destination, *verify);
          }));
  verb.Below(Verb("repair", "set damaged places aside and keep all that is sound (no server may run)")
                 .Argument("STREAM", stream.get(), "the stream")
                 .Example("millstream log repair orders", "after verify found damage")
                 .Run([stream](const Everywhere& everywhere) { return Repair(everywhere, *stream); }));
  return verb;
}

Verb VerifyVerb() {
  auto log = std::make_shared<bool>(false);
  auto head = std::make_shared<std::string>();
  Verb verb("verify", "read every byte of the log and check it, and the chain of _control");
  verb.Flag("--log", log.get(), "only the log's checksums and order, not the chain of _control")
      .Option("--head", head.get(), "HASH", "a head of _control that was seen before: it must still be there")
      .About(
          "Each event of _control carries the SHA-256 of the one before. An event that was changed, left "
          "out, "
          "put in or moved is named; --head finds what was cut off the end. A server writes the head to its "
          "log "
          "when it starts and stops, and every hour.")
      .Example("millstream verify", "names file and byte of any damage; exit 1 if there is any")
      .Run([log, head](const Everywhere& everywhere) {
        if (!head->empty() &&
            (head->size() != 64 || head->find_first_not_of("0123456789abcdef") != std::string::npos)) {
          (void)Complain(Invalid("--head: expected the 64 digits that verify prints"));
          return kExitUsage;
        }
        return Verify(everywhere, *log && head->empty(), *head);
      });
  return verb;
}

}  // namespace millstream
