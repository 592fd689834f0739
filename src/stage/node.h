// Node: a piece of configuration: YAML or JSON text as a tree that remembers where each part was written.
//
// Place: floor 3. Parsed by ParseYaml / ParseJson, read by Specs and by catalog/, kept in `_control` by
// ToJson. Values; immutable once parsed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fault.h"
#include "base/status.h"

namespace millstream {

struct Node {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  std::string scalar;       // text as written, without quotes; `${…}` not resolved
  bool quoted = false;      // a quoted scalar is never a number, boolean or null
  std::vector<Node> items;  // sequence
  std::vector<std::pair<std::string, Node>> members;  // map, in the order of the file
  std::string file;
  int line = 0, column = 0;          // 1-based
  int key_line = 0, key_column = 0;  // of a map's member: where its key stands
  int block_indent = 0;  // of a `|` text: columns before its first character; its text begins on line + 1
  bool is_block = false;
  int text_column =
      0;  // where the text begins if it stands on `line` unchanged (or is a whole file); 0 = folded
  bool comment_follows = false;  // plain scalar, then ` #`: YAML has cut the value there

  struct Place {
    int line = 0, column = 0;
  };
  /// Where byte `position` of the scalar stands in the file; the scalar's own place if YAML has folded it.
  Place PlaceOf(size_t position) const;

  const Node* Find(std::string_view name) const;
  /// The scalar of a map's member; empty if there is none.
  std::string TextOf(std::string_view name) const;
  bool IsScalar() const { return kind == Kind::kScalar; }
  bool operator==(const Node& other) const;  // content, not places

  // Defined in node.cc: clang would instantiate them here, where the members' type is not complete yet.
  Node();
  Node(const Node&);
  Node(Node&&) noexcept;
  Node& operator=(const Node&);
  Node& operator=(Node&&) noexcept;
  ~Node();
};

/// Parses one YAML document. Faults name line and column and have a sentence for YAML's own traps (flow maps
/// without quotes, ` #`, duplicate keys, tabs).
Node ParseYaml(std::string_view text, const std::string& file, Faults& faults);
Node ParseJson(std::string_view text, const std::string& file, Faults& faults);
std::string ToJson(const Node& node);
std::string ToYaml(const Node& node);

/// A plain scalar: for defaults and tests.
Node ScalarNode(std::string text);
/// True for a plain scalar that JSON would read as a number, `true` or `false`.
bool IsLiteral(const Node& node);
/// Content of a text of its own (a `.sql` file) as a node: line 1, column 1.
Node FileNode(std::string text, std::string file);

/// Replaces `${env:X}`, `${env:X:-default}`, `${file:PATH}` in a scalar; an unset one is a fault. Values of
/// secrets never reach messages.
Result<std::string> ResolveVariables(std::string_view text, const std::string& project_directory);

}  // namespace millstream
