// The command line: finds the verb; its options are parsed by CLI11, which only this file knows.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/fault.h"
#include "base/text.h"
#include "cli/usage.h"
#include "cli/verbs.h"
#include "cli/worker.h"

namespace millstream {
namespace {

void AddParameter(CLI::App& app, const Verb::Parameter& parameter) {
  CLI::Option* option = nullptr;
  switch (parameter.kind) {
    case Verb::Parameter::Kind::kFlag:
      app.add_flag(parameter.names, *static_cast<bool*>(parameter.to));
      return;
    case Verb::Parameter::Kind::kText:
      option = app.add_option(parameter.names, *static_cast<std::string*>(parameter.to));
      break;
    case Verb::Parameter::Kind::kTexts:
      option = app.add_option(parameter.names, *static_cast<std::vector<std::string>*>(parameter.to));
      if (!parameter.positional) option->expected(1)->take_all();
      break;
    case Verb::Parameter::Kind::kNumber:
      option = app.add_option(parameter.names, *static_cast<int64_t*>(parameter.to));
      break;
  }
  if (parameter.required) option->required();
}

/// The first of `arguments` that is no option of every verb and no value of one; their size if there is none.
size_t FindWord(const std::vector<std::string>& arguments, const Verb& everywhere) {
  auto takes_value = [&](const std::string& argument) {
    for (const Verb::Parameter& parameter : everywhere.parameters())
      if (parameter.names == argument) return parameter.kind != Verb::Parameter::Kind::kFlag;
    return false;
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (takes_value(arguments[i]))
      ++i;
    else if (!arguments[i].starts_with('-'))
      return i;
  }
  return arguments.size();
}

/// What to say of an argument that the verb does not take.
std::string Unexpected(const Verb& verb, const Verb& everywhere, const std::string& argument) {
  if (!argument.starts_with('-')) return fmt::format("one argument too many: '{}'", argument);
  std::vector<std::string> names;
  for (const Verb* each : {&verb, &everywhere})
    for (const Verb::Parameter& parameter : each->parameters())
      if (!parameter.positional)
        for (std::string_view name : Split(parameter.names, ',')) names.emplace_back(name);
  std::string given = argument.substr(0, argument.find('='));
  std::string nearest = Nearest(given, names);
  return fmt::format("no option '{}'{}", given,
                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

int Misused(const std::string& message, const std::string& words) {
  std::fprintf(stderr, "millstream: %s\n", message.c_str());
  if (!words.empty()) std::fprintf(stderr, "`millstream help %s` shows its use\n", words.c_str());
  return kExitUsage;
}

/// `VERB --help`.
int PrintUsage(const std::vector<Verb>& verbs, const Verb& everywhere, std::vector<std::string> arguments) {
  const Verb* verb = nullptr;
  std::string words;
  for (const std::vector<Verb>* among = &verbs; among != nullptr; among = verb ? &verb->below() : nullptr) {
    size_t at = FindWord(arguments, everywhere);
    const Verb* found = at < arguments.size() ? FindVerb(*among, arguments[at]) : nullptr;
    if (found == nullptr) break;
    verb = found;
    words += (words.empty() ? "" : " ") + verb->name();
    arguments.erase(arguments.begin() + static_cast<long>(at));
  }
  std::fputs((verb != nullptr ? UsageText(*verb, words) : OverviewText(verbs)).c_str(), stdout);
  return kExitDone;
}

int ParseAndRun(const Verb& verb, const std::string& words, const Verb& everywhere_parameters,
                Everywhere& everywhere, std::vector<std::string> arguments) {
  CLI::App app;
  app.set_help_flag("");
  for (const Verb::Parameter& parameter : verb.parameters()) AddParameter(app, parameter);
  for (const Verb::Parameter& parameter : everywhere_parameters.parameters()) AddParameter(app, parameter);
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    std::vector<std::string> extra = app.remaining();
    return Misused(extra.empty() ? error.what() : Unexpected(verb, everywhere_parameters, extra[0]), words);
  }
  if (everywhere.color != "auto" && everywhere.color != "always" && everywhere.color != "never")
    return Misused(fmt::format("--color {}: expected auto, always or never", everywhere.color), words);
  if (!everywhere.sandbox.empty() && !verb.in_sandbox())
    return Misused(
        fmt::format("--sandbox: {} does not work in a sandbox; query, ingest, table list and others "
                    "that ask do",
                    words),
        words);
  return verb.run()(everywhere);
}

}  // namespace

int RunCommandLine(int argc, char** argv, const Registry& registry) {
  Everywhere everywhere;
  everywhere.registry = &registry;
  for (auto [name, to] :
       {std::pair("MILLSTREAM_SERVER", &everywhere.server), std::pair("MILLSTREAM_TOKEN", &everywhere.token)})
    if (const char* value = std::getenv(name)) *to = value;
  const Verb everywhere_parameters = EverywhereParameters(everywhere);
  const std::vector<Verb> verbs = AllVerbs();
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty()) {
    std::fputs(OverviewText(verbs).c_str(), stderr);
    return kExitUsage;
  }
  if (arguments[0] == kWorkerArgument) return RunWorker(registry);
  if (arguments[0] == "--version") arguments[0] = "version";
  auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  if (std::any_of(arguments.begin(), dashes, [](const auto& a) { return a == "-h" || a == "--help"; }))
    return PrintUsage(verbs, everywhere_parameters, std::move(arguments));
  size_t at = FindWord(arguments, everywhere_parameters);
  if (at == arguments.size()) return Misused("which verb? `millstream help` lists them", "");
  std::string words = arguments[at];
  const Verb* verb = FindVerb(verbs, words);
  if (verb == nullptr) return Misused(fmt::format("no verb '{}'{}", words, NearestVerb(verbs, words)), "");
  arguments.erase(arguments.begin() + static_cast<long>(at));
  if (!verb->below().empty()) {
    at = FindWord(arguments, everywhere_parameters);
    std::vector<std::string> names;
    for (const Verb& each : verb->below()) names.push_back(each.name());
    std::string expected = fmt::format("{}", fmt::join(names, ", "));
    const Verb* below = at < arguments.size() ? FindVerb(verb->below(), arguments[at]) : nullptr;
    if (below == nullptr && verb->run())  // `history`, and `history diff`
      return ParseAndRun(*verb, words, everywhere_parameters, everywhere, std::move(arguments));
    if (at == arguments.size()) return Misused(fmt::format("{}: expected {}", words, expected), words);
    if (below == nullptr)
      return Misused(fmt::format("no verb '{} {}'; expected {}", words, arguments[at], expected), words);
    words += " " + arguments[at];
    arguments.erase(arguments.begin() + static_cast<long>(at));
    verb = below;
  }
  return ParseAndRun(*verb, words, everywhere_parameters, everywhere, std::move(arguments));
}

}  // namespace millstream
