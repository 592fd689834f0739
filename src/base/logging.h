// Logger: structured log lines, for people or as JSON, on stderr.
//
// Place: floor 0, over spdlog. Made in main from `server.log` and the command line, then passed around by
// value or reference; there is no global one. A default-made Logger writes nothing. A line is a message that
// is the same each time, and fields that differ:
//   logger.Info("pipeline activated", {{"pipeline", name}, {"from", offset}});
//   console: 12:03:11.204 info    pipeline activated  pipeline=revenue from=17
//   json:    {"time":"2026-11-22T12:03:11.204Z","level":"info","message":"pipeline
//   activated","pipeline":"revenue","from":17}
// Control characters, and bytes that are not UTF-8, never reach the output as they are.
// Threads: thread-safe. Ownership: copies share one sink. Failure: a line that cannot be written is lost.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

namespace spdlog {
class logger;
}

namespace millstream {

enum class LogLevel : unsigned char { kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat : unsigned char { kConsole, kJson };
enum class LogColor : unsigned char {
  kAuto,
  kAlways,
  kNever
};  // kAuto: on a terminal, unless NO_COLOR is set

/// A name and a value; strings are borrowed until the call returns, and cut at 4 KiB.
struct LogField {
  std::string_view name;
  std::variant<std::string_view, int64_t, uint64_t, double, bool> value;

  LogField(std::string_view n, std::string_view v) : name(n), value(v) {}
  LogField(std::string_view n, const std::string& v) : name(n), value(std::string_view(v)) {}
  LogField(std::string_view n, const char* v) : name(n), value(std::string_view(v)) {}
  LogField(std::string_view n, double v) : name(n), value(v) {}
  LogField(std::string_view n, bool v) : name(n), value(v) {}
  template <std::signed_integral T>
  LogField(std::string_view n, T v) : name(n), value(static_cast<int64_t>(v)) {}
  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) LogField(std::string_view n, T v)
      : name(n), value(static_cast<uint64_t>(v)) {}
};

struct LoggerOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kConsole;
  LogColor color = LogColor::kAuto;
  std::FILE* to = stderr;  // not closed
};

class Logger {
 public:
  using Fields = std::initializer_list<LogField>;

  Logger() = default;
  explicit Logger(const LoggerOptions& options);

  /// A logger that adds these fields to every line.
  Logger With(Fields fields) const;

  void Debug(std::string_view message, Fields fields = {}) const { Write(LogLevel::kDebug, message, fields); }
  void Info(std::string_view message, Fields fields = {}) const { Write(LogLevel::kInfo, message, fields); }
  void Warn(std::string_view message, Fields fields = {}) const { Write(LogLevel::kWarn, message, fields); }
  void Error(std::string_view message, Fields fields = {}) const { Write(LogLevel::kError, message, fields); }

  /// Whether a line of this level would be written: to spare the work of making its fields.
  bool Writes(LogLevel level) const { return sink_ && level >= level_; }

 private:
  void Write(LogLevel level, std::string_view message, Fields fields) const;
  std::string Render(Fields fields) const;

  LogLevel level_ = LogLevel::kOff;
  LogFormat format_ = LogFormat::kConsole;
  std::shared_ptr<spdlog::logger> sink_;
  std::string fixed_fields_;  // as Render made them
};

}  // namespace millstream
