#include "tables/aggregate.h"

#include <cctype>

#include "base/text.h"
#include "tables/table_sql.h"

namespace millstream {
namespace {

std::string Trimmed(const std::string& text) {
  size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// Position of the parenthesis that closes the one at `open`, outside of quotes; npos if there is none.
size_t ClosingParenthesis(const std::string& text, size_t open) {
  int depth = 0;
  char quote = 0;
  for (size_t i = open; i < text.size(); ++i) {
    char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '(') {
      ++depth;
    } else if (c == ')' && --depth == 0) {
      return i;
    }
  }
  return std::string::npos;
}

// A sum of partial sums overflows only after a thousand million partial ones of this size (scale digits
// included), so an overflow is always found in the delivery that causes it: nothing is read before a write.
std::string SumBound(const std::string& type) {
  size_t comma = type.find(',');
  int scale = comma == std::string::npos ? 0 : std::atoi(type.c_str() + comma + 1);
  int whole = 29 - scale;
  return whole >= 0 ? "1" + std::string(whole, '0') : "0." + std::string(-whole - 1, '0') + "1";
}

}  // namespace

Result<Aggregate> ParseAggregate(const std::string& name, const std::string& expression) {
  std::string text = Trimmed(expression);
  size_t open = text.find('(');
  auto fault = [&](const char* hint) {
    return Fail(Invalid("values.{}: '{}' is not understood; {}", name, text, hint));
  };
  constexpr const char* kForms = "write count(*), count(x), sum(x), min(x), max(x) or last(x)";
  if (open == std::string::npos || ClosingParenthesis(text, open) != text.size() - 1) return fault(kForms);
  std::string function = Lower(Trimmed(text.substr(0, open)));
  Aggregate aggregate;
  aggregate.name = name;
  aggregate.argument = Trimmed(text.substr(open + 1, text.size() - open - 2));
  if (function == "count") {
    aggregate.kind = aggregate.argument == "*" || aggregate.argument.empty() ? Aggregate::Kind::kCountRows
                                                                             : Aggregate::Kind::kCount;
    if (aggregate.kind == Aggregate::Kind::kCountRows) aggregate.argument.clear();
    return aggregate;
  }
  if (function == "avg" || function == "mean")
    return fault("keep sum(x) and count(x), and divide them in the query");
  if (function == "sum")
    aggregate.kind = Aggregate::Kind::kSum;
  else if (function == "min")
    aggregate.kind = Aggregate::Kind::kMin;
  else if (function == "max")
    aggregate.kind = Aggregate::Kind::kMax;
  else if (function == "last")
    aggregate.kind = Aggregate::Kind::kLast;
  else
    return fault(kForms);
  if (aggregate.argument.empty() || aggregate.argument == "*") return fault(kForms);
  return aggregate;
}

std::string PartialSql(const Aggregate& aggregate, const std::string& order) {
  const std::string& x = aggregate.argument;
  switch (aggregate.kind) {
    case Aggregate::Kind::kCountRows:
      return "count(*)";
    case Aggregate::Kind::kCount:
      return fmt::format("count({})", x);
    case Aggregate::Kind::kSum:
      if (aggregate.type.starts_with("DECIMAL") || aggregate.type == "HUGEINT")
        return fmt::format(
            "CASE WHEN abs(sum({0})) >= {1} THEN error('sum({2}) is too large to be exact') ELSE sum({0}) "
            "END",
            x, SumBound(aggregate.type), QuotedText(x));
      return fmt::format("sum({})", x);
    case Aggregate::Kind::kMin:
      return fmt::format("min({})", x);
    case Aggregate::Kind::kMax:
      return fmt::format("max({})", x);
    case Aggregate::Kind::kLast:
      return fmt::format("arg_max_null({}, {})", x, order);
  }
  return "";
}

std::string CombineSql(const Aggregate& aggregate, const std::string& order) {
  std::string column = Quoted(aggregate.name);
  switch (aggregate.kind) {
    case Aggregate::Kind::kCountRows:
    case Aggregate::Kind::kCount:
    case Aggregate::Kind::kSum:
      return fmt::format("CAST(sum({}) AS {})", column, aggregate.type);
    case Aggregate::Kind::kMin:
      return fmt::format("min({})", column);
    case Aggregate::Kind::kMax:
      return fmt::format("max({})", column);
    case Aggregate::Kind::kLast:
      return fmt::format("arg_max_null({}, {})", column, order);
  }
  return "";
}

}  // namespace millstream
