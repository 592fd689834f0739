// Histories of a simulation: what happens in which order, made from a seed, written as text, and shrunk.
//
// Place: floor 5, tests of pipeline/ only. An operation carries its own numbers and reads them against
// whatever state it meets, so a history stays one when operations are left out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/status.h"

namespace millstream {

// Name, and how often it comes among the sum of all.
#define MILLSTREAM_OPERATIONS(OP)                                                   \
  OP(post, 24)       /* a producer sends a batch, or again what was not answered */ \
  OP(write, 18)      /* a partition's writer takes its turn */                      \
  OP(deliver, 26)    /* a delivery loop takes steps */                              \
  OP(change, 4)      /* other filters, sometimes other sinks */                     \
  OP(meanwhile, 10)  /* what is to happen in the midst of something else */         \
  OP(kill, 2)        /* the process ends */                                         \
  OP(cut, 2)         /* the power fails */                                          \
  OP(death, 4)       /* one of the two at the Nth change of the disk from now */    \
  OP(stop, 1)        /* a clean stop and start */                                   \
  OP(sync_fails, 1)  /* a sync to come fails */                                     \
  OP(disk_full, 2)   /* a write finds no room, or an open no descriptor */          \
  OP(write_fails, 1) /* a write to come fails */                                    \
  OP(trouble, 5)     /* a sink is away, refuses, or loses an answer */              \
  OP(checkpoint, 4)  /* sinks make durable what they have */                        \
  OP(retain, 2)      /* retention */                                                \
  OP(seal, 2)        /* segments are sealed */                                      \
  OP(merge, 2)       /* and merged */                                               \
  OP(clock, 4)       /* time passes, or leaps */

enum class Operation : uint8_t {
#define MILLSTREAM_NAME(name, weight) name,
  MILLSTREAM_OPERATIONS(MILLSTREAM_NAME)
#undef MILLSTREAM_NAME
};

struct Happening {
  Operation what = Operation::post;
  uint64_t a = 0, b = 0;
};
using History = std::vector<Happening>;

inline constexpr const char* kOperationNames[] = {
#define MILLSTREAM_NAME(name, weight) #name,
    MILLSTREAM_OPERATIONS(MILLSTREAM_NAME)
#undef MILLSTREAM_NAME
};

inline History MakeHistory(uint64_t seed, size_t length) {
  constexpr uint32_t kWeights[] = {
#define MILLSTREAM_NAME(name, weight) weight,
      MILLSTREAM_OPERATIONS(MILLSTREAM_NAME)
#undef MILLSTREAM_NAME
  };
  uint64_t sum = 0;
  for (uint32_t weight : kWeights) sum += weight;
  SeededRandom random(seed);
  History history;
  while (history.size() < length) {
    uint64_t drawn = random.Below(sum);
    uint8_t what = 0;
    for (; drawn >= kWeights[what]; ++what) drawn -= kWeights[what];
    history.push_back({static_cast<Operation>(what), random.Below(1000), random.Below(1000)});
  }
  return history;
}

/// "post 3 77, deliver 1 0"
inline std::string ToText(const History& history) {
  std::string text;
  for (const Happening& each : history)
    text += fmt::format("{}{} {} {}", text.empty() ? "" : ", ", kOperationNames[static_cast<int>(each.what)],
                        each.a, each.b);
  return text;
}

/// What ToText wrote.
inline History ParseHistory(const std::string& text) {
  History history;
  std::istringstream in(text);
  std::string name, comma;
  while (in >> name) {
    Happening& each = history.emplace_back();
    auto known = std::find(std::begin(kOperationNames), std::end(kOperationNames), name);
    CHECK(known != std::end(kOperationNames));
    each.what = static_cast<Operation>(known - std::begin(kOperationNames));
    in >> each.a >> each.b;
    std::getline(in, comma, ' ');
  }
  return history;
}

/// Leaves out what can be left out while `fails` stays true: halves first, then ever smaller pieces (Zeller's
/// delta debugging).
inline History Shrink(History history, const std::function<bool(const History&)>& fails) {
  constexpr int kTriesMax = 1000;
  int tries = 0;
  for (size_t piece = std::max<size_t>(1, history.size() / 2);; piece = piece / 2) {
    bool shrunk = false;
    for (size_t from = 0; from < history.size() && tries < kTriesMax;) {
      History less = history;
      auto first = less.begin() + static_cast<ptrdiff_t>(from);
      less.erase(first, first + static_cast<ptrdiff_t>(std::min(piece, history.size() - from)));
      ++tries;
      if (fails(less)) {
        history = std::move(less);
        shrunk = true;
      } else {
        from += piece;
      }
    }
    if (tries >= kTriesMax || (piece == 1 && !shrunk)) return history;
    if (piece == 1) piece = 2;  // once more by one
  }
}

}  // namespace millstream
