"""kill -9, again and again: what was acknowledged is there once, in the log and in every table, and nothing is doubled."""

import http.client
import json
import random
import threading

from harness import eventually

PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    contract: {id: varchar not null, customer: varchar not null, amount: bigint}
  big: {key: customer, contract: {id: varchar, customer: varchar}}
pipelines:
  all_orders:
    from: orders
    to:
      - table: all_orders
  totals:
    from: orders
    to:
      - table: {name: totals, key: customer, values: {n: count(*), total: sum(amount)}}
  newest:
    from: orders
    to:
      - table: {name: newest, key: customer}
  chain:
    from: orders
    filters:
      - big: SELECT id, customer FROM input WHERE amount >= 50
    to:
      - stream: {name: big, key: customer}
  big_table:
    from: big
    to:
      - table: big_orders
"""
ROUNDS = 6
CUSTOMERS = 20


class Producer(threading.Thread):
    """Sends events in small batches until the server dies; remembers what was acknowledged and what may have been taken."""

    def __init__(self, server, name, round_number):
        super().__init__()
        self.server, self.prefix = server, f"{name}-{round_number}"
        self.acknowledged, self.unknown = {}, {}

    def run(self):
        number = 0
        while True:
            batch = []
            for _ in range(random.randint(1, 20)):
                batch.append({"id": f"{self.prefix}-{number}", "customer": f"c{random.randrange(CUSTOMERS)}", "amount": random.randrange(100)})
                number += 1
            try:
                self.server.ingest("orders", batch)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                self.unknown.update((event["id"], event) for event in batch)
                return
            self.acknowledged.update((event["id"], event) for event in batch)


def test_kill_loses_and_doubles_nothing(project):
    random.seed(20261123)
    shop = project({"millstream.yaml": PROJECT})
    acknowledged, unknown = {}, {}
    for round_number in range(ROUNDS):
        server = shop.server().start()
        producers = [Producer(server, name, round_number) for name in ("a", "b", "c")]
        for producer in producers:
            producer.start()
        threading.Event().wait(random.uniform(0.3, 1.2))
        server.kill()
        for producer in producers:
            producer.join()
            acknowledged.update(producer.acknowledged)
            unknown.update(producer.unknown)
    assert len(acknowledged) > 100

    server = shop.server().start()
    log = server.query("SELECT id, customer, amount, _partition, _offset FROM _streams.orders")
    ids = [row["id"] for row in log]
    assert len(ids) == len(set(ids)), "the log holds an event twice"
    assert set(acknowledged) <= set(ids), "an acknowledged event is lost"
    assert set(ids) <= set(acknowledged) | set(unknown), "the log holds what nobody sent"

    def delivered():
        return server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == len(ids)
    eventually(delivered, 30)
    assert sorted(row["id"] for row in server.query("SELECT id FROM all_orders")) == sorted(ids)

    totals, newest = {}, {}
    for row in sorted(log, key=lambda row: (row["_partition"], row["_offset"])):
        n, total = totals.get(row["customer"], (0, 0))
        totals[row["customer"]] = (n + 1, total + row["amount"])
        newest[row["customer"]] = row["id"]  # a customer's events lie in one partition
    eventually(lambda: sum(row["n"] for row in server.query("SELECT n FROM totals")) == len(ids), 30)
    assert {row["customer"]: (row["n"], int(row["total"])) for row in server.query("SELECT * FROM totals")} == totals
    eventually(lambda: {row["customer"]: row["id"] for row in server.query("SELECT customer, id FROM newest")} == newest, 30)

    big = sorted(row["id"] for row in log if row["amount"] >= 50)
    eventually(lambda: server.query("SELECT count(*) AS n FROM big_orders")[0]["n"] >= len(big), 30)
    assert sorted(row["id"] for row in server.query("SELECT id FROM big_orders")) == big
    server.stop()
    assert shop.verb("verify", "--log").code == 0


def test_damaged_tables_are_made_anew_from_the_log(project):
    shop = project({"millstream.yaml": PROJECT})
    server = shop.server().start()
    position = server.ingest("orders", [{"id": f"o{i}", "customer": f"c{i % 3}", "amount": i} for i in range(100)])["position"]
    before = server.query("SELECT * FROM totals ORDER BY customer", wait=position)
    server.stop()
    tables = shop.data / "tables.duckdb"
    damaged = bytearray(tables.read_bytes())
    damaged[12288:12296] = b"\xff" * 8  # the checksum of the first block
    tables.write_bytes(damaged)
    server = shop.server().start()
    assert "made anew from the log" in server.stderr()
    eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == 100, 30)
    eventually(lambda: server.query("SELECT * FROM totals ORDER BY customer") == before, 30)
