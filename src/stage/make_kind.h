// MakeSourceKind, MakeFilterKind, MakeSinkKind: from a Spec and a constructor to what the Registry takes.
//
// Place: floor 3; used by the last lines of every connector's file. Stateless.
// Failure: options that do not parse make kInvalid with the first fault; `check` reports all of them.
#pragma once

#include <string>
#include <utility>

#include "stage/stage.h"

namespace millstream {

/// Parses options to make a stage of them.
template <typename Options>
Result<Options> ParseOptions(const Spec<Options>& spec, const Node& node,
                             const std::string& project_directory) {
  Faults faults;
  ParseContext context{spec.info().kind, project_directory, &faults};
  Options options = spec.Parse(node, context);
  if (!faults.empty()) return Fail(Invalid("{}", faults.front().ToString()));
  return options;
}

/// A `Check` that finds nothing beyond what parsing sees.
struct NothingMore {
  template <typename Options>
  void operator()(const Options&, const Node&, const ParseContext&) const {}
};

/// `make(Options, const SourceContext&)` answers Result<std::unique_ptr<Source>>; `more(options, node,
/// context)` adds faults that parsing cannot see.
template <typename Options, typename Make, typename More = NothingMore>
SourceKind MakeSourceKind(Spec<Options> spec, Make make, More more = {}) {
  SourceKind kind;
  kind.spec = spec.info();
  kind.check = [spec, more](const Node& node, const ParseContext& context) {
    more(spec.Parse(node, context), node, context);
  };
  kind.make = [spec, make](const Node& node,
                           const SourceContext& context) -> Result<std::unique_ptr<Source>> {
    ASSIGN_OR_FAIL(Options options, ParseOptions(spec, node, context.project_directory));
    return make(std::move(options), context);
  };
  return kind;
}

/// As MakeSourceKind; the declared columns (FilterKind::output) are the caller's to add.
template <typename Options, typename Make, typename More = NothingMore>
FilterKind MakeFilterKind(Spec<Options> spec, Make make, More more = {}) {
  FilterKind kind;
  kind.spec = spec.info();
  kind.check = [spec, more](const Node& node, const ParseContext& context) {
    more(spec.Parse(node, context), node, context);
  };
  kind.make = [spec, make](const Node& node,
                           const FilterContext& context) -> Result<std::unique_ptr<Filter>> {
    ASSIGN_OR_FAIL(Options options, ParseOptions(spec, node, context.project_directory));
    return make(std::move(options), context);
  };
  return kind;
}

/// As MakeSourceKind; `target(options)` names what a sink's id is made of ("" for a kind without a target).
template <typename Options, typename Target, typename Make, typename More = NothingMore>
SinkKind MakeSinkKind(Spec<Options> spec, Target target, Make make, More more = {}) {
  SinkKind kind;
  kind.spec = spec.info();
  kind.check = [spec, more](const Node& node, const ParseContext& context) {
    more(spec.Parse(node, context), node, context);
  };
  kind.make = [spec, make](const Node& node, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
    ASSIGN_OR_FAIL(Options options, ParseOptions(spec, node, context.project_directory));
    return make(std::move(options), context);
  };
  kind.target = [spec, target](const Node& node) -> std::string {
    Faults faults;
    return target(spec.Parse(node, ParseContext{"", "", &faults}));
  };
  return kind;
}

/// A path of the project: relative ones lie in its folder.
inline std::string PathIn(const std::string& project_directory, const std::string& path) {
  return path.starts_with('/') || project_directory.empty() ? path : project_directory + "/" + path;
}

}  // namespace millstream
