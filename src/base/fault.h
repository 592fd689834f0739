// Fault: one thing that is wrong with what a user gave us, said so that the user can mend it.
//
// Place: floor 0. `check`, `run`, problem documents and dead letters all carry faults of this one shape
// (SURFACE, "HTTP"): where (file, line, column, YAML path, or the index of an event), what, what was
// expected, a hint.
#pragma once

#include <string>
#include <vector>

namespace millstream {

struct Fault {
  std::string file{};      // relative to the project folder; empty if none
  int line = 0;            // 1-based; 0 = not known
  int column = 0;          // 1-based; 0 = not known
  std::string path{};      // YAML path ("streams.orders.key") or JSON pointer into an event ("/amount")
  long long index = -1;    // index of an event in its request; -1 = none
  std::string message{};   // what is wrong
  std::string expected{};  // what would be right; may be empty
  std::string hint{};      // what to do, e.g. "did you mean 'decimal(12,2)'?"
  std::string excerpt{};   // one line of the user's own text, for a caret below it; may be empty
  int caret_start = 0;     // 0-based byte in excerpt
  int caret_length = 0;    // in bytes

  /// "FILE:LINE:COLUMN: PATH: MESSAGE; HINT" and, where there is an excerpt, two more lines with a caret.
  std::string ToString() const;
};

using Faults = std::vector<Fault>;

/// The nearest of `candidates` to `name` by edit distance, or "" if none is near (distance > a third of the
/// length, min 2).
std::string Nearest(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace millstream
