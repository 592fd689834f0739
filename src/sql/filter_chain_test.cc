#include "sql/filter_chain.h"

#include <random>

#include "sql/chain_for_test.h"
#include "sql/interrupts_for_test.h"

namespace millstream {
namespace {

using Lines = std::vector<std::string>;

class FilterChainTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { database_ = std::move(*Database::Open("", {})); }
  static void TearDownTestSuite() { database_.reset(); }

  void SetUp() override {
    connection_ = std::move(*database_->Connect());
    input_.stream = "orders";
    input_.defaults = {"/v1/streams/orders", "orders"};
    input_.contract.fields = {FieldOf("id", "varchar"), FieldOf("type", "varchar"),
                              FieldOf("amount", "decimal(12,2)"), FieldOf("n", "integer"),
                              FieldOf("lines", "struct(sku varchar, qty integer)[]")};
  }

  // Five events that differ in what filters look at.
  std::unique_ptr<EventBatch> FiveEvents(uint64_t base = 0) {
    return BatchOf(
        input_.contract,
        {R"({"id":"a","type":"paid","amount":1.50,"n":1,"lines":[{"sku":"x","qty":2},{"sku":"y","qty":1}]})",
         R"({"id":"an id of more than twelve bytes","type":"open","amount":20,"n":2,"lines":[]})",
         R"({"id":"c","type":"paid","amount":300.25,"n":3})",
         R"({"id":"d","type":"paid","n":null,"lines":null})",
         R"({"id":"e","type":"paid","amount":-5,"n":5,"lines":[{"sku":"z"}]})"},
        base);
  }

  std::unique_ptr<FilterChain> Make(const Lines& filters, ChainOptions options = {}) {
    auto chain = FilterChain::Make(*database_, input_, FiltersOf(filters), options);
    EXPECT_TRUE(chain) << chain.error().ToString();
    return chain ? std::move(*chain) : nullptr;
  }

  Lines Run(FilterChain& chain, EventBatch& batch, bool positions = false) {
    counts_.clear();
    BatchRange range{&batch, 0, batch.count()};
    auto rows = chain.Run(std::span(&range, 1), counts_);
    if (!rows) return {rows.error().ToString()};
    return RowsOf(*database_, *rows, positions);
  }

  Lines Run(const Lines& filters, bool positions = false, ChainOptions options = {}) {
    auto chain = Make(filters, options);
    auto batch = FiveEvents();
    return Run(*chain, *batch, positions);
  }

  inline static std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  ChainInput input_;
  std::vector<uint64_t> counts_;
};

TEST_F(FilterChainTest, NoFilterGivesTheContractsFields) {
  EXPECT_EQ(Run({})[0], R"(a paid 1.50 1 [{"sku":"x","qty":2},{"sku":"y","qty":1}])");
  EXPECT_EQ(Run({})[3], "d paid   ");
  EXPECT_EQ(Run({}).size(), 5u);
}

TEST_F(FilterChainTest, FiltersProjectAndDropRows) {
  EXPECT_EQ(Run({"SELECT id, amount * 2 AS twice FROM input WHERE type = 'paid'"}, true),
            (Lines{"a 3.00 @0.0", "c 600.50 @2.0", "d  @3.0", "e -10.00 @4.0"}));
  EXPECT_EQ(Run({"SELECT * FROM input WHERE id = 'an id of more than twelve bytes'", "SELECT n FROM input"}),
            Lines{"2"});
}

TEST_F(FilterChainTest, RowsAreCountedAfterEachFilter) {
  EXPECT_EQ(Run({"SELECT * FROM input WHERE type = 'paid'",
                 "SELECT *, n + 1 AS m FROM input WHERE amount > 0", "SELECT m FROM input WHERE n = 3"}),
            Lines{"4"});
  EXPECT_EQ(counts_, (std::vector<uint64_t>{4, 2, 1}));
  Run({"SELECT * FROM input WHERE type = 'nix'", "SELECT * FROM input"});
  EXPECT_EQ(counts_, (std::vector<uint64_t>{0, 0}));
  // The second filter's condition could be tested before the first: the counts tell that it was not.
  Run({"SELECT id, n FROM input", "SELECT id FROM input WHERE n = 3"});
  EXPECT_EQ(counts_, (std::vector<uint64_t>{5, 1}));
}

TEST_F(FilterChainTest, AJoinDoesNotReachBelowTheCountOfTheFilterBefore) {
  ASSERT_TRUE(
      connection_->Run("CREATE TABLE few (n INTEGER, name VARCHAR); INSERT INTO few VALUES (3, 'three')")
          .ok());
  EXPECT_EQ(Run({"SELECT id, n FROM input", "SELECT id, name FROM input JOIN few USING (n) WHERE few.n = 3"}),
            Lines{"c three"});
  EXPECT_EQ(counts_, (std::vector<uint64_t>{5, 1}));
}

TEST_F(FilterChainTest, UnnestNumbersTheRowsOfAnEvent) {
  EXPECT_EQ(
      Run({"SELECT id, unnest(lines) AS l FROM input", "SELECT id, l.sku AS sku, l.qty AS qty FROM input"},
          true),
      (Lines{"a x 2 @0.0", "a y 1 @0.1", "e z  @4.0"}));
  EXPECT_EQ(Run({"SELECT id, u.l.sku AS sku FROM input, UNNEST(lines) AS u(l)"}, true),
            (Lines{"a x @0.0", "a y @0.1", "e z @4.0"}));
}

TEST_F(FilterChainTest, RowsOfALookupComeInTheOrderOfEvents) {
  ASSERT_TRUE(
      connection_
          ->Run("CREATE TABLE kinds (type VARCHAR, k INTEGER); INSERT INTO kinds SELECT 'paid', range FROM "
                "range(3); INSERT INTO kinds VALUES ('open', 9)")
          .ok());
  Lines rows = Run({"SELECT id, k FROM input JOIN kinds USING (type)"}, true);
  ASSERT_EQ(rows.size(), 13u);
  std::vector<std::string> at;
  for (const std::string& row : rows) at.push_back(row.substr(row.find('@')));
  EXPECT_EQ(at, (Lines{"@0.0", "@0.1", "@0.2", "@1.0", "@2.0", "@2.1", "@2.2", "@3.0", "@3.1", "@3.2", "@4.0",
                       "@4.1", "@4.2"}));
}

TEST_F(FilterChainTest, ReservedColumnsAreThereWhenAsked) {
  auto chain = Make({"SELECT id FROM input", "SELECT upper(id) AS id FROM input"},
                    {.reserved = {"data", "ce_id", "ce_source", "ce_type", "ce_time", "_op"}});
  EXPECT_EQ(chain->visible(), 1u);
  std::vector<std::string> names;
  for (const ColumnInfo& column : chain->columns()) names.push_back(column.name);
  EXPECT_EQ(names, (Lines{"id", "data", "ce_id", "ce_source", "ce_type", "ce_time", "_op", "_partition",
                          "_offset", "_ordinal"}));
  auto batch = BatchOf(input_.contract, {R"({"id":"q"})", R"({"id":"r"})"}, 17,
                       {Envelope{}, Envelope{.id = "own",
                                             .source = {},
                                             .type = "t",
                                             .subject = {},
                                             .dataschema = {},
                                             .time_us = 1'000'000,
                                             .partition_key = {},
                                             .op = "u",
                                             .extensions = {}}});
  BatchRange range{batch.get(), 0, 2};
  auto rows = chain->Run(std::span(&range, 1), counts_);
  ASSERT_TRUE(rows) << rows.error().ToString();
  rows->visible = 7;
  EXPECT_EQ(RowsOf(*database_, *rows, true),
            (Lines{R"(Q {"id":"q"} orders/0:17 /v1/streams/orders orders 2023-11-14T22:13:20Z  @17.0)",
                   R"(R {"id":"r"} own /v1/streams/orders t 1970-01-01T00:00:01Z u @18.0)"}));
}

TEST_F(FilterChainTest, WithoutAContractJsonPathsWork) {
  input_.contract.fields.clear();
  EXPECT_EQ(Run({"SELECT data->>'$.id' AS id, (data->>'$.n')::INTEGER + 1 AS m FROM input WHERE "
                 "data->>'$.type' = 'paid'"}),
            (Lines{"a 2", "c 4", "d ", "e 6"}));
  EXPECT_EQ(Run({"SELECT * FROM input WHERE data->>'$.id' = 'c'"}),
            Lines{R"({"id":"c","type":"paid","amount":300.25,"n":3})"});
}

TEST_F(FilterChainTest, PreparedOverNothingItDoesNotFoldToNoRows) {
  for (const char* sql : {"SELECT id FROM input", "SELECT id FROM input WHERE n = 1",
                          "SELECT id FROM input WHERE amount BETWEEN 1 AND 2"}) {
    auto chain = Make({sql, "SELECT * FROM input"});
    EXPECT_TRUE(chain->Run(std::span<const BatchRange>(), counts_)->chunks.empty());
    auto batch = FiveEvents();
    EXPECT_FALSE(Run(*chain, *batch).empty()) << sql;
    EXPECT_TRUE(chain->Run(std::span<const BatchRange>(), counts_)->chunks.empty());
  }
}

TEST_F(FilterChainTest, ShortStringsCompareAndGroupEqual) {
  Contract contract;
  contract.fields = {FieldOf("id", "varchar")};
  input_.contract = contract;
  for (const char* id : {"", "a", "abc", "abcdefghijkl", "abcdefghijklm"}) {
    auto chain = Make({fmt::format("SELECT id FROM input WHERE id = '{}'", id)});
    auto batch =
        BatchOf(contract, {fmt::format("{{\"id\":\"{}\"}}", id), R"({"id":"other"})", R"({"id":null})"});
    EXPECT_EQ(Run(*chain, *batch), Lines{id});
  }
}

TEST_F(FilterChainTest, NullsAreNullEverywhere) {
  EXPECT_EQ(Run({"SELECT id FROM input WHERE amount IS NULL"}), Lines{"d"});
  EXPECT_EQ(Run({"SELECT id FROM input WHERE lines IS NULL"}), (Lines{"c", "d"}));
  EXPECT_EQ(Run({"SELECT id FROM input WHERE lines[1].qty IS NULL"}).size(), 4u);
  EXPECT_EQ(
      Run({"SELECT id FROM input WHERE ce_subject IS NULL AND _op IS NULL AND ce_id IS NOT NULL"}).size(),
      5u);
}

TEST_F(FilterChainTest, AFaultOfDataIsTheEventsAndItsFilterIsFound) {
  auto chain = Make({"SELECT *, type AS t FROM input",
                     "SELECT id, CASE WHEN n = 3 THEN id::INTEGER ELSE n END AS m FROM input"});
  auto batch = FiveEvents();
  BatchRange all{batch.get(), 0, 5};
  auto rows = chain->Run(std::span(&all, 1), counts_);
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().code(), Code::kInvalid);
  EXPECT_TRUE(chain->fault().data_error);
  EXPECT_EQ(counts_, std::vector<uint64_t>());
  EXPECT_EQ(chain->FilterAtFault({batch.get(), 2, 3}), 1);
  EXPECT_EQ(chain->FilterAtFault({batch.get(), 1, 2}), -1);
  BatchRange good{batch.get(), 3, 5};
  EXPECT_TRUE(chain->Run(std::span(&good, 1), counts_));
}

TEST_F(FilterChainTest, AnEventThatNoLongerFitsTheContractIsTold) {
  Contract older;
  older.fields = {FieldOf("id", "varchar")};
  auto batch = BatchOf(older, {R"({"id":"a","n":1})", R"({"id":"b","n":"x"})", R"({"id":"c"})"}, 40);
  auto chain = Make({"SELECT id, n FROM input"});
  BatchRange all{batch.get(), 0, 3};
  auto rows = chain->Run(std::span(&all, 1), counts_);
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().code(), Code::kInvalid);
  EXPECT_EQ(chain->fault().kind, "Contract Error");
  EXPECT_NE(rows.error().message().find("orders/0:41"), std::string::npos) << rows.error().message();
  std::vector<BatchRange> around = {{batch.get(), 0, 1}, {batch.get(), 2, 3}};
  rows = chain->Run(around, counts_);
  ASSERT_TRUE(rows) << rows.error().ToString();
  EXPECT_EQ(RowsOf(*database_, *rows, true), (Lines{"a 1 @40.0", "c  @42.0"}));
  // Who does not read the field is not concerned.
  auto other = Make({"SELECT id FROM input"});
  EXPECT_EQ(Run(*other, *batch).size(), 3u);
}

TEST_F(FilterChainTest, ChangesThatAFilterDropsDeleteTheirKey) {
  auto envelope = [](const char* op) {
    Envelope out;
    if (op != nullptr) out.op = op;
    return out;
  };
  auto batch =
      BatchOf(input_.contract,
              {R"({"id":"a","n":1})", R"({"id":"b","n":9})", R"({"id":"c","n":1})", R"({"id":"d","n":9})",
               R"({"id":"e"})"},
              0, {envelope("c"), envelope("u"), envelope(nullptr), envelope(nullptr), envelope("d")});
  auto chain = Make({"SELECT id, n FROM input WHERE n < 5", "SELECT id FROM input WHERE id <> 'x'"},
                    {.reserved = {"_op"}, .keep_deletes = true});
  BatchRange all{batch.get(), 0, 5};
  auto rows = chain->Run(std::span(&all, 1), counts_);
  ASSERT_TRUE(rows) << rows.error().ToString();
  rows->visible = 2;
  EXPECT_EQ(RowsOf(*database_, *rows, true), (Lines{"a c @0.0", "b d @1.0", "c  @2.0", "e d @4.0"}));
}

TEST_F(FilterChainTest, AFilterMaySetOpAndEnvelope) {
  auto chain = Make({"SELECT id, CASE WHEN type = 'open' THEN 'd' ELSE 'u' END AS _op, 'paid.' || type AS "
                     "ce_type FROM input",
                     "SELECT id FROM input WHERE _op = 'd'"},
                    {.reserved = {"_op", "ce_type"}});
  auto batch = FiveEvents();
  BatchRange all{batch.get(), 0, 5};
  auto rows = chain->Run(std::span(&all, 1), counts_);
  ASSERT_TRUE(rows);
  rows->visible = 3;
  EXPECT_EQ(RowsOf(*database_, *rows), Lines{"an id of more than twelve bytes paid.open d"});
}

TEST_F(FilterChainTest, AJoinedTableMayChangeBetweenExecutions) {
  ASSERT_TRUE(
      connection_->Run("CREATE TABLE names (id VARCHAR, name VARCHAR); INSERT INTO names VALUES ('a', 'Ann')")
          .ok());
  auto chain = Make({"SELECT id, name FROM input JOIN names USING (id)"});
  auto batch = FiveEvents();
  EXPECT_EQ(Run(*chain, *batch), Lines{"a Ann"});
  ASSERT_TRUE(connection_->Run("INSERT INTO names VALUES ('c', 'Cy')").ok());
  EXPECT_EQ(Run(*chain, *batch).size(), 2u);
  ASSERT_TRUE(connection_->Run("ALTER TABLE names ADD COLUMN more INTEGER").ok());
  EXPECT_EQ(Run(*chain, *batch).size(), 2u);
  ASSERT_TRUE(connection_->Run("DROP TABLE names; CREATE TABLE names AS SELECT 'a' AS id, 7 AS name").ok());
  EXPECT_EQ(Run(*chain, *batch)[0].substr(0, 8), "conflict");
  ASSERT_TRUE(connection_->Run("DROP TABLE names").ok());
  EXPECT_EQ(Run(*chain, *batch)[0].substr(0, 8), "conflict");
  ASSERT_TRUE(connection_->Run("CREATE TABLE names AS SELECT 'a' AS id, 'Al' AS name").ok());
  EXPECT_EQ(Run(*chain, *batch), Lines{"a Al"});
}

TEST_F(FilterChainTest, RowsTellTheirPartition) {
  auto batch = FiveEvents();
  const_cast<BatchPlace&>(batch->place()).partition = 3;
  auto chain = Make({"SELECT id, _partition AS p, _ordinal AS o FROM input"});
  BatchRange all{batch.get(), 0, 5};
  auto rows = chain->Run(std::span(&all, 1), counts_);
  ASSERT_TRUE(rows);
  rows->visible = 4;  // id, p, o, _partition
  EXPECT_EQ(RowsOf(*database_, *rows)[4], "e 3 0 3");
}

TEST_F(FilterChainTest, AChainOverRowsGoesOn) {
  auto first = Make({"SELECT id, n FROM input WHERE type = 'paid'"}, {.reserved = {"ce_id"}});
  auto batch = FiveEvents(100);
  BatchRange all{batch.get(), 0, 5};
  auto rows = first->Run(std::span(&all, 1), counts_);
  ASSERT_TRUE(rows);
  ChainInput over;
  over.stream = "orders";
  over.rows = rows->columns;
  auto second = FilterChain::Make(
      *database_, over, FiltersOf({"SELECT id, ce_id AS event, ce_time AS t FROM input WHERE n >= 3"}), {});
  ASSERT_TRUE(second) << second.error().ToString();
  auto out = (*second)->Run(*rows, counts_);
  ASSERT_TRUE(out) << out.error().ToString();
  EXPECT_EQ(RowsOf(*database_, *out, true), (Lines{"c orders/0:102  @102.0", "e orders/0:104  @104.0"}));
}

TEST_F(FilterChainTest, AnInterruptEndsARun) {
  auto chain = Make({"SELECT id FROM input, range(1000000) a(x), range(1000000) b(y) WHERE x + y = -1"});
  auto batch = FiveEvents();
  std::thread other([&chain] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    chain->Interrupt();
  });
  Lines rows = Run(*chain, *batch);
  other.join();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].substr(0, 8), "deadline");
}

// What was interrupted at any moment failed, or has all of its rows: fewer of them would be lost for ever.
TEST_F(FilterChainTest, AnInterruptGivesNoPartOfTheRows) {
  auto chain = Make({"SELECT id, UNNEST(lines) AS l FROM input WHERE n IS DISTINCT FROM 2",
                     "SELECT id, l.sku || length(repeat(id, 3000)) AS sku FROM input"});
  auto batch = FiveEvents();
  const Lines whole = Run(*chain, *batch);
  ASSERT_EQ(whole.size(), 3u);
  std::jthread other = InterruptAtRandom([&] { chain->Interrupt(); }, std::chrono::milliseconds(2));
  int ended = 0, whole_ones = 0;
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (std::chrono::steady_clock::now() < until) {
    std::vector<uint64_t> counts;
    BatchRange range{batch.get(), 0, batch->count()};
    auto rows = chain->Run(std::span(&range, 1), counts);
    if (!rows) {
      EXPECT_EQ(rows.error().code(), Code::kDeadline) << rows.error().ToString();
      ++ended;
    } else {
      ASSERT_EQ(rows->rows(), whole.size());
      ++whole_ones;
    }
  }
  EXPECT_GT(ended, 10);
  EXPECT_GT(whole_ones, 10);
}

// The first property (SEMANTICS, 1): any cut of the events into batches and runs gives the same rows.
TEST_F(FilterChainTest, AnyCutGivesTheSameRows) {
  ASSERT_TRUE(
      connection_
          ->Run("CREATE TABLE lookup (n INTEGER, name VARCHAR); INSERT INTO lookup SELECT range % 40, 'n' || "
                "range FROM range(60)")
          .ok());
  const std::vector<Lines> chains = {
      {},
      {"SELECT * FROM input WHERE n % 3 = 1"},
      {"SELECT id, amount * 3 AS a FROM input WHERE amount > 50 OR amount IS NULL",
       "SELECT *, length(id) AS l FROM input"},
      {"SELECT id, unnest(lines) AS l FROM input",
       "SELECT l.sku AS s, l.qty + 1 AS q FROM input WHERE l.qty > 0"},
      {"SELECT id, name FROM input JOIN lookup USING (n)"},
      {"SELECT id, name FROM input LEFT JOIN lookup l ON l.n = input.n AND l.name LIKE '%1%'"},
      {"SELECT id FROM input ANTI JOIN lookup USING (n)"},
      {"SELECT id, (SELECT count(*) FROM lookup l WHERE l.n < input.n) AS c FROM input WHERE ce_id LIKE "
       "'%1'"},
      {"WITH a AS (SELECT id, n FROM input WHERE n > 3) SELECT *, list_transform(range(n % 4), lambda x: x + "
       "n) AS r FROM a",
       "SELECT id, unnest(r) AS x FROM input", "SELECT x, _offset AS o FROM input WHERE x % 2 = 0"},
      {"SELECT id, data->>'$.type' AS t, ce_source AS s, _ingested_at AS at FROM input WHERE _offset % 2 = "
       "0"},
  };
  std::mt19937 random(20261122);
  Lines texts;
  for (int i = 0; i < 4500; ++i) {
    std::string lines;
    for (uint32_t k = random() % 4; k > 0; --k)
      lines += fmt::format("{{\"sku\":\"s{}\",\"qty\":{}}}{}", random() % 9, random() % 5, k > 1 ? "," : "");
    std::string n = random() % 7 == 0 ? "null" : fmt::format("{}", random() % 50);
    texts.push_back(fmt::format(R"({{"id":"{}{}","type":"{}","amount":{}.{:02},"n":{},"lines":[{}]}})",
                                random() % 2 ? "id" : "a much longer identifier ", i,
                                random() % 2 ? "paid" : "open", random() % 200, random() % 100, n, lines));
  }
  auto whole = BatchOf(input_.contract, texts);
  for (const Lines& filters : chains) {
    auto chain = Make(filters);
    ASSERT_NE(chain, nullptr);
    BatchRange all{whole.get(), 0, whole->count()};
    std::vector<uint64_t> whole_counts, cut_counts;
    auto expected_rows = chain->Run(std::span(&all, 1), whole_counts);
    ASSERT_TRUE(expected_rows) << expected_rows.error().ToString();
    Lines expected = RowsOf(*database_, *expected_rows, true), got;
    for (uint32_t begin = 0; begin < texts.size();) {
      // A batch of its own, read by one to three runs of one to many ranges.
      uint32_t end = std::min<uint32_t>(static_cast<uint32_t>(texts.size()),
                                        begin + 1 + random() % (random() % 3 ? 900 : 4));
      auto batch = BatchOf(input_.contract, Lines(texts.begin() + begin, texts.begin() + end), begin);
      std::vector<BatchRange> ranges;
      for (uint32_t at = 0; at < batch->count();) {
        uint32_t next = std::min<uint32_t>(batch->count(), at + 1 + random() % 300);
        ranges.push_back({batch.get(), at, next});
        at = next;
      }
      size_t cut = random() % (ranges.size() + 1);
      for (auto run : {std::span(ranges).subspan(0, cut), std::span(ranges).subspan(cut)}) {
        auto rows = chain->Run(run, cut_counts);
        ASSERT_TRUE(rows) << rows.error().ToString();
        Lines part = RowsOf(*database_, *rows, true);
        got.insert(got.end(), part.begin(), part.end());
      }
      begin = end;
    }
    std::sort(expected.begin(), expected.end());
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, expected) << (filters.empty() ? "" : filters[0]);
    EXPECT_FALSE(expected.empty());
    EXPECT_EQ(whole_counts, cut_counts);
  }
}

}  // namespace
}  // namespace millstream
