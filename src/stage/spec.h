// Spec<Options>: a stage's settings, declared once: parsing, checking, `millstream help`, JSON schema and the
// reference docs come from it.
//
// Place: floor 3. An author of a connector writes
//
//   Spec<FileOptions> FileSpec() {
//     Spec<FileOptions> spec("file", "Writes rows to a file.");
//     spec.Field("path", &FileOptions::path, "where to").Required().Main();
//     spec.Field("format", &FileOptions::format, "how").OneOf({"ndjson", "csv"}).Default("ndjson");
//     spec.Nested("rotate", &FileOptions::rotate, RotateSpec(), "when a new file begins");
//     spec.Example("file: out.ndjson");
//     return spec;
//   }
//
// Nothing else knows the names of settings. Field types: bool, integers, double, std::string, Duration,
// ByteSize, Share, std::vector<std::string> (a single value is a list of one), std::map<std::string,
// std::string>, NamedTexts (ordered pairs), SqlText, Node (as written), another Spec's options (nested) or a
// list of them, and std::optional of each. Failure: Parse adds every fault with file, line, column, YAML
// path, what was expected and the nearest right name.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
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
/// A SQL text: `${…}` is left alone in it; `node` maps positions in it to the user's file.
struct SqlText {
  std::string text;
  Node node;
};
using NamedTexts = std::vector<std::pair<std::string, std::string>>;  // a map whose order counts

/// One setting, described for help, schema and docs.
struct FieldInfo {
  std::string name;
  std::string type;  // "duration", "size", "text", "list of text", …
  std::string description;
  std::string default_text;  // as a user would write it; empty = none
  std::vector<std::string> one_of;
  std::optional<int64_t> min, max;  // of numbers
  bool required = false;
  bool implied = false;           // nested settings that have defaults of their own when they are not given
  bool main = false;              // `KIND: VALUE` sets this one
  bool secret = false;            // takes nothing but `${…}`
  std::string later;              // not empty: not there yet; what to do instead. Not in help and docs
  std::vector<FieldInfo> fields;  // nested
  std::string schema;             // JSON Schema in place of what the type gives; empty = that of the type
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

  ParseContext At(const std::string& name) const {
    return {path.empty() ? name : path + "." + name, project_directory, faults};
  }
};

Fault FaultAt(const Node& node, std::string path, std::string message, std::string hint = "");
/// The same at the key before the node.
Fault FaultAtKey(const Node& node, std::string path, std::string message, std::string hint = "");
/// "did you mean 'NEAREST'?", or "known KINDS: A, B, C" if none is near, or "" if there are none.
std::string HintOf(const std::string& name, const std::vector<std::string>& candidates,
                   const std::string& kinds);

/// True for a plain SQL value that YAML cut at ` #` in the middle: a quote or a parenthesis is left open.
bool CutByComment(const Node& node);

/// "millstream help KIND": aligned columns with type, default and description, examples, guarantee.
std::string SpecHelp(const SpecInfo& info);
/// The JSON Schema of the kind's options (draft 2020-12), as one JSON object.
std::string SpecSchema(const SpecInfo& info);
/// A section of the reference docs.
std::string SpecMarkdown(const SpecInfo& info);

namespace internal {

/// Which node each field takes (null: absent), and a fault for each key that is unknown, missing or not there
/// yet.
std::vector<const Node*> MatchFields(const SpecInfo& info, const Node& node, const ParseContext& context);
/// True if a setting is required.
bool NeedsAny(const SpecInfo& info);
/// The node of a field's default, if it has one that can be read as a value.
std::optional<Node> DefaultNode(const FieldInfo& info);

// Each adds a fault and leaves `to` alone if the node is not such a value.
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, bool& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, int64_t& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, double& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, std::string& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, Duration& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, ByteSize& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, Share& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, std::vector<std::string>& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, std::map<std::string, std::string>& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, NamedTexts& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, SqlText& to);
bool ReadSetting(const Node&, const ParseContext&, const FieldInfo&, Node& to);
template <typename T>
requires std::is_integral_v<T>
bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, T& to) {
  int64_t wide = 0;
  if (!ReadSetting(node, context, info, wide)) return false;
  to = static_cast<T>(wide);  // FieldInfo's bounds keep it in range
  return true;
}
template <typename T>
bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, std::optional<T>& to) {
  T value{};
  if (!ReadSetting(node, context, info, value)) return false;
  to = std::move(value);
  return true;
}
void FaultNotAList(const Node&, const ParseContext&);

template <typename T>
struct Unwrapped {
  using type = T;
};
template <typename T>
struct Unwrapped<std::optional<T>> {
  using type = T;
};

/// The type's name as help shows it.
template <typename Wrapped>
constexpr const char* TypeName() {
  using T = typename Unwrapped<Wrapped>::type;
  if constexpr (std::is_same_v<T, bool>) return "boolean";
  if constexpr (std::is_integral_v<T>) return "integer";
  if constexpr (std::is_floating_point_v<T>) return "number";
  if constexpr (std::is_same_v<T, std::string>) return "text";
  if constexpr (std::is_same_v<T, Duration>) return "duration";
  if constexpr (std::is_same_v<T, ByteSize>) return "size";
  if constexpr (std::is_same_v<T, Share>) return "share";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "list of text";
  if constexpr (std::is_same_v<T, std::map<std::string, std::string>>) return "map of text";
  if constexpr (std::is_same_v<T, NamedTexts>) return "ordered map of text";
  if constexpr (std::is_same_v<T, SqlText>) return "SQL";
  return "value";
}

}  // namespace internal

template <typename Options>
class Spec {
 public:
  class FieldRef {
   public:
    FieldRef(Spec* spec, size_t index) : spec_(spec), index_(index) {}
    FieldRef& Required() { return info().required = true, *this; }
    FieldRef& Main() { return info().main = true, *this; }
    FieldRef& Secret() { return info().secret = true, *this; }
    /// As a user would write it; parsed and set where the setting is absent (texts for people, such as "by
    /// name" for a field with OneOf, are only shown).
    FieldRef& Default(std::string text) { return info().default_text = std::move(text), *this; }
    FieldRef& OneOf(std::vector<std::string> values) { return info().one_of = std::move(values), *this; }
    FieldRef& Min(int64_t value) { return info().min = value, *this; }
    FieldRef& Max(int64_t value) { return info().max = value, *this; }
    /// What help shows as its type, and its JSON Schema: for a setting that is read as a Node.
    FieldRef& Shown(std::string type, std::string schema) {
      info().type = std::move(type), info().schema = std::move(schema);
      return *this;
    }

   private:
    FieldInfo& info() { return spec_->info_.fields[index_]; }
    Spec* spec_;
    size_t index_;
  };

  Spec(std::string kind, std::string description) {
    info_.kind = std::move(kind), info_.description = std::move(description);
  }

  template <typename T>
  FieldRef Field(std::string name, T Options::*member, std::string description) {
    FieldInfo info;
    info.name = std::move(name), info.type = internal::TypeName<T>(),
    info.description = std::move(description);
    using Value = typename internal::Unwrapped<T>::type;
    if constexpr (std::is_integral_v<Value> && !std::is_same_v<Value, bool>) {
      if (std::is_unsigned_v<Value>) info.min = 0;
      if (sizeof(Value) < sizeof(int64_t)) {
        info.max = static_cast<int64_t>(std::numeric_limits<Value>::max());
        if (std::is_signed_v<Value>) info.min = static_cast<int64_t>(std::numeric_limits<Value>::min());
      }
    }
    return Add(std::move(info), [member](Options& options, const Node& node, const ParseContext& context,
                                         const FieldInfo& field) {
      internal::ReadSetting(node, context, field, options.*member);
    });
  }

  /// A map of settings with a Spec of its own.
  template <typename T, typename Options2>
  FieldRef Nested(std::string name, T Options::*member, const Spec<Options2>& nested,
                  std::string description) {
    FieldInfo info;
    info.name = std::move(name), info.type = "map", info.description = std::move(description);
    info.fields = nested.info().fields;
    info.implied = std::is_same_v<T, Options2> && !internal::NeedsAny(nested.info());
    return Add(std::move(info),
               [member, nested](Options& options, const Node& node, const ParseContext& context,
                                const FieldInfo&) { options.*member = nested.Parse(node, context); });
  }

  /// A list of them.
  template <typename Options2>
  FieldRef Nested(std::string name, std::vector<Options2> Options::*member, const Spec<Options2>& nested,
                  std::string description) {
    FieldInfo info;
    info.name = std::move(name), info.type = "list of map", info.description = std::move(description);
    info.fields = nested.info().fields;
    return Add(std::move(info), [member, nested](Options& options, const Node& node,
                                                 const ParseContext& context, const FieldInfo&) {
      if (node.kind != Node::Kind::kSequence) return internal::FaultNotAList(node, context);
      for (size_t i = 0; i < node.items.size(); ++i)
        (options.*member).push_back(nested.Parse(node.items[i], context.At(std::to_string(i))));
    });
  }

  /// A setting that is not there yet: refused with what to do instead.
  Spec& Later(std::string name, std::string instead) {
    FieldInfo info;
    info.name = std::move(name), info.later = std::move(instead);
    Add(std::move(info), [](Options&, const Node&, const ParseContext&, const FieldInfo&) {});
    return *this;
  }

  Spec& Example(std::string yaml) { return info_.examples.push_back(std::move(yaml)), *this; }
  Spec& Guarantee(std::string text) { return info_.guarantee = std::move(text), *this; }
  const SpecInfo& info() const { return info_; }

  /// Reads `node` (a map, or a value for the main field) into options that start from their own defaults and
  /// the fields'. All faults are added to the context.
  Options Parse(const Node& node, const ParseContext& context) const {
    Options options{};
    std::vector<const Node*> nodes = internal::MatchFields(info_, node, context);
    for (size_t i = 0; i < nodes.size(); ++i) {
      const FieldInfo& field = info_.fields[i];
      if (nodes[i] != nullptr) {
        setters_[i](options, *nodes[i], context.At(field.name), field);
      } else if (auto value = internal::DefaultNode(field)) {
        setters_[i](options, *value, context.At(field.name), field);
      }
    }
    return options;
  }

 private:
  using Setter = std::function<void(Options&, const Node&, const ParseContext&, const FieldInfo&)>;
  FieldRef Add(FieldInfo info, Setter setter) {
    info_.fields.push_back(std::move(info));
    setters_.push_back(std::move(setter));
    return FieldRef(this, info_.fields.size() - 1);
  }
  SpecInfo info_;
  std::vector<Setter> setters_;
};

}  // namespace millstream
