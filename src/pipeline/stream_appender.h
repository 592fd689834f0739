// EngineAppender: what a `stream` sink needs of the runtime (stage/stage.h, StreamAppender).
//
// Place: floor 5; one a stream sink, made by the runtime. Threads: one at a time, as its sink.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pipeline/stream_ingest.h"
#include "stage/stage.h"

namespace millstream {

class EngineAppender final : public StreamAppender {
 public:
  /// `find` gives a stream's way in, or null; `names` the streams there are (for the nearest name).
  EngineAppender(std::function<std::shared_ptr<StreamIngest>(const std::string&)> find,
                 std::function<std::vector<std::string>()> names)
      : find_(std::move(find)), names_(std::move(names)) {}

  Status OpenTarget(const std::string& stream) override;
  Result<std::map<uint32_t, uint64_t>> Positions(const std::string& origin) override;
  uint64_t Position(const std::string& origin, uint32_t part) override;
  Status Append(const std::string& origin, uint32_t part, const std::vector<Row>& rows,
                uint64_t next) override;

 private:
  std::function<std::shared_ptr<StreamIngest>(const std::string&)> find_;
  std::function<std::vector<std::string>()> names_;
  std::string name_;  // of the target
};

}  // namespace millstream
