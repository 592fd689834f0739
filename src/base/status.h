// Status and Result: how every fallible call in Millstream answers.
//
// Place: floor 0; every room uses it. No exception crosses a room.
// Each code has one meaning for the loop that sees it; only pipeline/ decides what to do, lower rooms report.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace millstream {

enum class Code : unsigned char {
  kOk,
  kUnavailable,  // a peer or a lock is not there now: retry with back-off
  kInvalid,      // the input is at fault: dead letter, or tell the user; a retry fails the same way
  kCorrupt,      // stored bytes are not what was written: stop and say where
  kExhausted,    // a bound (memory, disk, queue) is reached: back off
  kNotFound,     // what was named does not exist
  kConflict,     // what was asked contradicts what is there (exists already, in use, stale)
  kDeadline,     // out of time
  kCancelled,    // the caller went away or the process stops
  kIo,           // the file system failed: fatal where it concerns a sync (exit 74)
  kInternal,     // a fault of ours
};

/// The name of a code as it stands in problem documents, e.g. "invalid".
std::string_view CodeName(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  /// The same error with "CONTEXT: " before its message.
  Status Within(std::string_view context) const {
    return ok() ? *this : Status(code_, fmt::format("{}: {}", context, message_));
  }
  /// "invalid: the message".
  std::string ToString() const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status OkStatus() { return {}; }

#define MILLSTREAM_STATUS_FACTORY(NAME, CODE)                              \
  template <typename... Args>                                              \
  Status NAME(fmt::format_string<Args...> format, Args&&... args) {        \
    return Status(CODE, fmt::format(format, std::forward<Args>(args)...)); \
  }
MILLSTREAM_STATUS_FACTORY(Unavailable, Code::kUnavailable)
MILLSTREAM_STATUS_FACTORY(Invalid, Code::kInvalid)
MILLSTREAM_STATUS_FACTORY(Corrupt, Code::kCorrupt)
MILLSTREAM_STATUS_FACTORY(Exhausted, Code::kExhausted)
MILLSTREAM_STATUS_FACTORY(NotFound, Code::kNotFound)
MILLSTREAM_STATUS_FACTORY(Conflict, Code::kConflict)
MILLSTREAM_STATUS_FACTORY(Deadline, Code::kDeadline)
MILLSTREAM_STATUS_FACTORY(Cancelled, Code::kCancelled)
MILLSTREAM_STATUS_FACTORY(IoError, Code::kIo)
MILLSTREAM_STATUS_FACTORY(Internal, Code::kInternal)
#undef MILLSTREAM_STATUS_FACTORY

template <typename T>
using Result = tl::expected<T, Status>;

/// Turns a Status into the error side of a Result.
inline tl::unexpected<Status> Fail(Status status) { return tl::unexpected<Status>(std::move(status)); }

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);
}  // namespace internal

}  // namespace millstream

// For programmer errors, in release builds too; never for user data.
#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) [[unlikely]]                                         \
      ::millstream::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#define MILLSTREAM_CONCAT_INNER(a, b) a##b
#define MILLSTREAM_CONCAT(a, b) MILLSTREAM_CONCAT_INNER(a, b)

// In functions that return Status.
#define RETURN_IF_ERROR(expression)                                 \
  do {                                                              \
    if (auto status_ = (expression); !status_.ok()) return status_; \
  } while (false)
#define ASSIGN_OR_RETURN(declaration, expression)                                     \
  MILLSTREAM_ASSIGN_OR(MILLSTREAM_CONCAT(result_, __LINE__), declaration, expression, \
                       std::move(MILLSTREAM_CONCAT(result_, __LINE__)).error())

// In functions that return Result<T>.
#define FAIL_IF_ERROR(expression)                                                                  \
  do {                                                                                             \
    if (auto status_ = (expression); !status_.ok()) return ::millstream::Fail(std::move(status_)); \
  } while (false)
#define ASSIGN_OR_FAIL(declaration, expression)                                       \
  MILLSTREAM_ASSIGN_OR(MILLSTREAM_CONCAT(result_, __LINE__), declaration, expression, \
                       ::millstream::Fail(std::move(MILLSTREAM_CONCAT(result_, __LINE__)).error()))

#define MILLSTREAM_ASSIGN_OR(result, declaration, expression, on_error) \
  auto result = (expression);                                           \
  if (!result) return on_error;                                         \
  declaration = std::move(*result)
