#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/text.h"

namespace millstream {
namespace {

bool IsNumber(const std::string& cell) {
  return !cell.empty() && cell.find_first_not_of("0123456789.,-+eE") == std::string::npos &&
         cell.find_first_of("0123456789") != std::string::npos;
}

/// Columns on the screen that UTF-8 text takes, each code point as one.
size_t Width(const std::string& text) {
  size_t width = 0;
  for (char c : text) width += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return width;
}

/// Errors of other systems have line breaks and tabs.
std::string InOneLine(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    bool breaks = text[i] == '\n' || text[i] == '\r' || text[i] == '\t';
    if (!breaks)
      out += text[i];
    else if (!out.empty() && out.back() != ' ' && text.find_first_not_of("\n\r\t", i) != std::string::npos)
      out += ' ';
  }
  return out;
}

std::string Rate(double per_second) { return FormatCount(static_cast<uint64_t>(per_second + 0.5)); }

std::string Lag(uint64_t events, double seconds) {
  if (events == 0) return "0";
  return fmt::format("{} / {}", FormatCount(events), FormatDuration(static_cast<int64_t>(seconds * 1e6)));
}

}  // namespace

ProgressLine::ProgressLine(bool quiet) : visible_(!quiet && isatty(STDERR_FILENO) == 1) {}

void ProgressLine::Show(const std::string& text) {
  if (!visible_) return;
  winsize size{};
  size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  std::fprintf(stderr, "\r\033[K%s", text.substr(0, columns - 1).c_str());
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::Clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

bool WantsColor(const std::string& when, int descriptor) {
  if (when == "always") return true;
  return when != "never" && isatty(descriptor) == 1 && std::getenv("NO_COLOR") == nullptr;
}

std::string LayOut(const std::vector<std::string>& heading,
                   const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> lines = rows;
  for (auto& line : lines)
    for (std::string& cell : line) cell = InOneLine(cell);
  std::vector<size_t> widths;
  std::vector<bool> right(heading.size(), !lines.empty());
  for (const std::string& name : heading) widths.push_back(Width(name));
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], Width(line[i]));
      if (!line[i].empty() && line[i] != "-" && !IsNumber(line[i])) right[i] = false;
    }
  }
  std::string out;
  auto add = [&](const std::vector<std::string>& line) {
    std::string text;
    for (size_t i = 0; i < line.size() && i < widths.size(); ++i) {
      std::string padding(widths[i] - Width(line[i]), ' ');
      if (i > 0) text += "  ";
      text += right[i] ? padding + line[i] : line[i] + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  add(heading);
  for (const auto& line : lines) add(line);
  return out;
}

std::string CsvCell(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (char c : cell) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string ProgressText(const EngineStatus& status) {
  std::string text;
  for (const StreamStatus& stream : status.streams)
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", stream.name, FormatCount(stream.events),
                        stream.in_per_s > 0 ? fmt::format(" ({}/s)", Rate(stream.in_per_s)) : "");
  for (const PipelineStatus& pipeline : status.pipelines)
    if (pipeline.lag_events > 0)
      text += fmt::format(", {} {} to go", pipeline.name, FormatCount(pipeline.lag_events));
  return text;
}

void PrintSummary(const EngineStatus& status) {
  std::vector<std::vector<std::string>> lines;
  for (const PipelineStatus& pipeline : status.pipelines)
    lines.push_back({pipeline.name, pipeline.stream, pipeline.state == "live" ? "done" : pipeline.state,
                     FormatCount(pipeline.in), FormatCount(pipeline.out), FormatCount(pipeline.dead),
                     pipeline.reason});
  std::fputs(LayOut({"PIPELINE", "STREAM", "STATE", "IN", "OUT", "DEAD", ""}, lines).c_str(), stderr);
}

std::string TopText(const EngineStatus& status) {
  std::string out = fmt::format("millstream {}  up {}  {}  data {} ({} free)  rss {}\n", status.version,
                                FormatDuration(status.up_us), status.url.empty() ? "no server" : status.url,
                                FormatBytes(status.data_bytes), FormatBytes(status.free_bytes),
                                FormatBytes(status.rss_bytes));
  std::vector<std::vector<std::string>> lines;
  for (const StreamStatus& stream : status.streams)
    lines.push_back({stream.name, FormatCount(stream.events), Rate(stream.in_per_s),
                     FormatBytes(static_cast<uint64_t>(stream.bytes_per_s)), FormatCount(stream.dead)});
  out += LayOut({"STREAM", "EVENTS", "IN/s", "BYTES/s", "DEAD"}, lines);
  if (!status.sources.empty()) {
    lines.clear();
    for (const SourceStatus& source : status.sources)
      lines.push_back(
          {source.name, source.state, FormatCount(source.events), Rate(source.events_per_s), source.reason});
    out += LayOut({"SOURCE", "STATE", "EVENTS", "IN/s", ""}, lines);
  }
  lines.clear();
  for (const PipelineStatus& pipeline : status.pipelines) {
    lines.push_back({pipeline.name, pipeline.state, Lag(pipeline.lag_events, pipeline.lag_seconds),
                     Rate(pipeline.in_per_s), Rate(pipeline.out_per_s),
                     pipeline.p99_us < 0 ? "-" : FormatDuration(pipeline.p99_us), FormatCount(pipeline.dead),
                     pipeline.reason});
    for (const FilterStatus& filter : pipeline.filters)
      lines.push_back({"  " + filter.name, "", "", Rate(filter.in_per_s), Rate(filter.out_per_s), "",
                       FormatCount(filter.dead), ""});
    for (const SinkStatus& sink : pipeline.sinks)
      lines.push_back({"  " + sink.id, sink.state == pipeline.state ? "" : sink.state,
                       Lag(sink.lag_events, sink.lag_seconds), "", Rate(sink.rows_per_s), "", "", ""});
  }
  return out + LayOut({"PIPELINE", "STATE", "LAG", "IN/s", "OUT/s", "P99", "DEAD", ""}, lines);
}

}  // namespace millstream
