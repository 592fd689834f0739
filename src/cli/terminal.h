// What verbs print: a progress line on a terminal, tables of text, summaries.
//
// Place: floor 8. Progress and colours only where stderr or stdout is a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/status.h"

namespace millstream {

/// One line on stderr that is written over; nothing if stderr is no terminal.
inline constexpr int64_t kProgressNs = 100'000'000;  // between two sights of how far it is

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine() { Clear(); }
  void Show(const std::string& text);
  void Clear();
  bool visible() const { return visible_; }

 private:
  bool visible_;
  bool shown_ = false;
};

/// True if escape sequences are wanted on this descriptor; `when`: auto, always, never.
bool WantsColor(const std::string& when, int descriptor);

/// Lines of cells under a heading, columns as wide as they need. A column whose cells are all numbers is set
/// right; line breaks within a cell become spaces.
std::string LayOut(const std::vector<std::string>& heading,
                   const std::vector<std::vector<std::string>>& rows);

/// A cell as CSV: quoted if it has to be (RFC 4180).
std::string CsvCell(const std::string& cell);

/// "orders 1,204 in, revenue 1,100 delivered": for a progress line.
std::string ProgressText(const EngineStatus& status);
/// What each stream and pipeline has, on stderr, at the end of a run.
void PrintSummary(const EngineStatus& status);
/// As `top --once` prints it.
std::string TopText(const EngineStatus& status);

}  // namespace millstream
