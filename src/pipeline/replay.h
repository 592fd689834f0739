// ReplayRequest, ReplayStatus: a replay as it is asked for, and how far one is.
//
// Place: floor 5; Engine::StartReplay and what follows. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "pipeline/dead_letters.h"
#include "stage/node.h"

namespace millstream {

struct ReplayRequest {
  std::string pipeline;
  /// earliest, latest, a time, a duration ago or a position; empty: where the pipeline began, and the end of
  /// the log now.
  std::string from, to;
  /// Edits the definitions that are live: the pipeline's filters are taken from there. None: each event is
  /// run by the version that was live for it.
  std::function<Result<Node>(const Node& live)> edit;
  Node into;             // {KIND: options}; or:
  bool cutover = false;  // make the tables of the pipeline anew
  double share = 1;      // of a core, at most, for each partition
  bool effects = false;
  std::string who;
};

struct ReplayStatus {
  uint64_t id = 0;
  std::string pipeline, into;
  std::string state;   // running, paused, failed, finished, cancelled
  std::string reason;  // of failed; of running: what it waits for
  bool cutover = false;
  uint64_t done = 0, total = 0, dead_letters = 0;
  double events_per_second = 0, share = 1;
  std::optional<double> seconds_left;
  std::string who;
  int64_t started_us = 0, ended_us = 0;  // wall time; 0: not yet
  std::vector<DeadLetter> letters;       // the first ones of this process, without their data

  bool has_ended() const { return state == "finished" || state == "cancelled"; }
  std::string ToJson() const;
};

}  // namespace millstream
