// The `postgres` sink: rows of a table in PostgreSQL, exactly once.
//
// A delivery is one transaction: it moves the partition's offset in `_millstream_offsets` on from the one
// expected, which takes its lock, and then writes the rows. So whatever happens to a reply, or to a session
// that was given up and lives on in the server, rows and offset agree, and two sessions never write the same
// rows. After a failure that is not the rows' fault the session is dropped; the next delivery reads the
// offsets again on a new one.
#include <atomic>

#include "base/text.h"
#include "base/watchdog.h"
#include "sinks/null_keys.h"
#include "sinks/postgres_target.h"
#include "sinks/sinks.h"
#include "sql/scan.h"
#include "sql/sql_tree.h"
#include "stage/make_kind.h"

namespace millstream {
namespace {

constexpr int64_t kDeleteWhenUs = 30'000'000;  // for the rows of a delivery

struct PostgresOptions {
  std::string table;
  std::string url;
  std::vector<std::string> key;
  SqlText delete_when;
  std::string schema;
  bool create = true;
};

Spec<PostgresOptions> PostgresSpec() {
  Spec<PostgresOptions> spec("postgres", "Writes rows into a table of a PostgreSQL database.");
  spec.Guarantee(
      "exactly once: rows and offset are one transaction; the offsets are in `_millstream_offsets` of the "
      "same "
      "schema.");
  spec.Field("table", &PostgresOptions::table, "The table; made when it is missing.").Required().Main();
  spec.Field(
          "url", &PostgresOptions::url,
          "The database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with libpq's parameters after a `?`.")
      .Required()
      .Secret();
  spec.Field(
      "key", &PostgresOptions::key,
      "Columns that tell rows apart: the row delivered last stays (of events of one partition, the newest). "
      "The "
      "table must have a unique index on them. An event that gives a NULL for one of them is a dead letter. "
      "Without it every row is kept.");
  spec.Field(
      "delete_when", &PostgresOptions::delete_when,
      "A row for which this is true deletes its key; in DuckDB's SQL over the row's columns and _op; by "
      "default _op = 'd'.");
  spec.Field("schema", &PostgresOptions::schema,
             "The schema, which must exist; by default the first of the connection's search_path.");
  spec.Field("create", &PostgresOptions::create, "Makes the table, and adds columns that it lacks.")
      .Default("true");
  spec.Example("postgres: {table: revenue, key: id, url: \"${env:POSTGRES_URL}\"}");
  return spec;
}

class PostgresSinkStage final : public Sink {
 public:
  PostgresSinkStage(PostgresOptions options, const SinkContext& context)
      : url_(std::move(options.url)),
        delete_when_(std::move(options.delete_when.text)),
        target_({options.schema, options.table, options.key, options.create}),
        clock_(*context.clock),
        database_(*context.database),
        data_uuid_(context.data_uuid),
        pipeline_(context.pipeline),
        id_(context.id),
        generation_(context.generation) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    session_.reset();
    delivered_.clear();
    FAIL_IF_ERROR(Reconnect());
    return delivered_;
  }

  std::vector<std::string> WantedColumns() const override {
    if (target_.key().empty()) return {};
    return {"_op"};
  }

  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    RETURN_IF_ERROR(FindKey(columns, visible));
    RETURN_IF_ERROR(PrepareDeletions(columns));
    columns_ = {columns.begin(), columns.begin() + visible};
    if (!session_) return Reconnect();
    return Kept(target_.Adapt(*session_, columns_));
  }

  std::vector<RefusedEvent> Refuse(const RowBatch& rows) const override {
    return RefuseNullKeys(rows, target_.name(), target_.key());
  }

  Status Deliver(const RowBatch& rows) override {
    Status status = Kept(Transact(rows));
    if (status.code() != Code::kInvalid || !session_) return status;
    // No event is at fault where the table was changed and takes no such rows any more.
    Status fits = Fitting(target_.Adapt(*session_, columns_));
    return fits.ok() ? status : Kept(fits);
  }

  bool remote() const override { return true; }
  void Interrupt() override { interrupted_ = true; }
  std::string RefusesOlder() const override {
    return target_.key().empty() ? ""
                                 : "the row of a key that is delivered last stays, so an older event would "
                                   "overwrite a newer row";
  }

  bool wants_deletes() const override { return !target_.key().empty() && delete_when_.empty(); }
  Status Close() override {
    session_.reset();
    return OkStatus();
  }

 private:
  /// After a failure the session is only kept if the server refused rows and has taken back what it was
  /// given.
  Status Kept(Status status) {
    if (status.ok() || !session_) return status;
    if (status.code() != Code::kInvalid || !session_->Run("ROLLBACK")) session_.reset();
    return status;
  }

  /// That rows and table do not fit any more is no fault of an event.
  static Status Fitting(Status status) {
    return status.code() == Code::kInvalid ? Conflict("{}", status.message()) : status;
  }

  Status FindKey(const std::vector<ColumnInfo>& columns, uint32_t visible) const {
    for (const std::string& name : target_.key()) {
      std::vector<std::string> names;
      for (uint32_t i = 0; i < visible; ++i) names.push_back(columns[i].name);
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      std::string nearest = Nearest(name, names);
      return Invalid("table {}: the key names '{}', which the rows do not have{}", target_.name(), name,
                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
    }
    return OkStatus();
  }

  Status PrepareDeletions(const std::vector<ColumnInfo>& columns) {
    if (target_.key().empty()) return OkStatus();
    deletions_.reset();
    scan_.reset();
    ASSIGN_OR_RETURN(connection_, database_.ConnectBounded({delete_when_}));
    ASSIGN_OR_RETURN(scan_, RowScan::Make(database_, columns));
    std::string when = delete_when_.empty() ? "_op = 'd'" : delete_when_;
    if (!delete_when_.empty() && !watchdog_) watchdog_.emplace();
    auto statement = connection_->Prepare(
        fmt::format("SELECT coalesce(CAST(({}) AS BOOLEAN), false) FROM {}", when, scan_->Sql()));
    if (!statement) return Invalid("table {}: delete_when: {}", target_.name(), connection_->fault().message);
    deletions_ = std::move(*statement);
    return OkStatus();
  }

  Status Reconnect() {
    ASSIGN_OR_RETURN(session_, PostgresSession::Connect(url_, clock_, interrupted_));
    RETURN_IF_ERROR(Kept(ReadOffsets()));
    if (columns_.empty()) return OkStatus();
    return Kept(target_.Adapt(*session_, columns_));
  }

  std::string OffsetsOf() const {
    return fmt::format("data = {} AND pipeline = {} AND generation = {} AND sink = {}",
                       session_->Literal(data_uuid_), session_->Literal(pipeline_), generation_,
                       session_->Literal(id_));
  }

  Status ReadOffsets() {
    std::string table = target_.NameOf(kOffsets);
    ASSIGN_OR_RETURN(std::string oid, PostgresTarget::FindTable(*session_, table));
    if (oid.empty()) {
      auto made = session_->Run(
          fmt::format("CREATE TABLE IF NOT EXISTS {} (data uuid, pipeline text, generation bigint, sink "
                      "text, partition integer, "
                      "next bigint NOT NULL, PRIMARY KEY (data, pipeline, generation, sink, partition))",
                      table));
      // Another session may have made it just now.
      if (!made) return Unavailable("{}", made.error().message());
    }
    ASSIGN_OR_RETURN(auto answer, session_->Run(fmt::format("SELECT partition, next FROM {} WHERE {}", table,
                                                            OffsetsOf())));
    std::map<uint32_t, uint64_t> stored;
    for (const auto& row : answer.rows)
      stored[static_cast<uint32_t>(std::stoul(*row[0]))] = std::stoull(*row[1]);
    for (const auto& [partition, next] : delivered_)
      if (auto found = stored.find(partition); found == stored.end() || found->second < next)
        return Corrupt(
            "the database has lost what it had committed: partition {} was delivered up to {} and now stands "
            "at {}; "
            "restart millstream to deliver from there again",
            partition, next, found == stored.end() ? 0 : found->second);
    delivered_ = std::move(stored);
    return OkStatus();
  }

  /// Sets the partition's offset if it is still the expected one; its row stays locked until the transaction
  /// ends.
  std::string MoveOffset(const RowBatch& rows) const {
    std::string table = target_.NameOf(kOffsets);
    auto stored = delivered_.find(rows.partition);
    if (stored == delivered_.end())
      return fmt::format("INSERT INTO {} VALUES ({}, {}, {}, {}, {}, {}) ON CONFLICT DO NOTHING", table,
                         session_->Literal(data_uuid_), session_->Literal(pipeline_), generation_,
                         session_->Literal(id_), rows.partition, rows.next_offset);
    return fmt::format("UPDATE {} SET next = {} WHERE {} AND partition = {} AND next = {}", table,
                       rows.next_offset, OffsetsOf(), rows.partition, stored->second);
  }

  static bool HasMoved(const std::string& tag) { return tag == "UPDATE 1" || tag == "INSERT 0 1"; }

  Result<std::vector<bool>> Deletions(const RowBatch& rows) {
    std::vector<bool> deleted;
    scan_->Set(rows.chunks);
    std::optional<Watchdog::Guard> guard;
    if (watchdog_) guard.emplace(*watchdog_, kDeleteWhenUs, [this] { connection_->Interrupt(); });
    auto result = deletions_->Execute();
    scan_->Set({});
    if (!result) {
      if (guard && guard->fired())
        return Fail(Invalid("delete_when took more than {}", FormatDuration(kDeleteWhenUs)));
      if (deletions_->fault().data_error) return Fail(result.error().Within("delete_when"));
      if (connection_->NeededTooMuch()) return Fail(Invalid("delete_when: {}", result.error().message()));
      return Fail(Unavailable("delete_when: {}", result.error().message()));
    }
    while (true) {
      ASSIGN_OR_FAIL(auto chunk, result->Next());
      if (!chunk) return deleted;
      const auto* values = static_cast<const uint8_t*>(chunk->data(0));
      for (uint32_t row = 0; row < chunk->rows(); ++row) deleted.push_back(values[row] != 0);
    }
  }

  Result<PostgresLines> LinesOf(const RowBatch& rows, uint64_t from_offset) {
    if (target_.key().empty() || rows.rows() == 0) return WritePostgresLines(rows, from_offset, nullptr);
    ASSIGN_OR_FAIL(std::vector<bool> deleted, Deletions(rows));
    return WritePostgresLines(rows, from_offset, &deleted);
  }

  Status Transact(const RowBatch& rows) {
    if (!session_) RETURN_IF_ERROR(Fitting(Reconnect()));
    auto stored = delivered_.find(rows.partition);
    uint64_t from_offset = stored == delivered_.end() ? 0 : stored->second;
    if (stored != delivered_.end() && from_offset >= rows.next_offset) return OkStatus();
    ASSIGN_OR_RETURN(PostgresLines lines, LinesOf(rows, from_offset));
    std::string move = MoveOffset(rows);
    ASSIGN_OR_RETURN(auto moved, session_->Run(lines.rows == 0 ? move : "BEGIN; " + move));
    if (!HasMoved(moved.tags.back()))
      return Unavailable("another session has moved the offset of partition {}", rows.partition);
    if (lines.rows > 0) {
      RETURN_IF_ERROR(target_.Write(*session_, lines));
      ASSIGN_OR_RETURN(auto committed, session_->Run("COMMIT"));
      if (committed.tags.back() != "COMMIT") return Unavailable("the transaction was rolled back");
    }
    delivered_[rows.partition] = rows.next_offset;
    return OkStatus();
  }

  static constexpr const char* kOffsets = "_millstream_offsets";
  const std::string url_, delete_when_;
  PostgresTarget target_;
  Clock& clock_;
  Database& database_;
  const std::string data_uuid_, pipeline_, id_;
  const uint64_t generation_;

  std::atomic<bool> interrupted_{false};
  std::unique_ptr<PostgresSession> session_;  // none after a failure
  std::map<uint32_t, uint64_t> delivered_;    // next offsets, as the database has them
  std::vector<ColumnInfo> columns_;           // visible ones
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<RowScan> scan_;
  std::unique_ptr<Statement> deletions_;  // over scan_: which rows delete their key
  std::optional<Watchdog> watchdog_;      // of a `delete_when`
};

void CheckOptions(const PostgresOptions& options, const Node& node, const ParseContext& context) {
  const Node* url = node.Find("url");
  if (Status status = CheckPostgresUrl(options.url); url != nullptr && !status.ok())
    context.faults->push_back(FaultAt(*url, context.path + ".url", status.message()));
  const Node* when = node.Find("delete_when");
  if (when != nullptr && options.key.empty())
    context.faults->push_back(FaultAtKey(*when, context.path + ".delete_when", "'delete_when' needs 'key'",
                                         "without a key every row is kept"));
}

}  // namespace

SinkKind PostgresSink() {
  return MakeSinkKind(
      PostgresSpec(),
      [](const PostgresOptions& options) {
        return options.schema.empty() ? options.table : options.schema + "." + options.table;
      },
      [](PostgresOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        if (context.database == nullptr) return Fail(Internal("a postgres sink needs the database"));
        return std::make_unique<PostgresSinkStage>(std::move(options), context);
      },
      CheckOptions);
}

}  // namespace millstream
