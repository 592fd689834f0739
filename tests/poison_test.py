"""Events that nobody should send: each kind is refused where it must be, exactly, and neither ingest nor delivery stands still for them."""

import time

import pytest

from harness import SLOWNESS, eventually
from sizes import size

PROJECT = """
server: {limits: {event: 2MiB, body: 32MiB}}
streams:
  orders:
    contract: {id: varchar not null, n: bigint, note: varchar}
pipelines:
  rows:
    from: orders
    filters:
      - typed: SELECT id, CAST(note AS INTEGER) AS note FROM input
    to: {table: rows}
"""
DEEP = 100_000
POISON = {  # line: the dead letter's code
    b'{"id":"p","x":' + b"[" * DEEP + b"]" * DEEP + b"}": "depth",
    b'{"id":"p","x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}": "depth",
    b'{"id":"p","n":NaN}': "json",
    b'{"id":"p","n":-Infinity}': "json",
    b'{"id":"p","note":"a\x00b"}': "json",
    b'{"id":"p","note":"\xff\xfe"}': "utf8",
    b'{"id":"p","note":"\xed\xa0\x80"}': "utf8",
    b'{"id":"p","note":"\xc0\xaf"}': "utf8",
    b'{"id":"p","note":"\\ud800"}': "json",
    b'{"id":"p","note":"\\udc00\\ud800"}': "json",
    b'{"id":"p","n":' + b"1" + b"0" * 400 + b"}": "contract",
    b'{"id":"p","n":1e400}': "contract",
    b'{"id":"p","note":"' + b"x" * (16 << 20) + b'"}': "size",
    b'{"id":"p","n":1': "json",
    b'{"id":"p","n":1}}': "json",
    b'{"id":"p" "n":1}': "json",
    b'{"id":"p","n":01}': "json",
    b'{"id":null}': "contract",
    b"[1,2]": "contract",
    b"7": "contract",
    b"\x00": "json",
}
TAKEN = {  # what looks bad and is not
    b'{"id":"t1","id":"second","n":1,"n":2}': ("t1", 1),  # the first wins
    b'{"id":"t2","n":2,"note":"\\u0000"}': ("t2", 2),
    b'{"id":"t3","n":3,"x":' + b"1" + b"0" * 400 + b"}": ("t3", 3),
    b'{"id":"t4","n":4,"x":1e400}': ("t4", 4),
    b'{"\\u0069d":"t5","n":5}': ("t5", 5),
}


def cpu_seconds(server):
    """By the process's own CPU clock, in nanoseconds (clock_getcpuclockid(3)); /proc counts ticks of 10 ms, too coarse to compare."""
    return time.clock_gettime((~server.process.pid << 3) | 2)


def send(server, lines):
    return server.http("POST", "/v1/streams/orders/events", b"\n".join(lines) + b"\n", {"Content-Type": "application/x-ndjson"}).json()


def test_every_kind_is_refused_exactly_and_its_neighbours_are_taken(project):
    with project({"millstream.yaml": PROJECT}).server() as server:
        for number, (line, code) in enumerate(POISON.items()):
            good = [b'{"id":"g%d","n":1}' % number, b'{"id":"h%d","n":1}' % number]
            answer = send(server, [good[0], line, good[1]])
            assert (answer["accepted"], [fault["code"] for fault in answer["faults"]]) == (2, [code]), (line[:80], answer)
        answer = send(server, list(TAKEN))
        assert answer["accepted"] == len(TAKEN), answer
        rows = server.query("SELECT id, n FROM _streams.orders WHERE id LIKE 't%'")
        assert sorted((row["id"], row["n"]) for row in rows) == sorted(TAKEN.values())
        listed = server.http("GET", "/v1/dead/orders?limit=1000").json()
        refused = [letter for letter in listed["letters"] if letter["at"] == "ingest"]
        assert sorted(letter["code"] for letter in refused) == sorted(POISON.values())
        assert server.query("SELECT count(*) AS n FROM _streams.orders") == [{"n": 2 * len(POISON) + len(TAKEN)}]


def bodies(count, bad, every, name):
    """Requests of 1,000 events; every so manieth is `bad`."""
    for begin in range(0, count, 1000):
        yield [bad % n if every and n % every == 0 else b'{"id":"%s%d","n":%d,"note":"%d","x":"%s"}' % (name, n, n, n, b"y" * 100)
               for n in range(begin, begin + 1000)]


TURNS = 10  # of which the cheapest count, for others use the cores too


def cost(server, count, bad, every, name):
    """CPU seconds of the server until all is taken and delivered."""
    began = cpu_seconds(server)
    for lines in bodies(count, bad, every, name):
        send(server, lines)
    eventually(lambda: not any(row["lag_events"] for row in server.query("SELECT lag_events FROM _pipelines")), 300)
    return cpu_seconds(server) - began


def dead(server, at):
    return sum(letter["at"] == at for letter in server.http("GET", "/v1/dead/orders?limit=1000000").json()["letters"])


@pytest.mark.parametrize("every,share", [(100, 0.05), (1, 0)])
def test_events_that_fail_in_a_filter_become_letters_and_the_rest_goes_on(project, every, share):
    count = size("poison_events") if every > 1 else size("poison_events") // 10
    with project({"millstream.yaml": PROJECT}).server() as server:
        clean = cost(server, count, b"", 0, b"c")
        poisoned = cost(server, count, b'{"id":"b%d","note":"bad"}', every, b"d")
        print(f"{count} events: {clean:.2f} s of CPU clean, {poisoned:.2f} s with one in {every} failing in a filter")
        assert dead(server, "rows.typed") == count // every
        assert server.query("SELECT count(*) AS n FROM rows") == [{"n": 2 * count - count // every}]
        assert send(server, [b'{"id":"last","n":1}'])["accepted"] == 1
        assert share == 0 or clean / poisoned >= share
        began = time.monotonic()
        assert server.http("GET", "/health/live").status == 200 and time.monotonic() - began < SLOWNESS


def test_one_in_a_hundred_refused_at_ingest_costs_little(project):
    count = size("poison_events")
    with project({"millstream.yaml": PROJECT}).server() as server:
        costs = {"clean": [], "poisoned": []}
        for turn in range(TURNS):  # A B A B
            costs["clean"].append(cost(server, count, b"", 0, b"c%d-" % turn))
            costs["poisoned"].append(cost(server, count, b'{"id":"b%d","n":"many"}', 100, b"d%d-" % turn))
        print({name: [round(value, 2) for value in values] for name, values in costs.items()})
        assert dead(server, "ingest") == TURNS * count // 100
        assert min(costs["clean"]) / min(costs["poisoned"]) >= 0.8
