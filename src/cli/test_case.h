// TestCase: a text case for pipelines (tests/pipelines/README.md): a project, events in, what must come out.
//
// Place: floor 8. Each case runs in a folder of its own, by this program's own verbs in processes of their
// own, without a server, as a user's cron job would. One thread.
#pragma once

#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/status.h"
#include "cli/verb.h"

namespace millstream {

struct TestSection {
  std::string kind, argument;
  size_t line = 0;  // where it begins in the file
  std::vector<std::string> lines;

  /// The lines without blank ones at the end, which only separate it from the next.
  std::vector<std::string> Text() const;
};

/// What stands before the first section is a comment. kInvalid names the line of a section of an unknown
/// kind.
Result<std::vector<TestSection>> ParseTestCase(const std::string& name, const std::string& text);

/// What a verb did.
struct VerbDone {
  int code = 0;
  std::string out, err;
};
/// Runs this program with arguments in a folder. kDeadline after a minute.
Result<VerbDone> RunVerb(const std::string& folder, const std::vector<std::string>& arguments,
                         const std::string& input = "");

class TestRunner {
 public:
  /// `folder` is empty, and the case's alone.
  TestRunner(const Everywhere& everywhere, std::string name, std::string folder);
  /// kConflict shows what was expected and what came; other codes: a step could not be done.
  Status Run(const TestSection& section);
  /// Events as CloudEvents, one a line.
  Status TakeCloudEvents(const std::string& stream, const std::vector<std::string>& lines);
  /// The letters of a stream as a case has them: "AT CODE EVENT: REASON".
  Result<std::vector<std::string>> DeadLines(const std::string& stream);
  Result<std::vector<std::string>> RowLines(const std::string& sql);

 private:
  Result<VerbDone> Done(const std::vector<std::string>& arguments, const std::vector<int>& codes,
                        const std::string& input = "");
  Status Expect(const TestSection& section, const std::vector<std::string>& actual) const;
  Status Write(const std::string& path, const std::string& text);

  const Everywhere& everywhere_;
  const std::string name_, folder_;
  PosixFileSystem fs_;
};

/// Splits as a shell does: blanks, single and double quotes, backslashes.
std::vector<std::string> ShellWords(const std::string& text);

}  // namespace millstream
