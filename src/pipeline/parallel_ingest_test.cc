#include "pipeline/parallel_ingest.h"

#include "pipeline/ingest_test_support.h"

namespace millstream {
namespace {

constexpr int kEvents = 400;
constexpr int kEventsAPiece = 10;

class ParallelIngestTest : public IngestTest {
 protected:
  ParallelIngestTest() {
    config_.shape.key = {"/k"};
    for (int n = 0; n < kEvents; ++n) {
      text_ += fmt::format("{{\"k\":\"{}\",\"n\":{}}}\r\n\n", n % 7, n);
      ends_.push_back(text_.size());
    }
    text_.append(64, '\0');
  }

  /// Sends the file from `begin`, the byte after an event, to its end.
  Status SendFrom(ParallelIngest& ingest, size_t begin) {
    size_t first = 0;
    while (first < ends_.size() && ends_[first] <= begin) ++first;
    for (size_t last = first; last < ends_.size(); last += kEventsAPiece) {
      size_t end = ends_[std::min(last + kEventsAPiece, ends_.size()) - 1];
      IngestRequest request;
      request.stream = "orders";
      request.format = BodyFormat::kNdjson;
      request.body = std::string_view(text_).substr(begin, end - begin);
      request.subject = "a.ndjson";
      request.first_line = 2 * last + 1;
      request.origin = OriginRange{"source/s", "a", begin, fmt::format("{}", end), true};
      RETURN_IF_ERROR(ingest.Send(std::move(request), nullptr));
      begin = end;
    }
    return OkStatus();
  }
  /// What is not stored yet.
  Status SendAll(ParallelIngest& ingest) {
    Status status = SendFrom(ingest, Stored());
    Status finished = ingest.Finish();
    return status.ok() ? finished : status;
  }
  size_t Stored() {
    auto place = ingest_->FindOrigin("source/s", "a");
    return place ? std::stoul(place->position) : 0;
  }
  /// Every event once, each partition's in the order of the file.
  void ExpectAll() {
    size_t count = 0;
    for (uint32_t p = 0; p < stream_->partitions(); ++p) {
      int before = -1;
      for (const std::string& event : Events(p)) {
        int n = std::stoi(event.substr(event.find("\"n\":") + 4));
        EXPECT_GT(n, before);
        before = n;
        ++count;
      }
    }
    EXPECT_EQ(count, static_cast<size_t>(kEvents));
  }

  std::string text_;
  std::vector<size_t> ends_;  // by event: the byte after its line and an empty one
};

TEST_F(ParallelIngestTest, KeepsOrderAndTellsTheSum) {
  ASSERT_TRUE(Open().ok());
  ParallelIngest ingest(ingest_);
  ASSERT_TRUE(SendAll(ingest).ok());
  EXPECT_EQ(ingest.totals().accepted, static_cast<uint64_t>(kEvents));
  for (uint32_t p = 0; p < 2; ++p)
    EXPECT_EQ(ingest.totals().position.offsets.at(p) + 1, stream_->partition(p).bounds().durable_end);
  EXPECT_EQ(Stored(), ends_.back());
  ExpectAll();
}

TEST_F(ParallelIngestTest, NothingIsAppendedBehindAPieceThatFailed) {
  int failures = 0;
  for (int nth = 1; nth < 20; ++nth) {
    directory_ = fmt::format("/data{}", nth);
    ASSERT_TRUE(Open().ok());
    {
      ParallelIngest ingest(ingest_);
      fs_.FailAt(FileCall::kWrite, nth, Exhausted("the disk is full for a moment"));
      Status status = SendAll(ingest);
      // A group takes all that has gathered: there may have been fewer writes.
      failures += !status.ok();
      if (!status.ok()) {
        EXPECT_EQ(status.code(), Code::kExhausted);
      }
      fs_.StopFailing();
      // The log may not have told everybody yet.
      for (int tries = 0; tries < 1000 && !status.ok(); ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        status = SendAll(ingest);
      }
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
    ExpectAll();
    Close();
  }
  EXPECT_GT(failures, 0) << "the test tests nothing";
}

TEST_F(ParallelIngestTest, AfterAPowerCutItGoesOnWhereItWas) {
  int cuts = 0;
  for (uint64_t at = 1; at < 16; ++at) {
    directory_ = fmt::format("/data{}", at);
    ASSERT_TRUE(Open().ok());
    {
      ParallelIngest ingest(ingest_);
      fs_.PowerOffAt(at);
      (void)SendAll(ingest);
      cuts += fs_.powered_off();
    }
    ASSERT_TRUE(Crash(at).ok());
    ParallelIngest ingest(ingest_);
    ASSERT_TRUE(SendAll(ingest).ok());
    ExpectAll();
  }
  EXPECT_GT(cuts, 0) << "the test tests nothing";
}

TEST_F(ParallelIngestTest, BadLinesAreQuarantinedWithTheirPlace) {
  SetField("n", "integer");
  ASSERT_TRUE(Open().ok());
  ParallelIngest ingest(ingest_);
  IngestRequest request = Request("{\"n\":1}\n\n{\"n\":\"x\"}\n{\"n\":2}");
  request.subject = "b.ndjson";
  request.first_line = 5;
  request.origin = OriginRange{"source/s", "b", 100, "124", true};
  ASSERT_TRUE(ingest.Send(request, nullptr).ok());
  ASSERT_TRUE(ingest.Finish().ok());
  EXPECT_EQ(ingest.totals().accepted, 2u);
  EXPECT_EQ(ingest.totals().quarantined, 1u);
  ASSERT_EQ(Letters().size(), 1u);
  EXPECT_EQ(Letters()[0].event, "b.ndjson#7");
}

}  // namespace
}  // namespace millstream
