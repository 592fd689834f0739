#include "sql/function_bounds.h"

#include <algorithm>
#include <atomic>

#include "sql/sql_tree.h"

namespace millstream {
namespace {

// Each takes the product of both lengths.
constexpr int kEditBytesMax = 10'000;
constexpr int kDamerauBytesMax = 2'000;  // and so many times eight bytes
constexpr int kJaroBytesMax = 100'000;   // 64 at a time
// A text is looked for at each place of another one.
constexpr int kNeedleBytesMax = 256;
// All matches of a pattern that looks on beyond each of them.
constexpr int kMatchesBytesMax = 32'768;
constexpr size_t kPatternBytesMax = 256;

struct Bounded {
  const char* name;
  const char* parameters;
  std::string body;
};

// `body`: {0} is the function's name, {1} a bound.
Bounded Of(const char* name, const char* parameters, std::string_view body, int bound = 0) {
  return {name, parameters, fmt::format(fmt::runtime(body), name, bound)};
}

constexpr std::string_view kBoth = "system.main.{0}(_short(a, {1}, '{0}'), _short(b, {1}, '{0}'))";
constexpr std::string_view kSecond = "system.main.{0}(a, _short(b, {1}, '{0}'))";
constexpr std::string_view kLike = "system.main.\"{0}\"(a, _pattern(b, '%'))";

const std::vector<Bounded>& All() {
  static const std::vector<Bounded> all = [] {
    std::vector<Bounded> made;
    for (const char* name : {"levenshtein", "editdist3"})
      made.push_back(Of(name, "a, b", kBoth, kEditBytesMax));
    made.push_back(Of("damerau_levenshtein", "a, b", kBoth, kDamerauBytesMax));
    for (const char* name : {"jaro_similarity", "jaro_winkler_similarity"})
      made.push_back(Of(name, "a, b", kBoth, kJaroBytesMax));
    made.push_back(Of("replace", "a, b, c", "system.main.{0}(a, _short(b, {1}, '{0}'), c)", kNeedleBytesMax));
    for (const char* name :
         {"strpos", "instr", "position", "string_split", "str_split", "split", "string_to_array"})
      made.push_back(Of(name, "a, b", kSecond, kNeedleBytesMax));
    for (const char* name : {"~~", "!~~"}) made.push_back(Of(name, "a, b", kLike));
    made.push_back(Of("~~~", "a, b", "system.main.\"{0}\"(a, _pattern(b, '*'))"));
    // As DuckDB itself does it, but that a literal is prepared once.
    made.push_back(Of("~~*", "a, b", "system.main.\"~~\"(lower(a), lower(_pattern(b, '%')))"));
    made.push_back(Of("!~~*", "a, b", "system.main.\"!~~\"(lower(a), lower(_pattern(b, '%')))"));
    for (const char* name : {"like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"})
      made.push_back(Of(name, "a, b, c", "system.main.{0}(a, _pattern(b, '%!'), c)"));
    return made;
  }();
  return all;
}

// Functions that look for all matches, and how many arguments they have without options.
constexpr struct {
  std::string_view name;
  size_t arguments;
} kAllMatches[] = {{"regexp_extract_all", 2},    {"regexp_replace", 4},  {"regexp_split_to_array", 2},
                   {"regexp_split_to_table", 2}, {"str_split_regex", 2}, {"string_split_regex", 2}};

// May have the number of a group as a third argument.
constexpr std::string_view kOfGroup = "regexp_extract_all";
constexpr int kGroupMax = 9;

// Lists of times: DuckDB counts them one by one before it allocates.
constexpr std::string_view kTimeRanges[] = {"generate_series", "range"};
constexpr int64_t kTimesMax = 20'000'000;  // in a vector

std::string MacroOf(std::string_view name) { return fmt::format("_bounded_{}", name); }

/// The literal text of a node; nothing for another one.
const std::string* LiteralOf(const JsonNode& node) {
  if (node.Text("class") != "CONSTANT" || node["value"]["value"].kind() != JsonNode::Kind::kString)
    return nullptr;
  return &node["value"]["value"].text();
}

bool IsNumber(const JsonNode& node) {
  return node.Text("class") == "CONSTANT" && node["value"]["value"].kind() == JsonNode::Kind::kNumber;
}

/// True if a pattern goes on after `*`, `+` or `{`: a match may then be short and yet be looked for to the
/// end of the text. `a+`, `\s+|,` stop where their match ends.
bool LooksOn(std::string_view pattern) {
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\') {
      ++i;
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') ++i;
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') ++i;
    } else if (c == '*' || c == '+' || c == '{') {
      size_t next = c == '{' ? pattern.find('}', i) : i;
      next = next == std::string_view::npos ? pattern.size() : next + 1;
      if (next < pattern.size() && pattern[next] != '|') return true;
      i = next - 1;
    }
  }
  return false;
}

std::string_view TextAt(duckdb_data_chunk input, idx_t column, idx_t row) {
  duckdb_vector vector = duckdb_data_chunk_get_vector(input, column);
  auto* text = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector)) + row;
  return {duckdb_string_t_data(text), duckdb_string_t_length(*text)};
}

std::atomic<bool> are_lifted{false};

template <typename Check>
void PassThrough(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output, Check check) {
  duckdb_vector texts = duckdb_data_chunk_get_vector(input, 0);
  uint64_t* validity = duckdb_vector_get_validity(texts);
  for (idx_t row = 0, rows = duckdb_data_chunk_get_size(input); row < rows; ++row) {
    if (BoundsAreLifted()) break;
    if (validity != nullptr && !duckdb_validity_row_is_valid(validity, row)) continue;
    std::string error = check(TextAt(input, 0, row), row);
    if (!error.empty()) return duckdb_scalar_function_set_error(info, error.c_str());
  }
  duckdb_vector_reference_vector(output, texts);
}

/// `_short(text, bytes, function)`.
void RunShort(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  auto* most = static_cast<int64_t*>(duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 1)));
  PassThrough(info, input, output, [&](std::string_view text, idx_t row) -> std::string {
    if (static_cast<int64_t>(text.size()) <= most[row]) return {};
    return fmt::format("{}: a text of {} bytes where at most {} are allowed", TextAt(input, 2, row),
                       text.size(), most[row]);
  });
}

/// `_until(first, last, step)` gives `last`.
void RunUntil(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  constexpr int64_t kDayUs = 86'400'000'000, kMonthDays = 30;
  auto column = [&](idx_t i) { return duckdb_data_chunk_get_vector(input, i); };
  auto* first = static_cast<int64_t*>(duckdb_vector_get_data(column(0)));
  auto* last = static_cast<int64_t*>(duckdb_vector_get_data(column(1)));
  auto* steps = static_cast<duckdb_interval*>(duckdb_vector_get_data(column(2)));
  double times = 0;
  for (idx_t row = 0, rows = duckdb_data_chunk_get_size(input); row < rows; ++row) {
    bool is_null = false;
    for (idx_t i = 0; i < 3; ++i) {
      uint64_t* validity = duckdb_vector_get_validity(column(i));
      is_null |= validity != nullptr && !duckdb_validity_row_is_valid(validity, row);
    }
    if (is_null) continue;
    double step = (static_cast<double>(steps[row].months) * kMonthDays + steps[row].days) * kDayUs +
                  static_cast<double>(steps[row].micros);
    // DuckDB itself refuses a step of nothing, and of both signs.
    if (step != 0)
      times += std::abs((static_cast<double>(last[row]) - static_cast<double>(first[row])) / step);
  }
  if (times > static_cast<double>(kTimesMax) && !BoundsAreLifted()) {
    std::string error = fmt::format("range: {:.0f} times where at most {} are allowed", times, kTimesMax);
    return duckdb_scalar_function_set_error(info, error.c_str());
  }
  duckdb_vector_reference_vector(output, column(1));
}

/// Numbers: DuckDB knows at once how many they are.
void RunUntilNumber(duckdb_function_info, duckdb_data_chunk input, duckdb_vector output) {
  duckdb_vector_reference_vector(output, duckdb_data_chunk_get_vector(input, 1));
}

/// Whether the pattern is a literal.
void BindPattern(duckdb_bind_info info) {
  duckdb_expression pattern = duckdb_scalar_function_bind_get_argument(info, 0);
  auto* is_literal = new bool(duckdb_expression_is_foldable(pattern));
  duckdb_destroy_expression(&pattern);
  duckdb_scalar_function_set_bind_data(info, is_literal, [](void* data) { delete static_cast<bool*>(data); });
  duckdb_scalar_function_set_bind_data_copy(
      info, [](void* data) -> void* { return new bool(*static_cast<bool*>(data)); });
}

/// `_pattern(pattern, wild card)`: DuckDB tries what follows one at each place of the text, and again for
/// each further one, unless the pattern of a LIKE is a literal of `%` alone.
void RunPattern(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  bool is_literal = *static_cast<bool*>(duckdb_scalar_function_get_bind_data(info));
  PassThrough(info, input, output, [&](std::string_view pattern, idx_t row) -> std::string {
    std::string_view kind = TextAt(input, 1, row);
    char wild = kind[0];
    if (is_literal && kind == "%" && pattern.find('_') == pattern.npos) return {};
    if (pattern.size() > kPatternBytesMax)
      return fmt::format("LIKE: a pattern of {} bytes where at most {} are allowed", pattern.size(),
                         kPatternBytesMax);
    while (pattern.ends_with(wild)) pattern.remove_suffix(1);
    size_t wilds = 0;
    for (size_t i = 0; i < pattern.size(); ++i)
      wilds += pattern[i] == wild && (i == 0 || pattern[i - 1] != wild) ? 1 : 0;
    if (wilds <= 1) return {};
    return fmt::format(
        "{}: more than one '{}' before the end of a pattern that is computed, or has other wild cards too; "
        "regexp_matches() has no such bound",
        wild == '*' ? "GLOB" : "LIKE", wild);
  });
}

Status Register(duckdb_connection connection, const char* name, std::initializer_list<duckdb_type> parameters,
                duckdb_type result, duckdb_scalar_function_t run,
                duckdb_scalar_function_bind_t bind = nullptr) {
  duckdb_scalar_function function = duckdb_create_scalar_function();
  duckdb_scalar_function_set_name(function, name);
  for (duckdb_type parameter : parameters)
    duckdb_scalar_function_add_parameter(function, LogicalType(duckdb_create_logical_type(parameter)).get());
  duckdb_scalar_function_set_return_type(function, LogicalType(duckdb_create_logical_type(result)).get());
  if (bind != nullptr) duckdb_scalar_function_set_bind(function, bind);
  duckdb_scalar_function_set_function(function, run);
  duckdb_state state = duckdb_register_scalar_function(connection, function);
  duckdb_destroy_scalar_function(&function);
  return state == DuckDBSuccess ? OkStatus() : Internal("DuckDB does not take the function {}", name);
}

/// All in one text: it is run for each connection.
const std::string& Macros() {
  static const std::string text = [] {
    std::string made;
    for (const Bounded& one : All())
      made += fmt::format("CREATE TEMP MACRO \"{}\"({}) AS {};", one.name, one.parameters, one.body);
    for (const auto& one : kAllMatches) {
      std::string text_of = fmt::format("_short(a, {}, '{}')", kMatchesBytesMax, one.name);
      if (one.name == "regexp_replace") {
        for (const char* options : {"g", "gi", "gs", "gm"})
          made += fmt::format("CREATE TEMP MACRO {}_{}(a, b, c, d) AS system.main.{}({}, b, c, '{}');",
                              MacroOf(one.name), options, one.name, text_of, options);
      } else {
        std::string call = one.name == "regexp_split_to_table"
                               ? fmt::format("unnest(system.main.string_split_regex({}, b))", text_of)
                               : fmt::format("system.main.{}({}, b)", one.name, text_of);
        made += fmt::format("CREATE TEMP MACRO {}(a, b) AS {};", MacroOf(one.name), call);
        for (int group = 0; one.name == kOfGroup && group <= kGroupMax; ++group)  // which must be constant
          made += fmt::format("CREATE TEMP MACRO {0}_{1}(a, b, c) AS system.main.{2}({3}, b, {1});",
                              MacroOf(one.name), group, one.name, text_of);
      }
    }
    for (std::string_view name : kTimeRanges)  // each argument stands once
      made += fmt::format(
          "CREATE TEMP MACRO {}(a, b, c) AS list_transform([{{'a': a, 'b': b, 'c': c}}], lambda _t: "
          "system.main.{}(_t.a, _until(_t.a, _t.b, _t.c), _t.c))[1];",
          MacroOf(name), name);
    return made;
  }();
  return text;
}

}  // namespace

Status RegisterBounds(duckdb_connection connection) {
  constexpr duckdb_type kText = DUCKDB_TYPE_VARCHAR, kNumber = DUCKDB_TYPE_BIGINT;
  RETURN_IF_ERROR(Register(connection, "_short", {kText, kNumber, kText}, kText, RunShort));
  RETURN_IF_ERROR(Register(connection, "_pattern", {kText, kText}, kText, RunPattern, BindPattern));
  for (duckdb_type time : {DUCKDB_TYPE_TIMESTAMP, DUCKDB_TYPE_TIMESTAMP_TZ})
    RETURN_IF_ERROR(Register(connection, "_until", {time, time, DUCKDB_TYPE_INTERVAL}, time, RunUntil));
  return Register(connection, "_until", {kNumber, kNumber, kNumber}, kNumber, RunUntilNumber);
}

Status BoundFunctions(duckdb_connection connection) {
  duckdb_result result;
  Status status;
  if (duckdb_query(connection, Macros().c_str(), &result) != DuckDBSuccess)
    status = Internal("DuckDB does not take the bounds of functions: {}", duckdb_result_error(&result));
  duckdb_destroy_result(&result);
  return status;
}

void LiftBounds() { are_lifted = true; }
bool BoundsAreLifted() { return are_lifted; }

bool IsBounded(std::string_view name) {
  auto has_name = [&](const auto& one) { return one.name == name; };
  return std::any_of(All().begin(), All().end(), has_name) ||
         std::any_of(std::begin(kAllMatches), std::end(kAllMatches), has_name) ||
         std::find(std::begin(kTimeRanges), std::end(kTimeRanges), name) != std::end(kTimeRanges);
}

bool MayBeBounded(std::string_view sql) {
  // Besides names, as which DuckDB's own macros call them too (split_part): how users write the operators.
  const std::string text = Lower(sql);
  auto has = [&](std::string_view part) { return text.find(part) != std::string::npos; };
  return has("like") || has("glob") ||
         std::any_of(All().begin(), All().end(), [&](const Bounded& one) { return has(one.name); }) ||
         std::any_of(std::begin(kAllMatches), std::end(kAllMatches),
                     [&](const auto& one) { return has(one.name); }) ||
         std::any_of(std::begin(kTimeRanges), std::end(kTimeRanges), has);
}

std::string BoundedName(const JsonNode& function, std::string* why_not) {
  std::string name = Lower(function.Text("function_name"));
  auto found = std::find_if(std::begin(kAllMatches), std::end(kAllMatches),
                            [&](const auto& one) { return one.name == name; });
  const auto& arguments = function["children"].items();
  // What stands before a dot, and is no schema, is the first argument.
  std::string schema = Lower(function.Text("schema"));
  const size_t before = schema.empty() || schema == "main" || schema == "temp" ? 0 : 1;
  const size_t count = arguments.size() + before;
  if (std::find(std::begin(kTimeRanges), std::end(kTimeRanges), name) != std::end(kTimeRanges))
    return count == 3 && !IsNumber(arguments[2 - before]) ? MacroOf(name) : "";
  if (found == std::end(kAllMatches) || count < 2) return "";
  std::string options;
  if (name == "regexp_replace") {
    const std::string* literal = count == 4 ? LiteralOf(arguments[3 - before]) : nullptr;
    if (literal == nullptr || literal->find('g') == std::string::npos) return "";
    options = *literal;
    std::erase(options, 'g');
  }
  const std::string* pattern = LiteralOf(arguments[1 - before]);
  if (pattern != nullptr && !LooksOn(*pattern)) return "";
  if (name == kOfGroup && count == 3)
    if (const JsonNode& group = arguments[2 - before]; IsNumber(group))
      if (const std::string& digits = group["value"]["value"].text();
          digits.size() == 1 && digits[0] <= '0' + kGroupMax)
        return MacroOf(name) + "_" + digits;
  if (count > found->arguments || options.size() > 1 ||
      options.find_first_not_of("ism") != std::string::npos) {
    *why_not = fmt::format("{} with these options, and a pattern that goes on after *, + or {{", name);
    return "";
  }
  return MacroOf(name) + (name == "regexp_replace" ? "_g" + options : "");
}

void NameBounded(JsonNode& node) {
  std::string why_not;
  std::string name = node.Text("class") == "FUNCTION" ? BoundedName(node, &why_not) : "";
  if (!name.empty()) node.At("function_name") = JsonNode::String(name);
  for (JsonNode& item : node.items()) NameBounded(item);
  for (auto& member : node.members()) NameBounded(member.second);
}

}  // namespace millstream
