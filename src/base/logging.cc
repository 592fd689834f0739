#include "base/logging.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/ansicolor_sink.h>

#include <cmath>
#include <cstdlib>

#include "base/text.h"

namespace millstream {
namespace {

constexpr size_t kValueBytesMax = 4096;

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

std::string_view LevelName(LogLevel level) {
  constexpr std::string_view kNames[] = {"debug", "info", "warn", "error", "off"};
  return kNames[static_cast<size_t>(level)];
}

spdlog::color_mode ColorMode(LogColor color) {
  if (color == LogColor::kAlways) return spdlog::color_mode::always;
  bool never = color == LogColor::kNever || std::getenv("NO_COLOR") != nullptr;
  return never ? spdlog::color_mode::never : spdlog::color_mode::automatic;
}

// For people: bare where nothing in it can mislead the eye, else as a JSON string.
void AppendConsoleString(std::string& out, std::string_view text) {
  bool bare = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '=';
  });
  if (bare) {
    out += text;
  } else {
    AppendJsonString(out, text);
  }
}

// A message stays unquoted; of what it holds only control characters and broken UTF-8 are escaped.
void AppendConsoleMessage(std::string& out, std::string_view text) {
  for (size_t start = 0; start < text.size();) {
    size_t quote = std::min(text.find('"', start), text.size());
    std::string quoted;
    AppendJsonString(quoted, text.substr(start, quote - start));
    out.append(quoted, 1, quoted.size() - 2);
    if (quote < text.size()) out += '"';
    start = quote + 1;
  }
}

struct AppendValue {
  std::string& out;
  LogFormat format;

  void operator()(std::string_view text) const {
    text = text.substr(0, kValueBytesMax);
    format == LogFormat::kJson ? AppendJsonString(out, text) : AppendConsoleString(out, text);
  }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  void operator()(int64_t value) const { out += fmt::format("{}", value); }
  void operator()(uint64_t value) const { out += fmt::format("{}", value); }
  void operator()(double value) const { out += std::isfinite(value) ? fmt::format("{}", value) : "null"; }
};

}  // namespace

Logger::Logger(const LoggerOptions& options) : level_(options.level), format_(options.format) {
  auto sink = std::make_shared<spdlog::sinks::ansicolor_sink<spdlog::details::console_mutex>>(
      options.to, ColorMode(options.color));
  sink_ = std::make_shared<spdlog::logger>("", std::move(sink));
  sink_->set_level(spdlog::level::trace);  // Write decides
  sink_->set_pattern(format_ == LogFormat::kJson ? "%v" : "%H:%M:%S.%e %^%-7l%$ %v");
  sink_->flush_on(spdlog::level::trace);
  sink_->set_error_handler([](const std::string&) {});
}

Logger Logger::With(Fields fields) const {
  Logger logger = *this;
  logger.fixed_fields_ += Render(fields);
  return logger;
}

std::string Logger::Render(Fields fields) const {
  std::string out;
  for (const LogField& field : fields) {
    if (format_ == LogFormat::kJson) {
      out += ',';
      AppendJsonString(out, field.name);
      out += ':';
    } else {
      out += ' ';
      out += field.name;
      out += '=';
    }
    std::visit(AppendValue{out, format_}, field.value);
  }
  return out;
}

void Logger::Write(LogLevel level, std::string_view message, Fields fields) const {
  if (!Writes(level)) return;
  auto now = std::chrono::system_clock::now();
  message = message.substr(0, kValueBytesMax);
  std::string line;
  if (format_ == LogFormat::kJson) {
    auto us = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() * 1000;
    line = fmt::format("{{\"time\":\"{}\",\"level\":\"{}\",\"message\":", FormatTime(us), LevelName(level));
    AppendJsonString(line, message);
    line += fixed_fields_ + Render(fields) + '}';
  } else {
    AppendConsoleMessage(line, message);
    std::string rendered = fixed_fields_ + Render(fields);
    if (!rendered.empty()) line += ' ' + rendered;
  }
  sink_->log(now, spdlog::source_loc{}, SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace millstream
