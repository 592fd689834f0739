#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "base/status.h"

namespace millstream {

void Counter::Increment(double by) {
  if (counter_) counter_->Increment(by);
}
double Counter::Value() const { return counter_ ? counter_->Value() : 0; }

void Gauge::Set(double value) {
  if (gauge_) gauge_->Set(value);
}
void Gauge::Add(double by) {
  if (gauge_) gauge_->Increment(by);
}
double Gauge::Value() const { return gauge_ ? gauge_->Value() : 0; }

void Histogram::Observe(double value) {
  if (histogram_) histogram_->Observe(value);
}

struct Metrics::State {
  prometheus::Registry registry;
  std::mutex mutex;
  // A family and its series, by name: the registry itself would search and check all families at every
  // look-up.
  std::map<std::string, prometheus::Family<prometheus::Counter>*> counters;
  std::map<std::string, prometheus::Family<prometheus::Gauge>*> gauges;
  std::map<std::string, prometheus::Family<prometheus::Histogram>*> histograms;
  size_t series = 0;
  prometheus::Counter* dropped = nullptr;

  // Adds a series, or finds it. prometheus-cpp throws on malformed names; here that is a programmer error.
  template <typename T, typename Builder, typename... Args>
  T* Get(std::map<std::string, prometheus::Family<T>*>& families, Builder builder, const std::string& name,
         const std::string& help, const Labels& labels, Args&&... args) {
    std::lock_guard lock(mutex);
    try {
      auto& family = families[name];
      if (!family) family = &builder.Name(name).Help(help).Register(registry);
      if (!family->Has(labels)) {
        if (series >= kSeriesMax) {
          dropped->Increment();
          return nullptr;
        }
        ++series;
      }
      return &family->Add(labels, std::forward<Args>(args)...);
    } catch (const std::invalid_argument&) {
      CHECK(!"a metric's name or labels are malformed, or its name stands for another kind");
    }
  }
};

Metrics::Metrics() : state_(std::make_unique<State>()) {
  state_->dropped =
      state_->Get(state_->counters, prometheus::BuildCounter(), "millstream_metrics_dropped_total",
                  "Series that were asked for beyond the bound", {});
}
Metrics::~Metrics() = default;

Counter Metrics::GetCounter(const std::string& name, const std::string& help, const Labels& labels) {
  return Counter(state_->Get(state_->counters, prometheus::BuildCounter(), name, help, labels));
}

Gauge Metrics::GetGauge(const std::string& name, const std::string& help, const Labels& labels) {
  return Gauge(state_->Get(state_->gauges, prometheus::BuildGauge(), name, help, labels));
}

Histogram Metrics::GetHistogram(const std::string& name, const std::string& help, const Labels& labels,
                                const std::vector<double>& bounds) {
  return Histogram(state_->Get(state_->histograms, prometheus::BuildHistogram(), name, help, labels,
                               prometheus::Histogram::BucketBoundaries(bounds)));
}

const std::vector<double>& Metrics::DurationBounds() {
  static const std::vector<double> kBounds = {0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
                                              0.05,   0.1,    0.2,    0.5,   1,     2,     5,    10};
  return kBounds;
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(state_->registry.Collect());
}

}  // namespace millstream
