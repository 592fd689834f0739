#include "sql/filter_chain.h"

#include "sql/chain_plan.h"
#include "sql/duckdb_face.h"
#include "sql/executions.h"
#include "sql/row_buffer.h"
#include "sql/sql_checker.h"
#include "sql/sql_tree.h"

namespace millstream {

ChainDescription DescribeChain(Database& database, const ChainInput& input,
                               const std::vector<SqlFilter>& filters,
                               const std::function<void(size_t)>& step) {
  Result<ChainPlan> plan = MakeChainPlan(database, input, filters, false, step);
  if (plan) return std::move(plan->description);
  ChainDescription description;
  description.faults.push_back({-1, {"Error", plan.error().message(), -1, "", false}, ""});
  return description;
}

struct FilterChain::State {
  Database* database = nullptr;
  ChainInput input;
  std::vector<SqlFilter> filters;
  ChainOptions options;

  ChainPlan plan;
  std::shared_ptr<TallyRegistry> tallies;
  std::vector<uint64_t> tally_ids;
  std::vector<std::shared_ptr<std::atomic<uint64_t>>> counters;  // after each filter but the last

  std::unique_ptr<Connection> connection;
  duckdb_prepared_statement statement = nullptr;
  std::string sql;
  std::vector<ColumnInfo> columns;
  std::vector<duckdb_type> types;
  uint32_t visible = 0;
  bool lookup = false;
  bool several_rows = false;  // one event may give several rows
  SqlFault fault;

  // Rows that a join left out of order are sorted by these.
  std::unique_ptr<RowScan> unordered;
  std::unique_ptr<Statement> sort;
  // For FilterAtFault: chain i runs filters 0 to i.
  std::vector<std::unique_ptr<FilterChain>> prefixes;

  ~State() {
    if (statement != nullptr) duckdb_destroy_prepare(&statement);
    for (uint64_t id : tally_ids) tallies->Remove(id);
  }

  Status Prepare();
  Status Execute(std::vector<Chunk>* chunks);
  Status CheckTypes(duckdb_result* result);
  Result<RowBatch> Finish(Status executed, std::vector<Chunk> chunks, std::vector<uint64_t>& counts);
  Status NumberRows(std::vector<Chunk>& chunks);
  Status Sort(std::vector<Chunk>& chunks);
};

FilterChain::FilterChain(std::unique_ptr<State> state) : state_(std::move(state)) {}
FilterChain::~FilterChain() = default;

Result<std::unique_ptr<FilterChain>> FilterChain::Make(Database& database, const ChainInput& input,
                                                       const std::vector<SqlFilter>& filters,
                                                       const ChainOptions& options) {
  auto state = std::make_unique<State>();
  state->database = &database;
  state->input = input;
  state->filters = filters;
  state->options = options;
  ASSIGN_OR_FAIL(state->plan, MakeChainPlan(database, input, filters, options.keep_deletes));
  if (const auto& faults = state->plan.description.faults; !faults.empty()) {
    const SqlFilterFault& first = faults.front();
    std::string where = first.filter < 0 ? "" : filters[first.filter].name + ": ";
    return Fail(Invalid("{}{}{}{}", where, first.fault.message, first.expected.empty() ? "" : "; use ",
                        first.expected));
  }
  state->tallies = database.state_->tallies;
  for (size_t i = 0; i + 1 < filters.size(); ++i) {
    state->counters.push_back(std::make_shared<std::atomic<uint64_t>>(0));
    state->tally_ids.push_back(state->tallies->Add(state->counters.back()));
  }
  state->several_rows = !input.rows.empty();
  for (const FilterFlags& flags : state->plan.description.flags) {
    state->lookup |= flags.lookup;
    state->several_rows |= flags.fans_out;
  }
  ASSIGN_OR_FAIL(state->connection, database.ConnectBounded(TextsOf(filters)));
  FAIL_IF_ERROR(state->Prepare());
  return std::unique_ptr<FilterChain>(new FilterChain(std::move(state)));
}

Status FilterChain::State::Prepare() {
  sql = plan.Fused(tally_ids, options.reserved);
  Executions& executions = connection->executions();
  executions.Begin();
  if (executions.Call([&] { return duckdb_prepare(connection->get(), sql.c_str(), &statement); }) !=
      DuckDBSuccess) {
    fault = executions.FaultOf(DUCKDB_ERROR_INVALID, duckdb_prepare_error(statement), sql);
    fault.position = -1;  // in a text that no user wrote
    return StatusOf(fault).Within("fused filters");
  }
  for (idx_t i = 0; i < duckdb_prepared_statement_column_count(statement); ++i) {
    const char* name = duckdb_prepared_statement_column_name(statement, i);
    LogicalType type(duckdb_prepared_statement_column_logical_type(statement, i));
    columns.push_back({name, TypeName(type.get())});
    types.push_back(duckdb_get_type_id(type.get()));
    duckdb_free(const_cast<char*>(name));
  }
  visible = static_cast<uint32_t>(plan.description.columns.size());
  for (size_t i = visible; i < columns.size(); ++i)
    columns[i].selected = plan.selected.contains(columns[i].name);
  return OkStatus();
}

const std::vector<ColumnInfo>& FilterChain::columns() const { return state_->columns; }
uint32_t FilterChain::visible() const { return state_->visible; }
const SqlFault& FilterChain::fault() const { return state_->fault; }
void FilterChain::Interrupt() { state_->connection->Interrupt(); }

// DuckDB binds a statement anew, silently and with other types, when a joined table was altered.
Status FilterChain::State::CheckTypes(duckdb_result* result) {
  bool same = duckdb_column_count(result) == columns.size();
  for (idx_t i = 0; same && i < columns.size(); ++i) {
    same = duckdb_column_type(result, i) == types[i];
    if (same && lookup)
      same = TypeName(LogicalType(duckdb_column_logical_type(result, i)).get()) == columns[i].type;
  }
  if (same) return OkStatus();
  fault = {"Conflict", "a table that the filters join has changed its columns", -1, "", false};
  return Conflict("{}; the chain has to be made anew", fault.message);
}

Status FilterChain::State::Execute(std::vector<Chunk>* chunks) {
  fault = {};
  for (auto& counter : counters) counter->store(0, std::memory_order_relaxed);
  std::optional<ScanHold> hold;  // tables that are looked up stand still meanwhile
  if (lookup) hold.emplace(*database, *connection);
  Executions& executions = connection->executions();
  executions.Begin();
  duckdb_result result = {};
  Status status;
  const bool is_done =
      executions.Call([&] { return duckdb_execute_prepared(statement, &result); }) == DuckDBSuccess;
  if (is_done) status = CheckTypes(&result);
  while (is_done && status.ok()) {
    duckdb_data_chunk fetched = nullptr;
    executions.Call([&] { return fetched = duckdb_fetch_chunk(result), DuckDBSuccess; });
    Chunk chunk(fetched);
    if (chunk.get() == nullptr || chunk.rows() == 0) break;
    chunks->push_back(std::move(chunk));
  }
  if (!is_done || executions.WasCut()) {
    fault = executions.FaultOf(duckdb_result_error_type(&result), duckdb_result_error(&result), sql);
    // An event that needs so much is at fault by itself; rows of a table that is looked up need much too.
    const Allowance* allowance = executions.allowance();
    auto refusal = allowance == nullptr ? Allowance::Refusal::kNone : allowance->refusal();
    fault.data_error |=
        refusal == Allowance::Refusal::kTooMuch || (refusal == Allowance::Refusal::kFull && !lookup);
    fault.position = -1;
    status = fault.data_error ? Invalid("{}: {}", fault.kind, fault.message) : StatusOf(fault);
    // Nothing but an event's data is bound late: what a filter's text could get wrong was told by Make.
    if (status.code() == Code::kInvalid && !fault.data_error && lookup)
      status = Conflict("{}", status.message());
  }
  duckdb_destroy_result(&result);
  return status;
}

Result<RowBatch> FilterChain::State::Finish(Status executed, std::vector<Chunk> chunks,
                                            std::vector<uint64_t>& counts) {
  if (executed.ok() && several_rows) executed = NumberRows(chunks);
  if (!executed.ok()) return Fail(executed);
  RowBatch rows;
  rows.columns = columns;
  rows.visible = visible;
  rows.chunks = std::move(chunks);
  counts.resize(std::max(counts.size(), filters.size()));
  for (size_t i = 0; i < counters.size(); ++i) counts[i] += counters[i]->load(std::memory_order_relaxed);
  if (!filters.empty()) counts[filters.size() - 1] += rows.rows();
  return rows;
}

// Rows of one event are numbered as they come; a lookup join may bring events out of order.
Status FilterChain::State::NumberRows(std::vector<Chunk>& chunks) {
  uint32_t offset_column = static_cast<uint32_t>(columns.size()) - 2, ordinal_column = offset_column + 1;
  int64_t first = INT64_MAX, last = INT64_MIN, before = INT64_MIN;
  bool ordered = true;
  for (const Chunk& chunk : chunks) {
    auto* offsets = static_cast<const int64_t*>(chunk.data(offset_column));
    for (uint32_t row = 0, count = chunk.rows(); row < count; ++row) {
      ordered &= offsets[row] >= before;
      before = offsets[row];
      first = std::min(first, before);
      last = std::max(last, before);
    }
  }
  if (chunks.empty()) return OkStatus();
  std::vector<int32_t> seen(static_cast<size_t>(last - first) + 1);  // a batch's range: some thousands
  for (Chunk& chunk : chunks) {
    auto* offsets = static_cast<const int64_t*>(chunk.data(offset_column));
    auto* ordinals = static_cast<int32_t*>(chunk.data(ordinal_column));
    for (uint32_t row = 0, count = chunk.rows(); row < count; ++row)
      ordinals[row] = seen[offsets[row] - first]++;
  }
  return ordered ? OkStatus() : Sort(chunks);
}

Status FilterChain::State::Sort(std::vector<Chunk>& chunks) {
  if (sort == nullptr) {
    std::vector<ColumnInfo> named = columns;  // `data` may stand twice
    for (size_t i = 0; i < named.size(); ++i) named[i].name = fmt::format("c{}", i);
    ASSIGN_OR_RETURN(unordered, RowScan::Make(*database, named));
    ASSIGN_OR_RETURN(sort,
                     connection->Prepare(fmt::format("SELECT * FROM {} ORDER BY c{}, c{}", unordered->Sql(),
                                                     named.size() - 2, named.size() - 1)));
  }
  unordered->Set(chunks);
  ASSIGN_OR_RETURN(Rows rows, sort->Execute());
  std::vector<Chunk> sorted;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
    if (!chunk) break;
    sorted.push_back(std::move(*chunk));
  }
  unordered->Set({});
  chunks = std::move(sorted);
  return OkStatus();
}

Result<RowBatch> FilterChain::Run(std::span<const BatchRange> ranges, std::vector<uint64_t>& counts) {
  CHECK(state_->plan.batches != nullptr);
  BatchScan& scan = *state_->plan.batches;
  scan.Set(ranges);
  std::vector<Chunk> chunks;
  Status status = state_->Execute(&chunks);
  scan.Set({});
  if (Status read = scan.read_status(); !status.ok() && !read.ok()) {
    state_->fault = {"Contract Error", read.message(), -1, "", read.code() == Code::kInvalid};
    status = read;
  }
  auto partition_column = static_cast<uint32_t>(state_->columns.size()) - 3;
  for (Chunk& chunk : chunks)
    std::fill_n(static_cast<int32_t*>(chunk.data(partition_column)), chunk.rows(),
                static_cast<int32_t>(ranges[0].batch->place().partition));
  return state_->Finish(status, std::move(chunks), counts);
}

Result<RowBatch> FilterChain::Run(const RowBatch& rows, std::vector<uint64_t>& counts) {
  CHECK(state_->plan.rows != nullptr);
  state_->plan.rows->Set(rows.chunks);
  std::vector<Chunk> chunks;
  Status status = state_->Execute(&chunks);
  state_->plan.rows->Set({});
  return state_->Finish(status, std::move(chunks), counts);
}

int FilterChain::FilterAtFault(const BatchRange& event) {
  CHECK(state_->plan.batches != nullptr);
  for (size_t i = 0; i < state_->filters.size(); ++i) {
    if (state_->prefixes.size() <= i) {
      std::vector<SqlFilter> filters(state_->filters.begin(),
                                     state_->filters.begin() + static_cast<long>(i) + 1);
      Result<std::unique_ptr<FilterChain>> prefix =
          Make(*state_->database, state_->input, filters, state_->options);
      if (!prefix) return -1;
      state_->prefixes.push_back(std::move(*prefix));
    }
    FilterChain& prefix = *state_->prefixes[i];
    std::vector<uint64_t> counts;
    if (prefix.Run(std::span(&event, 1), counts)) continue;
    return prefix.state_->plan.batches->read_status().ok() ? static_cast<int>(i) : -1;
  }
  return -1;
}

Status CheckQuery(Connection& connection, const std::string& sql, SqlFault* fault) {
  SqlFault own;
  SqlFault& out = fault == nullptr ? own : *fault;
  ASSIGN_OR_RETURN(JsonNode tree, ParseSelect(connection, sql, &out));
  CheckedSql checked = CheckQueryTree(tree, sql);
  if (checked.faults.empty()) return OkStatus();
  out = checked.faults[0].fault;
  const std::string& expected = checked.faults[0].expected;
  if (!expected.empty()) out.message += fmt::format(" ({})", expected);
  return Invalid("{}", out.message);
}

std::vector<SqlFilterFault> CheckFilter(Connection& connection, const std::string& sql) {
  SqlFault unread;
  Result<JsonNode> tree = ParseSelect(connection, sql, &unread);
  if (tree) return CheckFilterTree(*tree, sql).faults;
  return {{-1, unread, unread.kind == kNotAllowed ? "one SELECT … FROM input …" : ""}};
}

std::vector<SqlFilterFault> CheckCondition(Connection& connection, const std::string& condition) {
  constexpr std::string_view kBefore = "SELECT (";
  std::string sql = fmt::format("{}{})", kBefore, condition);
  SqlFault unread;
  Result<JsonNode> tree = ParseSelect(connection, sql, &unread);
  std::vector<SqlFilterFault> faults;
  if (tree) {
    faults = CheckConditionTree(*tree, sql).faults;
  } else {
    faults.push_back({-1, unread, ""});
  }
  for (SqlFilterFault& found : faults)
    if (found.fault.position >= 0) found.fault.position -= static_cast<int>(kBefore.size());
  return faults;
}

}  // namespace millstream
