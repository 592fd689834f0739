// EventFeed: a stream's events out of the log, all partitions in the order of their append stamps, up to an
// end or for ever.
//
// Place: floor 7; under GET /v1/streams/{stream}/events. Belongs to one thread.
// Failure: kNotFound for a place below what is kept ("earliest is N"); kCorrupt, kIo of the log.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "event/cloudevents.h"
#include "event/position.h"
#include "log/log.h"

namespace millstream {

/// Where a feed begins and ends. Partitions that are not named: from the start, without end.
struct FeedRange {
  std::map<uint32_t, uint64_t> from;  // first offset
  std::map<uint32_t, uint64_t> to;    // first offset that is not part of it
};

class EventFeed {
 public:
  static Result<std::unique_ptr<EventFeed>> Open(Stream& stream, FeedRange range);

  /// Appends the next event as a CloudEvent (JSON). False: nothing now (or at all, see AtEnd).
  Result<bool> Append(std::string& out);
  /// Whether `to` is reached in every partition.
  bool AtEnd() const;
  /// Waits until there may be more, the time is over, or a stop is asked.
  void Wait(int64_t timeout_us, std::stop_token stop);
  /// Up to and with the last event of each partition that lies behind: what Last-Event-ID gives back.
  Position position() const;

 private:
  struct Part {
    Partition* partition = nullptr;
    uint64_t next = 0;
    uint64_t to = UINT64_MAX;
    std::unique_ptr<PartitionReader> reader;
    std::unique_ptr<EventBatch> batch;  // holds `next`, if not null
    std::optional<CloudEventWriter> writer;
    int64_t stamp_us = 0;  // of `next`
  };
  EventFeed() = default;
  Status Load(Part& part);

  std::string stream_;
  std::vector<Part> parts_;
};

}  // namespace millstream
