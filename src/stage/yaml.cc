// ParseYaml: yaml-cpp's events, as a tree with places, and a sentence for each of YAML's own traps.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "base/text.h"
#include "stage/node.h"

namespace millstream {
namespace {

constexpr size_t kMaxNodes = 200'000;  // aliases of aliases multiply
constexpr size_t kMaxDepth = 64;

// Ends the reading of a document; never leaves this file.
struct Stop {};

std::string_view TrimLeft(std::string_view text) {
  size_t begin = text.find_first_not_of(" \t");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin);
}

int Balance(std::string_view text) {
  int depth = 0;
  for (char c : text) depth += c == '(' ? 1 : c == ')' ? -1 : 0;
  return depth;
}

int Characters(std::string_view text) {
  int count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

// yaml-cpp 0.7 writes the escapes \N and \_ as the bytes 85 and A0 of Latin-1: alone they are what no UTF-8
// has, so that they are known from all other text.
std::string AsUtf8(const std::string& value) {
  std::string text;
  for (size_t at = 0, length = 0; at < value.size(); at += length) {
    length = Utf8Length(std::string_view(value).substr(at));
    if (length == 0) text += '\xC2', length = 1;
    text.append(value, at, length);
  }
  return text;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::vector<std::string_view> lines, std::string file, Faults& faults)
      : lines_(std::move(lines)), file_(std::move(file)), faults_(faults) {}

  Node root;
  bool empty = true;

  std::string_view Line(int line0) const {
    return line0 >= 0 && static_cast<size_t>(line0) < lines_.size() ? lines_[line0] : std::string_view();
  }

  void AddFault(int line0, int column0, std::string message, std::string hint) {
    Fault fault;
    fault.file = file_, fault.line = line0 + 1;
    fault.column = 1 + Characters(Line(line0).substr(0, std::min<size_t>(column0, Line(line0).size())));
    fault.message = std::move(message), fault.hint = std::move(hint);
    faults_.push_back(std::move(fault));
  }
  bool flow_fault() const { return flow_fault_; }
  /// The innermost `{` or `[` that is still open; null if none is.
  const Node* OpenFlow() const {
    return frames_.empty() || !frames_.back().flow ? nullptr : &frames_.back().node;
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node = Make(mark, Node::Kind::kNull);
    if (AtKey()) node.scalar = "null";
    Done(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      AddFault(mark.line, mark.column, "an alias inside the value that it names", "write the value out");
      throw Stop();
    }
    nodes_ += CountNodes(found->second);
    Node node = found->second;
    Done(std::move(node), 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = Make(mark, Node::Kind::kScalar);
    node.scalar = AsUtf8(value);
    node.quoted = tag != "?";
    if (tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:str")
      AddFault(mark.line, mark.column, "YAML tags have no meaning here", "leave out the tag");
    Locate(node, mark);
    if (!node.quoted && InFlow()) CheckFlowScalar(node, mark);
    Done(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    Start(mark, Node::Kind::kSequence, anchor, style);
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    Start(mark, Node::Kind::kMap, anchor, style);
  }
  void OnMapEnd() override { End(); }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    bool flow = false;
    bool broken = false;  // a comma cut a value in two: its rest is no key
    std::optional<Node> key;
    std::map<std::string, int> key_lines;
  };

  bool InFlow() const { return !frames_.empty() && frames_.back().flow; }
  bool AtKey() const {
    return !frames_.empty() && frames_.back().node.kind == Node::Kind::kMap && !frames_.back().key;
  }

  static size_t CountNodes(const Node& node) {
    size_t count = 1;
    for (const Node& item : node.items) count += CountNodes(item);
    for (const auto& [name, value] : node.members) count += CountNodes(value);
    return count;
  }

  Node Make(const YAML::Mark& mark, Node::Kind kind) {
    if (++nodes_ > kMaxNodes) {
      AddFault(mark.line, mark.column, fmt::format("more than {} values in one file", kMaxNodes),
               "split the project");
      throw Stop();
    }
    Node node;
    node.kind = kind;
    node.file = file_;
    node.line = mark.line + 1;
    node.column = 1 + Characters(Line(mark.line).substr(0, mark.column));
    return node;
  }

  // Where the text of a scalar begins and whether YAML changed or cut it.
  void Locate(Node& node, const YAML::Mark& mark) {
    std::string_view line = Line(mark.line);
    size_t at = std::min<size_t>(mark.column, line.size());
    while (at < line.size() && (line[at] == '&' || line[at] == '!')) {  // an anchor or tag before the value
      at = line.find(' ', at);
      at = at == std::string_view::npos ? line.size() : line.find_first_not_of(' ', at);
      if (at == std::string_view::npos) at = line.size();
    }
    std::string_view rest = line.substr(at);
    if (rest.empty()) return;
    if (node.quoted && rest[0] == '|') {
      LocateBlock(node, mark.line);
    } else if (node.quoted && (rest[0] == '"' || rest[0] == '\'')) {
      bool same =
          rest.substr(1).starts_with(node.scalar) && rest.substr(1 + node.scalar.size()).starts_with(rest[0]);
      if (same) node.text_column = Characters(line.substr(0, at)) + 2;
    } else if (!node.quoted) {
      if (rest.starts_with(node.scalar)) node.text_column = Characters(line.substr(0, at)) + 1;
      node.comment_follows = TrimLeft(RestOf(node.scalar, mark.line, at)).starts_with('#');
    }
  }

  void LocateBlock(Node& node, int line0) {
    size_t begin = node.scalar.find_first_not_of('\n');
    if (begin == std::string::npos) return;
    std::string_view first(node.scalar);
    first = first.substr(begin, first.find('\n', begin) - begin);
    std::string_view raw = Line(line0 + 1 + static_cast<int>(begin));
    if (!raw.ends_with(first)) return;
    node.is_block = true;
    node.block_indent = static_cast<int>(raw.size() - first.size());
  }

  // What follows a plain scalar on the line where it ends.
  std::string_view RestOf(std::string_view text, int line0, size_t column) const {
    size_t i = 0;
    while (i < text.size()) {
      std::string_view line = Line(line0);
      if (text[i] == ' ' || text[i] == '\n') {
        ++i;
      } else if (column < line.size() && line[column] == text[i]) {
        ++i, ++column;
      } else if (column < line.size() && (line[column] == ' ' || line[column] == '\t')) {
        ++column;
      } else if (column >= line.size() && static_cast<size_t>(line0) < lines_.size()) {
        ++line0, column = 0;
      } else {
        return {};
      }
    }
    return Line(line0).substr(std::min(column, Line(line0).size()));
  }

  void CheckFlowScalar(const Node& node, const YAML::Mark& mark) {
    Frame& frame = frames_.back();
    int balance = Balance(node.scalar);
    if (balance > 0 && !frame.broken) {
      std::string_view line = Line(mark.line);
      size_t end = mark.column, depth = 0;
      for (; end < line.size(); ++end) {
        if (line[end] == '(') ++depth;
        if (line[end] == ')' && --depth == 0) break;
      }
      size_t close = line.find_first_not_of("[]", std::min(end + 1, line.size()));
      std::string whole(end < line.size() ? line.substr(mark.column, close - mark.column) : node.scalar);
      AddFault(mark.line, mark.column,
               fmt::format("inside {{…}} and […] a comma ends a value: YAML read only '{}'", node.scalar),
               fmt::format("put \"{}\" in quotes", whole));
      frame.broken = flow_fault_ = true;
    }
  }

  void Start(const YAML::Mark& mark, Node::Kind kind, YAML::anchor_t anchor,
             YAML::EmitterStyle::value style) {
    if (AtKey()) {
      AddFault(mark.line, mark.column, "a key must be a text, not a list or map",
               "a value that begins with '{' or '[' needs quotes");
      throw Stop();
    }
    if (frames_.size() >= kMaxDepth) {
      AddFault(mark.line, mark.column, fmt::format("nested deeper than {} levels", kMaxDepth), "");
      throw Stop();
    }
    Frame frame;
    frame.node = Make(mark, kind);
    frame.anchor = anchor;
    frame.flow = style == YAML::EmitterStyle::Flow;
    frames_.push_back(std::move(frame));
  }

  void End() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    Done(std::move(frame.node), frame.anchor);
  }

  void Done(Node node, YAML::anchor_t anchor) {
    if (nodes_ > kMaxNodes) {
      AddFault(node.line - 1, 0, fmt::format("aliases make more than {} values", kMaxNodes), "");
      throw Stop();
    }
    if (anchor != 0) anchors_[anchor] = node;
    empty = false;
    if (frames_.empty()) {
      root = std::move(node);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == Node::Kind::kSequence) {
      if (!(frame.broken && Balance(node.scalar) < 0)) frame.node.items.push_back(std::move(node));
      return;
    }
    if (!frame.key) {
      frame.key = std::move(node);
      return;
    }
    Node key = std::move(*frame.key);
    frame.key.reset();
    if (frame.broken && (node.kind == Node::Kind::kNull || Balance(key.scalar) < 0)) return;
    AddMember(frame, key, std::move(node));
  }

  void AddMember(Frame& frame, const Node& key, Node value) {
    if (!key.quoted && key.scalar == "<<") {
      Merge(frame, value);
      return;
    }
    auto [first, is_new] = frame.key_lines.emplace(key.scalar, key.line);
    if (!is_new) {
      AddFault(key.line - 1, key.column - 1,
               fmt::format("key '{}' stands twice in one map; first on line {}", key.scalar, first->second),
               "remove one of the two");
      return;
    }
    if (value.kind == Node::Kind::kNull) value.line = key.line, value.column = key.column;
    value.key_line = key.line, value.key_column = key.column;
    // A key of the map's own hides one that `<<` brought.
    for (auto& member : frame.node.members) {
      if (member.first != key.scalar) continue;
      member.second = std::move(value);
      return;
    }
    frame.node.members.emplace_back(key.scalar, std::move(value));
  }

  void Merge(Frame& frame, const Node& value) {
    for (const auto& member : value.members)
      if (frame.node.Find(member.first) == nullptr) frame.node.members.push_back(member);
    for (const Node& item : value.items) Merge(frame, item);
  }

  std::vector<std::string_view> lines_;
  std::string file_;
  Faults& faults_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, Node> anchors_;
  size_t nodes_ = 0;
  bool flow_fault_ = false;
};

// yaml-cpp's words in ours. `line` is where it stopped.
void ExplainError(TreeBuilder& builder, const YAML::ParserException& error) {
  int line0 = std::max(error.mark.line, 0);
  int column0 = std::clamp(error.mark.column, 0, static_cast<int>(builder.Line(line0).size()));
  std::string_view line = builder.Line(line0), text = TrimLeft(line);
  std::string_view indent = line.substr(0, line.size() - text.size());
  const std::string& message = error.msg;
  auto contains = [&](std::string_view part) { return message.find(part) != std::string::npos; };
  if (indent.find('\t') != std::string_view::npos) {
    builder.AddFault(line0, static_cast<int>(indent.find('\t')), "a tab in the indentation",
                     "YAML takes blanks only");
  } else if (contains("flow") && column0 > 0 && line[column0 - 1] == '$') {
    builder.AddFault(line0, column0 - 1, "'${…}' inside {…} ends the map for YAML",
                     "put it in quotes: \"${…}\"");
  } else if (contains("flow") && line.substr(0, std::min<size_t>(column0 + 1, line.size())).ends_with('[')) {
    builder.AddFault(line0, column0, "'[' inside {…} begins a list for YAML",
                     "put the value in quotes, e.g. \"varchar[]\"");
  } else if (contains("flow")) {
    const Node* open = builder.OpenFlow();
    builder.AddFault(open != nullptr ? open->line - 1 : line0, open != nullptr ? open->column - 1 : column0,
                     "a '{' or '[' is not closed, or its text needs quotes",
                     "close it, or put a value that holds '{', '[' or ',' in quotes");
  } else if (contains("illegal map value")) {
    builder.AddFault(line0, column0, "': ' inside a plain value begins a map for YAML",
                     "put the whole value in quotes, or write it below as a '|' block");
  } else if (contains("illegal block entry")) {
    builder.AddFault(line0, column0, "'- ' begins a list item and may not stand here",
                     "begin the list on a line of its own, or put the value in quotes");
  } else if (contains("end of map not found") || contains("end of sequence not found")) {
    std::string_view before = line0 > 0 ? builder.Line(line0 - 1) : std::string_view();
    bool cut = before.find(" #") != std::string_view::npos;
    builder.AddFault(
        line0, column0,
        cut ? "the value of the line before ended at its ' #', so this line belongs to nothing"
            : "this does not fit the lines before: indentation, or text after a closing quote",
        cut ? "' #' begins a comment for YAML: put the value in quotes or write it as a '|' block"
            : "align keys of one map, and put a value that holds quotes into '|' or other quotes");
  } else if (contains("unknown token")) {
    builder.AddFault(line0, column0,
                     fmt::format("a value may not begin with '{}'",
                                 line.substr(std::min<size_t>(column0, line.size()), 1)),
                     "put it in quotes");
  } else if (contains("escape")) {
    builder.AddFault(line0, column0, "a backslash in double quotes: " + message,
                     "use single quotes, in which a backslash is a backslash");
  } else if (contains("anchor is not defined")) {
    builder.AddFault(line0, column0, "'*' names an anchor (&NAME) that is not defined above",
                     "a value that begins with '*' needs quotes");
  } else if (contains("alias") || contains("anchor")) {
    builder.AddFault(line0, column0, "'*' and '&' begin YAML's aliases and anchors",
                     "a value that begins with one of them needs quotes");
  } else {
    builder.AddFault(line0, column0, "not YAML: " + message, "");
  }
}

}  // namespace

Node ParseYaml(std::string_view text, const std::string& file, Faults& faults) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<std::string_view> lines = Split(text, '\n');
  for (std::string_view& line : lines)
    if (line.ends_with('\r')) line.remove_suffix(1);
  TreeBuilder builder(std::move(lines), file, faults);
  std::istringstream in{std::string(text)};
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    length = text[at] == '\0' ? 0 : Utf8Length(text.substr(at));  // NUL: UTF-16 or 32, which yaml-cpp takes
    if (length > 0) continue;
    std::string_view before = text.substr(0, at);
    builder.AddFault(static_cast<int>(std::count(before.begin(), before.end(), '\n')),
                     static_cast<int>(at - (before.rfind('\n') + 1)), "not UTF-8", "save the text as UTF-8");
    return {};
  }
  try {
    YAML::Parser parser(in);
    parser.HandleNextDocument(builder);
    if (builder.empty) {
      builder.AddFault(0, 0, "the file is empty", "");
      return {};
    }
    Node first = std::move(builder.root);
    builder.empty = true;
    bool more = parser.HandleNextDocument(builder) && !builder.empty;
    if (more) {
      bool marked = text.find("\n---") != std::string_view::npos;
      builder.AddFault(std::max(builder.root.line - 1, 0), 0,
                       marked ? "a second document: a file holds one" : "this belongs to nothing above",
                       marked ? "remove the line '---'" : "indent it, or begin with a key");
    }
    return first;
  } catch (const YAML::ParserException& error) {
    if (!builder.flow_fault()) ExplainError(builder, error);
  } catch (const Stop&) {
  }
  return {};
}

}  // namespace millstream
