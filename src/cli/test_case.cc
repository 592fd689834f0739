#include "cli/test_case.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/text.h"
#include "cli/json_view.h"
#include "cli/local_client.h"

namespace millstream {
namespace {

constexpr auto kVerbMax = std::chrono::seconds(60);
constexpr auto kPoll = std::chrono::milliseconds(2);
constexpr size_t kRequestBytes = 4 << 20;
constexpr const char* kKinds[] = {"project", "file", "append", "events", "cloudevents", "run",
                                  "rows",    "dead", "output", "check",  "fails"};

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (text.empty()) return lines;
  for (std::string_view line : Split(text, '\n')) lines.emplace_back(line);
  return lines;
}

std::string WithEnds(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

/// Equal, or equal up to an asterisk at the end of the expected line.
bool Matches(const std::string& expected, const std::string& actual) {
  if (!expected.ends_with('*')) return actual == expected;
  return actual.starts_with(expected.substr(0, expected.size() - 1));
}

/// The environment of a verb: nothing may depend on the caller's language or server.
std::vector<std::string> VerbEnvironment() {
  std::vector<std::string> all{"LC_ALL=C.UTF-8"};
  for (char** each = environ; *each != nullptr; ++each) {
    std::string_view entry = *each;
    if (!entry.starts_with("LC_ALL=") && !entry.starts_with("MILLSTREAM_")) all.emplace_back(entry);
  }
  return all;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// A file without a name, deleted when it is closed.
class Scratch {
 public:
  Scratch() : file_(std::tmpfile()), descriptor_(file_ == nullptr ? -1 : fileno(file_)) {
    if (is_open()) (void)fcntl(descriptor_, F_SETFD, FD_CLOEXEC);
  }
  ~Scratch() {
    if (is_open()) std::fclose(file_);
  }
  bool is_open() const { return file_ != nullptr; }
  Scratch(const Scratch&) = delete;
  int descriptor() const { return descriptor_; }
  void Put(std::string_view text) {
    (void)std::fwrite(text.data(), 1, text.size(), file_);
    (void)std::fflush(file_);
    (void)lseek(descriptor_, 0, SEEK_SET);
  }
  std::string Take() const {
    std::string text;
    char piece[1 << 16];
    for (off_t at = 0;;) {
      ssize_t got = pread(descriptor_, piece, sizeof piece, at);
      if (got <= 0) return text;
      text.append(piece, static_cast<size_t>(got));
      at += got;
    }
  }

 private:
  std::FILE* file_;
  int descriptor_;
};

}  // namespace

std::vector<std::string> TestSection::Text() const {
  std::vector<std::string> text = lines;
  while (!text.empty() && text.back().find_first_not_of(" \t\r") == std::string::npos) text.pop_back();
  return text;
}

std::vector<std::string> ShellWords(const std::string& text) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quote == 0 && (c == ' ' || c == '\t')) {
      in_word = false;
      continue;
    }
    if (!std::exchange(in_word, true)) words.emplace_back();
    if (c == quote)
      quote = 0;
    else if (quote == 0 && (c == '\'' || c == '"'))
      quote = c;
    else if (c == '\\' && quote != '\'' && i + 1 < text.size() &&
             (quote == 0 || text[i + 1] == '"' || text[i + 1] == '\\'))
      words.back() += text[++i];
    else
      words.back() += c;
  }
  return words;
}

Result<std::vector<TestSection>> ParseTestCase(const std::string& name, const std::string& text) {
  std::vector<TestSection> sections;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (!line.starts_with("=== ")) {
      if (!sections.empty()) sections.back().lines.emplace_back(line);
      continue;
    }
    std::string_view rest = line.substr(4);
    size_t blank = rest.find(' ');
    TestSection section;
    section.kind = rest.substr(0, blank);
    if (blank != std::string_view::npos) section.argument = rest.substr(blank + 1);
    section.line = number;
    if (std::find(std::begin(kKinds), std::end(kKinds), section.kind) == std::end(kKinds))
      return Fail(Invalid("{}:{}: no section '{}'; there are {}", name, number, section.kind,
                          fmt::join(kKinds, ", ")));
    sections.push_back(std::move(section));
  }
  if (sections.empty() || sections[0].kind != "project")
    return Fail(Invalid("{}: a case begins with === project", name));
  return sections;
}

Result<VerbDone> RunVerb(const std::string& folder, const std::vector<std::string>& arguments,
                         const std::string& input) {
  Scratch in, out, err;
  if (!in.is_open() || !out.is_open() || !err.is_open())
    return Fail(IoError("cannot make a temporary file: {}", std::strerror(errno)));
  in.Put(input);
  std::vector<std::string> words{"millstream"}, variables = VerbEnvironment();
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv = Pointers(words), envp = Pointers(variables);
  pid_t child = fork();
  if (child < 0) return Fail(IoError("cannot fork"));
  if (child == 0) {  // other threads may hold locks: nothing but system calls from here on
    dup2(in.descriptor(), STDIN_FILENO);
    dup2(out.descriptor(), STDOUT_FILENO);
    dup2(err.descriptor(), STDERR_FILENO);
    if (chdir(folder.c_str()) == 0) execve("/proc/self/exe", argv.data(), envp.data());
    _exit(kExitInternal);
  }
  auto until = std::chrono::steady_clock::now() + kVerbMax;
  int how = 0;
  while (waitpid(child, &how, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > until) {
      kill(child, SIGKILL);
      waitpid(child, &how, 0);
      return Fail(
          Deadline("millstream {}: not done within {} s", fmt::join(arguments, " "), kVerbMax.count()));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return VerbDone{WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how), out.Take(), err.Take()};
}

TestRunner::TestRunner(const Everywhere& everywhere, std::string name, std::string folder)
    : everywhere_(everywhere), name_(std::move(name)), folder_(std::move(folder)) {}

Result<VerbDone> TestRunner::Done(const std::vector<std::string>& arguments, const std::vector<int>& codes,
                                  const std::string& input) {
  ASSIGN_OR_FAIL(VerbDone done, RunVerb(folder_, arguments, input));
  if (std::find(codes.begin(), codes.end(), done.code) != codes.end()) return done;
  return Fail(Conflict("millstream {}: exit code {}\n{}{}", fmt::join(arguments, " "), done.code, done.err,
                       done.out));
}

Status TestRunner::Expect(const TestSection& section, const std::vector<std::string>& actual) const {
  std::vector<std::string> expected = section.Text();
  if (std::equal(expected.begin(), expected.end(), actual.begin(), actual.end(), Matches)) return OkStatus();
  return Conflict("{}:{}: === {} {}\nexpected:\n{}got:\n{}", name_, section.line, section.kind,
                  section.argument, WithEnds(expected), WithEnds(actual));
}

Status TestRunner::Write(const std::string& path, const std::string& text) {
  std::string whole = folder_ + "/" + path;
  RETURN_IF_ERROR(fs_.CreateDirectories(DirectoryOf(whole)));
  ASSIGN_OR_RETURN(auto file, fs_.Open(whole, OpenMode::kCreate));
  RETURN_IF_ERROR(file->Truncate(0));
  return file->WriteAt(0, text);
}

Result<std::vector<std::string>> TestRunner::RowLines(const std::string& sql) {
  ASSIGN_OR_FAIL(VerbDone done, Done({"query", sql, "--format", "ndjson"}, {kExitDone}));
  return LinesOf(done.out);
}

Result<std::vector<std::string>> TestRunner::DeadLines(const std::string& stream) {
  ASSIGN_OR_FAIL(VerbDone done, Done({"dead", "list", stream, "--json"}, {kExitDone}));
  std::vector<std::pair<uint64_t, std::string>> letters;
  JsonView answer(done.out);
  for (const JsonView& letter : answer["letters"].items()) {
    std::string path = letter["path"].text();
    letters.emplace_back(
        letter["number"].number(),
        fmt::format("{} {} {}: {}{}{}", letter["at"].text(), letter["code"].text(), letter["event"].text(),
                    path, path.empty() ? "" : ": ", letter["reason"].text()));
  }
  std::sort(letters.begin(), letters.end());
  std::vector<std::string> lines;
  for (auto& [number, line] : letters) lines.push_back(std::move(line));
  return lines;
}

Status TestRunner::TakeCloudEvents(const std::string& stream, const std::vector<std::string>& lines) {
  Everywhere here = everywhere_;
  here.project = folder_;
  here.data.clear(), here.server.clear();
  {
    ASSIGN_OR_RETURN(auto client, LocalClient::Open(here, folder_, false));
    for (size_t i = 0; i < lines.size();) {
      std::string body = "[";
      for (; i < lines.size() && (body.size() == 1 || body.size() + lines[i].size() < kRequestBytes); ++i)
        body += (body.size() > 1 ? "," : "") + lines[i];
      body += ']';
      HttpClient::Request request;
      request.method = "POST";
      request.path = "/v1/streams/" + UrlEncode(stream) + "/events";
      request.headers = {"Content-Type: application/cloudevents-batch+json"};
      request.body = body;
      ASSIGN_OR_RETURN(HttpAnswer answer, client->Send(request));
      if (answer.status != 200) return StatusOfProblem(answer);
    }
  }
  auto done = Done({"run", "--once"}, {kExitDone});
  return done ? OkStatus() : done.error();
}

Status TestRunner::Run(const TestSection& section) {
  const std::string &kind = section.kind, &argument = section.argument;
  if (kind == "project") return Write("millstream.yaml", WithEnds(section.lines));
  if (kind == "file") return Write(argument, WithEnds(section.Text()));
  if (kind == "append") {
    auto before = ReadFile(fs_, folder_ + "/" + argument);
    return Write(argument, before.value_or("") + WithEnds(section.Text()));
  }
  if (kind == "cloudevents") return TakeCloudEvents(argument, section.Text());
  if (kind == "events") {
    std::vector<std::string> words = ShellWords(argument);
    if (words.empty()) return Invalid("{}:{}: === events STREAM", name_, section.line);
    std::vector<std::string> arguments{"ingest", words[0], "-"};
    arguments.insert(arguments.end(), words.begin() + 1, words.end());
    if (words.size() == 1) arguments.insert(arguments.end(), {"--format", "ndjson"});
    auto done = Done(arguments, {kExitDone}, WithEnds(section.Text()));
    return done ? OkStatus() : done.error();
  }
  if (kind == "run") {
    auto done = Done({"run", "--once"}, {kExitDone});
    return done ? OkStatus() : done.error();
  }
  if (kind == "rows" || kind == "dead") {
    ASSIGN_OR_RETURN(std::vector<std::string> actual,
                     kind == "rows" ? RowLines(argument) : DeadLines(argument));
    return Expect(section, actual);
  }
  if (kind == "output") {
    auto text = ReadFile(fs_, folder_ + "/" + argument);
    return Expect(section, text ? LinesOf(*text) : std::vector<std::string>{"(no such file)"});
  }
  std::vector<std::string> arguments{"check"};
  std::vector<int> codes{kExitDone, kExitNo};
  if (kind == "fails") {
    arguments = ShellWords(argument);
    if (arguments.size() < 2) return Invalid("{}:{}: === fails CODE VERB…", name_, section.line);
    codes = {std::atoi(arguments[0].c_str())};
    arguments.erase(arguments.begin());
  }
  ASSIGN_OR_RETURN(VerbDone done, Done(arguments, codes));
  return Expect(section, LinesOf(done.out + done.err));
}

}  // namespace millstream
