#include "base/metrics.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

TEST(MetricsTest, OneSeriesPerNameAndLabels) {
  Metrics metrics;
  Counter first = metrics.GetCounter("millstream_stream_events_total", "Events", {{"stream", "orders"}});
  Counter again = metrics.GetCounter("millstream_stream_events_total", "Events", {{"stream", "orders"}});
  Counter other = metrics.GetCounter("millstream_stream_events_total", "Events", {{"stream", "clicks"}});
  first.Increment(2);
  again.Increment();
  other.Increment(5);
  EXPECT_EQ(first.Value(), 3);
  EXPECT_EQ(other.Value(), 5);
}

TEST(MetricsTest, TextExposition) {
  Metrics metrics;
  metrics.GetCounter("m_events_total", "Events taken in", {{"stream", "a\"b\n"}}).Increment(1'240'118);
  metrics.GetGauge("m_lag", "Lag").Set(-1.5);
  Histogram seconds = metrics.GetHistogram("m_fsync_seconds", "fsync", {}, Metrics::DurationBounds());
  seconds.Observe(0.0003);
  seconds.Observe(100);
  std::string text = metrics.Text();
  for (auto line : {"# HELP m_events_total Events taken in\n", "# TYPE m_events_total counter\n",
                    "m_events_total{stream=\"a\\\"b\\n\"} 1240118\n", "m_lag -1.5\n",
                    "m_fsync_seconds_count 2\n", "m_fsync_seconds_bucket{le=\"0.0002\"} 0\n",
                    "m_fsync_seconds_bucket{le=\"10\"} 1\n", "m_fsync_seconds_bucket{le=\"+Inf\"} 2\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST(MetricsTest, HandlesWithoutMetricsCountNothing) {
  Counter counter;
  Gauge gauge;
  Histogram histogram;
  counter.Increment();
  gauge.Set(1);
  gauge.Add(1);
  histogram.Observe(1);
  EXPECT_EQ(counter.Value(), 0);
  EXPECT_EQ(gauge.Value(), 0);
}

TEST(MetricsTest, SeriesAreBounded) {
  Metrics metrics;
  Counter last;
  for (size_t i = 0; i < Metrics::kSeriesMax; ++i) {
    last = metrics.GetCounter("m_total", "m", {{"i", std::to_string(i)}});
  }
  last.Increment();
  EXPECT_EQ(last.Value(), 0) << "the bound holds one series of its own";
  EXPECT_NE(metrics.Text().find("millstream_metrics_dropped_total 1\n"), std::string::npos);
}

TEST(MetricsTest, ThreadsCountTogether) {
  Metrics metrics;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      Counter counter = metrics.GetCounter("m_total", "m");
      for (int n = 0; n < 1000; ++n) counter.Increment();
    });
  }
  threads.clear();
  EXPECT_EQ(metrics.GetCounter("m_total", "m").Value(), 4000);
}

TEST(MetricsDeathTest, OneNameIsOneKind) {
  Metrics metrics;
  metrics.GetCounter("m_total", "m");
  EXPECT_DEATH(metrics.GetGauge("m_total", "m"), "check failed");
  EXPECT_DEATH(metrics.GetCounter("no blanks", "m"), "check failed");
}

}  // namespace
}  // namespace millstream
