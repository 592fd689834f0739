// Projects with faults, in real folders: each line of what `check` prints.
#include <gtest/gtest.h>

#include "catalog/check_for_test.h"

namespace millstream {
namespace {

TEST(Check, SurfacesExample) {
  Checked checked =
      Check({{"millstream.yaml",
              "streams:\n  orders:\n    contract:\n      id: varchar\n      amount: decmal(12,2)\n"
              "      currency: varchar\n      ts: timestamptz\npipelines:\n  revenue:\n    from: orders\n"
              "    filters:\n      - gross: filters/gross.sql\n    to: {table: revenue}\n"},
             {"filters/gross.sql", "SELECT *, ammount * 1.1 AS gross FROM input\n"}});
  EXPECT_EQ(
      checked.faults,
      "millstream.yaml:5:15: streams.orders.contract.amount: unknown type 'decmal(12,2)'; did you mean "
      "'decimal(12,2)'?\n"
      "filters/gross.sql:1:11: pipelines.revenue.filters.gross: no column 'ammount'; input has id, amount, "
      "currency, ts\n"
      "    SELECT *, ammount * 1.1 AS gross FROM input\n"
      "              ^~~~~~~\n");
  EXPECT_EQ(checked.project.files, (std::vector<std::string>{"millstream.yaml", "filters/gross.sql"}));
}

TEST(Check, ASoundProject) {
  Checked checked = Check(
      {{"millstream.yaml",
        "server: {listen: \"127.0.0.1:9000\", limits: {event: 2MiB}}\n" + kOrders +
            "sources:\n  old:\n    from:\n      file: {path: \"in/*.ndjson\", every: 5s, retry: {min: 1s}}\n "
            "   to: orders\n"
            "pipelines:\n"
            "  revenue:\n    from: orders\n    filters:\n      - placed: SELECT * FROM input WHERE status = "
            "'paid'\n"
            "      - gross: |\n          SELECT id, customer, amount * 1.1 AS gross\n          FROM input\n"
            "    to:\n      - table: {name: revenue, key: [id, customer]}\n      - stream: paid\n      - "
            "stdout\n"
            "  sums:\n    from: paid\n    filters:\n      - parts: SELECT data->>'$.customer' AS customer, 1 "
            "AS n FROM input\n"
            "    to:\n      table: {name: sums, key: customer, values: {n: count(*), total: sum(n), newest: "
            "last(n)}}\n"
            "  joined:\n    from: orders\n    start: latest\n    filters:\n"
            "      - known: SELECT i.id, s.total FROM input i JOIN sums s ON s.customer = i.customer\n"
            "      - score: {exec: {command: [cat], output: {id: varchar, score: double}}}\n"
            "      - high: SELECT id, score FROM input WHERE score > 0.5\n"
            "    to: {file: out.ndjson}\n"}});
  EXPECT_EQ(checked.faults, "");
  EXPECT_EQ(checked.warnings, "");
  EXPECT_EQ(Summary(checked.project), "ok: 2 streams, 1 source, 3 pipelines, 2 tables");
  const Project& project = checked.project;
  EXPECT_EQ(project.server.listen, "127.0.0.1:9000");
  EXPECT_EQ(project.server.limits.event_bytes, 2u << 20);
  EXPECT_EQ(project.server.limits.header_bytes, 16u << 10);
  EXPECT_EQ(project.streams.at("orders").shape.key, std::vector<std::string>{"/customer"});
  EXPECT_EQ(project.sources.at("old").every_us, 5'000'000);
  EXPECT_EQ(project.sources.at("old").retry_min_us, 1'000'000);
  EXPECT_EQ(project.sources.at("old").options.Find("every"), nullptr);
  const PipelineConfig& revenue = project.pipelines.at("revenue");
  EXPECT_EQ(revenue.sinks.at(0).id, "table:revenue");
  EXPECT_EQ(revenue.sinks.at(1).id, "stream:paid");
  EXPECT_EQ(revenue.sinks.at(2).id, "stdout");
  EXPECT_EQ(project.pipelines.at("joined").start.from, StartConfig::From::kLatest);
  std::map<std::string, TableSpec> tables = TablesOf(project);
  EXPECT_TRUE(tables.at("revenue").key_in_one_partition);
  EXPECT_EQ(tables.at("sums").values.size(), 3u);
}

TEST(Check, AProjectFromItsTree) {
  Checked checked =
      Check({{"millstream.yaml", WithPipeline("    filters:\n      - f: f.sql\n    to: {table: t}\n")},
             {"f.sql", "SELECT id\nFROM input\n"}});
  ASSERT_EQ(checked.faults, "");
  Faults faults;
  Node root = ParseJson(ToJson(checked.project.root), "", faults);
  Project again = ParseProject(root, "/nowhere", TestKinds(), faults);
  EXPECT_TRUE(faults.empty());
  EXPECT_EQ(again.pipelines.at("p").filters.at(0).sql, "SELECT id\nFROM input\n");
  EXPECT_EQ(again.streams.at("orders").shape.contract, checked.project.streams.at("orders").shape.contract);
}

TEST(Check, FaultsOfTheFileItself) {
  EXPECT_EQ(Check({{"millstream.yml", "a: 1"}}).faults.substr(0, 50),
            "millstream.yaml: there is no millstream.yaml in /t");
  EXPECT_NE(Check({{"millstream.yml", "a: 1"}}).faults.find("rename millstream.yml"), std::string::npos);
  EXPECT_EQ(FaultsOf(""), "millstream.yaml:1:1: the file is empty\n");
  EXPECT_EQ(FaultsOf("- a\n"), "millstream.yaml:1:1: a project is a map; begin with 'streams:'\n");
  EXPECT_EQ(FaultsOf("steams:\n  a: {}\n"),
            "millstream.yaml:1:1: unknown key 'steams'; did you mean 'streams'?\n");
}

TEST(Check, FaultsOfTheServer) {
  EXPECT_EQ(
      FaultsOf("server:\n  listen: 0.0.0.0:80\n  memory: lots\n  tokens:\n    - {name: a, role: boss, token: "
               "x}\n"),
      "millstream.yaml:3:11: server.memory: 'lots' is not a size; expected bytes, or a number and KiB, MiB, "
      "GiB or TiB, e.g. 64KiB\n"
      "millstream.yaml:5:23: server.tokens.0.role: unknown role 'boss'; expected read, write, admin\n"
      "millstream.yaml:5:36: server.tokens.0.token: a secret may not stand in the file; write ${env:NAME} or "
      "${file:PATH}\n");
  EXPECT_EQ(FaultsOf("server: {listen: \"0.0.0.0:80\"}\n"),
            "millstream.yaml:1:18: server.listen: '0.0.0.0' can be reached from outside; declare 'tokens:', "
            "or listen on 127.0.0.1\n");
  EXPECT_EQ(FaultsOf("server: {listen: nowhere}\n"),
            "millstream.yaml:1:18: server.listen: 'nowhere' is not an address; expected HOST:PORT, e.g. "
            "127.0.0.1:8410\n");
}

TEST(Check, FaultsOfStreams) {
  EXPECT_EQ(
      FaultsOf(
          "streams:\n  Orders: {}\n  select: {}\n  a: {partitions: 0, ack: now}\n"
          "  b:\n    contract:\n      ce_id: varchar\n      x: {type: varchar, from: sender}\n      Y: date\n"
          "      y: date\n      z: decimal(12,2) check (zz > 0)\n    dedupe: {by: [ce_id, colour]}\n"),
      "millstream.yaml:2:3: streams.Orders: 'Orders' is not a name; expected a lower-case letter, then "
      "lower-case letters, digits and '_'\n"
      "millstream.yaml:3:3: streams.select: 'select' is a word of SQL and cannot be a name\n"
      "millstream.yaml:4:19: streams.a.partitions: 0 is out of range; expected at least 1\n"
      "millstream.yaml:4:27: streams.a.ack: unknown ack 'now'; expected durable, written\n"
      "millstream.yaml:7:7: streams.b.contract.ce_id: 'ce_id' is the name of a column of ours; rename it: "
      "'NAME: {type: TYPE, from: /ce_id}'\n"
      "millstream.yaml:8:32: streams.b.contract.x.from: 'sender' is not a JSON pointer; did you mean "
      "'/sender'?\n"
      "millstream.yaml:10:7: streams.b.contract.y: 'y' differs from another field only in upper and lower "
      "case; SQL cannot tell them apart: rename one with 'from:'\n"
      "millstream.yaml:11:31: streams.b.contract.z: no column 'zz'; the contract has Y, z\n"
      "    decimal(12,2) check (zz > 0)\n"
      "                         ^~\n"
      "millstream.yaml:12:26: streams.b.dedupe.by: 'colour' is neither an attribute nor a field of the "
      "contract; known names: ce_id, ce_source, ce_type, ce_subject, ce_time, Y, z\n");
}

TEST(Check, ConditionsAreOfOneRow) {
  auto check = [](const std::string& condition) {
    return FaultsOf(
        "streams:\n  a:\n    contract:\n      n: integer\n      l: integer[]\n      t: \"timestamptz check "
        "(" +
        condition + ")\"\n");
  };
  for (const char* good : {"n > 0 AND t IS NOT NULL", "len(list_filter(l, lambda x: x > 1)) = 0",
                           "list_sum(l) > n", "t > '2020-01-01'", "n IN (1, 2)", "age(t, t) IS NULL",
                           "n = ')'::INTEGER OR true", "CASE WHEN n > 1 THEN l[1] > 2 END"})
    EXPECT_EQ(check(good), "") << good;
  EXPECT_EQ(check("count(*) OVER () < 100000"),
            "millstream.yaml:6:30: streams.a.contract.t: the window function count in a condition; a "
            "condition sees the fields of one row; what needs more belongs in a filter, or in a command's "
            "'require'\n"
            "    timestamptz check (count(*) OVER () < 100000)\n"
            "                       ^~~~~\n");
  for (auto [bad, said] : std::initializer_list<std::pair<const char*, const char*>>{
           {"sum(n) > 1", "the aggregate sum"},
           {"n > (SELECT 1)", "a subquery"},
           {"EXISTS (SELECT 1 FROM range(1000000000))", "a subquery"},
           {"n IN (SELECT n FROM _check)", "a subquery"},
           {"unnest(l) > 1", "unnest makes several rows of one"},
           {"random() > 0.5", "random gives another value each time"},
           {"t < now()", "now gives another value each time"},
           {"t < current_timestamp", "gives another value each time"},
           {"age(t) > INTERVAL 1 DAY", "age gives another value each time"},
           {"COLUMNS(*) > 0", "several columns"},
           {"n > $1", "a condition takes no parameters"},
           {"read_text('/etc/passwd') IS NULL", "the function read_text is not allowed"}}) {
    std::string faults = check(bad);
    EXPECT_TRUE(faults.starts_with("millstream.yaml:6:") && faults.find(said) != std::string::npos &&
                faults.find("  ^") != std::string::npos)
        << bad << "\n"
        << faults;
  }
  EXPECT_NE(check("sum(n) > random()").find("random gives"), std::string::npos) << "all are told";
  EXPECT_EQ(FaultsOf(WithPipeline("    to:\n      - table: {name: c, key: id, delete_when: count(*) > 1}\n")),
            "millstream.yaml:15:48: pipelines.p.to.0.table.delete_when: the aggregate count_star in a "
            "condition; a condition sees the fields of one row; what needs more belongs in a filter, or in a "
            "command's 'require'\n"
            "    count(*) > 1\n"
            "    ^~~~~\n");
}

TEST(Check, FaultsOfSources) {
  EXPECT_EQ(
      FaultsOf(
          kOrders +
          "sources:\n  a:\n    from: {kafka: {brokers: b}}\n    to: orders\n  b:\n    from: {fil: x}\n    "
          "to: "
          "order\n  c:\n    from: {file: {paht: x}}\n    to: orders\n  d:\n    from: {file: {path: x}}\n"),
      "millstream.yaml:13:12: sources.a.from: source kind 'kafka' is not there yet in this version; use "
      "instead: kcat -C -b BROKER -t TOPIC | millstream ingest STREAM -\n"
      "millstream.yaml:16:12: sources.b.from: unknown source kind 'fil'; did you mean 'file'?\n"
      "millstream.yaml:17:9: sources.b.to: no stream 'order'; did you mean 'orders'?\n"
      "millstream.yaml:19:18: sources.c.from.file: needs 'path': glob or list\n"
      "millstream.yaml:19:19: sources.c.from.file: unknown key 'paht'; did you mean 'path'?\n"
      "millstream.yaml:22:5: sources.d: needs 'to': the stream\n");
}

TEST(Check, FaultsOfPipelines) {
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    start: someday\n    filters:\n      - SELECT 1\n      - a: SELECT * FROM input\n"
                "      - a: SELECT * FROM input\n      - b: SELECT 'x #1' FROM input # c\n"
                "      - c: {window: 5m}\n      - d: {exce: x}\n      - name: e\n        sql: x\n"
                "      - f: nothing.sql\n      - g:\n"
                "    to:\n      - tabel: x\n      - http: {url: x}\n      - table: {name: x, kye: y}\n"
                "      - table: {name: y, values: {n: count(*)}}\n      - stream: piad\n      - stdout\n"
                "      - stdout\n    max_dead_letters: {over: 1m}\n")),
            "millstream.yaml:14:12: pipelines.p.start: 'someday' is no start; expected earliest, latest, a "
            "time (2026-11-01T00:00:00Z), a duration ago (2h) or a position (orders/0:17,1:9)\n"
            "millstream.yaml:16:9: pipelines.p.filters.0: a filter is one entry; this one has no name; write "
            "'- NAME: SELECT … FROM input', or '- NAME: {KIND: options}'\n"
            "millstream.yaml:18:9: pipelines.p.filters.a: two filters of this pipeline have this name\n"
            "millstream.yaml:19:12: pipelines.p.filters.b: YAML cuts plain text at ' #', so the rest of the "
            "line is not part of the SQL; put the SQL in quotes or write it as a '|' block; a comment goes "
            "on a line of its own\n"
            "millstream.yaml:20:13: pipelines.p.filters.c: filter kind 'window' is not there yet in this "
            "version; use instead a table with 'key' (the time bucket) and 'values'\n"
            "millstream.yaml:21:13: pipelines.p.filters.d: unknown filter kind 'exce'; did you mean 'exec'?\n"
            "millstream.yaml:22:9: pipelines.p.filters.6: a filter is one entry; found the keys name, sql; "
            "write '- NAME: SELECT … FROM input', or '- NAME: {KIND: options}'\n"
            "millstream.yaml:24:12: pipelines.p.filters.f: no file 'nothing.sql'\n"
            "millstream.yaml:25:9: pipelines.p.filters.g: has no SQL; e.g. 'SELECT * FROM input', or {exec: "
            "{command: […]}}; SQL that begins with '{' or '[' needs quotes\n"
            "millstream.yaml:27:9: pipelines.p.to.0: unknown sink kind 'tabel'; did you mean 'table'?\n"
            "millstream.yaml:28:9: pipelines.p.to.1: sink kind 'http' is not there yet in this version; use "
            "instead a 'file' sink with rotate, or follow GET /v1/streams/S/events?follow=true and post with "
            "curl\n"
            "millstream.yaml:29:26: pipelines.p.to.2.table: unknown key 'kye'; did you mean 'key'?\n"
            "millstream.yaml:30:26: pipelines.p.to.3.table.values: 'values' needs 'key'; name the columns "
            "that group the rows\n"
            "millstream.yaml:31:17: pipelines.p.to.4.stream: no stream 'piad'; did you mean 'paid'?\n"
            "millstream.yaml:33:9: pipelines.p.to.6.stdout: two sinks of this pipeline are 'stdout'; give "
            "one of them a 'name'\n"
            "millstream.yaml:34:23: pipelines.p.max_dead_letters: neither share nor count is given; e.g. "
            "{share: 1%, over: 10m}\n");
}

TEST(Check, FaultsOfSql) {
  EXPECT_EQ(
      FaultsOf(WithPipeline(
          "    filters:\n      - a: |\n          SELECT id,\n                 amont\n          FROM input\n"
          "    to: {table: t}\n")),
      "millstream.yaml:17:18: pipelines.p.filters.a: no column 'amont'; input has id, customer, amount, "
      "status\n"
      "    amont\n"
      "    ^~~~~\n");
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    filters:\n      - a: SELECT id AS x FROM input\n      - b: \"SELECT id FROM input\"\n"
                "    to: {table: t}\n")),
            "millstream.yaml:16:20: pipelines.p.filters.b: no column 'id'; input has x\n"
            "    SELECT id FROM input\n"
            "           ^~\n");
  EXPECT_EQ(
      FaultsOf(
          WithPipeline("    filters:\n      - a: SELECT count(*) AS n FROM input\n    to: {table: t}\n")),
      "millstream.yaml:15:19: pipelines.p.filters.a: the aggregate count_star over `input` works on one "
      "batch only; an `aggregate` table sink (key and values) adds up over all events, not over one batch\n"
      "    SELECT count(*) AS n FROM input\n"
      "           ^~~~~\n");
  EXPECT_EQ(FaultsOf(WithPipeline("    filters:\n      - a: SELEC id FROM input\n    to: {table: t}\n")),
            "millstream.yaml:15:12: pipelines.p.filters.a: syntax error at 'SELEC'\n"
            "    SELEC id FROM input\n"
            "    ^~~~~\n");
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    filters:\n      - a: SELECT uper(id) AS id FROM input\n    to: {table: t}\n")),
            "millstream.yaml:15:19: pipelines.p.filters.a: the function uper is not allowed here, or there "
            "is none; did you mean upper?\n"
            "    SELECT uper(id) AS id FROM input\n"
            "           ^~~~\n");
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    filters:\n      - a: SELECT i.id FROM input i JOIN custmers c ON c.id = i.id\n"
                "    to: {table: customers}\n")),
            "millstream.yaml:15:42: pipelines.p.filters.a: no table 'custmers'; did you mean 'customers'?\n"
            "    SELECT i.id FROM input i JOIN custmers c ON c.id = i.id\n"
            "                                  ^~~~~~~~\n");
}

TEST(Check, HintsOfSlipsWithQuotes) {
  const std::string streams = "streams:\n  a: {contract: {id: varchar, order: varchar, status: varchar}}\n";
  auto filter = [&](const std::string& sql) {
    return FaultsOf(streams + "pipelines:\n  p:\n    from: a\n    filters:\n      - f: '" + sql +
                    "'\n    to: stdout\n");
  };
  EXPECT_EQ(filter("SELECT id FROM input WHERE status = \"paid\""),
            "millstream.yaml:7:49: pipelines.p.filters.f: no column 'paid'; a text stands in single quotes: "
            "'paid'; input has id, order, status\n"
            "    SELECT id FROM input WHERE status = \"paid\"\n"
            "                                        ^~~~~~\n");
  EXPECT_EQ(
      filter("SELECT id, order FROM input"),
      "millstream.yaml:7:30: pipelines.p.filters.f: syntax error at 'FROM'; 'order' is a word of SQL: the "
      "column is \"order\", in double quotes\n"
      "    SELECT id, order FROM input\n"
      "                     ^~~~\n");
  EXPECT_EQ(filter("SELECT id, \"order\" FROM input"), "");
  EXPECT_EQ(filter("SELECT id FROM FROM input").find("a word of SQL"), std::string::npos);
  EXPECT_NE(FaultsOf(streams + "  b: {contract: {n: list(integer)}}\n").find("did you mean 'integer[]'?"),
            std::string::npos);
}

TEST(Check, AllFaultsAtOnce) {
  // Types, refusals, tables that are not there and syntax, each of its own cause.
  std::string faults = FaultsOf(
      "streams:\n  a:\n    contract:\n      id: varchr\n      n: integer check (sum(n) > 1)\n      m: [1]\n"
      "pipelines:\n"
      "  p:\n    from: a\n    filters:\n      - f: SELECT id, m, count(*) AS c FROM input\n"
      "    to: {table: {name: t, key: id}}\n"
      "  q:\n    from: a\n    filters:\n      - x: SELECT i.id, i.m FROM input i JOIN t ON t.id = i.id\n"
      "      - y: SELECT DISTINCT id FROM input\n"
      "    to: {table: {name: u, key: id, values: {a: avg(n)}}}\n"
      "  r:\n    from: nowhere\n    filters:\n      - g: SELECT id FROM input ORDER BY id\n"
      "    to: {table: {name: w, key: id, delete_when: n > random()}}\n"
      "  s:\n    from: a\n    filters:\n      - h: SELECT i.id FROM input i JOIN absent b ON b.id = i.id\n"
      "    to: {tabel: x}\n"
      "commands:\n  c:\n    input: {id: varchr}\n    key: id\n    require:\n      - no: DELETE FROM t\n"
      "    emit: {a: 'SELECT $input.id AS id'}\n");
  std::string said;
  for (size_t at = 0; at < faults.size(); at = faults.find('\n', at) + 1)
    if (faults.compare(at, 11, "millstream.") == 0) {
      size_t path = faults.find(": ", at) + 2;
      said += faults.substr(path, faults.find(';', path) - path) + "\n";
    }
  EXPECT_EQ(said,
            "streams.a.contract.id: unknown type 'varchr'\n"
            "streams.a.contract.n: the aggregate sum in a condition\n"
            "streams.a.contract.m.type: expected a text, found a list\n"
            "pipelines.p.filters.f: the aggregate count_star over `input` works on one batch only\n"
            "pipelines.q.filters.y: DISTINCT over `input` works on one batch only\n"
            "pipelines.q.to.table.values.a: 'avg(n)' is not understood\n"
            "pipelines.r.from: no stream 'nowhere'\n"
            "pipelines.r.filters.g: ORDER BY over `input`: events keep the order of the stream\n"
            "pipelines.r.to.table.delete_when: random gives another value each time\n"
            "pipelines.s.filters.h: no table 'absent'\n"
            "pipelines.s.to: unknown sink kind 'tabel'\n"
            "commands.c.input.id: unknown type 'varchr'\n"
            "commands.c.require.no: DELETE\n");
}

TEST(Check, PartsThatAreNoYamlDoNotHideTheOthers) {
  // `a` and `p` cannot be read: what names them has no fault of its own.
  EXPECT_EQ(
      FaultsOf("streams:\n  a:\n    contract:\n      id: varchar default 'x: y' z: 1\n  b: {contract: {id: "
               "varchr}}\n"
               "  c: {contract: {id: varchar}}\n"
               "pipelines:\n  p:\n    from: c\n    filters:\n      - f: 'SELECT id FROM input' WHERE\n    "
               "to: {table: t}\n"
               "  q:\n    from: a\n    filters:\n      - g: SELECT count(*) AS n FROM input\n    to: stdout\n"
               "  r:\n    from: c\n    filters:\n      - h: SELECT i.id FROM input i JOIN t ON t.id = i.id\n "
               "   to: stdout\n"
               "  s:\n    from: d\n    to: stdout\n"),
      "millstream.yaml:4:29: ': ' inside a plain value begins a map for YAML; put the whole value in "
      "quotes, or write it below as a '|' block\n"
      "millstream.yaml:5:22: streams.b.contract.id: unknown type 'varchr'; did you mean 'varchar'?\n"
      "millstream.yaml:11:35: this does not fit the lines before: indentation, or text after a closing "
      "quote; align keys of one map, and put a value that holds quotes into '|' or other quotes\n"
      "millstream.yaml:16:19: pipelines.q.filters.g: the aggregate count_star over `input` works on one "
      "batch only; an `aggregate` table sink (key and values) adds up over all events, not over one "
      "batch\n"
      "    SELECT count(*) AS n FROM input\n"
      "           ^~~~~\n"
      "millstream.yaml:24:11: pipelines.s.from: no stream 'd'; known streams: b, c\n");
  // A whole section, and what is not told apart.
  EXPECT_EQ(FaultsOf("streams:\n\ta: {}\npipelines:\n  p:\n    from: a\n    to: {tabel: t}\n"),
            "millstream.yaml:2:1: a tab in the indentation; YAML takes blanks only\n"
            "millstream.yaml:6:10: pipelines.p.to: unknown sink kind 'tabel'; did you mean 'table'?\n");
  EXPECT_EQ(FaultsOf("streams:\n  a: &x {}\n  b: *y\n  c: 'd: e' f\n  d: {from: 1}\n"),
            "millstream.yaml:3:6: '*' names an anchor (&NAME) that is not defined above; a value that begins "
            "with '*' needs quotes\n");
}

TEST(Check, FaultsOfTables) {
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    to:\n      - table: {name: a, key: [id, costumer]}\n"
                "      - table: {name: b, key: customer, values: {n: count(*), a: avg(amount), s: "
                "sum(amuont)}}\n      - table: {name: c, key: id, delete_when: status = 'x' AND }\n"
                "      - table: {name: d, key: id, order_by: ts}\n")),
            "millstream.yaml:15:36: pipelines.p.to.0.table.key: no column 'costumer' in the pipeline's rows; "
            "did you mean 'customer'? the rows have id, customer, amount, status\n"
            "millstream.yaml:16:66: pipelines.p.to.1.table.values.a: 'avg(amount)' is not understood; keep "
            "sum(x) and count(x), and divide them in the query\n"
            "millstream.yaml:16:86: pipelines.p.to.1.table.values.s: no column 'amuont'; the pipeline's "
            "result has id, customer, amount, status\n"
            "    sum(amuont)\n"
            "        ^~~~~~\n"
            "millstream.yaml:17:64: pipelines.p.to.2.table.delete_when: syntax error at the end\n"
            "    status = 'x' AND\n"
            "                    ^\n"
            "millstream.yaml:18:45: pipelines.p.to.3.table.order_by: no column 'ts' in the pipeline's rows; "
            "the rows have id, customer, amount, status\n");
  EXPECT_EQ(FaultsOf(WithPipeline(
                "    filters:\n      - f: SELECT id, 1 AS n FROM input\n    to: {table: {name: t, key: id}}\n"
                "  q:\n    from: orders\n    filters:\n      - f: SELECT customer, 'a' AS n FROM input\n"
                "    to: {table: {name: t, key: customer}}\n")),
            "millstream.yaml:21:9: pipelines.q.to.table: table 't' has key (customer) here and key (id) in "
            "pipeline 'p'; pipelines that write one table agree on its key, values and types\n");
}

TEST(Check, AProgramWhoseColumnsAreNeeded) {
  EXPECT_EQ(
      FaultsOf(WithPipeline("    filters:\n      - f: {exec: {command: [cat]}}\n    to: {table: t}\n"
                            "  q:\n    from: orders\n    filters:\n      - g: {exec: {command: [cat]}}\n"
                            "      - h: SELECT data FROM input\n    to: stdout\n"
                            "  r:\n    from: orders\n    filters:\n      - i: {exec: {command: [cat]}}\n"
                            "    to: stdout\n")),
      "millstream.yaml:15:12: pipelines.p.filters.f: table 't' needs to know the columns of the replies; "
      "'output' with a type for each, e.g. output: {id: varchar, score: double}\n"
      "millstream.yaml:20:12: pipelines.q.filters.g: filter 'h' needs to know the columns of the "
      "replies; 'output' with a type for each, e.g. output: {id: varchar, score: double}\n");
}

TEST(Check, Cycles) {
  EXPECT_EQ(
      FaultsOf(kOrders +
               "pipelines:\n  p:\n    from: orders\n    to: {stream: paid}\n  q:\n    from: paid\n    to: "
               "{stream: orders}\n"),
      "millstream.yaml:12:3: pipelines.p: a cycle: p reads what is written by q reads what is written by p; "
      "events would go round for ever: let one of them read something else\n");
  EXPECT_EQ(
      FaultsOf(WithPipeline(
          "    filters:\n      - f: SELECT i.id FROM input i JOIN t ON t.id = i.id\n    to: {table: t}\n")),
      "millstream.yaml:15:12: pipelines.p.filters.f: reads table 't', which this pipeline writes itself; "
      "what it finds there would depend on how events are batched: keep sums with 'values' of the table, or "
      "read a table of another pipeline\n");
}

TEST(Check, Warnings) {
  EXPECT_EQ(
      Check({{"millstream.yaml",
              WithPipeline("    filters:\n      - f: SELECT id, customer, now() AS at FROM input\n    to:\n"
                           "      - table: {name: t, key: id}\n      - stream: {name: paid, key: id}\n")}})
          .warnings,
      "millstream.yaml:15:12: pipelines.p.filters.f: now() gives other values when events are replayed; use "
      "ce_time, _ingested_at, or hash(ce_id) for chance, which a replay repeats\n"
      "millstream.yaml:17:9: pipelines.p.to.0.table: rows of one key (id) may come from several partitions "
      "of 'orders': the one appended last wins; let the table's key contain the stream's (customer), or say "
      "with 'order_by' which row is newer\n"
      "millstream.yaml:18:9: pipelines.p.to.1.stream: events of one key (id) may come from several "
      "partitions of 'orders' and lose their order; order holds if the key of 'paid' contains that of "
      "'orders'\n");
}

}  // namespace
}  // namespace millstream
