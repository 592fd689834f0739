#include "cli/verb.h"

#include <cstdio>

namespace millstream {

Verb& Verb::Flag(const std::string& names, bool* to, const std::string& help) {
  parameters_.push_back({Parameter::Kind::kFlag, false, false, names, "", help, to});
  return *this;
}

Verb& Verb::Option(const std::string& names, std::string* to, const std::string& value,
                   const std::string& help) {
  parameters_.push_back({Parameter::Kind::kText, false, false, names, value, help, to});
  return *this;
}

Verb& Verb::Option(const std::string& names, std::vector<std::string>* to, const std::string& value,
                   const std::string& help) {
  parameters_.push_back({Parameter::Kind::kTexts, false, false, names, value, help, to});
  return *this;
}

Verb& Verb::Option(const std::string& names, int64_t* to, const std::string& value, const std::string& help) {
  parameters_.push_back({Parameter::Kind::kNumber, false, false, names, value, help, to});
  return *this;
}

Verb& Verb::Argument(const std::string& name, std::string* to, const std::string& help, bool required) {
  parameters_.push_back({Parameter::Kind::kText, true, required, name, "", help, to});
  return *this;
}

Verb& Verb::Arguments(const std::string& name, std::vector<std::string>* to, const std::string& help,
                      bool required) {
  parameters_.push_back({Parameter::Kind::kTexts, true, required, name, "", help, to});
  return *this;
}

Verb EverywhereParameters(Everywhere& everywhere) {
  Verb verb("", "");
  verb.Option("-C", &everywhere.project, "DIR",
              "project folder (default: the nearest upwards with millstream.yaml)")
      .Option("--data", &everywhere.data, "DIR", "data folder (default: server.data of the project)")
      .Option("--server", &everywhere.server, "URL", "server to talk to (or MILLSTREAM_SERVER)")
      .Option("--sandbox", &everywhere.sandbox, "NAME",
              "work in a sandbox: query, ingest, list, show and the like")
      .Option("--token", &everywhere.token, "TOKEN", "token for that server (or MILLSTREAM_TOKEN)")
      .Flag("--json", &everywhere.json, "what the HTTP API answers; NDJSON where it streams")
      .Flag("-q,--quiet", &everywhere.quiet, "only answers and errors")
      .Option("--color", &everywhere.color, "WHEN", "auto, always or never");
  return verb;
}

int ExitCode(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return kExitDone;
    case Code::kDeadline:
      return kExitDeadline;
    case Code::kUnavailable:
      return kExitNoServer;
    case Code::kIo:
      return kExitIo;
    case Code::kInternal:
      return kExitInternal;
    case Code::kCancelled:
      return kExitInterrupted;
    case Code::kInvalid:
    case Code::kCorrupt:
    case Code::kExhausted:
    case Code::kNotFound:
    case Code::kConflict:
      return kExitNo;
  }
  return kExitInternal;
}

int Complain(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "millstream: %s\n", status.message().c_str());
  return ExitCode(status);
}

}  // namespace millstream
