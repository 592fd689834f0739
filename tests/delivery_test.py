"""Delivery as users see it: stops that a slow filter must not hold up, tables that change under a pipeline."""

import time

import pytest

from harness import eventually

STOP_SECONDS = 10
# Not interrupted before its end: DuckDB looks up only after every vector of rows, and this one allocates nothing on its way.
DEAF = "SELECT id, contains(repeat(id, 1000000), repeat(id, 500000) || 'x') AS n FROM input"
# Interrupted at once.
LONG = "SELECT id, (SELECT sum(a.range * b.range) FROM range(300000) a, range(300000) b) AS n FROM input"
SLOW_PROGRAM = """import sys, time
for line in sys.stdin:
    time.sleep(60)
    print(line, end="", flush=True)
"""


def one_filter(text, contract="id: varchar"):
    return f"""
streams:
  orders: {{contract: {{{contract}}}}}
pipelines:
  orders:
    from: orders
    filters:
      - slow: {text}
    to: {{table: orders}}
  plain:
    from: orders
    to: {{table: everything}}
"""


@pytest.mark.parametrize("text", [LONG, DEAF, "{exec: {command: [python3, slow.py], timeout: 120s, output: {id: varchar}}}"],
                         ids=["long", "deaf", "exec"])
def test_a_stop_does_not_wait_for_a_filter(project, text):
    shop = project({"millstream.yaml": one_filter(text), "slow.py": SLOW_PROGRAM})
    with shop.server() as server:
        answer = server.ingest("orders", [{"id": "abcdefghij"}, {"id": "b"}])
        assert server.query("SELECT count(*) AS n FROM everything", wait=answer["position"])[0]["n"] == 2
        time.sleep(0.5)  # the filter runs
        begin = time.monotonic()
        server.stop(seconds=STOP_SECONDS)
        assert time.monotonic() - begin < STOP_SECONDS
    # What was interrupted is no dead letter and is delivered once the filter is a good one.
    shop.write({"millstream.yaml": one_filter("SELECT id FROM input"), "slow.py": ""})
    shop.verb("run", "--once")
    rows = shop.verb("query", "SELECT id FROM orders ORDER BY id", "--format", "ndjson").lines()
    assert [row["id"] for row in rows] == ["abcdefghij", "b"]
    assert shop.verb("query", "SELECT count(*) AS n FROM everything", "--format", "ndjson").lines() == [{"n": 2}]
    assert shop.verb("dead", "list", "orders", "--json").json()["total"] == 0


def listens(server):
    try:
        return server.http("GET", "/health/live").status == 200
    except OSError:
        return False


def orders(filters, sink="{table: orders}", more=""):
    return f"""
streams:
  orders: {{partitions: 2, key: id, contract: {{id: varchar not null, amount: integer, note: varchar}}}}
pipelines:
  orders:
    from: orders
    filters:
      - f: {filters}
    to: {sink}
{more}"""


def test_a_new_column_is_added_and_an_incompatible_one_is_refused(project):
    shop = project({"millstream.yaml": orders("SELECT id, amount FROM input")})
    shop.verb("ingest", "orders", "-", stdin='{"id":"a","amount":1,"note":"x"}\n')
    shop.write({"millstream.yaml": orders("SELECT id, amount, note FROM input")})
    with shop.server() as server:
        position = server.ingest("orders", [{"id": "b", "amount": 2, "note": "y"}])["position"]
        assert server.query("SELECT id, amount, note FROM orders ORDER BY id", wait=position) == [
            {"id": "a", "amount": 1, "note": None}, {"id": "b", "amount": 2, "note": "y"}]
    shop.write({"millstream.yaml": orders("SELECT id, amount || ' EUR' AS amount, note FROM input")})
    with shop.server() as server:
        said = server.stderr()
        assert "column amount is INTEGER in the table and VARCHAR in the rows" in said
        assert "cast it, or give the sink another table name" in said
        position = server.ingest("orders", [{"id": "c", "amount": 3, "note": "z"}])["position"]
        assert server.query("SELECT id, amount FROM orders ORDER BY id", wait=position) == [
            {"id": "a", "amount": 1}, {"id": "b", "amount": 2}, {"id": "c", "amount": 3}], "the filter before goes on"


def test_a_second_writer_of_a_table_keeps_the_newest_row(project):
    first = orders("SELECT id, amount FROM input", "{table: {name: newest, key: id}}")
    second = """
  again:
    from: orders
    filters:
      - f: SELECT id, -amount AS amount FROM input
    to: {table: {name: newest, key: id}}
"""
    shop = project({"millstream.yaml": first})
    events = "".join(f'{{"id":"k{i % 50}","amount":{i}}}\n' for i in range(500))
    shop.verb("ingest", "orders", "-", stdin=events)
    shop.write({"millstream.yaml": first + second})
    shop.verb("run", "--once")
    # Both deliver the same events; of two rows of one event that of the greater pipeline stands, in every partition.
    rows = shop.verb("query", "SELECT id, amount FROM newest", "--format", "ndjson").lines()
    assert sorted((row["id"], abs(row["amount"])) for row in rows) == sorted((f"k{i}", 450 + i) for i in range(50))
    assert len({row["amount"] > 0 for row in rows}) == 1
    shop.verb("ingest", "orders", "-", stdin='{"id":"k1","amount":1000}\n')
    assert abs(shop.verb("query", "SELECT amount FROM newest WHERE id = 'k1'", "--format", "ndjson").lines()[0]["amount"]) == 1000


TWO_SINKS = """
streams:
  orders: {partitions: 2, key: id, contract: {id: varchar not null}}
pipelines:
  orders:
    from: orders
    to:
      - file: out/orders.ndjson
      - table: orders
"""


def test_a_sink_that_cannot_be_opened_comes_back(project):
    shop = project({"millstream.yaml": TWO_SINKS, "out": "a file where the folder belongs"})
    server = shop.server().start(wait_ready=False)
    eventually(lambda: listens(server))
    position = server.ingest("orders", [{"id": f"o{i}"} for i in range(20)])["position"]
    # The other sink goes on; what is the matter is told everywhere, and once in the log.
    assert server.query("SELECT count(*) AS n FROM orders", wait=position) == [{"n": 20}]
    ready = server.http("GET", "/health/ready")
    assert ready.status == 503
    reason = ready.json()["reasons"][0]
    assert (reason["pipeline"], reason["state"]) == ("orders", "degraded")
    assert "is a file, not a folder" in reason["reason"]
    assert server.metrics()['millstream_pipeline_state{pipeline="orders",state="degraded"}'] == 1
    assert "is a file, not a folder" in shop.verb("pipeline", "list").stdout
    shown = server.http("GET", "/v1/status").json()["pipelines"][0]
    assert {sink["id"]: sink["state"] for sink in shown["sinks"]} == {"file:out/orders.ndjson": "degraded", "table:orders": "live"}
    assert shown["sinks"][0]["next"] == []
    eventually(lambda: server.http("GET", "/v1/status").json()["pipelines"][0]["sinks"][0]["retries"] >= 4)
    (shop.folder / "out").unlink()
    eventually(lambda: server.http("GET", "/health/ready").status == 200)
    out = shop.folder / "out" / "orders.ndjson"
    eventually(lambda: out.exists() and len(out.read_text().splitlines()) == 20)
    assert server.stderr().count("the sink is degraded") == 1
    assert server.stderr().count("the sink goes on") == 1
    server.stop()


def test_a_sink_that_is_no_more_what_it_was_says_what_to_do(project):
    shop = project({"millstream.yaml": TWO_SINKS})
    shop.verb("ingest", "orders", "-", stdin='{"id":"a"}\n{"id":"b"}\n')
    out = shop.folder / "out" / "orders.ndjson"
    written = out.read_bytes()
    out.write_bytes(b"")
    server = shop.server().start(wait_ready=False)
    eventually(lambda: listens(server))
    position = server.ingest("orders", [{"id": "c"}])["position"]
    assert server.query("SELECT count(*) AS n FROM orders", wait=position) == [{"n": 3}]
    reason = eventually(lambda: server.http("GET", "/health/ready").json()["reasons"])[0]
    assert reason["state"] == "failed"
    assert "put it back" in reason["reason"] and "millstream pipeline resume orders" in reason["reason"]
    with out.open("r+b") as file:  # the same file, as it was
        file.write(written)
    shop.verb("pipeline", "resume", "orders")
    eventually(lambda: server.http("GET", "/health/ready").status == 200)
    eventually(lambda: len(out.read_text().splitlines()) == 3)
    server.stop()
