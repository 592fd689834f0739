#include "sinks/postgres_session.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>

#include "base/text.h"

namespace millstream {
namespace {

constexpr int kPollMs = 100;                  // how soon an interrupt is seen
constexpr size_t kCopyPieceBytes = 64 << 10;  // what is handed to libpq at a time
constexpr size_t kDetailBytesMax = 500;       // of the server's words on a row

using ResultPtr = std::unique_ptr<PGresult, decltype(&PQclear)>;

std::string ErrorField(const PGresult* result, int code) {
  const char* text = PQresultErrorField(result, code);
  return text == nullptr ? "" : text;
}

struct Url {
  std::string host, port, password;
};

/// Nothing if libpq does not understand it; its own message would tell parts of it.
std::optional<Url> ParseUrl(const std::string& url) {
  char* message = nullptr;
  PQconninfoOption* options = PQconninfoParse(url.c_str(), &message);
  PQfreemem(message);
  if (options == nullptr) return std::nullopt;
  Url parsed;
  for (const PQconninfoOption* each = options; each->keyword != nullptr; ++each) {
    std::string_view keyword = each->keyword;
    std::string value = each->val == nullptr ? "" : each->val;
    if (keyword == "host") parsed.host = value;
    if (keyword == "port") parsed.port = value;
    if (keyword == "password") parsed.password = value;
  }
  PQconninfoFree(options);
  return parsed;
}

bool IsDataFault(std::string_view state) {
  std::string_view of = state.substr(0, 2);
  return of == "22" || of == "23" || of == "44" || of == "54" || state == "P0001";
}

}  // namespace

Status CheckPostgresUrl(const std::string& url) {
  constexpr const char* kForm = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE";
  std::optional<Url> parsed = ParseUrl(url);
  if (url.empty() || !parsed) return Invalid("is no address of a PostgreSQL database; {}", kForm);
  // A password with such a character becomes part of the host or the port, and these are shown.
  bool bad_port = parsed->port.find_first_not_of("0123456789,") != std::string::npos;
  if (bad_port || parsed->host.find('@') != std::string::npos)
    return Invalid(
        "has no good host or port; {}, with / : @ # ? % in the password as %2F %3A %40 %23 %3F %25", kForm);
  return OkStatus();
}

std::string PostgresName(std::string_view name) {
  std::string quoted = "\"";
  for (char c : name) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + '"';
}

PostgresSession::PostgresSession(PGconn* connection, Clock& clock, const std::atomic<bool>& interrupted,
                                 std::string password)
    : connection_(connection),
      clock_(clock),
      interrupted_(interrupted),
      password_(std::move(password)),
      deadline_ns_(clock.MonotonicNs() + kConnectUs * 1000) {}

PostgresSession::~PostgresSession() { PQfinish(connection_); }

Result<std::unique_ptr<PostgresSession>> PostgresSession::Connect(const std::string& url, Clock& clock,
                                                                  const std::atomic<bool>& interrupted) {
  FAIL_IF_ERROR(CheckPostgresUrl(url).Within("url"));
  // What stands after "dbname" wins over the URL, what stands before it is a default.
  const char* names[] = {"tcp_user_timeout", "fallback_application_name", "dbname", "client_encoding",
                         nullptr};
  const char* values[] = {"60000", "millstream", url.c_str(), "UTF8", nullptr};
  PGconn* connection = PQconnectStartParams(names, values, 1);
  if (connection == nullptr) return Fail(Exhausted("no memory for a connection"));
  std::unique_ptr<PostgresSession> session(
      new PostgresSession(connection, clock, interrupted, ParseUrl(url)->password));
  FAIL_IF_ERROR(session->Login());
  return session;
}

Status PostgresSession::Login() {
  PQsetNoticeReceiver(
      connection_, [](void*, const PGresult*) {}, nullptr);
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  while (PQstatus(connection_) != CONNECTION_BAD && state != PGRES_POLLING_OK) {
    if (state == PGRES_POLLING_FAILED) break;
    RETURN_IF_ERROR(Await(state == PGRES_POLLING_READING ? POLLIN : POLLOUT));
    state = PQconnectPoll(connection_);
  }
  if (PQstatus(connection_) != CONNECTION_OK) return Broken("cannot connect");
  if (PQsetnonblocking(connection_, 1) != 0) return Broken("cannot connect");
  // Values are read as written; a session that we lost ends by itself, and with it the locks that it holds.
  std::string settings = fmt::format(
      "SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; SET timezone = 'UTC'; "
      "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}; "
      "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = "
      "'off'",
      kStatementUs / 1000);
  if (PQserverVersion(connection_) >= 140000) settings += "; SET client_connection_check_interval = 1000";
  ASSIGN_OR_RETURN(Answer set, Run(settings));
  (void)set;
  return OkStatus();
}

/// Until the socket is ready for one of the events.
Status PostgresSession::Await(short events) {
  while (!interrupted_) {
    int64_t left_ms = (deadline_ns_ - clock_.MonotonicNs()) / 1'000'000;
    if (left_ms <= 0) return Broken("no answer in time");
    pollfd socket{PQsocket(connection_), events, 0};
    if (socket.fd < 0) return Broken("the connection is closed");
    int ready = poll(&socket, 1, static_cast<int>(std::min<int64_t>(left_ms, kPollMs)));
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Broken("poll failed");
  }
  return Cancelled("interrupted by a stop");
}

Status PostgresSession::Flush() {
  for (int left = PQflush(connection_); left != 0; left = PQflush(connection_)) {
    if (left < 0) return Broken("the connection is lost");
    RETURN_IF_ERROR(Await(POLLIN | POLLOUT));
    // A server that has words for us may not read on before they are taken.
    if (PQconsumeInput(connection_) == 0) return Broken("the connection is lost");
  }
  return OkStatus();
}

/// All results of what was sent; of a COPY those up to its begin.
Result<PostgresSession::Answer> PostgresSession::Finish(bool stop_at_copy) {
  FAIL_IF_ERROR(Flush());
  Answer answer;
  Status first;
  while (true) {
    while (PQisBusy(connection_) != 0) {
      FAIL_IF_ERROR(Await(POLLIN));
      if (PQconsumeInput(connection_) == 0) return Fail(Broken("the connection is lost"));
    }
    ResultPtr result(PQgetResult(connection_), PQclear);
    if (!result) break;
    ExecStatusType kind = PQresultStatus(result.get());
    if (kind == PGRES_COPY_IN && stop_at_copy) return answer;
    if (kind == PGRES_COPY_IN || kind == PGRES_COPY_OUT || kind == PGRES_COPY_BOTH)
      return Fail(Internal("a COPY where none belongs"));
    if (kind != PGRES_COMMAND_OK && kind != PGRES_TUPLES_OK) {
      if (first.ok()) first = StatusOf(result.get());
      if (PQstatus(connection_) == CONNECTION_BAD) return Fail(first);
      continue;
    }
    answer.tags.emplace_back(PQcmdStatus(result.get()));
    for (int row = 0; row < PQntuples(result.get()); ++row) {
      auto& values = answer.rows.emplace_back();
      for (int column = 0; column < PQnfields(result.get()); ++column)
        values.push_back(PQgetisnull(result.get(), row, column) != 0
                             ? std::nullopt
                             : std::optional<std::string>(PQgetvalue(result.get(), row, column)));
    }
  }
  if (!first.ok()) return Fail(first);
  if (PQstatus(connection_) == CONNECTION_BAD) return Fail(Broken("the connection is lost"));
  return answer;
}

Result<PostgresSession::Answer> PostgresSession::Run(const std::string& sql) {
  deadline_ns_ = clock_.MonotonicNs() + kStatementUs * 1000;
  if (PQsendQuery(connection_, sql.c_str()) == 0) return Fail(Broken("the connection is lost"));
  return Finish(false);
}

/// Hands lines of a COPY over; none ends it. False: the server has ended it.
Result<bool> PostgresSession::Put(std::string_view lines) {
  auto put = [&] {
    if (lines.empty()) return PQputCopyEnd(connection_, nullptr);
    return PQputCopyData(connection_, lines.data(), static_cast<int>(lines.size()));
  };
  int taken = put();
  while (taken == 0) {  // no room
    FAIL_IF_ERROR(Await(POLLIN | POLLOUT));
    if (PQconsumeInput(connection_) == 0) return Fail(Broken("the connection is lost"));
    taken = put();
  }
  if (taken < 0) return false;
  FAIL_IF_ERROR(Flush());
  return true;
}

Result<uint64_t> PostgresSession::Copy(const std::string& sql, std::string_view lines) {
  deadline_ns_ = clock_.MonotonicNs() + kStatementUs * 1000;
  if (PQsendQuery(connection_, sql.c_str()) == 0) return Fail(Broken("the connection is lost"));
  ASSIGN_OR_FAIL(Answer begun, Finish(true));
  bool goes_on = true;  // until the server has ended it; why stands in its result
  for (size_t at = 0; at < lines.size() && goes_on; at += kCopyPieceBytes) {
    ASSIGN_OR_FAIL(goes_on, Put(lines.substr(at, kCopyPieceBytes)));
  }
  if (goes_on) {
    ASSIGN_OR_FAIL(goes_on, Put(""));
  }
  ASSIGN_OR_FAIL(Answer answer, Finish(false));
  uint64_t rows = 0;
  if (answer.tags.size() != 1 || std::sscanf(answer.tags[0].c_str(), "COPY %" SCNu64, &rows) != 1)
    return Fail(Internal("the server did not say how many rows it took"));
  return rows;
}

std::string PostgresSession::Literal(const std::string& text) const {
  char* quoted = PQescapeLiteral(connection_, text.data(), text.size());
  std::string literal = quoted == nullptr ? "NULL" : quoted;
  PQfreemem(quoted);
  return literal;
}

Status PostgresSession::Broken(const std::string& what) const {
  std::string why(Trim(PQerrorMessage(connection_)));
  return Unavailable("{}{}{}", what, why.empty() ? "" : ": ", Redacted(why));
}

Status PostgresSession::StatusOf(const PGresult* result) const {
  std::string state = ErrorField(result, PG_DIAG_SQLSTATE);
  std::string message = ErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (message.empty()) message = Trim(PQresultErrorMessage(result));
  if (IsDataFault(state)) {
    std::string where = ErrorField(result, PG_DIAG_CONTEXT),
                detail = ErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    if (!detail.empty()) message += "; " + detail.substr(0, kDetailBytesMax);
    if (where.starts_with("COPY "))
      message += "; " + where.substr(0, std::min(where.find('\n'), kDetailBytesMax));
    return Status(Code::kInvalid, std::move(message));
  }
  Code code = Code::kUnavailable;
  if (state.starts_with("42")) code = Code::kConflict;
  if (state.starts_with("53")) code = Code::kExhausted;
  return Status(code, Redacted(std::move(message)));
}

std::string PostgresSession::Redacted(std::string text) const {
  if (password_.empty()) return text;
  for (size_t at = text.find(password_); at != std::string::npos; at = text.find(password_, at + 3))
    text.replace(at, password_.size(), "***");
  return text;
}

}  // namespace millstream
