// ParseType and ParseField: a small recursive-descent parser over "TYPE [not null] [default LITERAL] [check
// (EXPR)]".
#include <fmt/format.h>

#include "base/fault.h"
#include "base/text.h"
#include "event/decode.h"
#include "event/type.h"
#include "event/type_names.h"

namespace millstream {
namespace {

constexpr int kTypeNestingMax = 32;
constexpr size_t kSymbolsMax = 65'535;

class TypeParser {
 public:
  explicit TypeParser(std::string_view text) : text_(text) {}

  Result<Type> TypeAt(int nesting);
  bool AtEnd() { return SkipSpace(), at_ == text_.size(); }
  /// Takes `word` in any case if it stands here.
  bool TakeWord(std::string_view word);
  Result<std::string> DefaultLiteral();
  Result<std::string> CheckExpression();
  std::string_view rest() const { return text_.substr(at_); }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view Word() {
    SkipSpace();
    size_t begin = at_;
    while (at_ < text_.size() && IsAsciiWord(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  // The text between quotes that stand here; a doubled quote is one.
  Result<std::string> QuotedText(char quote);
  Result<int> Number(std::string_view what);
  Status Decimal(Type& type);
  Status Enum(Type& type);
  Status Struct(Type& type, int nesting);
  Status Unknown(std::string_view word, size_t begin);
  // The parenthesis that opens here, with all in it; "" if none opens or none closes.
  std::string_view Parenthesis() const;

  std::string_view text_;
  size_t at_ = 0;
};

bool TypeParser::TakeWord(std::string_view word) {
  SkipSpace();
  size_t begin = at_;
  if (Lower(Word()) == word) return true;
  at_ = begin;
  return false;
}

Result<std::string> TypeParser::QuotedText(char quote) {
  if (!Take(quote)) return Fail(Invalid("expected {} at '{}'", quote, rest()));
  std::string out;
  while (at_ < text_.size()) {
    char c = text_[at_++];
    if (c != quote) {
      out += c;
    } else if (at_ < text_.size() && text_[at_] == quote) {
      out += quote;
      ++at_;
    } else {
      return out;
    }
  }
  return Fail(Invalid("a quote {} is not closed in '{}'", quote, text_));
}

Result<int> TypeParser::Number(std::string_view what) {
  std::string_view word = Word();
  if (word.empty() || word.size() > 3 || word.find_first_not_of("0123456789") != word.npos) {
    return Fail(Invalid("{} of a decimal must be a number, not '{}'", what, word.empty() ? rest() : word));
  }
  return std::stoi(std::string(word));
}

Status TypeParser::Decimal(Type& type) {
  type.width = 18, type.scale = 3;
  if (!Take('(')) return OkStatus();
  ASSIGN_OR_RETURN(int width, Number("the width"));
  int scale = 0;
  if (Take(',')) {
    ASSIGN_OR_RETURN(scale, Number("the scale"));
  }
  if (!Take(')')) return Invalid("expected ')' after decimal({},{} in '{}'", width, scale, text_);
  if (width < 1 || width > 38) return Invalid("a decimal has 1 to 38 digits, not {}", width);
  if (scale > width) return Invalid("decimal({},{}): the scale is larger than the width", width, scale);
  type.width = static_cast<uint8_t>(width), type.scale = static_cast<uint8_t>(scale);
  return OkStatus();
}

Status TypeParser::Enum(Type& type) {
  if (!Take('(')) return Invalid("an enum names its symbols: enum('a','b')");
  do {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != '\'') {
      return Invalid("an enum's symbols stand in single quotes: enum('a','b')");
    }
    ASSIGN_OR_RETURN(std::string symbol, QuotedText('\''));
    for (const std::string& other : type.symbols) {
      if (other == symbol) return Invalid("the enum names '{}' twice", symbol);
    }
    if (type.symbols.size() == kSymbolsMax) return Invalid("an enum has at most {} symbols", kSymbolsMax);
    type.symbols.push_back(std::move(symbol));
  } while (Take(','));
  if (!Take(')')) return Invalid("expected ',' or ')' in the enum at '{}'", rest());
  return OkStatus();
}

Status TypeParser::Struct(Type& type, int nesting) {
  if (!Take('(')) return Invalid("a struct names its members: struct(sku varchar, qty integer)");
  do {
    SkipSpace();
    Field member;
    if (at_ < text_.size() && text_[at_] == '"') {
      ASSIGN_OR_RETURN(member.name, QuotedText('"'));
    } else {
      member.name = std::string(Word());
    }
    if (member.name.empty()) return Invalid("expected the name of a struct's member at '{}'", rest());
    for (const Field& other : type.children) {
      if (other.name == member.name) return Invalid("the struct names '{}' twice", member.name);
    }
    ASSIGN_OR_RETURN(member.type, TypeAt(nesting + 1));
    type.children.push_back(std::move(member));
  } while (Take(','));
  if (!Take(')')) return Invalid("expected ',' or ')' in the struct at '{}'", rest());
  return OkStatus();
}

std::string_view TypeParser::Parenthesis() const {
  size_t at = at_;
  while (at < text_.size() && IsSpace(text_[at])) ++at;
  if (at == text_.size() || text_[at] != '(') return "";
  int depth = 0;
  for (size_t i = at; i < text_.size(); ++i) {
    if (text_[i] == '(') ++depth;
    if (text_[i] == ')' && --depth == 0) return text_.substr(at, i + 1 - at);
  }
  return "";
}

Status TypeParser::Unknown(std::string_view word, size_t begin) {
  if (word.empty()) return Invalid("expected a type at '{}'", text_.substr(begin));
  std::string arguments(Parenthesis());
  if (std::string name = Lower(word); (name == "list" || name == "array") && arguments.size() > 2)
    return Invalid("unknown type '{}{}'; did you mean '{}[]'?", word, arguments,
                   Trim(std::string_view(arguments).substr(1, arguments.size() - 2)));
  std::string nearest = Nearest(Lower(word), TypeNames());
  if (nearest.empty()) {
    return Invalid(
        "unknown type '{}{}'; known are boolean, integer, bigint, double, decimal(12,2), varchar, "
        "date, time, timestamp, timestamptz, uuid, blob, json, enum('a'), struct(a integer), and a "
        "type followed by [] for a list",
        word, arguments);
  }
  return Invalid("unknown type '{}{}'; did you mean '{}{}'?", word, arguments, nearest, arguments);
}

Result<Type> TypeParser::TypeAt(int nesting) {
  if (nesting > kTypeNestingMax)
    return Fail(Invalid("the type is nested more than {} deep", kTypeNestingMax));
  SkipSpace();
  size_t begin = at_;
  std::string_view word = Word();
  std::string name = Lower(word);
  std::optional<Type::Kind> kind = FindTypeKind(name);
  if (!kind) return Fail(Unknown(word, begin));
  Type type;
  type.kind = *kind;
  if (*kind == Type::Kind::kDecimal) {
    FAIL_IF_ERROR(Decimal(type));
  } else if (*kind == Type::Kind::kEnum) {
    FAIL_IF_ERROR(Enum(type));
  } else if (*kind == Type::Kind::kStruct) {
    FAIL_IF_ERROR(Struct(type, nesting));
  } else if (std::string_view arguments = Parenthesis(); !arguments.empty()) {
    return Fail(Invalid("'{}' takes no '{}'", word, arguments));
  }
  if (name == "timestamp" && TakeWord("with")) {
    if (!TakeWord("time") || !TakeWord("zone")) return Fail(Invalid("expected 'timestamp with time zone'"));
    type.kind = Type::Kind::kTimestamptz;
  }
  while (Take('[')) {
    if (!Take(']')) return Fail(Invalid("expected ']' at '{}'; a list is written varchar[]", rest()));
    if (++nesting > kTypeNestingMax)
      return Fail(Invalid("the type is nested more than {} deep", kTypeNestingMax));
    Type list;
    list.kind = Type::Kind::kList;
    Field element;
    element.type = std::move(type);
    list.children.push_back(std::move(element));
    type = std::move(list);
  }
  return type;
}

Result<std::string> TypeParser::DefaultLiteral() {
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == '\'') return QuotedText('\'');
  size_t begin = at_;
  while (at_ < text_.size() && !IsSpace(text_[at_])) ++at_;
  if (begin == at_) return Fail(Invalid("a literal must follow 'default', e.g. default 'open' or default 0"));
  return std::string(text_.substr(begin, at_ - begin));
}

Result<std::string> TypeParser::CheckExpression() {
  if (!Take('('))
    return Fail(Invalid("an expression in parentheses must follow 'check', e.g. check (amount >= 0)"));
  size_t begin = at_;
  int depth = 1;
  for (; at_ < text_.size(); ++at_) {
    char c = text_[at_];
    if (c == '\'' || c == '"') {
      at_ = text_.find(c, at_ + 1);
      if (at_ == text_.npos) {
        at_ = text_.size();
        return Fail(Invalid("a quote {} is not closed in the check", c));
      }
    } else if (c == '(') {
      ++depth;
    } else if (c == ')' && --depth == 0) {
      std::string expression(Trim(text_.substr(begin, at_ - begin)));
      ++at_;
      if (expression.empty()) return Fail(Invalid("the check is empty"));
      return expression;
    }
  }
  return Fail(Invalid("the check's parenthesis is not closed"));
}

}  // namespace

std::string PointerToken(std::string_view name) {
  std::string out;
  for (char c : name) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

Result<Type> ParseType(std::string_view text) {
  TypeParser parser(text);
  ASSIGN_OR_FAIL(Type type, parser.TypeAt(1));
  if (!parser.AtEnd()) return Fail(Invalid("'{}' is left over after the type in '{}'", parser.rest(), text));
  return type;
}

Result<Field> ParseField(std::string name, std::string_view text) {
  Field field;
  field.pointer = "/" + PointerToken(name);
  field.name = std::move(name);
  TypeParser parser(text);
  ASSIGN_OR_FAIL(field.type, parser.TypeAt(1));
  bool null_said = false;
  while (!parser.AtEnd()) {
    if (!null_said && parser.TakeWord("not")) {
      if (!parser.TakeWord("null")) return Fail(Invalid("expected 'not null' at '{}'", parser.rest()));
      field.not_null = true, null_said = true;
    } else if (!null_said && parser.TakeWord("null")) {
      null_said = true;
    } else if (!field.default_literal && parser.TakeWord("default")) {
      ASSIGN_OR_FAIL(field.default_literal, parser.DefaultLiteral());
    } else if (field.check.empty() && parser.TakeWord("check")) {
      ASSIGN_OR_FAIL(field.check, parser.CheckExpression());
    } else {
      return Fail(
          Invalid("'{}' was not understood; expected TYPE [not null] [default LITERAL] [check (EXPR)]",
                  parser.rest()));
    }
  }
  if (field.default_literal) FAIL_IF_ERROR(CheckDefault(field));
  return field;
}

}  // namespace millstream
