// millstream version, schema, completion, and help for kinds of stages.
#include <curl/curl.h>
#include <lz4.h>
#include <openssl/crypto.h>
#include <simdjson.h>
#include <spdlog/version.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include <CLI/Version.hpp>
#include <boost/version.hpp>
#include <cstdio>
#include <memory>

#include "base/fault.h"
#include "catalog/reference.h"
#include "cli/json_view.h"
#include "cli/target.h"
#include "cli/usage.h"
#include "cli/verbs.h"
#include "event/json_scan.h"
#include "sql/database.h"

namespace millstream {
namespace {

int PrintVersion(const Everywhere& everywhere) {
  auto three = [](int a, int b, int c) { return fmt::format("{}.{}.{}", a, b, c); };
  std::vector<std::pair<std::string, std::string>> libraries{
      {"duckdb", Database::LibraryVersion()},
      {"boost", three(BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)},
      {"simdjson", SIMDJSON_STRINGIFY(SIMDJSON_VERSION)},
      {"lz4", LZ4_versionString()},
      {"zstd", ZSTD_versionString()},
      {"zlib", zlibVersion()},
      {"xxhash", three(XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE)},
      {"yaml-cpp", YAML_CPP_VERSION},
      {"libpq", LIBPQ_VERSION},
      {"prometheus-cpp", PROMETHEUS_CPP_VERSION},
      {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
      {"curl", curl_version_info(CURLVERSION_NOW)->version},
      {"cli11", CLI11_VERSION},
      {"spdlog", three(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
      {"fmt", three(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)}};
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
  for (const auto& [name, version] : libraries) std::printf("  %-15s %s\n", name.c_str(), version.c_str());
  return kExitDone;
}

int PrintHelp(const Everywhere& everywhere, const std::vector<std::string>& words) {
  const std::vector<Verb> verbs = AllVerbs();
  if (words.empty()) {
    std::fputs(OverviewText(verbs).c_str(), stdout);
    return kExitDone;
  }
  // A word may be a verb and a kind at once, as `table` is.
  const Verb* verb = FindVerb(verbs, words[0]);
  const Verb* below = verb != nullptr && words.size() > 1 ? FindVerb(verb->below(), words[1]) : nullptr;
  if (verb != nullptr)
    std::fputs((below != nullptr ? UsageText(*below, words[0] + " " + words[1]) : UsageText(*verb, words[0]))
                   .c_str(),
               stdout);
  auto text = below == nullptr ? HelpFor(*everywhere.registry, words[0]) : std::nullopt;
  if (text) std::printf("%s%s", verb != nullptr ? "\n" : "", text->c_str());
  if (verb != nullptr || text) return kExitDone;
  std::string nearest = Nearest(words[0], HelpTopics(*everywhere.registry));
  (void)Complain(NotFound(
      "no help for '{}'{}", words[0],
      nearest.empty() ? NearestVerb(verbs, words[0]) : fmt::format("; did you mean '{}'?", nearest)));
  return kExitUsage;
}

}  // namespace

Verb VersionVerb() {
  return Verb("version", "the version, and those of the libraries in use")
      .Example("millstream version", "for a report of a fault")
      .Run(PrintVersion);
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
  return Verb("reference", "the YAML reference as Markdown")
      .Example("millstream reference > yaml.md", "every section, kind and option")
      .Run([](const Everywhere& everywhere) {
        std::printf("%s", ReferenceMarkdown(*everywhere.registry).c_str());
        return kExitDone;
      });
}

Verb HelpVerb() {
  auto topic = std::make_shared<std::vector<std::string>>();
  Verb verb("help", "help for a verb, a section of the YAML, or a kind of source, filter or sink");
  verb.Arguments("VERB|KIND", topic.get(), "e.g. ingest, pipeline list, streams, file, exec")
      .Example("millstream help ingest", "what the verb takes, with examples")
      .Example("millstream help exec", "what a kind of filter takes; so for sources and sinks")
      .Run([topic](const Everywhere& everywhere) { return PrintHelp(everywhere, *topic); });
  return verb;
}

Verb CompletionVerb() {
  auto shell = std::make_shared<std::string>();
  Verb verb("completion", "a script that completes verbs and options in a shell");
  verb.Argument("SHELL", shell.get(), "bash or zsh")
      .Example("source <(millstream completion bash)", "in ~/.bashrc; zsh likewise")
      .Run([shell](const Everywhere& everywhere) {
        if (*shell != "bash" && *shell != "zsh") {
          (void)Complain(Invalid("completion for '{}'? expected bash or zsh", *shell));
          return kExitUsage;
        }
        std::fputs(CompletionScript(AllVerbs(), HelpTopics(*everywhere.registry), *shell == "zsh").c_str(),
                   stdout);
        return kExitDone;
      });
  return verb;
}

}  // namespace millstream
