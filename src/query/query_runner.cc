#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "query/query.h"
#include "query/stream_feed.h"
#include "query/system_tables.h"
#include "sql/filter_chain.h"
#include "sql/query_rewriter.h"

namespace millstream {
namespace {

using SteadyClock = std::chrono::steady_clock;

// An interrupt that comes between two calls into DuckDB hits nothing, so it is repeated.
constexpr auto kInterruptEvery = std::chrono::milliseconds(20);
constexpr int64_t kForeverUs = 3600ll * 1'000'000;
// A burst of short queries waits for its turn; more work than the machine can do is refused soon.
constexpr auto kPlaceWaitMax = std::chrono::seconds(1);

/// A query that runs, as the thread that ends it sees it.
struct Watched {
  Connection* connection = nullptr;
  SteadyClock::time_point deadline;
  std::atomic<bool> cancelled{false};
  bool has_place = false;  // one of `query.concurrent`
};

}  // namespace

struct QueryRunner::State : std::enable_shared_from_this<QueryRunner::State> {
  explicit State(Engine& of) : engine(of), watcher([this](std::stop_token stop) { Watch(stop); }) {}

  void Leave(const std::shared_ptr<Watched>& watched, std::unique_ptr<Connection> connection);
  void Watch(std::stop_token stop);
  /// Takes a connection, and has deadline and cancellation watched.
  Result<std::unique_ptr<RunningQuery::State>> Begin(int64_t timeout_us, const std::stop_token& stop);
  Status Wait(const QueryRequest& request, const std::vector<std::string>& tables, const Watched& watched,
              QueryFault* fault);
  /// Before DuckDB works: one of the places for queries, perhaps after a short wait.
  Status TakePlace(Watched& watched);

  Engine& engine;
  std::mutex mutex;
  std::condition_variable_any changed;    // for the watcher
  std::condition_variable place_changed;  // for TakePlace
  size_t places_taken = 0;
  std::vector<std::unique_ptr<Connection>> idle;
  std::list<std::shared_ptr<Watched>> running;
  std::jthread watcher;  // last: it uses the others
};

void QueryRunner::State::Leave(const std::shared_ptr<Watched>& watched,
                               std::unique_ptr<Connection> connection) {
  {
    std::lock_guard lock(mutex);
    running.remove(watched);
    if (connection) idle.push_back(std::move(connection));
    if (!watched->has_place) return;
    --places_taken;
  }
  place_changed.notify_one();
}

Status QueryRunner::State::TakePlace(Watched& watched) {
  uint32_t most = std::max(1u, engine.project()->server.query_concurrent);
  auto until = std::min(watched.deadline, SteadyClock::now() + kPlaceWaitMax);
  std::unique_lock lock(mutex);
  place_changed.wait_until(lock, until, [&] { return watched.cancelled || places_taken < most; });
  if (watched.cancelled) return Cancelled("the query was cancelled");
  if (places_taken >= most) return Exhausted("{} queries run already (server.query.concurrent)", most);
  ++places_taken;
  watched.has_place = true;
  return OkStatus();
}

void QueryRunner::State::Watch(std::stop_token stop) {
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    auto wake = SteadyClock::time_point::max();
    auto now = SteadyClock::now();
    for (const auto& query : running) {
      if (query->cancelled || query->deadline <= now) {
        if (query->connection != nullptr) query->connection->Interrupt();
        wake = std::min(wake, now + kInterruptEvery);
      } else {
        wake = std::min(wake, query->deadline);
      }
    }
    bool is_woken = false;
    auto woken = [&] { return std::exchange(is_woken, true); };  // any notice: look anew
    if (wake == SteadyClock::time_point::max())
      changed.wait(lock, stop, woken);
    else
      changed.wait_until(lock, stop, wake, woken);
  }
}

Status QueryRunner::State::Wait(const QueryRequest& request, const std::vector<std::string>& tables,
                                const Watched& watched, QueryFault* fault) {
  if (!request.wait) return OkStatus();
  auto left =
      std::chrono::duration_cast<std::chrono::microseconds>(watched.deadline - SteadyClock::now()).count();
  Status status = engine.Wait(*request.wait, tables, std::max<int64_t>(0, left), request.stop);
  if (fault != nullptr) fault->reached = PositionReached(status);
  return status;
}

std::string PositionReached(const Status& status) {
  constexpr std::string_view kReached = "reached ";
  size_t at = status.code() == Code::kDeadline ? status.message().rfind(kReached) : std::string::npos;
  std::string text = at == std::string::npos ? "" : status.message().substr(at + kReached.size());
  return ParsePosition(text) ? text : "";
}

// ---- RunningQuery

struct RunningQuery::State {
  ~State() {
    on_stop.reset();
    rows.reset();
    statement.reset();
    scans.clear();
    if (runner) runner->Leave(watched, std::move(connection));
  }
  Status Ended(Status status) const {
    if (watched->cancelled) return Cancelled("the query was cancelled");
    if (SteadyClock::now() >= watched->deadline) return Deadline("the query took longer than its deadline");
    if (status.code() == Code::kExhausted && has_place())
      return Exhausted("{}; the memory limit (server.memory) is one for all queries and tables",
                       status.message());
    if (status.code() != Code::kCorrupt) return status;
    runner->engine.database().NoteDamage(status);
    return Corrupt(
        "the tables' file is damaged ({}). The next start makes the tables anew from the log: restart",
        status.message());
  }

  bool has_place() const { return watched->has_place; }

  std::shared_ptr<QueryRunner::State> runner;
  std::shared_ptr<Watched> watched;
  std::unique_ptr<Connection> connection;
  std::vector<std::unique_ptr<StreamScan>> scans;
  std::unique_ptr<Statement> statement;
  std::optional<Rows> rows;
  std::vector<ColumnInfo> columns;
  std::vector<uint32_t> picked;  // of the rows' columns; empty: all
  std::map<std::string, std::string> positions;
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
};

Result<std::unique_ptr<RunningQuery::State>> QueryRunner::State::Begin(int64_t timeout_us,
                                                                       const std::stop_token& stop) {
  if (timeout_us <= 0) timeout_us = engine.project()->server.query_deadline_us;
  auto begun = std::make_unique<RunningQuery::State>();
  begun->watched = std::make_shared<Watched>();
  begun->watched->deadline = SteadyClock::now() + std::chrono::microseconds(std::min(timeout_us, kForeverUs));
  begun->runner = shared_from_this();
  std::unique_lock lock(mutex);
  if (!idle.empty()) {
    begun->connection = std::move(idle.back());
    idle.pop_back();
  }
  lock.unlock();
  if (!begun->connection) {
    ASSIGN_OR_FAIL(begun->connection, engine.database().Connect());
  }
  begun->watched->connection = begun->connection.get();
  lock.lock();
  running.push_back(begun->watched);
  lock.unlock();
  changed.notify_all();
  begun->on_stop.emplace(stop, [state = begun->runner, watched = begun->watched] {
    {
      std::lock_guard cancelling(state->mutex);  // neither waiter is between its look and its wait
      watched->cancelled = true;
    }
    state->changed.notify_all();
    state->place_changed.notify_all();
  });
  return begun;
}

RunningQuery::RunningQuery(std::unique_ptr<State> state) : state_(std::move(state)) {}
RunningQuery::~RunningQuery() = default;
const std::vector<ColumnInfo>& RunningQuery::columns() const { return state_->columns; }
const std::vector<uint32_t>& RunningQuery::picked() const { return state_->picked; }
JsonWriter RunningQuery::MakeJsonWriter() const { return state_->rows->MakeJsonWriter(); }
const std::map<std::string, std::string>& RunningQuery::positions() const { return state_->positions; }

Result<std::optional<Chunk>> RunningQuery::Next() {
  if (Status ended = state_->Ended(OkStatus()); !ended.ok()) return Fail(ended);
  auto chunk = state_->rows->Next();
  if (!chunk) return Fail(state_->Ended(chunk.error()));
  return chunk;
}

// ---- QueryRunner

QueryRunner::QueryRunner(Engine& engine) : state_(std::make_shared<State>(engine)) {}
QueryRunner::~QueryRunner() = default;

namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// "; did you mean 'x'?" or nothing.
std::string Hint(const std::string& name, const std::vector<std::string>& names) {
  std::string nearest = Nearest(name, names);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

/// What a query's tables stand for.
struct Resolved {
  std::map<std::string, std::string> replacements;
  std::vector<std::unique_ptr<StreamScan>> scans;
  std::vector<std::string> tables;
};

Status ResolveStream(Engine& engine, Connection& connection, const QueryRequest& request,
                     const std::string& name, Resolved& resolved) {
  std::shared_ptr<const Project> project = engine.project();
  const StreamConfig* config = project->FindStream(name);
  Stream* stream = engine.log().Find(name);
  if (config == nullptr || stream == nullptr) {
    std::vector<std::string> names;
    for (const auto& [each, unused] : project->streams) names.push_back(each);
    return Invalid("no stream '{}'{}", name, Hint(name, names));
  }
  std::string key = "_streams." + name;
  ASSIGN_OR_RETURN(StreamBounds bounds,
                   FindStreamBounds(connection, request.sql, key, request.parameters, nullptr));
  auto scan = StreamScan::Make(engine.database(), name, config->shape.contract, {"/v1/streams/" + name, name},
                               [stream, bounds] { return MakeStreamFeed(*stream, bounds); });
  if (!scan) return scan.error();
  resolved.replacements[key] = (*scan)->Sql();
  resolved.scans.push_back(std::move(*scan));
  return OkStatus();
}

Status ResolveTable(Engine& engine, const TableReference& reference, Resolved& resolved) {
  std::string name = Lower(reference.name), schema = Lower(reference.schema);
  if (schema.empty()) {
    ASSIGN_OR_RETURN(std::optional<std::string> system, SystemTableSql(engine, name));
    if (system) {
      resolved.replacements[name] = std::move(*system);
      return OkStatus();
    }
  }
  if ((schema.empty() || schema == "main") && engine.tables().Find(name)) {
    resolved.tables.push_back(name);
    return OkStatus();
  }
  std::vector<std::string> names{"_pipelines", "_filters", "_dead_letters", "_segments"};
  for (const TableInfo& table : engine.tables().List()) names.push_back(table.spec.name);
  if (engine.project()->FindStream(name) != nullptr)
    return Invalid("no table '{}'; the events of the stream are '_streams.{}'", name, name);
  return Invalid("no table '{}'{}", schema.empty() ? name : schema + "." + name, Hint(name, names));
}

std::string JoinPositions(const std::vector<Position>& positions) {
  std::string text;
  for (const Position& position : positions) {
    if (position.offsets.empty()) continue;
    text += (text.empty() ? "" : " ") + position.ToString();
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<RunningQuery>> QueryRunner::Start(const QueryRequest& request, QueryFault* fault) {
  QueryFault ignored;
  if (fault == nullptr) fault = &ignored;
  Engine& engine = state_->engine;
  ASSIGN_OR_FAIL(std::unique_ptr<RunningQuery::State> running,
                 state_->Begin(request.timeout_us, request.stop));
  Connection& connection = *running->connection;

  FAIL_IF_ERROR(CheckQuery(connection, request.sql, &fault->sql));
  ASSIGN_OR_FAIL(std::vector<TableReference> references, FindTables(connection, request.sql, &fault->sql));
  Resolved resolved;
  for (const TableReference& reference : references) {
    if (Lower(reference.schema) == "_streams")
      FAIL_IF_ERROR(ResolveStream(engine, connection, request, Lower(reference.name), resolved));
    else
      FAIL_IF_ERROR(ResolveTable(engine, reference, resolved));
  }
  running->scans = std::move(resolved.scans);
  FAIL_IF_ERROR(state_->Wait(request, resolved.tables, *running->watched, fault));
  FAIL_IF_ERROR(running->Ended(state_->TakePlace(*running->watched)));
  ASSIGN_OR_FAIL(RewrittenQuery rewritten,
                 RewriteTables(connection, request.sql, resolved.replacements, &fault->sql));
  for (const std::string& table : resolved.tables)
    running->positions[table] = JoinPositions(engine.TablePositions(table));

  auto failed = [&](const Status& status, SqlFault sql_fault) {
    if (sql_fault.position >= 0) sql_fault.position = rewritten.OriginalPosition(sql_fault.position);
    fault->sql = std::move(sql_fault);
    return Fail(running->Ended(status));
  };
  // The view may name a delta that a fold has just taken away: then it names another now.
  constexpr int kTries = 3;
  for (int tries = 1; !running->rows; ++tries) {
    auto prepared = connection.Prepare(rewritten.sql);
    if (!prepared) {
      if (connection.fault().kind == "Catalog Error" && tries < kTries) continue;
      return failed(prepared.error(), connection.fault());
    }
    running->statement = std::move(*prepared);
    for (const auto& [name, value] : request.parameters)
      if (Status bound = running->statement->Bind(name, value); !bound.ok())
        return Fail(Invalid("parameter ${}: {}", name, bound.message()));
    auto rows = running->statement->Stream();
    if (rows)
      running->rows.emplace(std::move(*rows));
    else if (running->statement->fault().kind != "Catalog Error" || tries >= kTries)
      return failed(rows.error(), running->statement->fault());
  }
  running->columns = running->rows->columns();
  return std::unique_ptr<RunningQuery>(new RunningQuery(std::move(running)));
}

Result<std::unique_ptr<RunningQuery>> QueryRunner::StartTable(const TableRequest& request,
                                                              const TableQuery& query, QueryFault* fault) {
  if (query.key.empty()) return Start(query.rows, fault);
  Engine& engine = state_->engine;
  ASSIGN_OR_FAIL(std::unique_ptr<RunningQuery::State> running,
                 state_->Begin(query.rows.timeout_us, query.rows.stop));
  FAIL_IF_ERROR(state_->Wait(query.rows, {request.table}, *running->watched, fault));
  FAIL_IF_ERROR(running->Ended(state_->TakePlace(*running->watched)));
  running->positions[request.table] = JoinPositions(engine.TablePositions(request.table));
  ASSIGN_OR_FAIL(Rows rows, engine.tables().Lookup(*running->connection, request.table, query.key));
  running->columns = rows.columns();
  for (const auto& [name, shown] : query.key_select) {
    uint32_t column = 0;
    while (rows.columns()[column].name != name) ++column;  // names were checked against the table
    if (running->picked.empty()) running->columns.clear();
    running->picked.push_back(column);
    running->columns.push_back({shown, rows.columns()[column].type});
  }
  running->rows.emplace(std::move(rows));
  return std::unique_ptr<RunningQuery>(new RunningQuery(std::move(running)));
}

std::optional<TableInfo> QueryRunner::FindTable(const std::string& name) const {
  return state_->engine.tables().Find(name);
}

Status QueryRunner::NoTable(const std::string& name) const {
  std::vector<std::string> names;
  for (const TableInfo& table : state_->engine.tables().List()) names.push_back(table.spec.name);
  return NotFound("no table '{}'{}", name, Hint(name, names));
}

}  // namespace millstream
