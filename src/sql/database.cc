#include "sql/database.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include "sql/checkpoint_guard.h"
#include "sql/duckdb_face.h"
#include "sql/executions.h"
#include "sql/function_bounds.h"
#include "sql/row_buffer.h"
#include "sql/writer_reserve.h"

namespace millstream {
namespace {

constexpr const char* kOpeningMark = ".opening";
constexpr const char* kDamagedMark = ".damaged";
// A file is attached, for only so can its row groups have another size than DuckDB's 122,880 rows: a look-up
// reads a whole one of each sorted run (docs/decisions/0004-duckdb.md).
constexpr const char* kAttached = "tables";
constexpr uint64_t kRowGroupRows = 24'576;                   // a multiple of a vector's 2,048
constexpr const char* kOutOfMemory = "Out of Memory Error";  // as StatusOf begins its message

// Settings before the configuration is locked, in this order: external access goes off last but one.
std::vector<std::string> OpeningSettings(const DatabaseOptions& options) {
  std::vector<std::string> settings = {
      "SET errors_as_json=true",
      "SET GLOBAL TimeZone='UTC'",  // or casts of timestamps would depend on the machine
      // Checkpoints are Database::Checkpoint only.
      "SET wal_autocheckpoint='1000TB'",
      "PRAGMA disable_checkpoint_on_shutdown",
      "SET preserve_insertion_order=true",
      // A statement that is made once would keep what the tables' statistics said then: one made over an
      // empty table, or over other values, finds nothing for ever (docs/decisions/0004-duckdb.md).
      "SET disabled_optimizers='statistics_propagation'",
      "SET autoinstall_known_extensions=false",
      "SET autoload_known_extensions=false",
      "SET allow_community_extensions=false",
  };
  settings.push_back("SET temp_directory=" + QuoteLiteral(options.temp_directory));
  if (options.temp_bytes > 0)
    settings.push_back(fmt::format("SET max_temp_directory_size='{}B'", options.temp_bytes));
  settings.push_back("SET enable_external_access=false");
  settings.push_back(fmt::format("SET allowed_configs=['{}']", WriterReserve::kSetting));
  settings.push_back("SET lock_configuration=true");
  return settings;
}

// A new file gets its name only once it is whole: DuckDB does not open one whose making was cut short.
Status MakeFile(const std::string& path) {
  PosixFileSystem fs;
  if (fs.Exists(path)) return OkStatus();
  std::string fresh = path + ".new";
  for (const std::string& left :
       {fresh, fresh + ".wal", path + ".wal", path + ".guard", path + kOpeningMark, path + kDamagedMark})
    if (fs.Exists(left)) RETURN_IF_ERROR(fs.Remove(left));
  duckdb_database made = nullptr;
  if (duckdb_open(fresh.c_str(), &made) != DuckDBSuccess) return IoError("cannot make {}", path);
  duckdb_close(&made);
  RETURN_IF_ERROR(fs.Rename(fresh, path));
  return fs.SyncDirectory(DirectoryOf(path));
}

/// What everything but RowBuffers and writers' reserve may have of DuckDB's memory.
uint64_t LimitBytes(const DatabaseOptions& options) {
  return options.memory_bytes - options.memory_bytes / RowBuffer::kMemoryFraction -
         WriterReserve::BytesOf(options.memory_bytes);
}

Status CannotOpen(const std::string& path, const SqlFault& fault) {
  Code code = StatusOf(fault).code() == Code::kCorrupt ? Code::kCorrupt : Code::kIo;
  return Status(code, fmt::format("cannot open {}: {}", path, fault.message));
}

Status Attach(duckdb_database database, const std::string& path, bool read_only) {
  const std::string sql = fmt::format("ATTACH {} AS {} (ROW_GROUP_SIZE {}{})", QuoteLiteral(path), kAttached,
                                      kRowGroupRows, read_only ? ", READ_ONLY" : "");
  duckdb_connection connection = nullptr;
  if (duckdb_connect(database, &connection) != DuckDBSuccess) return Internal("DuckDB gives no connection");
  duckdb_result result;
  duckdb_state attached = duckdb_query(connection, sql.c_str(), &result);
  Status status;
  if (attached != DuckDBSuccess)
    status =
        CannotOpen(path, ReadSqlFault(duckdb_result_error_type(&result), duckdb_result_error(&result), sql));
  duckdb_destroy_result(&result);
  duckdb_disconnect(&connection);
  return status;
}

/// A DuckDB over `path` ("" = in memory), as `options` have it. kCorrupt: DuckDB says that the file or its
/// write-ahead log is damaged.
Result<duckdb_database> OpenFile(const std::string& path, const DatabaseOptions& options) {
  duckdb_config config = nullptr;
  duckdb_create_config(&config);
  duckdb_set_config(config, "threads", "1");
  duckdb_set_config(config, WriterReserve::kSetting, fmt::format("{}B", LimitBytes(options)).c_str());
  char* error = nullptr;
  duckdb_database database = nullptr;
  duckdb_state opened = duckdb_open_ext(nullptr, &database, config, &error);
  duckdb_destroy_config(&config);
  if (opened != DuckDBSuccess) {
    Status status = CannotOpen("an in-memory database", ReadSqlFault(DUCKDB_ERROR_IO, error, ""));
    duckdb_free(error);
    return Fail(std::move(status));
  }
  if (path.empty()) return database;
  Status attached = Attach(database, path, options.read_only);
  if (attached.ok()) return database;
  duckdb_close(&database);
  return Fail(std::move(attached));
}

/// Opens the file in a process of its own, for a damaged one may crash DuckDB. kCorrupt if it does.
Status TryInChild(const std::string& path, const DatabaseOptions& options) {
  pid_t child = fork();
  if (child < 0) return IoError("cannot fork: {}", std::strerror(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // it has the lock of the data folder too
    DatabaseOptions reading = options;
    reading.read_only = true;
    _exit(OpenFile(path, reading) ? 0 : 1);
  }
  int how = 0;
  while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  // An error is told again, in words, by the process itself.
  if (WIFSIGNALED(how)) return Corrupt("cannot open {}: DuckDB crashes (signal {})", path, WTERMSIG(how));
  return OkStatus();
}

}  // namespace

Database::Database() : state_(std::make_unique<State>()) {}
Database::~Database() = default;

std::string Database::LibraryVersion() { return duckdb_library_version(); }

Result<std::unique_ptr<Database>> Database::Open(const std::string& path, DatabaseOptions options) {
  std::unique_ptr<Database> database(new Database());
  database->path_ = path;
  database->memory_bytes_ = options.memory_bytes;
  if (!path.empty() && !options.read_only) {
    FAIL_IF_ERROR(MakeFile(path));
    ASSIGN_OR_FAIL(database->guard_, CheckpointGuard::Open(path));
    ASSIGN_OR_FAIL(database->restored_, database->guard_->Restore());
  }
  // A mark from before the opening until after it: where one is found, the last opening did not end.
  PosixFileSystem fs;
  std::string mark = path + kOpeningMark;
  if (database->guard_) {
    if (fs.Exists(path + kDamagedMark))
      return Fail(Corrupt("cannot open {}: damage was found in it when it was last open", path));
    if (fs.Exists(mark)) FAIL_IF_ERROR(TryInChild(path, options));
    ASSIGN_OR_FAIL(std::unique_ptr<File> made, fs.Open(mark, OpenMode::kCreate));
  }
  ASSIGN_OR_FAIL(database->state_->database, OpenFile(path, options));
  if (database->guard_) FAIL_IF_ERROR(fs.Remove(mark));
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> opening, database->Connect());
  FAIL_IF_ERROR(RegisterFunctions(opening->connection_, *database->state_));
  FAIL_IF_ERROR(RegisterBounds(opening->connection_));
  for (const std::string& setting : OpeningSettings(options))
    FAIL_IF_ERROR(opening->Run(setting).Within(setting));
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> limits, database->Connect());
  database->reserve_ = std::make_shared<WriterReserve>(std::move(limits), LimitBytes(options),
                                                       WriterReserve::BytesOf(options.memory_bytes));
  return database;
}

void Database::NoteDamage(const Status& status) const {
  if (status.code() != Code::kCorrupt || path_.empty()) return;
  PosixFileSystem fs;
  (void)fs.Open(path_ + kDamagedMark, OpenMode::kCreate);  // without it the damage is found again
}

void Database::NoteWant(const Status& status) {
  // A disk that is full is kExhausted too.
  if (status.code() != Code::kExhausted || status.message().find(kOutOfMemory) == std::string::npos) return;
  std::lock_guard lock(want_mutex_);
  if (give_back_) give_back_();
}

void Database::OnWant(std::function<void()> give_back) {
  std::lock_guard lock(want_mutex_);
  give_back_ = std::move(give_back);
}

Status Database::Checkpoint(Connection& connection) {
  if (guard_) RETURN_IF_ERROR(guard_->Save(connection));
  // A transaction that has just ended, or a reader, may hold DuckDB's lock for a moment.
  constexpr int kMaxTries = 200;
  for (int i = 0;; ++i) {
    Status status = reserve_->Write([&] { return connection.Run("CHECKPOINT"); });
    bool is_busy = status.message().find("Cannot CHECKPOINT") != std::string::npos;
    if (status.ok() || !is_busy || i >= kMaxTries) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

Result<std::unique_ptr<Connection>> Database::Connect() {
  duckdb_connection connection = nullptr;
  if (duckdb_connect(state_->database, &connection) != DuckDBSuccess)
    return Fail(Internal("DuckDB gives no connection"));
  std::unique_ptr<Connection> made(new Connection(connection));
  if (!path_.empty()) FAIL_IF_ERROR(made->Run(fmt::format("USE {}", kAttached)));
  made->reserve_ = reserve_;
  return made;
}

Result<std::unique_ptr<Connection>> Database::ConnectBounded() {
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, ConnectBounded({}));
  if (Allowance* allowance = connection->executions().allowance()) allowance->GiveWayToWriters();
  FAIL_IF_ERROR(BoundFunctions(connection->connection_));
  return connection;
}

Result<std::unique_ptr<Connection>> Database::ConnectBounded(const std::vector<std::string_view>& texts) {
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, Connect());
  if (!BoundsAreLifted()) connection->executions().Bound(memory_bytes_);
  if (std::any_of(texts.begin(), texts.end(), MayBeBounded))
    FAIL_IF_ERROR(BoundFunctions(connection->connection_));
  return connection;
}

Connection::Connection(duckdb_connection connection)
    : connection_(connection), executions_(std::make_shared<Executions>(connection)) {}
Connection::~Connection() { duckdb_disconnect(&connection_); }

Status Connection::Run(const std::string& sql) {
  fault_ = {};
  duckdb_result result = {};
  executions_->Begin();
  duckdb_state state = executions_->Call([&] { return duckdb_query(connection_, sql.c_str(), &result); });
  Status status;
  if (state != DuckDBSuccess || executions_->WasCut()) {
    fault_ = executions_->FaultOf(duckdb_result_error_type(&result), duckdb_result_error(&result), sql);
    status = StatusOf(fault_);
  }
  duckdb_destroy_result(&result);
  return status;
}

bool Connection::NeededTooMuch() const {
  const Allowance* allowance = executions_->allowance();
  if (allowance == nullptr) return false;
  return allowance->refusal() == Allowance::Refusal::kTooMuch ||
         allowance->refusal() == Allowance::Refusal::kFull;
}

Status Connection::Commit() {
  return reserve_->Write([&] { return Run("COMMIT"); });
}

void Connection::Rollback() {
  (void)reserve_->Undo([&] { return Run("ROLLBACK"); });
}

Result<Rows> Connection::Query(const std::string& sql, const std::vector<SqlValue>& parameters) {
  ASSIGN_OR_FAIL(std::unique_ptr<Statement> statement, Prepare(sql));
  for (uint32_t i = 0; i < parameters.size(); ++i) {
    Status bound = statement->Bind(i + 1, parameters[i]);
    if (!bound.ok()) return fault_ = statement->fault(), Fail(bound);
  }
  Result<Rows> rows = statement->Execute();
  if (!rows) fault_ = statement->fault();
  return rows;
}

void Connection::Interrupt() { executions_->Interrupt(); }

}  // namespace millstream
