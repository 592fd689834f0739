// Metrics: counters, gauges and histograms with labels, and their text for Prometheus (GET /metrics).
//
// Place: floor 0, over prometheus-cpp. One Metrics object is made in main and passed around.
// Counter, Gauge and Histogram are handles: one pointer, cheap to copy. Look one up once, keep it, and use it
// in the hot loop (an increment is one atomic addition). A default-made handle counts nothing, so that tests
// need no Metrics. Threads: all of it is thread-safe. Ownership: Metrics owns the series and must outlive the
// handles. Failure: a malformed name, or one name used for two kinds, is a programmer error (CHECK). Beyond
// kSeriesMax series new handles count nothing, and millstream_metrics_dropped_total says how many were asked
// for.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace millstream {

class Counter {
 public:
  Counter() = default;
  /// Adds `by` >= 0.
  void Increment(double by = 1);
  double Value() const;

 private:
  friend class Metrics;
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  prometheus::Counter* counter_ = nullptr;
};

class Gauge {
 public:
  Gauge() = default;
  void Set(double value);
  void Add(double by);
  double Value() const;

 private:
  friend class Metrics;
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram {
 public:
  Histogram() = default;
  void Observe(double value);

 private:
  friend class Metrics;
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  prometheus::Histogram* histogram_ = nullptr;
};

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;
  static constexpr size_t kSeriesMax = 50'000;

  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// The series of this name and these labels; made at the first call. `help` is taken from the first call of
  /// a name.
  Counter GetCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge GetGauge(const std::string& name, const std::string& help, const Labels& labels = {});
  /// `bounds` are the upper ends of the buckets, ascending; the same for all series of a name.
  Histogram GetHistogram(const std::string& name, const std::string& help, const Labels& labels,
                         const std::vector<double>& bounds);

  /// Bounds for durations in seconds: 0.1 ms to 10 s, three a decade.
  static const std::vector<double>& DurationBounds();

  /// All series in the text exposition format, version 0.0.4.
  std::string Text() const;
  static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millstream
