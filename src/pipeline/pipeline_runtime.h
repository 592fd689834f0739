// PipelineRuntime: one pipeline as it runs: its sinks and a delivery loop for each of them and each
// partition.
//
// Place: floor 5; owned by the Engine. Threads: Start, Stop from the Engine's; the rest from any.
// Failure: a sink that cannot be opened leaves its loops `degraded` (they try again) or `failed`; the other
// sinks go on. Filters that do not bind stop the whole.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/delivery_loop.h"
#include "pipeline/stream_appender.h"
#include "tables/table_store.h"

namespace millstream {

struct RuntimeContext {
  Log* log = nullptr;
  Database* database = nullptr;
  TableStore* tables = nullptr;
  DeadLetters* dead_letters = nullptr;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Random* random = nullptr;
  Watchdog* watchdog = nullptr;
  Progress* progress = nullptr;
  const Registry* registry = nullptr;
  const Logger* logger = nullptr;  // may be null
  std::string project_directory, sinks_directory, data_uuid;
  LimitsConfig limits;
  std::function<StreamIngest*(const std::string&)> find_stream;
  std::function<std::vector<std::string>()> stream_names;
  std::function<size_t(const std::string& table)> count_writers;  // table sinks of the project that name it
  std::function<void(Status)> on_fatal;
};

class PipelineRuntime {
 public:
  /// `versions` ascending, the last is the live one; `start` where partitions begin for a sink that stored
  /// nothing.
  PipelineRuntime(RuntimeContext context, uint64_t generation,
                  std::vector<std::shared_ptr<const PipelineVersion>> versions,
                  std::map<uint32_t, uint64_t> start);
  ~PipelineRuntime();

  /// Binds the filters, makes the sinks, and opens those that are at hand; what cannot be opened is left to
  /// the loops. kInvalid: the filters do not bind; kIo: the start must end.
  Status Open();
  /// Opens the others too, as far as they can be opened now.
  Status OpenRemote();
  void Start(bool paused);
  /// Asks all loops to stop and waits for them; closes the sinks.
  void Stop();

  void SetPaused(bool paused);
  bool paused() const { return paused_; }
  PipelineStatus status() const;
  const PipelineConfig& config() const { return versions_.back()->config; }
  uint64_t generation() const { return generation_; }

  /// Next offsets of a sink by partition, as delivered; none until it is open.
  std::map<uint32_t, uint64_t> Delivered(const std::string& sink_id) const;
  /// By partition 1 + the highest offset that any sink can have committed: where another version may begin. A
  /// sink that is not open can have committed all that the log holds.
  std::map<uint32_t, uint64_t> Boundary() const;
  /// True if every loop has delivered up to the durable end of its partition, or has failed, or is paused.
  bool AtEnd() const;
  /// Sum of delivered offsets: grows while there is progress.
  uint64_t Progress() const;
  /// Lowest offset of a partition that a sink still needs after a power cut (retention).
  uint64_t LowWater(uint32_t partition) const;

 private:
  Status MakeSink(const SinkConfig& config);
  SinkContext MakeSinkContext(const SinkConfig& config);
  Status OpenSink(SharedSink& sink);
  Result<bool> KeyInOnePartition(const SinkConfig& config) const;

  RuntimeContext context_;
  const uint64_t generation_;
  const std::vector<std::shared_ptr<const PipelineVersion>> versions_;
  const std::map<uint32_t, uint64_t> start_;
  Stream* stream_ = nullptr;
  std::atomic<bool> paused_{false};
  std::vector<std::unique_ptr<EngineAppender>> appenders_;
  std::vector<std::unique_ptr<SharedSink>> sinks_;
  struct Running {
    SharedSink* sink;
    uint32_t partition;
    std::unique_ptr<DeliveryLoop> loop;
    std::jthread thread;
  };
  std::vector<std::unique_ptr<Running>> running_;
  std::mutex threads_mutex_;                    // held while loops' threads are started, replaced and stopped
  std::map<std::string, Status> unmade_sinks_;  // id, what is wrong with its options
  mutable LatencyWindow latency_;
};

}  // namespace millstream
