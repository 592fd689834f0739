"""SIGKILL, again and again, under four producers and while filters change: checker.py finds nothing lost, doubled, out of order or made by the wrong version."""

import random
import statistics
import time

import pytest
from checker import Checker

from faults import Producer, Told, check_all
from harness import eventually, stretch
from sizes import SEED, size

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
      - big: SELECT id, customer FROM input WHERE amount >= BOUND
    to:
      - stream: {name: big, key: customer}
  big_table:
    from: big
    to:
      - table: big_orders
  lines:
    from: orders
    filters:
      - stamp: SELECT id, amount * FACTOR AS twice, VERSION AS version FROM input
    to:
      - file: {path: out/lines.ndjson, format: ndjson}
      - table: stamped
"""
ROUNDS_OF_A_FOLDER = 12
CHECK_EVERY = 6
READY_SECONDS_MAX = 2


def files(rng, version):
    text = PROJECT.replace("BOUND", str(rng.randrange(60))).replace("FACTOR", str(rng.randrange(2, 9)))
    return {"millstream.yaml": text.replace("VERSION", str(version))}


def folders():
    kills = size("kills")
    return [(first, min(ROUNDS_OF_A_FOLDER, kills - first)) for first in range(0, kills, ROUNDS_OF_A_FOLDER)]


@pytest.mark.parametrize("first,rounds", folders())
def test_kill_loses_and_doubles_nothing(project, first, rounds):
    rng, told, ready = random.Random(f"{SEED} {first}"), Told(), []
    print(f"MILLSTREAM_FAULT_SEED={SEED}, rounds {first} to {first + rounds - 1}")
    shop = project(files(rng, 0))
    checker = Checker(shop.data, told)
    for number in range(1, rounds + 1):
        began = time.monotonic()
        server = shop.server().start()
        ready.append(time.monotonic() - began)
        producers = [Producer(server, told, f"{name}{number}", random.Random(f"{SEED} {first} {name}{number}")) for name in "abcd"]
        for producer in producers:
            producer.start()
        time.sleep(rng.uniform(0.1, 0.7))
        if rng.random() < 0.5:
            shop.write(files(rng, number))
            if rng.random() < 0.5:  # while events flow; else at the next start
                shop.verb("apply", "--yes", expect=None)
                time.sleep(rng.uniform(0, 0.1))
        server.kill()
        for producer in producers:
            producer.join()
        if number % CHECK_EVERY == 0 or number == rounds:
            with shop.server() as again:
                check_all(shop, again, told, checker)
            assert shop.verb("verify", "--log").code == 0
    print(f"{rounds} kills, {len(told.acknowledged)} acknowledged, {len(told.unknown)} unknown, ready after {statistics.median(ready):.2f} s, at most {max(ready):.2f}")
    assert len(told.acknowledged) > 20 * rounds
    assert statistics.median(ready) < READY_SECONDS_MAX * stretch()


def test_damaged_tables_are_made_anew_from_the_log(project):
    shop = project(files(random.Random(SEED), 0))
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
