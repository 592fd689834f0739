// Verb: one verb of the command line: its options, help and what it does.
//
// Place: floor 8. One file a verb makes one (cli/verbs.h lists them); command_line.cc alone knows the library
// that parses. Exit codes are SURFACE's: 0 done, 1 the answer is no, 2 usage, 3 server not reached, 4 out of
// time, 70 internal, 74 I/O, 130 interrupted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "stage/stage.h"

namespace millstream {

inline constexpr int kExitDone = 0;
inline constexpr int kExitNo = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNoServer = 3;
inline constexpr int kExitDeadline = 4;
inline constexpr int kExitInternal = 70;
inline constexpr int kExitIo = 74;
inline constexpr int kExitInterrupted = 130;

/// The options that every verb takes, and what the process has.
struct Everywhere {
  std::string project;  // -C
  std::string data, server, token;
  std::string sandbox;  // --sandbox: work in it, in place of what is live
  std::string color = "auto";
  bool json = false, quiet = false;
  const Registry* registry = nullptr;

  /// The same with a verb's DIR, if it was given, as the project.
  Everywhere In(const std::string& directory) const {
    Everywhere here = *this;
    if (!directory.empty()) here.project = directory;
    return here;
  }
};

class Verb {
 public:
  Verb(std::string name, std::string summary) : name_(std::move(name)), summary_(std::move(summary)) {}

  Verb& Flag(const std::string& names, bool* to, const std::string& help);
  Verb& Option(const std::string& names, std::string* to, const std::string& value, const std::string& help);
  Verb& Option(const std::string& names, std::vector<std::string>* to, const std::string& value,
               const std::string& help);
  Verb& Option(const std::string& names, int64_t* to, const std::string& value, const std::string& help);
  /// Positional arguments, in order. A list takes the rest.
  Verb& Argument(const std::string& name, std::string* to, const std::string& help, bool required = true);
  Verb& Arguments(const std::string& name, std::vector<std::string>* to, const std::string& help,
                  bool required = false);
  Verb& Example(const std::string& command, const std::string& what) {
    return examples_.emplace_back(command, what), *this;
  }
  /// More about it, below the options.
  Verb& About(std::string text) { return about_ = std::move(text), *this; }
  /// It can work in a sandbox: all that it does goes through the HTTP API.
  Verb& InSandbox() { return in_sandbox_ = true, *this; }
  bool in_sandbox() const { return in_sandbox_; }
  Verb& Run(std::function<int(const Everywhere&)> run) { return run_ = std::move(run), *this; }
  /// Verbs below this one ("pipeline list").
  Verb& Below(Verb verb) { return below_.push_back(std::move(verb)), *this; }

  const std::string& name() const { return name_; }
  const std::string& summary() const { return summary_; }

  struct Parameter {
    enum class Kind : uint8_t { kFlag, kText, kTexts, kNumber } kind;
    bool positional, required;
    std::string names, value, help;
    void* to;
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<std::pair<std::string, std::string>>& examples() const { return examples_; }
  const std::string& about() const { return about_; }
  const std::vector<Verb>& below() const { return below_; }
  const std::function<int(const Everywhere&)>& run() const { return run_; }

 private:
  std::string name_, summary_, about_;
  bool in_sandbox_ = false;
  std::vector<Parameter> parameters_;
  std::vector<std::pair<std::string, std::string>> examples_;
  std::vector<Verb> below_;
  std::function<int(const Everywhere&)> run_;
};

/// The options that every verb takes, as a verb without a name.
Verb EverywhereParameters(Everywhere& everywhere);

/// Prints "millstream: MESSAGE" on stderr and answers the exit code that fits the status.
int Complain(const Status& status);
/// The exit code of a status.
int ExitCode(const Status& status);

}  // namespace millstream
