#include "query/system_tables.h"

#include "base/text.h"

namespace millstream {
namespace {

constexpr uint64_t kDeadLettersMax = 10'000;  // of each stream, the newest

/// Rows of literals under typed columns.
class ValuesTable {
 public:
  explicit ValuesTable(std::vector<std::pair<const char*, const char*>> columns)
      : columns_(std::move(columns)) {}

  void Add(const std::vector<std::string>& literals) {
    CHECK(literals.size() == columns_.size());
    rows_ += rows_.empty() ? "(" : ",(";
    for (size_t i = 0; i < literals.size(); ++i) rows_ += (i == 0 ? "" : ",") + literals[i];
    rows_ += ')';
  }
  std::string Sql() const {
    std::string select, names, nulls;
    for (const auto& [name, type] : columns_) {
      std::string_view separator = select.empty() ? "" : ", ";
      select += fmt::format("{0}CAST(\"{1}\" AS {2}) AS \"{1}\"", separator, name, type);
      names += fmt::format("{}\"{}\"", separator, name);
      nulls += fmt::format("{}NULL", separator);
    }
    std::string rows = rows_.empty() ? "(" + nulls + ")" : rows_;
    return fmt::format("(SELECT {} FROM (VALUES {}) AS v({}){})", select, rows, names,
                       rows_.empty() ? " WHERE false" : "");
  }

 private:
  const std::vector<std::pair<const char*, const char*>> columns_;
  std::string rows_;
};

std::string Number(auto value) { return fmt::format("{}", value); }
std::string TimeLiteral(int64_t us) { return us == 0 ? "NULL" : SqlLiteral(FormatTime(us)); }

std::string PipelinesSql(const EngineStatus& status) {
  ValuesTable table({{"name", "VARCHAR"},
                     {"stream", "VARCHAR"},
                     {"state", "VARCHAR"},
                     {"reason", "VARCHAR"},
                     {"version", "BIGINT"},
                     {"lag_events", "BIGINT"},
                     {"lag_seconds", "DOUBLE"},
                     {"events_in", "BIGINT"},
                     {"rows_out", "BIGINT"},
                     {"dead", "BIGINT"},
                     {"p99_us", "BIGINT"}});
  for (const PipelineStatus& p : status.pipelines)
    table.Add({SqlLiteral(p.name), SqlLiteral(p.stream), SqlLiteral(p.state), SqlLiteral(p.reason),
               Number(p.version), Number(p.lag_events), Number(p.lag_seconds), Number(p.in), Number(p.out),
               Number(p.dead), p.p99_us < 0 ? "NULL" : Number(p.p99_us)});
  return table.Sql();
}

std::string FiltersSql(const EngineStatus& status, const Project& project) {
  ValuesTable table({{"pipeline", "VARCHAR"},
                     {"name", "VARCHAR"},
                     {"number", "INTEGER"},
                     {"kind", "VARCHAR"},
                     {"sql", "VARCHAR"},
                     {"rows_in", "BIGINT"},
                     {"rows_out", "BIGINT"},
                     {"dead", "BIGINT"}});
  for (const PipelineStatus& p : status.pipelines) {
    auto config = project.pipelines.find(p.name);
    for (size_t i = 0; i < p.filters.size(); ++i) {
      const FilterStatus& f = p.filters[i];
      const FilterConfig* of = config != project.pipelines.end() && i < config->second.filters.size()
                                   ? &config->second.filters[i]
                                   : nullptr;
      table.Add({SqlLiteral(p.name), SqlLiteral(f.name), Number(i + 1),
                 of == nullptr ? "NULL" : SqlLiteral(of->kind),
                 of == nullptr || of->sql.empty() ? "NULL" : SqlLiteral(of->sql), Number(f.in), Number(f.out),
                 Number(f.dead)});
    }
  }
  return table.Sql();
}

Result<std::string> DeadLettersSql(Engine& engine, const Project& project) {
  ValuesTable table({{"stream", "VARCHAR"},
                     {"number", "BIGINT"},
                     {"time", "TIMESTAMPTZ"},
                     {"state", "VARCHAR"},
                     {"at", "VARCHAR"},
                     {"code", "VARCHAR"},
                     {"event", "VARCHAR"},
                     {"path", "VARCHAR"},
                     {"reason", "VARCHAR"},
                     {"pipeline", "VARCHAR"},
                     {"filter", "VARCHAR"},
                     {"sink", "VARCHAR"}});
  std::shared_ptr<const LetterBook> book = engine.letters();
  for (const auto& [stream, config] : project.streams) {
    DeadLetters::Selection selection;
    selection.limit = kDeadLettersMax;
    ASSIGN_OR_FAIL(DeadLetters::Listing listing, engine.dead_letters().List(stream, selection));
    for (const DeadLetter& d : listing.letters)
      table.Add({SqlLiteral(stream), Number(d.number), TimeLiteral(d.time_us),
                 SqlLiteral(std::string(NameOf(book->StateOf(stream, d.number)))), SqlLiteral(d.at),
                 SqlLiteral(d.code), SqlLiteral(d.event), SqlLiteral(d.path), SqlLiteral(d.reason),
                 SqlLiteral(d.pipeline), SqlLiteral(d.filter), SqlLiteral(d.sink)});
  }
  return table.Sql();
}

std::string SegmentsSql(Engine& engine) {
  ValuesTable table({{"stream", "VARCHAR"},
                     {"_partition", "INTEGER"},
                     {"file", "VARCHAR"},
                     {"first_offset", "BIGINT"},
                     {"end_offset", "BIGINT"},
                     {"bytes", "BIGINT"},
                     {"batches", "BIGINT"},
                     {"first_time", "TIMESTAMPTZ"},
                     {"last_time", "TIMESTAMPTZ"},
                     {"sealed", "BOOLEAN"}});
  for (const PartitionSegments& partition : engine.log().SegmentsNow())
    for (const SegmentInfo& s : partition.segments)
      table.Add({SqlLiteral(partition.stream), Number(partition.partition), SqlLiteral(s.file),
                 Number(s.first_offset), Number(s.end_offset), Number(s.bytes), Number(s.batches),
                 TimeLiteral(s.first_us), TimeLiteral(s.last_us), s.sealed ? "true" : "false"});
  return table.Sql();
}

std::string Quote(std::string_view text, char quote) {
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote) out += quote;
    if (c != '\0') out += c;
  }
  return out + quote;
}

}  // namespace

std::string SqlLiteral(std::string_view text) { return Quote(text, '\''); }
std::string SqlIdentifier(std::string_view name) { return Quote(name, '"'); }

Result<std::optional<std::string>> SystemTableSql(Engine& engine, const std::string& name) {
  std::shared_ptr<const Project> project = engine.project();
  if (name == "_pipelines") return PipelinesSql(engine.TakeStatus());
  if (name == "_filters") return FiltersSql(engine.TakeStatus(), *project);
  if (name == "_segments") return SegmentsSql(engine);
  if (name != "_dead_letters") return std::nullopt;
  ASSIGN_OR_FAIL(std::string sql, DeadLettersSql(engine, *project));
  return sql;
}

}  // namespace millstream
