#include "sql/json_tree.h"

namespace millstream {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  bool Document(JsonNode* node) {
    if (!Value(node, 0)) return false;
    Blanks();
    return at_ == text_.size();
  }

  size_t at() const { return at_; }

 private:
  static constexpr int kMaxDepth = 4000;  // DuckDB's own limit on expressions is 1,000

  void Blanks() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool Take(char c) {
    Blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool Word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool Value(JsonNode* node, int depth) {
    Blanks();
    if (at_ >= text_.size() || depth > kMaxDepth) return false;
    switch (text_[at_]) {
      case '{':
        return Object(node, depth);
      case '[':
        return Array(node, depth);
      case '"': {
        std::string text;
        if (!Text(&text)) return false;
        *node = JsonNode::String(std::move(text));
        return true;
      }
      case 't':
        *node = JsonNode::Boolean(true);
        return Word("true");
      case 'f':
        *node = JsonNode::Boolean(false);
        return Word("false");
      case 'n':
        *node = JsonNode();
        return Word("null");
      default:
        break;
    }
    size_t begin = at_;
    while (at_ < text_.size() &&
           std::string_view("+-.0123456789eE").find(text_[at_]) != std::string_view::npos)
      ++at_;
    if (at_ == begin) return false;
    *node = JsonNode::Number(std::string(text_.substr(begin, at_ - begin)));
    return true;
  }

  bool Object(JsonNode* node, int depth) {
    *node = JsonNode::Object();
    ++at_;
    if (Take('}')) return true;
    do {
      Blanks();
      std::string name;
      if (!Text(&name) || !Take(':')) return false;
      node->members().emplace_back(std::move(name), JsonNode());
      if (!Value(&node->members().back().second, depth + 1)) return false;
    } while (Take(','));
    return Take('}');
  }

  bool Array(JsonNode* node, int depth) {
    *node = JsonNode::Array();
    ++at_;
    if (Take(']')) return true;
    do {
      node->items().emplace_back();
      if (!Value(&node->items().back(), depth + 1)) return false;
    } while (Take(','));
    return Take(']');
  }

  bool Text(std::string* out) {
    if (at_ >= text_.size() || text_[at_] != '"') return false;
    ++at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      char c = text_[at_++];
      if (c != '\\') {
        out->push_back(c);
        continue;
      }
      if (at_ >= text_.size() || !Escape(text_[at_++], out)) return false;
    }
    if (at_ >= text_.size()) return false;
    ++at_;
    return true;
  }

  bool Escape(char c, std::string* out) {
    switch (c) {
      case 'n':
        out->push_back('\n');
        return true;
      case 't':
        out->push_back('\t');
        return true;
      case 'r':
        out->push_back('\r');
        return true;
      case 'b':
        out->push_back('\b');
        return true;
      case 'f':
        out->push_back('\f');
        return true;
      case 'u':
        break;
      default:
        out->push_back(c);
        return true;
    }
    uint32_t code = 0;
    if (!Hex4(&code)) return false;
    if (code >= 0xD800 && code < 0xDC00 && Word("\\u")) {
      uint32_t low = 0;
      if (!Hex4(&low)) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    AppendUtf8(code, out);
    return true;
  }

  bool Hex4(uint32_t* code) {
    if (at_ + 4 > text_.size()) return false;
    for (int i = 0; i < 4; ++i) {
      char c = text_[at_++];
      uint32_t digit = c >= '0' && c <= '9'   ? c - '0'
                       : c >= 'a' && c <= 'f' ? c - 'a' + 10
                       : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                              : 16;
      if (digit == 16) return false;
      *code = *code * 16 + digit;
    }
    return true;
  }

  static void AppendUtf8(uint32_t code, std::string* out) {
    if (code < 0x80) {
      out->push_back(static_cast<char>(code));
    } else if (code < 0x800) {
      out->push_back(static_cast<char>(0xC0 | code >> 6));
      out->push_back(static_cast<char>(0x80 | (code & 63)));
    } else if (code < 0x10000) {
      out->push_back(static_cast<char>(0xE0 | code >> 12));
      out->push_back(static_cast<char>(0x80 | (code >> 6 & 63)));
      out->push_back(static_cast<char>(0x80 | (code & 63)));
    } else {
      out->push_back(static_cast<char>(0xF0 | code >> 18));
      out->push_back(static_cast<char>(0x80 | (code >> 12 & 63)));
      out->push_back(static_cast<char>(0x80 | (code >> 6 & 63)));
      out->push_back(static_cast<char>(0x80 | (code & 63)));
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

void WriteText(std::string& out, std::string_view text) {
  out.push_back('"');
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

}  // namespace

JsonNode JsonNode::String(std::string text) {
  JsonNode node;
  node.kind_ = Kind::kString;
  node.text_ = std::move(text);
  return node;
}

JsonNode JsonNode::Number(std::string text) {
  JsonNode node = String(std::move(text));
  node.kind_ = Kind::kNumber;
  return node;
}

JsonNode JsonNode::Boolean(bool value) {
  JsonNode node;
  node.kind_ = value ? Kind::kTrue : Kind::kFalse;
  return node;
}

JsonNode JsonNode::Array(std::vector<JsonNode> items) {
  JsonNode node;
  node.kind_ = Kind::kArray;
  node.items_ = std::move(items);
  return node;
}

JsonNode JsonNode::Object(Members members) {
  JsonNode node;
  node.kind_ = Kind::kObject;
  node.members_ = std::move(members);
  return node;
}

const JsonNode& JsonNode::operator[](std::string_view name) const {
  static const JsonNode none;
  for (const auto& [key, value] : members_)
    if (key == name) return value;
  return none;
}

JsonNode& JsonNode::At(std::string_view name) {
  for (auto& [key, value] : members_)
    if (key == name) return value;
  return members_.emplace_back(std::string(name), JsonNode()).second;
}

void JsonNode::Write(std::string& out) const {
  switch (kind_) {
    case Kind::kNull:
      out += "null";
      return;
    case Kind::kFalse:
      out += "false";
      return;
    case Kind::kTrue:
      out += "true";
      return;
    case Kind::kNumber:
      out += text_;
      return;
    case Kind::kString:
      WriteText(out, text_);
      return;
    case Kind::kArray: {
      char separator = '[';
      for (const JsonNode& item : items_) out.push_back(separator), item.Write(out), separator = ',';
      out += items_.empty() ? "[]" : "]";
      return;
    }
    case Kind::kObject: {
      char separator = '{';
      for (const auto& [name, value] : members_) {
        out.push_back(separator);
        WriteText(out, name);
        out.push_back(':');
        value.Write(out);
        separator = ',';
      }
      out += members_.empty() ? "{}" : "}";
      return;
    }
  }
}

std::string JsonNode::ToString() const {
  std::string out;
  Write(out);
  return out;
}

Result<JsonNode> ParseJsonTree(std::string_view text) {
  JsonNode node;
  Parser parser(text);
  if (!parser.Document(&node)) return Fail(Invalid("not JSON near byte {}", parser.at()));
  return node;
}

}  // namespace millstream
