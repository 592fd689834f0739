#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "base/thread.h"
#include "pipeline/control_log.h"
#include "query/past_tables.h"
#include "query/query.h"
#include "query/resolve.h"
#include "query/tried_queries.h"
#include "sql/filter_chain.h"
#include "sql/query_rewriter.h"
#include "sql/row_buffer.h"

namespace millstream {
namespace {

using SteadyClock = std::chrono::steady_clock;

// An interrupt that comes between two calls into DuckDB hits nothing, so it is repeated.
constexpr auto kInterruptEvery = std::chrono::milliseconds(20);
constexpr int64_t kForeverUs = 3600ll * 1'000'000;
// A burst of short queries waits for its turn; more work than the machine can do is refused soon.
constexpr auto kPlaceWaitMax = std::chrono::seconds(1);
// How often is looked at what queries that work for longer hold, and how much that may be, all together.
constexpr auto kMemoryEvery = std::chrono::milliseconds(50);
constexpr uint64_t kHeldShare = 3;  // of server.memory
// After a writer had no memory: it tries again meanwhile.
constexpr auto kWritersFirst = std::chrono::milliseconds(500);
// Look-ups are done by then; what works for longer stands back behind ingest, pipelines and look-ups.
constexpr auto kQuickFor = std::chrono::milliseconds(20);
constexpr auto kPastKept = std::chrono::seconds(60);  // tables of the past, for the next question
// The share of the server's memory that they may take.
constexpr uint64_t kPastMemoryShare = 4, kPastMemoryMin = 64ull << 20;

/// A query that runs, as the thread that ends it sees it.
struct Watched {
  Connection* connection = nullptr;
  SteadyClock::time_point deadline;
  std::atomic<bool> cancelled{false};
  std::atomic<bool> gives_way{false};     // a writer had no memory beside it
  bool has_place = false;                 // one of `query.concurrent`, ...
  SteadyClock::time_point working_since;  // ... since when
  const pid_t thread = ThreadNumber();    // which works on it from the beginning to the end
  bool is_slowed = false;                 // others go first
  std::stop_source ended;                 // asked to stop when it is cancelled or out of time

  int64_t LeftUs() const {
    auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - SteadyClock::now());
    return std::max<int64_t>(0, left.count());
  }
};

}  // namespace

struct QueryRunner::State : std::enable_shared_from_this<QueryRunner::State> {
  explicit State(Engine& of) : engine(of), watcher([this](std::stop_token stop) { Watch(stop); }) {}

  void Leave(const std::shared_ptr<Watched>& watched, std::unique_ptr<Connection> connection);
  void Watch(std::stop_token stop);
  void LookAtMemory();
  /// A writer has no memory: the query that works for longest ends, and others begin after a while.
  void GiveBackMemory();
  /// Takes a connection, and has deadline and cancellation watched.
  Result<std::unique_ptr<RunningQuery::State>> Begin(int64_t timeout_us, const std::stop_token& stop);
  Status Wait(const QueryRequest& request, const std::vector<std::string>& tables, const Watched& watched,
              QueryFault* fault);
  /// Before DuckDB works: one of the places for queries, perhaps after a short wait.
  Status TakePlace(Watched& watched);
  /// The tables as of a vector, made now or by the question before.
  Result<std::shared_ptr<PastTables>> Past(const PastRequest& request, const Watched& watched);

  Engine& engine;
  TriedQueries tried;
  std::mutex mutex;
  std::condition_variable_any changed;    // for the watcher
  std::condition_variable place_changed;  // for TakePlace
  size_t places_taken = 0;
  SteadyClock::time_point writers_until;          // nothing takes a place before
  SteadyClock::time_point memory_due;             // when the watcher looks at DuckDB's memory next, ...
  std::unique_ptr<Connection> memory_connection;  // ... by this
  std::vector<std::unique_ptr<Connection>> idle;
  std::list<std::shared_ptr<Watched>> running;
  std::shared_ptr<PastTables> last_past;  // of the last question about the past, for the next one
  std::string last_past_key;
  SteadyClock::time_point last_past_until;
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
  for (auto now = SteadyClock::now(); now < until; now = SteadyClock::now()) {
    if (watched.cancelled || (places_taken < most && now >= writers_until)) break;
    place_changed.wait_until(lock, now < writers_until ? std::min(until, writers_until) : until);
  }
  if (watched.cancelled) return Cancelled("the query was cancelled");
  const bool is_late = SteadyClock::now() >= watched.deadline;
  if (places_taken >= most && is_late)
    return Deadline(
        "the query only waited until its deadline: {} others run, and no more may at once "
        "(server.query.concurrent)",
        most);
  if (places_taken >= most) return Exhausted("{} queries run already (server.query.concurrent)", most);
  if (SteadyClock::now() < writers_until && is_late)
    return Deadline(
        "the query only waited until its deadline: tables are written first, for which there was no memory "
        "(server.memory)");
  if (SteadyClock::now() < writers_until)
    return Exhausted("tables are written first, for which there was no memory (server.memory); ask again");
  ++places_taken;
  watched.has_place = true;
  watched.working_since = SteadyClock::now();
  return OkStatus();
}

void QueryRunner::State::Watch(std::stop_token stop) {
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    auto wake = SteadyClock::time_point::max();
    auto now = SteadyClock::now();
    if (last_past && last_past_until <= now) {
      std::shared_ptr<PastTables> dropped = std::move(last_past);
      last_past = nullptr;
      lock.unlock();
      dropped.reset();  // outside of the lock: it may be large
      lock.lock();
      continue;
    }
    if (last_past) wake = last_past_until;
    if (std::any_of(running.begin(), running.end(), [](const auto& query) { return query->is_slowed; })) {
      if (now >= memory_due) {
        memory_due = now + kMemoryEvery;
        lock.unlock();
        LookAtMemory();
        lock.lock();
        continue;
      }
      wake = std::min(wake, memory_due);
    }
    for (const auto& query : running) {
      if (query->cancelled || query->gives_way || query->deadline <= now) {
        if (query->connection != nullptr) query->connection->Interrupt();
        query->ended.request_stop();
        wake = std::min(wake, now + kInterruptEvery);
      } else {
        wake = std::min(wake, query->deadline);
      }
      if (query->is_slowed) continue;
      query->is_slowed = query->has_place && now - query->working_since >= kQuickFor;
      if (query->is_slowed)
        StandBack(query->thread);
      else
        wake = std::min(wake, now + kQuickFor);
    }
    bool is_woken = false;
    auto woken = [&] { return std::exchange(is_woken, true); };  // any notice: look anew
    if (wake == SteadyClock::time_point::max())
      changed.wait(lock, stop, woken);
    else
      changed.wait_until(lock, stop, wake, woken);
  }
}

// DuckDB writes to disk what sorts, joins and groups hold, but not the states of aggregates such as list(). A
// fold or a checkpoint that finds no memory for these may end the process.
void QueryRunner::State::LookAtMemory() {
  if (!memory_connection) {
    auto connected = engine.database().Connect();
    if (!connected) return;
    memory_connection = std::move(*connected);
  }
  auto rows =
      memory_connection->Query("SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'ALLOCATOR'");
  if (!rows) return;
  auto chunk = rows->Next();
  const uint64_t held =
      chunk && *chunk && (*chunk)->rows() > 0 ? static_cast<uint64_t>((*chunk)->Int64(0, 0)) : 0;
  if (held > engine.database().memory_bytes() / kHeldShare) GiveBackMemory();
}

void QueryRunner::State::GiveBackMemory() {
  {
    std::lock_guard lock(mutex);
    writers_until = SteadyClock::now() + kWritersFirst;
    std::shared_ptr<Watched> longest;
    for (const auto& query : running)
      if (query->has_place && !query->gives_way &&
          (!longest || query->working_since < longest->working_since))
        longest = query;
    if (!longest) return;
    longest->gives_way = true;
  }
  changed.notify_all();
}

Result<std::shared_ptr<PastTables>> QueryRunner::State::Past(const PastRequest& request,
                                                             const Watched& watched) {
  // What was applied since may change an answer, as-run too: a version may own events that waited.
  std::string key = fmt::format("{} {} {}", request.as_now, request.as_of.time_us,
                                engine.log().Find(kControlStream)->partition(0).bounds().durable_end);
  std::vector<std::string> streams;
  for (const auto& [name, ends] : request.as_of.streams) streams.push_back(name);
  key += " " + request.as_of.PositionsOf(streams);
  for (const std::string& table : request.tables) key += " " + table;
  std::shared_ptr<PastTables> dropped;  // after the lock
  {
    std::lock_guard lock(mutex);
    if (last_past && last_past_key == key) return last_past;
    dropped = std::move(last_past);
  }
  dropped.reset();  // gives its place back
  uint64_t memory = std::max(kPastMemoryMin, engine.project()->server.memory_bytes / kPastMemoryShare);
  auto built = PastTables::Build(engine, request, memory, watched.ended.get_token());
  if (!built) return built;
  {
    std::lock_guard lock(mutex);
    last_past = *built;
    last_past_key = key;
    last_past_until = SteadyClock::now() + kPastKept;
  }
  changed.notify_all();
  return built;
}

Status QueryRunner::State::Wait(const QueryRequest& request, const std::vector<std::string>& tables,
                                const Watched& watched, QueryFault* fault) {
  if (!request.wait) return OkStatus();
  Status status = engine.Wait(*request.wait, tables, watched.LeftUs(), request.stop);
  if (fault != nullptr) fault->reached = PositionReached(status);
  return status;
}

// ---- RunningQuery

struct RunningQuery::State {
  ~State() {
    on_stop.reset();
    rows.reset();
    statement.reset();
    hold.reset();
    scans.clear();
    if (runner) runner->Leave(watched, std::move(connection));
    past_connection.reset();
  }
  Status Ended(Status status) const {
    if (watched->cancelled) return Cancelled("the query was cancelled");
    if (watched->gives_way)
      return Exhausted(
          "the query was ended: it held memory that tables need; the limit (server.memory) is one for all "
          "queries and tables");
    if (SteadyClock::now() >= watched->deadline) return Deadline("the query took longer than its deadline");
    if (status.code() == Code::kExhausted && has_place())
      return Exhausted("{}; the memory limit (server.memory) is one for all queries and tables",
                       status.message());
    if (status.code() != Code::kCorrupt || past) return status;
    runner->engine.database().NoteDamage(status);
    return Corrupt(
        "the tables' file is damaged ({}). The next start makes the tables anew from the log: restart",
        status.message());
  }

  bool has_place() const { return watched->has_place; }
  /// Makes the tables as of the past, and asks there from now on.
  Status GoBack(const struct Resolved& resolved, bool as_now);

  std::shared_ptr<QueryRunner::State> runner;
  std::shared_ptr<Watched> watched;
  std::unique_ptr<Connection> connection;
  std::shared_ptr<PastTables> past;             // of a question about the past, ...
  std::unique_ptr<Connection> past_connection;  // where it is asked
  std::string ground;
  std::vector<std::unique_ptr<StreamScan>> scans;
  std::optional<ScanHold> hold;  // every reference to a table sees the same rows
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
    ASSIGN_OR_FAIL(begun->connection, engine.database().ConnectBounded());
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
const std::string& RunningQuery::ground() const { return state_->ground; }

Result<std::optional<Chunk>> RunningQuery::Next() {
  if (Status ended = state_->Ended(OkStatus()); !ended.ok()) return Fail(ended);
  auto chunk = state_->rows->Next();
  if (!chunk) return Fail(state_->Ended(chunk.error()));
  return chunk;
}

// ---- QueryRunner

QueryRunner::QueryRunner(Engine& engine) : state_(std::make_shared<State>(engine)) {
  engine.database().OnWant([mine = std::weak_ptr(state_)] {
    if (auto state = mine.lock()) state->GiveBackMemory();
  });
}
QueryRunner::~QueryRunner() = default;

Status RunningQuery::State::GoBack(const Resolved& resolved, bool as_now) {
  PastRequest request{*resolved.as_of, as_now, resolved.tables, ""};
  auto built = runner->Past(request, *watched);
  if (!built) return Ended(built.error());
  past = std::move(*built);
  PastGround shown = past->ground();
  for (const std::string& stream : resolved.streams)
    shown.positions[stream] = resolved.as_of->PositionsOf({stream});
  ground = shown.ToJson();
  ASSIGN_OR_RETURN(past_connection, past->database().ConnectBounded());
  std::lock_guard lock(runner->mutex);
  watched->connection = past_connection.get();
  return OkStatus();
}

namespace {

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
  if (request.as_of.empty() && request.as_now) return Fail(Invalid("as_now needs as_of"));
  if (!request.as_of.empty()) {
    ASSIGN_OR_FAIL(resolved.as_of, ResolveAsOf(engine, request.as_of));
  }
  for (const TableReference& reference : references)
    FAIL_IF_ERROR(Resolve(engine, connection, request, reference, resolved));
  FAIL_IF_ERROR(state_->Wait(request, resolved.tables, *running->watched, fault));
  FAIL_IF_ERROR(state_->TakePlace(*running->watched));
  if (resolved.as_of) FAIL_IF_ERROR(running->GoBack(resolved, request.as_now));
  Connection& asked = running->past ? *running->past_connection : connection;
  Database& asked_database = running->past ? running->past->database() : engine.database();
  for (const auto& [key, make_scan] : resolved.make_scans) {
    ASSIGN_OR_FAIL(auto scan, make_scan(asked_database));
    resolved.replacements[key] = scan->Sql();
    running->scans.push_back(std::move(scan));
  }
  FAIL_IF_ERROR(
      running->Ended(state_->tried.Try(engine, asked, {request.sql, references, resolved.replacements},
                                       running->watched->LeftUs(), request.stop)));
  RewrittenQuery rewritten;
  for (const std::string& table : resolved.tables)
    running->positions[table] =
        running->past ? running->past->PositionsOf(table) : JoinPositions(engine.TablePositions(table));

  auto failed = [&](const Status& status, SqlFault sql_fault) {
    if (sql_fault.position >= 0) sql_fault.position = rewritten.OriginalPosition(sql_fault.position);
    fault->sql = std::move(sql_fault);
    return Fail(running->Ended(status));
  };
  // View and look-up may have been made for a table before a fold.
  constexpr int kTries = 3;
  std::vector<TableStore::KeyRows> lookups;
  auto is_stale = [&](const SqlFault& sql_fault) {
    bool stale = lookups.empty() && sql_fault.kind == "Catalog Error";
    for (size_t i = 0; i < lookups.size(); ++i)
      stale |= engine.tables().IsStale(resolved.rows[i].table, lookups[i].switches, sql_fault);
    return stale;
  };
  for (int tries = 1; !running->rows; ++tries) {
    lookups.clear();
    for (const Resolved::OneRow& row : resolved.rows) {
      ASSIGN_OR_FAIL(TableStore::KeyRows lookup, engine.tables().RowOfKey(row.table, row.key));
      resolved.replacements[row.reference] = "(" + lookup.sql + ")";
      lookups.push_back(std::move(lookup));
    }
    ASSIGN_OR_FAIL(rewritten, RewriteTables(connection, request.sql, resolved.replacements, &fault->sql));
    running->hold.emplace(asked_database, asked);
    auto prepared = asked.Prepare(rewritten.sql);
    if (!prepared && is_stale(asked.fault()) && tries < kTries) continue;
    if (!prepared && !resolved.rows.empty()) {
      // DuckDB names no place beside a subquery: the user's own text shall say where.
      for (const Resolved::OneRow& row : resolved.rows) resolved.replacements.erase(row.reference);
      resolved.rows.clear();
      continue;
    }
    if (!prepared) return failed(prepared.error(), asked.fault());
    running->statement = std::move(*prepared);
    for (const auto& [name, value] : request.parameters)
      if (Status bound = running->statement->Bind(name, value); !bound.ok())
        return Fail(Invalid("parameter ${}: {}", name, bound.message()));
    auto rows = running->statement->Stream();
    if (!rows && !(is_stale(running->statement->fault()) && tries < kTries))
      return failed(rows.error(), running->statement->fault());
    if (rows && !is_stale({})) {
      running->rows.emplace(std::move(*rows));
    } else if (tries >= TableStore::kStaleTries) {
      return Fail(Unavailable("a fold is being stored; ask again"));
    } else {
      std::this_thread::sleep_for(TableStore::kStalePause);
    }
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
  FAIL_IF_ERROR(state_->TakePlace(*running->watched));
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
