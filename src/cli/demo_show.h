// DemoShow: what `millstream demo` does and says, act by act: events arrive, filters, tables, a change while
// events flow, history run again, the past asked.
//
// Place: floor 8. Runs over an Engine and its server, which the caller keeps; belongs to one thread, beside
// which it has one that sends events during the change. Prints on stdout, no line wider than 80 columns
// unless a word is. Failure: what an act was refused, with its reason; a stop signal ends it without one.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"
#include "cli/http_client.h"
#include "cli/signals.h"
#include "event/position.h"
#include "pipeline/engine.h"

namespace millstream {

/// Text on stdout, in bold where the terminal has it.
class Screen {
 public:
  explicit Screen(const std::string& color);
  void Title(const std::string& text) const;
  /// Lines; one that is too wide is broken between two of its columns.
  void Text(std::string_view text) const;
  /// What a user would type, broken between words.
  void Typed(std::string_view text) const;

 private:
  const bool color_;
};

class DemoShow {
 public:
  DemoShow(Engine& engine, HttpClient& api, Clock& clock, StopSignals& signals, const Screen& screen)
      : engine_(engine), api_(api), clock_(clock), signals_(signals), screen_(screen) {}

  Status Run();

 private:
  Result<IngestAnswer> Send(const std::string& stream, BodyFormat format, std::string_view body);
  Result<std::string> UsersAsJson();
  Status SendWebhooks(int rounds, const std::function<void(uint64_t, std::string_view)>& sent);
  /// The rows of a query, laid out; `more` are further members of its request, `answer` gets all of it.
  Result<std::string> Ask(std::string_view sql, std::string_view more = "", std::string* answer = nullptr);

  Status Arrive();
  Status Filters();
  Status Tables();
  Status Change();
  Status Replay();
  Status Past();

  Engine& engine_;
  HttpClient& api_;
  Clock& clock_;
  StopSignals& signals_;
  const Screen& screen_;
  Position sent_;      // the last webhook
  Position boundary_;  // from here on the changed filter holds
};

}  // namespace millstream
