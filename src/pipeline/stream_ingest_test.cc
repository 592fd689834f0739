#include <set>

#include "pipeline/ingest_test_support.h"

namespace millstream {
namespace {

using Texts = std::vector<std::string>;

TEST_F(IngestTest, KeepsOrderAndTellsWhereEventsLie) {
  config_.shape.key = {"/k"};
  ASSERT_TRUE(Open().ok());
  std::string body;
  for (int i = 0; i < 20; ++i) body += fmt::format("{{\"k\":\"{}\",\"n\":{}}}\n", i % 5, i);
  auto answer = Post(body);
  ASSERT_TRUE(answer) << answer.error().status.ToString();
  EXPECT_EQ(answer->accepted, 20u);
  ASSERT_EQ(answer->partitions.size(), 2u);
  uint64_t sum = 0;
  for (const PartitionRange& range : answer->partitions) {
    sum += range.last - range.first + 1;
    EXPECT_EQ(answer->position.offsets.at(range.partition), range.last);
    Texts events = Events(range.partition);
    ASSERT_EQ(events.size(), range.last + 1);
    int before = -1;
    for (const std::string& event : events) {
      int n = std::stoi(event.substr(event.find("\"n\":") + 4));
      EXPECT_GT(n, before);
      before = n;
    }
  }
  EXPECT_EQ(sum, 20u);
}

TEST_F(IngestTest, FaultsByIndexAndTheRestIsTaken) {
  SetField("id", "varchar not null");
  SetField("amount", "decimal(12,2) check (amount >= 0)");
  ASSERT_TRUE(Open().ok());
  auto answer = Post(
      "{\"id\":\"a\",\"amount\":1}\n"
      "{\"id\":\"b\",\"amount\":\"abc\"}\n"
      "not json\n"
      "{\"id\":\"c\",\"amount\":-1}\n"
      "{\"amount\":2}\n"
      "{\"id\":\"d\",\"amount\":2.5}\n");
  ASSERT_TRUE(answer) << answer.error().status.ToString();
  EXPECT_EQ(answer->accepted, 2u);
  EXPECT_EQ(answer->quarantined, 4u);
  ASSERT_EQ(answer->faults.size(), 4u);
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answer->faults[i].index, i + 1);
    EXPECT_EQ(answer->faults[i].line, i + 2);
    EXPECT_EQ(answer->faults[i].dead, i);
  }
  EXPECT_EQ(answer->faults[0].path, "/amount");
  EXPECT_EQ(answer->faults[1].code, "json");
  EXPECT_EQ(answer->faults[2].code, "contract");
  EXPECT_EQ(answer->faults[3].path, "/id");
  std::vector<DeadLetter> letters = Letters();
  ASSERT_EQ(letters.size(), 4u);
  EXPECT_EQ(dead_letters_->Get("orders", 1)->data, "not json");
}

TEST_F(IngestTest, RejectTakesNothing) {
  SetField("n", "integer");
  config_.reject = true;
  ASSERT_TRUE(Open().ok());
  auto answer = Post("{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":2}\n{\"n\":\"y\"}\n");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().status.code(), Code::kInvalid);
  ASSERT_EQ(answer.error().faults.size(), 2u);
  EXPECT_EQ(answer.error().faults[0].index, 1u);
  EXPECT_EQ(answer.error().faults[1].index, 3u);
  EXPECT_TRUE(AllEvents().empty());
  EXPECT_TRUE(Letters().empty());
}

TEST_F(IngestTest, AcknowledgedOutlivesACrash) {
  ASSERT_TRUE(Open().ok());
  std::set<std::string> acknowledged;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (int i = 0; i < 5; ++i) {
      std::string event = fmt::format("{{\"n\":{}}}", seed * 10 + i);
      if (Post(event)) acknowledged.insert(event);
    }
    ASSERT_TRUE(Crash(seed).ok());
    Texts kept = AllEvents();
    std::set<std::string> distinct(kept.begin(), kept.end());
    EXPECT_EQ(distinct.size(), kept.size()) << "doubled";
    for (const std::string& event : acknowledged) EXPECT_TRUE(distinct.contains(event)) << event;
  }
  EXPECT_EQ(acknowledged.size(), 40u);
}

TEST_F(IngestTest, AFailedSyncIsNotAcknowledged) {
  ASSERT_TRUE(Open().ok());
  fs_.FailAt(FileCall::kSync, 1, IoError("the disk is gone"), true);
  auto answer = Post("{\"n\":1}");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().status.code(), Code::kIo);
  // Told after the answer.
  for (int tries = 0; tries < 1000 && fatal_code_ == Code::kOk; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(fatal_code_, Code::kIo);
  fs_.StopFailing();
  ASSERT_TRUE(Crash(1).ok());
  ASSERT_TRUE(Post("{\"n\":2}"));
  EXPECT_EQ(AllEvents().back(), "{\"n\":2}");
}

// A request spreads over partitions that are synced apart. Whatever part of it a crash leaves, the retry
// appends what lacks, and nothing twice.
class PartlyDurable : public IngestTest, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Dedupe, PartlyDurable, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "with" : "without"; });

TEST_P(PartlyDurable, ARetryCompletesIt) {
  config_.shape.partitions = 4;
  config_.shape.key = {"/k"};
  SetField("n", "integer");
  if (GetParam()) config_.dedupe_by = {"n"};
  std::string body;
  for (int i = 0; i < 12; ++i) {
    // Some have no key: those are spread.
    body += i % 3 == 0 ? fmt::format("{{\"n\":{}}}\n", i) : fmt::format("{{\"n\":{},\"k\":\"k{}\"}}\n", i, i);
    if (i % 5 == 0) body += fmt::format("{{\"n\":\"bad {}\"}}\n", i);
  }
  int partial = 0;
  for (uint64_t at = 1; at < 60; ++at) {
    Close();
    directory_ = fmt::format("/data{}", at);
    ASSERT_TRUE(Open().ok());
    fs_.PowerOffAt(at);
    auto first = Post(body, "key");
    bool was_cut = fs_.powered_off();
    ASSERT_TRUE(Crash(at).ok()) << at;
    size_t kept = AllEvents().size();
    if (kept > 0 && kept < 12) ++partial;
    auto retry = Post(body, "key");
    ASSERT_TRUE(retry) << at << ": " << retry.error().status.ToString();
    EXPECT_EQ(retry->accepted, 12u) << at;
    EXPECT_EQ(retry->quarantined, 3u) << at;
    EXPECT_EQ(retry->duplicates, 0u) << at;
    ASSERT_EQ(retry->faults.size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(retry->faults[i].dead, i) << at;
    Texts events = AllEvents();
    EXPECT_EQ(events.size(), 12u) << at << ": lost or doubled";
    EXPECT_EQ(std::set<std::string>(events.begin(), events.end()).size(), 12u) << at;
    EXPECT_EQ(Letters().size(), 3u) << at;
    if (first) {
      EXPECT_TRUE(retry->replayed);
      EXPECT_EQ(retry->ToJson(), first->ToJson()) << at;
    }
    if (!was_cut) break;
  }
  EXPECT_GT(partial, 0) << "no cut left a part of the request: the test tests nothing";
}

TEST_F(IngestTest, AnotherBodyUnderAKeyIsRefusedAlsoAfterARestart) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(Post("{\"n\":1}", "k"));
  for (int round = 0; round < 2; ++round) {
    auto other = Post("{\"n\":2}", "k");
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().status.code(), Code::kInvalid);
    auto again = Post("{\"n\":1}", "k");  // the refusal is not remembered
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->replayed);
    ASSERT_TRUE(Open().ok());
  }
  EXPECT_EQ(AllEvents(), Texts{"{\"n\":1}"});
}

TEST_F(IngestTest, AKeyIsForgottenAfterADay) {
  config_.shape.partitions = 1;
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(Post("{\"n\":1}", "k"));
  clock_.AdvanceUs(25ll * 3600 * 1'000'000);
  ASSERT_TRUE(Post("{\"n\":9}", "other"));  // the log forgets as it appends
  auto again = Post("{\"n\":1}", "k");
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->replayed);
  EXPECT_EQ(AllEvents().size(), 3u);
}

TEST_F(IngestTest, APieceOfAFileIsTakenOnce) {
  config_.shape.partitions = 3;
  std::string all;
  for (int i = 0; i < 30; ++i) all += fmt::format("{{\"n\":{}}}\n", i);
  auto piece = [&](int from, int to) {
    std::string body;
    for (int i = from; i < to; ++i) body += fmt::format("{{\"n\":{}}}\n", i);
    IngestRequest request = Request(body);
    request.subject = "a.ndjson";
    request.first_line = static_cast<uint64_t>(from) + 1;
    request.origin =
        OriginRange{"file/orders", "a", static_cast<uint64_t>(from), fmt::format("{} {}", to, 99)};
    return request;
  };
  for (uint64_t at = 1; at < 40; ++at) {
    Close();
    directory_ = fmt::format("/data{}", at);
    ASSERT_TRUE(Open().ok());
    ASSERT_TRUE(Take(piece(0, 10)));
    fs_.PowerOffAt(at);
    (void)Take(piece(10, 20));
    bool was_cut = fs_.powered_off();
    ASSERT_TRUE(Crash(at).ok());
    auto place = ingest_->FindOrigin("file/orders", "a");
    int from = place ? std::stoi(place->position) : 0;
    EXPECT_TRUE(from == 0 || from == 10 || from == 20);
    ASSERT_TRUE(Take(piece(from, 30)));
    EXPECT_EQ(AllEvents().size(), 30u) << "cut at " << at;
    EXPECT_EQ(ingest_->FindOrigin("file/orders", "a")->position, "30 99");
    if (!was_cut) break;
  }
}

TEST_F(IngestTest, OriginWriterSkipsWhatATargetHas) {
  ASSERT_TRUE(Open().ok());
  auto write = [&](uint64_t first, uint64_t end) {
    OriginWriter writer(*ingest_, "pipeline/p.1/stream:orders");
    for (uint64_t i = first; i < end; ++i) {
      std::string data = fmt::format("{{\"n\":{}}}", i);
      data.reserve(data.size() + 64);
      std::string id = fmt::format("id-{}", i);
      Envelope envelope;
      envelope.id = id;
      EXPECT_FALSE(writer.Add("0", envelope, data, i + 1, "", false));
    }
    return writer.Commit("0", fmt::format("{}", end), false, true);
  };
  ASSERT_TRUE(write(0, 10));
  ASSERT_TRUE(write(5, 15));
  EXPECT_EQ(AllEvents().size(), 15u);
  ASSERT_TRUE(Crash(3).ok());
  ASSERT_TRUE(write(0, 20));
  EXPECT_EQ(AllEvents().size(), 20u);
  // Nothing gathered: the position alone.
  OriginWriter empty(*ingest_, "pipeline/p.1/stream:orders");
  ASSERT_TRUE(empty.Commit("0", "25", true, true));
  EXPECT_EQ(ingest_->FindOrigin("pipeline/p.1/stream:orders", "0")->position, "25");
}

TEST_F(IngestTest, ALetterOfASourceIsNotWrittenTwice) {
  SetField("n", "integer");
  ASSERT_TRUE(Open().ok());
  auto write = [&] {
    OriginWriter writer(*ingest_, "source/s");
    for (const std::string text : {"{\"n\":1}", "{\"n\":\"x\"}", "{\"n\":2}"}) {
      std::string data = text;
      data.reserve(data.size() + 64);
      writer.Add("a", {}, data, writer.count() + 1, fmt::format("a#{}", writer.count() + 1), true);
    }
    return writer.Commit("a", "3", true, false);
  };
  ASSERT_TRUE(write());
  ASSERT_TRUE(Crash(1).ok());
  ASSERT_TRUE(write());
  ASSERT_EQ(Letters().size(), 1u);
  EXPECT_EQ(Letters()[0].event, "a#2");
  EXPECT_EQ(AllEvents().size(), 2u);
}

}  // namespace
}  // namespace millstream
