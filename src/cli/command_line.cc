// The command line: parsed by CLI11, which only this file knows.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/fault.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

constexpr char kAbout[] =
    "Takes in every event, keeps it for ever, transforms it with SQL while it flows, and keeps tables to "
    "ask.\n"
    "Data goes to stdout, all else to stderr.";

void AddEverywhere(CLI::App& app, Everywhere& everywhere) {
  auto* group = app.add_option_group("Everywhere");
  group
      ->add_option("-C", everywhere.project,
                   "project folder (default: the nearest upwards with millstream.yaml)")
      ->type_name("DIR");
  group->add_option("--data", everywhere.data, "data folder (default: server.data of the project)")
      ->type_name("DIR");
  group->add_option("--server", everywhere.server, "server to talk to")
      ->type_name("URL")
      ->envname("MILLSTREAM_SERVER");
  group->add_option("--token", everywhere.token, "token for that server")
      ->type_name("TOKEN")
      ->envname("MILLSTREAM_TOKEN");
  group->add_flag("--json", everywhere.json, "print what the HTTP API answers; NDJSON where it streams");
  group->add_flag("-q,--quiet", everywhere.quiet, "no progress");
  group->add_option("--color", everywhere.color, "auto, always or never")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

void AddParameter(CLI::App& app, const Verb::Parameter& parameter) {
  CLI::Option* option = nullptr;
  switch (parameter.kind) {
    case Verb::Parameter::Kind::kFlag:
      app.add_flag(parameter.names, *static_cast<bool*>(parameter.to), parameter.help);
      return;
    case Verb::Parameter::Kind::kText:
      option = app.add_option(parameter.names, *static_cast<std::string*>(parameter.to), parameter.help);
      break;
    case Verb::Parameter::Kind::kTexts:
      option = app.add_option(parameter.names, *static_cast<std::vector<std::string>*>(parameter.to),
                              parameter.help);
      if (!parameter.positional) option->expected(1)->take_all();
      break;
    case Verb::Parameter::Kind::kNumber:
      option = app.add_option(parameter.names, *static_cast<int64_t*>(parameter.to), parameter.help);
      break;
  }
  if (parameter.required) option->required();
  if (!parameter.value.empty()) option->type_name(parameter.value);
  if (parameter.positional) option->type_name("");
}

void AddVerb(CLI::App& parent, const Verb& verb, Everywhere& everywhere, int& exit_code) {
  CLI::App* app = parent.add_subcommand(verb.name(), verb.summary());
  std::string footer = verb.about();
  if (!verb.examples().empty()) footer += footer.empty() ? "Examples:" : "\n\nExamples:";
  for (const auto& [command, what] : verb.examples())
    footer += fmt::format("\n  {}\n      {}", command, what);
  app->footer(footer);
  for (const Verb& below : verb.below()) AddVerb(*app, below, everywhere, exit_code);
  if (!verb.below().empty()) {
    app->require_subcommand(1);
    return;
  }
  for (const Verb::Parameter& parameter : verb.parameters()) AddParameter(*app, parameter);
  AddEverywhere(*app, everywhere);
  app->callback([&verb, &everywhere, &exit_code] { exit_code = verb.run()(everywhere); });
}

/// What to say of a verb that does not exist; empty if it does.
std::string UnknownVerb(const std::vector<Verb>& verbs, const std::string& given) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs) {
    if (verb.name() == given) return "";
    names.push_back(verb.name());
  }
  std::string nearest = Nearest(given, names);
  return fmt::format("no verb '{}'; {}", given,
                     nearest.empty() ? "`millstream help` lists them" : "did you mean '" + nearest + "'?");
}

}  // namespace

int RunCommandLine(int argc, char** argv, const Registry& registry) {
  Everywhere everywhere;
  everywhere.registry = &registry;
  std::vector<Verb> verbs = AllVerbs();
  CLI::App app(kAbout, "millstream");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "help of all verbs");
  AddEverywhere(app, everywhere);
  int exit_code = kExitDone;
  for (const Verb& verb : verbs) AddVerb(app, verb, everywhere, exit_code);
  // `millstream help VERB` is `millstream VERB --help`; help for kinds of stages is a verb of its own.
  if (argc < 2) {
    std::fputs(app.help().c_str(), stderr);
    return kExitUsage;
  }
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments[0] == "help" && (arguments.size() == 1 || UnknownVerb(verbs, arguments[1]).empty())) {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  }
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::string unknown = argv[1][0] == '-' ? "" : UnknownVerb(verbs, argv[1]);
    std::fprintf(stderr, "millstream: %s\n", unknown.empty() ? error.what() : unknown.c_str());
    if (unknown.empty() && argv[1][0] != '-')
      std::fprintf(stderr, "`millstream help %s` shows its use\n", argv[1]);
    return kExitUsage;
  }
  return exit_code;
}

}  // namespace millstream
