// Spec<Options>: a stage's settings, declared once: parsing, checking, `millstream help`, JSON schema and the
// reference docs come from it.
//
// Place: floor 3. An author of a connector writes
//
//   Spec<FileOptions> FileSpec() {
//     Spec<FileOptions> spec("file", "Writes rows to a file.");
//     spec.Field("path", &FileOptions::path, "where to").Required().Main();
//     spec.Field("format", &FileOptions::format, "how").OneOf({"ndjson", "csv"}).Default("ndjson");
//     spec.Example("file: out.ndjson");
//     return spec;
//   }
//
// Nothing else knows the names of settings. Field types: bool, int64_t, double, std::string, Duration,
// ByteSize, Share, std::vector<std::string> (a single value is a list of one), std::map<std::string,
// std::string>, ordered pairs, SqlText, another Spec's options (nested). Failure: Parse adds every fault with
// file, line, column, YAML path, what was expected and the nearest right name.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fault.h"
#include "stage/node.h"

namespace millstream {

struct Duration {
  int64_t us = 0;
};
struct ByteSize {
  uint64_t bytes = 0;
};
struct Share {
  double value = 0;
};
using NamedTexts = std::vector<std::pair<std::string, std::string>>;  // a map whose order counts

/// One setting, described for help, schema and docs.
struct FieldInfo {
  std::string name;
  std::string type;  // "duration", "size", "text", "list of text", …
  std::string description;
  std::string default_text;  // as a user would write it; empty = none
  std::vector<std::string> one_of;
  bool required = false;
  bool main = false;              // `KIND: VALUE` sets this one
  bool secret = false;            // takes nothing but `${…}`
  std::vector<FieldInfo> fields;  // nested
};

struct SpecInfo {
  std::string kind;
  std::string description;
  std::string guarantee;  // sinks: "exactly once", …
  std::vector<FieldInfo> fields;
  std::vector<std::string> examples;  // YAML; run as tests
};

/// Where parsing stands: for faults and `${…}`.
struct ParseContext {
  std::string path;  // YAML path of the node
  std::string project_directory;
  Faults* faults = nullptr;
};

Fault FaultAt(const Node& node, std::string path, std::string message, std::string hint = "");

template <typename Options>
class Spec {
 public:
  class FieldRef {
   public:
    FieldRef(Spec* spec, size_t index) : spec_(spec), index_(index) {}
    FieldRef& Required() { return info().required = true, *this; }
    FieldRef& Main() { return info().main = true, *this; }
    FieldRef& Secret() { return info().secret = true, *this; }
    FieldRef& Default(std::string text) { return info().default_text = std::move(text), *this; }
    FieldRef& OneOf(std::vector<std::string> values) { return info().one_of = std::move(values), *this; }

   private:
    FieldInfo& info() { return spec_->info_.fields[index_]; }
    Spec* spec_;
    size_t index_;
  };

  Spec(std::string kind, std::string description) {
    info_.kind = std::move(kind), info_.description = std::move(description);
  }

  template <typename T>
  FieldRef Field(std::string name, T Options::*member, std::string description);
  Spec& Example(std::string yaml) { return info_.examples.push_back(std::move(yaml)), *this; }
  Spec& Guarantee(std::string text) { return info_.guarantee = std::move(text), *this; }
  const SpecInfo& info() const { return info_; }

  /// Reads `node` (a map, or a scalar for the main field) into options that start from their own defaults.
  /// All faults are added to the context.
  Options Parse(const Node& node, const ParseContext& context) const;

 private:
  SpecInfo info_;
  std::vector<std::function<void(Options&, const Node&, const ParseContext&, const FieldInfo&)>> setters_;
};

}  // namespace millstream
