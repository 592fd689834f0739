// LettersRequest, LettersAnswer: what people do with dead letters: send them again, or drop them.
//
// Place: floor 5. Values.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "catalog/letters.h"
#include "pipeline/dead_letters.h"

namespace millstream {

struct LettersRequest {
  std::string stream;
  std::vector<uint64_t> ids;         // these, or else
  DeadLetters::Selection selection;  // those that are open and that it takes
  std::string asked;                 // the same in words, for `_control`
  std::string who;
  int64_t wait_us = 0;  // how long a replay is waited for
};

struct LettersAnswer {
  LetterState state = LetterState::kReplaying;         // kReplayed once every effect is durable; kDropped
  uint64_t replay = 0;                                 // its number; 0: nothing was there to be taken
  uint64_t taken = 0;                                  // letters
  std::vector<std::pair<uint64_t, std::string>> left;  // number, why it was left; the first 100
  uint64_t left_count = 0;
  bool more = false;              // there are more than one request takes
  std::string position;           // of ingest: where in the stream the last of them stand
  uint64_t refused = 0;           // became dead letters again
  std::vector<std::string> late;  // sinks in which they stand after newer events
  std::string reason;             // why it still waits

  /// The body of POST /v1/dead/S/replay and drop.
  std::string ToJson() const;
};

}  // namespace millstream
