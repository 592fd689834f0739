"""Retention on the built binary. A segment is as small as 1 MiB where `retain.size` is 4 MiB and the stream has one partition.

By age nothing goes for ten minutes after a start, so from outside only that can be seen; the rest is the log's own tests.
"""

import os
import time

from harness import eventually

PROJECT = """
streams:
  orders:
    retain: {%s}
    codec: none
    contract: {id: varchar not null, n: bigint}
pipelines:
  rows:
    from: orders
    filters:
      - short: SELECT id, n FROM input
    to: {table: rows}
"""
EVENTS = 1000  # of 12 KB
PAUSED_SECONDS = 5
KEEPING_SECONDS = 5  # in which retention has looked again


def fill(server, first=0, count=EVENTS):
    for begin in range(first, first + count, 50):
        server.ingest("orders", [{"id": f"e{n}", "n": n, "note": os.urandom(6000).hex()} for n in range(begin, begin + 50)])


def bounds(server):
    stream = next(each for each in server.http("GET", "/v1/status").json()["streams"] if each["name"] == "orders")
    return stream["partitions"][0]


def test_by_size_the_oldest_go_and_offsets_stay(project):
    shop = project({"millstream.yaml": PROJECT % "size: 4MiB"})
    with shop.server() as server:
        fill(server)
        eventually(lambda: bounds(server)["start"] > 0, 60)
        eventually(lambda: bounds(server)["bytes"] <= 6 * 2**20, 60)
        assert bounds(server)["end"] == EVENTS

        def first():
            """The first event that is kept, and its offset; retention may go on between the two questions."""
            start = bounds(server)["start"]
            answer = server.http("GET", f"/v1/streams/orders/events?from=orders/0:{start}&limit=1")
            assert answer.status == 200, answer.body
            return start, answer.lines()[0]
        start, event = eventually(first)
        assert (int(event["offset"]), event["data"]["n"]) == (start, start)

        def is_refused_below():
            answer = server.http("GET", "/v1/streams/orders/events?from=orders/0:0")
            assert answer.status >= 400 and f"the earliest is {bounds(server)['start']}" in answer.body.decode(), (answer.status, answer.body)
            return True
        eventually(is_refused_below)
        eventually(lambda: server.query("SELECT count(*) AS n FROM rows")[0]["n"] == EVENTS)
    with shop.server() as server:
        assert bounds(server)["start"] >= start and bounds(server)["end"] == EVENTS


def test_what_a_paused_pipeline_needs_stays(project):
    shop = project({"millstream.yaml": PROJECT % "size: 4MiB"})
    with shop.server() as server:
        assert server.http("POST", "/v1/pipelines/rows/pause", {}).status == 200
        fill(server)
        time.sleep(PAUSED_SECONDS)
        assert bounds(server)["start"] == 0
        assert server.http("POST", "/v1/pipelines/rows/resume", {}).status == 200
        eventually(lambda: server.query("SELECT count(*) AS n FROM rows")[0]["n"] == EVENTS)
        eventually(lambda: bounds(server)["start"] > 0, 60)


def test_by_age_nothing_goes_soon_after_a_start(project):
    shop = project({"millstream.yaml": PROJECT % "age: 1s"})
    with shop.server() as server:
        fill(server, count=50)
    with shop.server() as server:
        fill(server, first=50, count=50)
        assert (bounds(server)["start"], bounds(server)["end"]) == (0, 100)


CHAIN = """
streams:
  orders:
    retain: {size: 4MiB}
    codec: none
    partitions: 1
    contract: {id: varchar not null, n: bigint}
  few:
    partitions: 4
    contract: {id: varchar not null, n: bigint}
pipelines:
  first:
    from: orders
    filters:
      - rare: SELECT id, n FROM input WHERE n % 500 = 0
    to: {stream: {name: few, key: id}}
  second:
    from: few
    filters:
      - kept_rows: SELECT id, n FROM input
    to: {table: kept}
"""


def test_a_chain_that_was_killed_finds_what_it_goes_on_with(project):
    """Of a chain's receipts some are older than what it has delivered: retention goes by the oldest."""
    shop = project({"millstream.yaml": CHAIN})
    with shop.server() as server:
        fill(server)
        time.sleep(KEEPING_SECONDS)
        server.kill()
    expected = {"n": EVENTS // 500, "different": EVENTS // 500}
    with shop.server() as server:
        eventually(lambda: server.query("SELECT count(*) AS n, count(DISTINCT n) AS different FROM kept")[0] == expected)
