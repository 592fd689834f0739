#include "catalog/reference.h"

#include "catalog/later.h"
#include "catalog/settings.h"

namespace millstream {
namespace {

std::vector<SpecInfo> Sections(const Registry& registry) {
  return {ServerSettingsSpec().info(), StreamSettingsSpec().info(), SourceSettingsSpec(registry).info(),
          PipelineSettingsSpec(registry).info(), CommandSettingsSpec().info()};
}

SpecInfo SqlFilterInfo() {
  SpecInfo info;
  info.kind = "sql";
  info.description =
      "A SELECT over `input`, row by row: columns, WHERE, UNNEST, functions, UNION ALL, joins with tables. "
      "What "
      "would look at several events at once (GROUP BY, DISTINCT, windows, ORDER BY, LIMIT) belongs to a "
      "table's "
      "'key' and 'values'. `NAME: SELECT …` is short for it; a text that ends in .sql is a file.";
  info.examples = {"paid: SELECT id, amount FROM input WHERE status = 'paid'", "gross: filters/gross.sql"};
  return info;
}

template <typename Kinds>
void AppendMarkdown(std::string& out, const Kinds& kinds) {
  for (const auto& [name, kind] : kinds) out += "\n" + SpecMarkdown(kind.spec);
}

void AppendHelp(std::string& out, const char* what, const std::string& help) {
  if (!out.empty()) out += '\n';
  out += fmt::format("{} {}", what, help);
}

}  // namespace

std::string ProjectSchema(const Registry& registry) {
  std::string schema = SpecSchema(ProjectSettingsSpec(registry).info());
  return R"({"$schema":"https://json-schema.org/draft/2020-12/schema","title":"millstream.yaml",)" +
         schema.substr(1) + "\n";
}

std::string ReferenceMarkdown(const Registry& registry) {
  std::string out = "# millstream.yaml\n\n";
  out += "Generated from the declarations that parse the file.\n\n";
  out +=
      "The option in bold is the one that `KIND: VALUE` sets. Durations: `250ms 30s 5m 24h 30d`; sizes: "
      "`64KiB "
      "16MiB 10GiB`; shares: `5%`. `${env:X}`, `${env:X:-default}` and `${file:PATH}` stand for a value "
      "anywhere "
      "but in SQL; inside `{…}` they need quotes.\n\n## Sections\n";
  for (const SpecInfo& section : Sections(registry)) out += "\n" + SpecMarkdown(section);
  out += "\n## Sources\n\n" + SpecMarkdown(CommonSourceSettingsSpec().info());
  AppendMarkdown(out, registry.sources());
  out += "\n## Filters\n\n" + SpecMarkdown(SqlFilterInfo());
  AppendMarkdown(out, registry.filters());
  out += "\n## Sinks\n";
  AppendMarkdown(out, registry.sinks());
  return out;
}

std::optional<std::string> HelpFor(const Registry& registry, const std::string& kind) {
  std::string out;
  for (const SpecInfo& section : Sections(registry))
    if (section.kind == kind) AppendHelp(out, "section", SpecHelp(section));
  if (kind == "sql") AppendHelp(out, "filter", SpecHelp(SqlFilterInfo()));
  if (auto found = registry.sources().find(kind); found != registry.sources().end()) {
    SpecInfo info = found->second.spec;
    Spec<CommonSourceSettings> common = CommonSourceSettingsSpec();
    for (const FieldInfo& field : common.info().fields) {
      auto same = [&](const FieldInfo& own) { return own.name == field.name; };
      if (std::none_of(info.fields.begin(), info.fields.end(), same)) info.fields.push_back(field);
    }
    AppendHelp(out, "source", SpecHelp(info));
  }
  if (auto found = registry.filters().find(kind); found != registry.filters().end())
    AppendHelp(out, "filter", SpecHelp(found->second.spec));
  if (auto found = registry.sinks().find(kind); found != registry.sinks().end())
    AppendHelp(out, "sink", SpecHelp(found->second.spec));
  for (auto [stage, what] : {std::pair{StageKind::kSource, "source"}, std::pair{StageKind::kFilter, "filter"},
                             std::pair{StageKind::kSink, "sink"}}) {
    if (auto instead = InsteadOf(stage, kind))
      AppendHelp(out, what, fmt::format("{}: not there yet in this version\n  {}\n", kind, *instead));
  }
  if (out.empty()) return std::nullopt;
  return out;
}

std::vector<std::string> HelpTopics(const Registry& registry) {
  std::vector<std::string> topics;
  for (const SpecInfo& section : Sections(registry)) topics.push_back(section.kind);
  for (const auto& [name, kind] : registry.sources()) topics.push_back(name);
  topics.push_back("sql");
  for (const auto& [name, kind] : registry.filters()) topics.push_back(name);
  for (const auto& [name, kind] : registry.sinks()) topics.push_back(name);
  std::sort(topics.begin(), topics.end());
  topics.erase(std::unique(topics.begin(), topics.end()), topics.end());
  return topics;
}

}  // namespace millstream
