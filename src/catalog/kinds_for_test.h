// Kinds of stages for catalog's tests: the settings are real, the stages are never made.
#pragma once

#include "stage/make_kind.h"
#include "stage/stage.h"
#include "stage/table_options.h"

namespace millstream {

struct FileKindOptions {
  std::vector<std::string> path;
  std::string format, name;
  Node records;
};

inline Registry TestKinds() {
  Registry registry;
  Spec<FileKindOptions> file("file", "Reads files.");
  file.Field("path", &FileKindOptions::path, "glob or list").Required().Main();
  file.Field("format", &FileKindOptions::format, "how").OneOf({"ndjson", "json", "csv"});
  registry.Add(
      MakeSourceKind(file, [](FileKindOptions, const SourceContext&) -> Result<std::unique_ptr<Source>> {
        return Fail(Internal("not made in tests"));
      }));

  Spec<FileKindOptions> exec("exec", "Runs a program.");
  exec.Field("command", &FileKindOptions::path, "program and arguments").Required().Main();
  exec.Field("output", &FileKindOptions::records, "columns of the result");
  FilterKind exec_kind =
      MakeFilterKind(exec, [](FileKindOptions, const FilterContext&) -> Result<std::unique_ptr<Filter>> {
        return Fail(Internal("not made in tests"));
      });
  exec_kind.output = [](const Node& options) {
    std::vector<ColumnInfo> columns;
    if (const Node* output = options.Find("output"))
      for (const auto& [name, type] : output->members) columns.push_back({name, type.scalar});
    return columns;
  };
  registry.Add(exec_kind);

  auto no_sink = [](auto, const SinkContext&) -> Result<std::unique_ptr<Sink>> {
    return Fail(Internal("not made in tests"));
  };
  registry.Add(MakeSinkKind(
      TableOptionsSpec(), [](const TableOptions& options) { return options.name; }, no_sink));
  Spec<FileKindOptions> stream("stream", "Appends rows to another stream.");
  stream.Field("name", &FileKindOptions::name, "the target").Required().Main();
  stream.Field("key", &FileKindOptions::path, "columns");
  registry.Add(MakeSinkKind(
      stream, [](const FileKindOptions& options) { return options.name; }, no_sink));
  Spec<FileKindOptions> out("file", "Writes rows to a file.");
  out.Field("path", &FileKindOptions::path, "where to").Required().Main();
  out.Field("format", &FileKindOptions::format, "how").OneOf({"ndjson", "csv"}).Default("ndjson");
  registry.Add(MakeSinkKind(
      out, [](const FileKindOptions& options) { return options.path.empty() ? "" : options.path[0]; },
      no_sink));
  Spec<FileKindOptions> print("stdout", "Writes rows to standard output.");
  print.Field("format", &FileKindOptions::format, "how").OneOf({"ndjson", "csv"});
  registry.Add(MakeSinkKind(
      print, [](const FileKindOptions&) { return std::string(); }, no_sink));
  return registry;
}

}  // namespace millstream
