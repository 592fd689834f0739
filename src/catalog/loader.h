// Loader: a tree of configuration into a Project, with every fault of it. Private to catalog/.
//
// Place: floor 4; used by LoadProject and ParseProject. One object a project, one thread.
#pragma once

#include <string>
#include <vector>

#include "catalog/later.h"
#include "catalog/project.h"
#include "catalog/settings.h"

namespace millstream {

class Loader {
 public:
  Loader(Project& project, const Registry& registry, Faults& faults)
      : project_(project), registry_(registry), faults_(faults) {}

  /// Reads project.root.
  void Load();

 private:
  ParseContext At(const std::string& path) { return {path, project_.directory, &faults_}; }
  void AddFault(const Node& node, const std::string& path, std::string message, std::string hint = "");
  /// The members of a map of named things, names checked.
  std::vector<std::pair<std::string, const Node*>> Named(const Node& node, const std::string& path);

  void LoadServer(const ServerSettings& settings, const Node* node);
  void LoadStream(const std::string& name, const Node& node);
  void LoadContract(const Node& node, const std::string& path, StreamConfig& stream);
  void CheckDedupe(const StreamConfig& stream, const Node& node, const std::string& path);
  void LoadSource(const std::string& name, const Node& node);
  void LoadPipeline(const std::string& name, const Node& node);
  void LoadStart(const std::string& text, const Node& node, PipelineConfig& pipeline);
  /// False if it is at fault.
  bool LoadFilter(const Node& item, const std::string& path, PipelineConfig& pipeline);
  void LoadSink(const Node& item, const std::string& path, PipelineConfig& pipeline);
  void LoadCommand(const std::string& name, const Node& node);
  void LoadEmit(const Node& node, const std::string& path, CommandConfig& command);
  void CheckTableSink(const SinkConfig& sink, const std::string& path);
  void CheckSinkTargets();

  /// The stream of that name, or a fault with the nearest.
  void CheckStream(const std::string& stream, const Node& node, const std::string& path);
  void UnknownKind(StageKind stage, const std::string& kind, const Node& node, const std::string& path,
                   std::vector<std::string> known);

  Project& project_;
  const Registry& registry_;
  Faults& faults_;
};

/// Orders faults from `begin` on as their places stand: millstream.yaml first.
void SortFaults(Faults& faults, size_t begin);

/// A JSON pointer from "field" or "/pointer".
std::string PointerOf(const std::string& text, const Contract& contract);

}  // namespace millstream
