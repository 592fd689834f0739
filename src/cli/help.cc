// millstream version, schema, completion, and help for kinds of stages.
#include <curl/curlver.h>
#include <lz4.h>
#include <simdjson.h>
#include <zstd.h>

#include <boost/version.hpp>
#include <cstdio>
#include <memory>

#include "base/fault.h"
#include "catalog/reference.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "sql/database.h"

namespace millstream {
namespace {

int PrintVersion(const Everywhere& everywhere) {
  std::vector<std::pair<std::string, std::string>> libraries{
      {"duckdb", Database::LibraryVersion()},
      {"boost",
       fmt::format("{}.{}.{}", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)},
      {"simdjson", SIMDJSON_STRINGIFY(SIMDJSON_VERSION)},
      {"lz4", LZ4_versionString()},
      {"zstd", ZSTD_versionString()},
      {"curl", LIBCURL_VERSION},
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)}};
  if (everywhere.json) {
    std::string json = "{\"millstream\":\"" MILLSTREAM_VERSION "\",\"libraries\":{";
    for (size_t i = 0; i < libraries.size(); ++i) {
      if (i > 0) json += ',';
      AppendJsonString(json, libraries[i].first);
      json += ':';
      AppendJsonString(json, libraries[i].second);
    }
    std::printf("%s}}\n", json.c_str());
    return kExitDone;
  }
  std::printf("millstream %s\n", MILLSTREAM_VERSION);
  for (const auto& [name, version] : libraries) std::printf("  %-9s %s\n", name.c_str(), version.c_str());
  return kExitDone;
}

int PrintHelp(const Everywhere& everywhere, const std::string& topic) {
  auto text = HelpFor(*everywhere.registry, topic);
  if (text) {
    std::printf("%s", text->c_str());
    return kExitDone;
  }
  std::string nearest = Nearest(topic, HelpTopics(*everywhere.registry));
  return Complain(NotFound("no help for '{}'{}", topic,
                           nearest.empty() ? "; `millstream help` lists the verbs"
                                           : fmt::format("; did you mean '{}'?", nearest)));
}

/// Completes verbs, and the verbs below them.
std::string Completion(const std::string& shell) {
  std::string verbs, cases;
  for (const Verb& verb : AllVerbs()) {
    verbs += (verbs.empty() ? "" : " ") + verb.name();
    if (verb.below().empty()) continue;
    std::string below;
    for (const Verb& each : verb.below()) below += (below.empty() ? "" : " ") + each.name();
    cases += fmt::format("    {}) words=\"{}\" ;;\n", verb.name(), below);
  }
  std::string body = fmt::format(
      "_millstream() {{\n  local words=\"\"\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words=\"{}\"; else case "
      "\"${{COMP_WORDS[1]}}\" in\n{}  esac; fi\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -o default -F "
      "_millstream millstream\n",
      verbs, cases);
  return shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" + body : body;
}

}  // namespace

Verb VersionVerb() {
  return Verb("version", "the version, and those of the libraries in use").Run(PrintVersion);
}

Verb SchemaVerb() {
  return Verb("schema", "the JSON Schema of millstream.yaml, for editors")
      .Example("millstream schema > millstream.schema.json",
               "then: # yaml-language-server: $schema=millstream.schema.json")
      .Run([](const Everywhere& everywhere) {
        std::printf("%s\n", ProjectSchema(*everywhere.registry).c_str());
        return kExitDone;
      });
}

Verb ReferenceVerb() {
  return Verb("reference", "the YAML reference as Markdown").Run([](const Everywhere& everywhere) {
    std::printf("%s", ReferenceMarkdown(*everywhere.registry).c_str());
    return kExitDone;
  });
}

Verb HelpVerb() {
  auto topic = std::make_shared<std::string>();
  Verb verb("help", "help for a verb, a section of the YAML, or a kind of source, filter or sink");
  verb.Argument("TOPIC", topic.get(), "e.g. run, streams, file, table, exec", false)
      .Example("millstream help table", "what the table sink takes")
      .Run([topic](const Everywhere& everywhere) { return PrintHelp(everywhere, *topic); });
  return verb;
}

Verb CompletionVerb() {
  auto shell = std::make_shared<std::string>();
  Verb verb("completion", "a script that completes verbs in a shell");
  verb.Argument("SHELL", shell.get(), "bash or zsh")
      .Example("source <(millstream completion bash)", "for this shell")
      .Run([shell](const Everywhere&) {
        if (*shell != "bash" && *shell != "zsh") {
          Complain(Invalid("completion for '{}'? expected bash or zsh", *shell));
          return kExitUsage;
        }
        std::printf("%s", Completion(*shell).c_str());
        return kExitDone;
      });
  return verb;
}

}  // namespace millstream
