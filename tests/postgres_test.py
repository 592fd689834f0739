"""The `postgres` sink on the built binary, against a real server: what arrives, and that faults lose and double nothing."""

import collections
import http.client
import json
import random
import threading
import time

import pytest

from harness import eventually
from postgres_server import BINARIES, PostgresServer, Proxy
from sizes import SEED, size

pytestmark = pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL in /usr/lib/postgresql")

PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    contract: {id: varchar not null, customer: varchar, amount: "decimal(12,2)", at: timestamptz, lines: "struct(sku varchar, qty integer)[]"}
pipelines:
  orders:
    from: orders
    to:
      - postgres: {table: orders, url: "${env:SHOP_DB}"}
      - postgres: {table: customers, key: customer, url: "${env:SHOP_DB}", delete_when: amount < 0}
      - table: here
"""


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer() as server:
        yield server


@pytest.fixture
def shop(project, postgres):
    postgres.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return project({"millstream.yaml": PROJECT})


def events(first, end):
    return [{"id": f"o{i}", "customer": f"c{i % 7}", "amount": i + 0.25, "at": "2026-11-01T12:00:00Z", "lines": [{"sku": "a\tb", "qty": i}]}
            for i in range(first, end)]


def count(postgres, table="orders"):
    return int(postgres.query(f"SELECT count(*) FROM {table}")[0][0])


def test_rows_arrive_with_their_types(shop, postgres):
    with shop.server(extra_environment={"SHOP_DB": postgres.url()}) as server:
        server.ingest("orders", events(0, 50))
        eventually(lambda: count(postgres) == 50 and count(postgres, "customers") == 7)
        assert postgres.query("SELECT id, customer, amount, at AT TIME ZONE 'UTC', lines->0->>'sku', lines->0->'qty' FROM orders WHERE id = 'o8'") == [
            ("o8", "c1", "8.25", "2026-11-01 12:00:00", "a\tb", "8")]
        assert postgres.query("SELECT id FROM customers WHERE customer = 'c1'") == [("o43",)]
        server.ingest("orders", [{"id": "gone", "customer": "c1", "amount": -1}])
        eventually(lambda: count(postgres, "customers") == 6)
        eventually(lambda: postgres.query("SELECT pipeline, generation, sink, sum(next) FROM _millstream_offsets GROUP BY 1, 2, 3 ORDER BY 3") == [
            ("orders", "1", "postgres:customers", "51"), ("orders", "1", "postgres:orders", "51")])
        # The address is a secret.
        said = json.dumps(server.http("GET", "/v1/status").json()) + server.stderr() + shop.verb("pipeline", "show", "orders", "--yaml").stdout
        assert "pass-w0rd" not in said and "127.0.0.1:%d" % postgres.port not in said


def test_a_row_that_the_database_refuses_is_a_dead_letter(shop, postgres):
    postgres.query("CREATE TABLE orders (id text PRIMARY KEY CHECK (id <> 'o13'), customer text, amount numeric, at timestamptz, lines jsonb)")
    with shop.server(extra_environment={"SHOP_DB": postgres.url()}) as server:
        server.ingest("orders", [*events(0, 50), {"id": "o20", "customer": "c6"}])
        eventually(lambda: count(postgres) == 49)
        letters = eventually(lambda: (got := shop.verb("dead", "list", "orders", "--json").json())["total"] == 2 and got)["letters"]
        assert {letter["at"] for letter in letters} == {"orders.postgres:orders"}
        assert {letter["code"] for letter in letters} == {"sink"}
        reasons = " ".join(sorted(letter["reason"] for letter in letters))
        assert "violates check constraint" in reasons and "duplicate key value violates unique constraint" in reasons
        eventually(lambda: server.http("GET", "/health/ready").status == 200)


def test_a_database_that_is_away_holds_back_nobody_and_comes_back(shop, postgres):
    postgres.stop()
    try:
        server = shop.server(extra_environment={"SHOP_DB": postgres.url()}).start(wait_ready=False)
        eventually(lambda: server.process.poll() is None and ready(server) == 503)
        position = server.ingest("orders", events(0, 50))["position"]
        assert server.query("SELECT count(*) AS n FROM here", wait=position) == [{"n": 50}]
        reason = server.http("GET", "/health/ready").json()["reasons"][0]
        assert reason["state"] == "degraded" and "Connection refused" in reason["reason"], reason
        assert "pass-w0rd" not in json.dumps(reason) + server.stderr()
    finally:
        postgres.start()
    eventually(lambda: ready(server) == 200)
    eventually(lambda: count(postgres) == 50)
    server.stop()


def ready(server):
    try:
        return server.http("GET", "/health/ready").status
    except (OSError, http.client.HTTPException):
        return None


def test_a_lost_reply_to_a_commit_doubles_nothing(shop, postgres):
    with Proxy(postgres.port) as proxy, shop.server(extra_environment={"SHOP_DB": postgres.url(proxy.port)}) as server:
        for i in range(6):
            proxy.lose_commits = 2
            server.ingest("orders", events(50 * i, 50 * i + 50))
            eventually(lambda: count(postgres) == 50 * i + 50)
            eventually(lambda: proxy.lose_commits == 0)
        eventually(lambda: ready(server) == 200)
        assert proxy.lost >= 12
        assert count(postgres) == 300
        assert int(postgres.query("SELECT count(DISTINCT id) FROM orders")[0][0]) == 300


def test_a_stop_does_not_wait_for_a_database_that_hangs(shop, postgres):
    with Proxy(postgres.port) as proxy, shop.server(extra_environment={"SHOP_DB": postgres.url(proxy.port)}) as server:
        server.ingest("orders", events(0, 50))
        eventually(lambda: count(postgres) == 50)
        proxy.hang = True
        server.ingest("orders", events(50, 100))
        time.sleep(0.5)
        began = time.monotonic()
        server.stop(seconds=10)
        assert time.monotonic() - began < 5
        proxy.hang = False
    with shop.server(extra_environment={"SHOP_DB": postgres.url()}):
        eventually(lambda: count(postgres) == 100)
        assert int(postgres.query("SELECT count(DISTINCT id) FROM orders")[0][0]) == 100


class Producer(threading.Thread):
    """Sends until told to stop; remembers what was sent, acknowledged or not."""

    def __init__(self, server, name, pause=0):
        super().__init__()
        self.server, self.prefix, self.pause, self.number, self.ends = server, name, pause, 0, threading.Event()

    def run(self):
        while not self.ends.wait(self.pause):
            batch = [{"id": f"{self.prefix}-{self.number + i}", "customer": f"c{random.randrange(50)}", "amount": 1} for i in range(random.randint(1, 200))]
            try:
                self.server.ingest("orders", batch)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                return
            self.number += len(batch)


def check_tables(server, postgres):
    """Both tables against the log."""
    log = server.query("SELECT id, customer, _partition AS p, _offset AS o FROM _streams.orders", timeout="300s")
    assert len(log) > 1000
    eventually(lambda: count(postgres) >= len(log), 60)
    eventually(lambda: ready(server) == 200)
    assert collections.Counter(row[0] for row in postgres.query("SELECT id FROM orders")) == collections.Counter(row["id"] for row in log)
    newest = {}
    for row in sorted(log, key=lambda row: (row["p"], row["o"])):
        newest[row["customer"]] = row["id"]  # a customer's events lie in one partition
    eventually(lambda: dict(postgres.query("SELECT customer, id FROM customers")) == newest)


def restart(postgres):
    postgres.stop("immediate")
    postgres.start()


def for_a_while(proxy, what, rng):
    setattr(proxy, what, True)
    time.sleep(rng.uniform(0, 0.3))
    setattr(proxy, what, False)


def lose_a_reply(proxy):
    proxy.lose_commits = 1
    eventually(lambda: proxy.lose_commits == 0)


def test_a_bad_line_to_the_database_loses_and_doubles_nothing(shop, postgres):
    rng = random.Random(SEED)
    print(f"MILLSTREAM_FAULT_SEED={SEED}")
    with Proxy(postgres.port) as proxy, shop.server(extra_environment={"SHOP_DB": postgres.url(proxy.port)}) as server:
        kinds = {
            "hangs": lambda: for_a_while(proxy, "hang", rng),
            "drips": lambda: for_a_while(proxy, "drip", rng),
            "resets": proxy.reset,
            "loses a reply to a commit": lambda: lose_a_reply(proxy),
            "restarts": lambda: restart(postgres),
        }
        producers = [Producer(server, name, 0.02) for name in ("a", "b")]
        for producer in producers:
            producer.start()
        before = eventually(lambda: count(postgres))
        for _ in range(size("postgres_faults")):
            for kind in kinds.values():
                eventually(lambda: ready(server) == 200, 60)  # each meets sinks at work
                time.sleep(rng.uniform(0, 0.1))
                kind()
        for producer in producers:
            producer.ends.set()
            producer.join()
        assert proxy.lost >= size("postgres_faults") and count(postgres) > before
        check_tables(server, postgres)


def test_kills_on_both_sides_lose_and_double_nothing(shop, postgres):
    random.seed(20261126)
    with Proxy(postgres.port) as proxy:
        for round_number in range(6):
            server = shop.server(extra_environment={"SHOP_DB": postgres.url(proxy.port)}).start(wait_ready=False)
            eventually(lambda: ready(server) is not None)
            producers = [Producer(server, f"{name}{round_number}") for name in ("a", "b")]
            for producer in producers:
                producer.start()
            time.sleep(random.uniform(0.2, 0.8))
            proxy.lose_commits = 1
            time.sleep(random.uniform(0.1, 0.3))
            postgres.stop("immediate")
            time.sleep(random.uniform(0, 0.3))
            if round_number % 2 == 0:  # killed while the server is away, else while it comes back
                server.kill()
            postgres.start()
            if round_number % 2 == 1:
                time.sleep(random.uniform(0, 0.6))
                server.kill()
            for producer in producers:
                producer.ends.set()
                producer.join()
        with shop.server(extra_environment={"SHOP_DB": postgres.url()}) as server:
            check_tables(server, postgres)
