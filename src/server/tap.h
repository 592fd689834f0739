// Tap: a sample of what passes a place of a pipeline, without touching the pipeline: an own reader at the
// log's end and own filters.
//
// Place: floor 7; under GET /v1/tap. Belongs to one thread.
// Operation. Each Take looks at what came since the last one and takes the newest events within the rate; the
// rest is counted as left out. Failure: kInvalid for a place that cannot be tapped.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "pipeline/engine.h"
#include "pipeline/pipeline_runner.h"

namespace millstream {

class Tap {
 public:
  /// `place`: "stream:S", "PIPELINE", "PIPELINE.FILTER", "PIPELINE.SINK". `where`: an SQL condition over the
  /// rows, or "".
  static Result<std::unique_ptr<Tap>> Open(Engine& engine, const std::string& place,
                                           const std::string& where);

  struct Sample {
    std::vector<std::string> rows;  // JSON objects
    uint64_t events_left_out = 0;   // not read
    uint64_t rows_left_out = 0;     // read, beyond `most`
    std::string fault;              // what a filter said of an event
  };
  /// What passed since the last Take: at most `most` rows.
  Result<Sample> Take(size_t most, std::stop_token stop);

 private:
  struct Part {
    Partition* partition = nullptr;
    uint64_t next = 0;
  };
  Tap() = default;
  Status Sift(EventBatch& batch, uint32_t begin, uint32_t end, size_t most, std::stop_token stop,
              Sample& sample);

  std::string stream_;
  std::vector<Part> parts_;
  std::unique_ptr<PipelineRunner> runner_;  // null: events as they are
};

}  // namespace millstream
