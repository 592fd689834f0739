// JSON to vectors, against DuckDB's own JSON reader: of an event that the engine takes, each field's value is
// what DuckDB reads from the same text. The first byte says whether the values come from stored columns or
// are read from the data again; the rest is the event.
#include <cstdio>

#include "base/fuzz_target.h"
#include "event/payload.h"
#include "sql/scan.h"

namespace {

using namespace millstream;

/// A field, and when it differs from DuckDB's reading. {usual}, which stands for nothing too: it is another
/// value than `r` has, or, where that is NULL, than DuckDB's cast of {text}: the value without white space
/// around it, which the engine does not mind.
struct Reading {
  const char* name;
  const char* type;
  const char* differs = "{usual}";
};

constexpr Reading kReadings[] = {
    {"o", "boolean"},
    {"i", "integer"},
    {"u", "utinyint"},
    // DuckDB reads what has a point or an exponent as a double, which is exact below 2^53.
    {"n", "bigint",
     "{usual} AND (json_type(data, '$.n') = 'DOUBLE' AND n NOT BETWEEN -9007199254740992 AND "
     "9007199254740992) IS NOT TRUE"},
    {"h", "hugeint",
     "{usual} AND (json_type(data, '$.h') = 'DOUBLE' AND h NOT BETWEEN -9007199254740992 AND "
     "9007199254740992) IS NOT TRUE"},
    {"c", "decimal(12,2)"},
    {"f", "double"},
    // A number's text is kept; DuckDB writes the number anew.
    {"s", "varchar", "{usual} AND (json_type(data, '$.s') IN ('BIGINT', 'UBIGINT', 'DOUBLE')) IS NOT TRUE"},
    {"d", "date"},
    {"t", "time"},
    // DuckDB leaves a zone's offset out of account, and takes neither small letters nor second 60, which
    // RFC 3339 has.
    {"p", "timestamp",
     "contains({text}, ':60') IS NOT TRUE AND "
     "p IS DISTINCT FROM try_cast(upper({text}) AS TIMESTAMPTZ)::TIMESTAMP"},
    {"z", "timestamptz",
     "contains({text}, ':60') IS NOT TRUE AND z IS DISTINCT FROM try_cast(upper({text}) AS TIMESTAMPTZ)"},
    {"g", "uuid"},
    {"b", "blob", "b IS DISTINCT FROM from_base64({text})"},
    {"j", "json", "json(j) IS DISTINCT FROM nullif(json(data->'$.j'), 'null')"},
    {"e", "enum('a','bc')"},
    {"x", "struct(i integer, s varchar)"},
    {"l", "integer[]"},
};

class Comparison {
 public:
  Comparison()
      : database_(std::move(*Database::Open("", {}))), connection_(std::move(*database_->Connect())) {
    std::string structure, differing;
    for (const auto& [name, type, differs] : kReadings) {
      shape_.contract.fields.push_back(*ParseField(name, type));
      const std::string sql_type = shape_.contract.fields.back().type.ToSql();
      structure += fmt::format("{}\"{}\":\"{}\"", structure.empty() ? "" : ",", name, sql_type);
      const std::string text = fmt::format(
          "trim(data->>'$.{}', concat(chr(32), chr(9), chr(10), chr(11), chr(12), chr(13)))", name);
      const std::string usual = fmt::format(
          "{0} IS DISTINCT FROM coalesce(r.{0}, try_cast({1} AS {2})) AND regexp_matches({1}, "
          "'^[-+]?0[0.]*[eE]') IS NOT TRUE",  // zero, whatever the exponent: DuckDB has some at most
          name, text, sql_type);
      differing += fmt::format(
          ", CASE WHEN {1} THEN concat('{0}: ', {0}::VARCHAR, ' not ', r.{0}::VARCHAR, '; ') END", name,
          fmt::format(fmt::runtime(differs), fmt::arg("usual", usual), fmt::arg("text", text)));
    }
    for (size_t at = 0; (at = structure.find('\'', at)) != std::string::npos; at += 2)
      structure.insert(at, 1, '\'');
    scan_ = std::move(*BatchScan::Make(*database_, "orders", shape_.contract, {}));
    auto prepared = connection_->Prepare(
        fmt::format("SELECT concat(''{}) FROM (SELECT *, from_json(data, '{{{}}}') AS r FROM {})", differing,
                    structure, scan_->Sql()));
    if (!prepared) std::fprintf(stderr, "%s\n", prepared.error().ToString().c_str());
    CHECK(prepared);
    statement_ = std::move(*prepared);
  }

  void Run(std::string_view event, uint32_t times) {
    Assembler assembler(shape_);
    for (uint32_t i = 0; i < times; ++i)
      if (assembler.Add({}, event)) return;
    EncodedBatch encoded = assembler.Finish(0, {});
    auto batch = EventBatch::Open({.stream = "orders", .count = encoded.count}, encoded.codec,
                                  std::move(encoded.payload));
    CHECK(batch);
    const BatchRange range{batch->get(), 0, encoded.count};
    scan_->Set({&range, 1});
    auto rows = statement_->Execute();
    if (!rows) std::fprintf(stderr, "%s\n", rows.error().ToString().c_str());
    CHECK(rows);
    uint32_t seen = 0;
    while (auto chunk = *rows->Next()) {
      for (uint32_t row = 0; row < chunk->rows(); ++row, ++seen) {
        std::string_view fields = chunk->String(0, row);
        if (!fields.empty())
          std::fprintf(stderr, "differs: %.*s\n", static_cast<int>(fields.size()), fields.data());
        CHECK(fields.empty());
      }
    }
    CHECK(seen == times);
  }

 private:
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  StreamShape shape_;
  std::unique_ptr<BatchScan> scan_;
  std::unique_ptr<Statement> statement_;
};

}  // namespace

FUZZ_TARGET(sql_json_vectors_fuzz, text) {
  if (text.empty()) return;
  // Never destroyed: DuckDB's memory of the thread is gone when what is static goes.
  static Comparison& comparison = *new Comparison();
  const std::string event = std::string(text.substr(1)) + std::string(64, ' ');
  comparison.Run(std::string_view(event).substr(0, text.size() - 1),
                 text[0] % 2 == 0 ? 1 : kColumnsFromEvents);
}
