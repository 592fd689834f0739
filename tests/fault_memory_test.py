"""Memory that ends: the server in a cgroup with little beyond `server.memory` takes events in, fills an append, an upsert and an aggregate table, and answers a
query that groups by everything. The kernel kills nothing, and no event is lost."""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time

import pytest

from harness import BINARY, ROOT, Server, environment, eventually
from memory_group import MemoryGroup, Refused
from sizes import size

sys.path.append(str(ROOT / "bench"))
import orders  # noqa: E402

MIB = 1 << 20
MEMORY_MIB, BEYOND_MIB = 256, 256  # what was seen at other sizes: docs/reliability.md
CHUNKS, SENDERS = 50, 4  # different bodies of orders.CHUNK_EVENTS events
PROJECT = f"""
server: {{memory: {MEMORY_MIB}MiB}}
streams:
  orders:
    partitions: 2
    key: customer
    contract: {{id: varchar not null, type: varchar, customer: varchar, amount: "decimal(12,2)", ts: timestamptz, note: varchar}}
pipelines:
  placed:
    from: orders
    filters:
      - placed: SELECT id, customer, amount FROM input WHERE type = 'order.placed'
    to:
      - table: placed
  keyed:
    from: orders
    to:
      - table: {{name: newest, key: id}}
      - table: {{name: sums, key: customer, values: {{orders: count(*), total: sum(amount)}}}}
"""
WIDE = "SELECT id, type, customer, note, ts, count(*) AS n FROM _streams.orders GROUP BY ALL ORDER BY n DESC, note LIMIT 3"


class Confined(Server):
    """A server within a memory group."""

    def __init__(self, project, group):
        super().__init__(project)
        self.group = group
        project.servers.append(self)

    def start(self, wait_ready=True):
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(self.group.command([BINARY, "run", self.project.folder, "--listen", f"127.0.0.1:{self.port}"]),
                                            stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL, env=environment())
        if wait_ready:
            self.wait_ready()
        return self


@pytest.fixture
def group():
    try:
        with MemoryGroup((MEMORY_MIB + BEYOND_MIB) * MIB) as made:
            yield made
    except Refused as refused:
        pytest.skip(str(refused))


class Watch(threading.Thread):
    """Looks every 50 ms how much memory the group's processes hold."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.resident_max, self.over = group, 0, threading.Event()

    def run(self):
        with contextlib.suppress(FileNotFoundError):  # the group is gone
            while not self.over.wait(0.05):
                self.resident_max = max(self.resident_max, self.group.resident_bytes())


class Asker(threading.Thread):
    """Asks the wide query again and again, and remembers how it was answered."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.answers, self.over = server, {}, threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                answer = self.server.http("POST", "/v1/query", {"sql": WIDE, "timeout": "60s"}, timeout=120)
            except (OSError, http.client.HTTPException):
                return  # the test tells why
            key = "rows" if answer.status == 200 else answer.json()["code"]
            self.answers[key] = self.answers.get(key, 0) + 1


def rows_of(server, sql):
    """Asks again while tables are being written: the last folds come after the last delivery."""
    answer = eventually(lambda: (answer := server.http("POST", "/v1/query", {"sql": sql})).status != 429 and answer, 120, 0.5)
    assert answer.status == 200, answer.body
    return answer.json()["rows"]


def test_a_full_memory_kills_nothing_and_loses_nothing(project, group):
    shop = project({"millstream.yaml": PROJECT})
    bodies = list(orders.orders(CHUNKS * orders.CHUNK_EVENTS, 500_000))
    placed = [body.count(b'"type":"order.placed"') for body in bodies]
    requests = -(-size("memory_mib") * MIB // len(bodies[0]))
    acknowledged = [0] * len(bodies)
    with Confined(shop, group) as server:
        asker, watch = Asker(server), Watch(group)
        watch.start()

        def is_alive():
            code = server.process.poll()
            if group.kills() > 0 or code is not None:
                pytest.fail(f"exit code {code}, killed for memory: {group.kills()}, resident at most {watch.resident_max // MIB} MiB, "
                            f"queries {asker.answers}:\n{server.stderr()[-2000:]}")
            return True

        def send(first):
            connection = server.connection(timeout=300)
            for number in range(first, requests, SENDERS):
                chunk = number % len(bodies)
                while True:
                    connection.request("POST", "/v1/streams/orders/events", bodies[chunk], {"Content-Type": "application/x-ndjson"})
                    answer = connection.getresponse()
                    text = answer.read()
                    if answer.status == 200:
                        break
                    assert answer.status in (429, 503), (answer.status, text)  # not appended: again
                    time.sleep(0.1)
                acknowledged[chunk] += 1
                if number == min(20, requests - 1):
                    asker.start()

        began = time.monotonic()
        senders = [threading.Thread(target=send, args=(i,)) for i in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        seconds = time.monotonic() - began
        events = sum(acknowledged) * orders.CHUNK_EVENTS
        is_alive()
        assert sum(acknowledged) == requests
        asker.over.set()
        asker.join(180)
        eventually(lambda: is_alive() and not any(each["lag_events"] for each in server.http("GET", "/v1/status").json()["pipelines"]), 300, 0.5)
        assert rows_of(server, "SELECT count(*) AS n FROM placed")[0]["n"] == sum(a * b for a, b in zip(acknowledged, placed, strict=True))
        assert rows_of(server, "SELECT sum(orders)::BIGINT AS n FROM sums")[0]["n"] == events
        assert rows_of(server, "SELECT count(*) AS n FROM newest")[0]["n"] == sum(count > 0 for count in acknowledged) * orders.CHUNK_EVENTS
        watch.over.set()
        is_alive()
        print(json.dumps({"mib": requests * len(bodies[0]) // MIB, "seconds": round(seconds), "events": events, "queries": asker.answers, "resident_mib_max": watch.resident_max // MIB, "peak_mib": (group.peak_bytes() or 0) // MIB}))
        assert asker.answers, "no query was answered"
        server.stop()


GREEDY = "SELECT max(len(l)) FROM (SELECT list(i) AS l FROM range(20000000) t(i) GROUP BY i % 1000)"  # its lists cannot be written to disk


def test_queries_that_want_all_memory_leave_tables_whole(project):
    """Folds and checkpoints keep their part: none is cut in its midst by a query that takes what there is."""
    shop = project({"millstream.yaml": PROJECT.replace(f"{MEMORY_MIB}MiB", "64MiB")})
    lines = b"".join(orders.orders(5 * orders.CHUNK_EVENTS, 100_000)).splitlines(keepends=True)
    bodies = [lines[first:first + 2_000] for first in range(0, len(lines), 2_000)]
    over, sent, answers = threading.Event(), [], {}

    def ask(server):
        while not over.is_set():
            answer = server.http("POST", "/v1/query", {"sql": GREEDY, "timeout": "100ms"}, timeout=120)
            code = "rows" if answer.status == 200 else answer.json()["code"]
            answers[code] = answers.get(code, 0) + 1

    def send(server, mine):
        while not over.is_set():
            for body in mine:
                if over.is_set():
                    return
                answer = server.http("POST", "/v1/streams/orders/events", b"".join(body), {"Content-Type": "application/x-ndjson"}, timeout=120)
                assert answer.status == 200, answer.body
                sent.extend(json.loads(line) for line in body)
                time.sleep(0.02)

    with shop.server() as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(2)]
        threads += [threading.Thread(target=send, args=(server, bodies[i::2])) for i in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(size("greedy_seconds"))
        over.set()
        for thread in threads:
            thread.join()
        assert server.process.poll() is None, server.stderr()[-2000:]
        assert answers.keys() & {"busy", "deadline"}, answers
        print(f"{len(sent)} events, {answers}")
        expected = {"ids": len({each["id"] for each in sent}), "orders": len(sent), "customers": len({each["customer"] for each in sent})}

        def is_whole():
            assert not any(pipeline["lag_events"] for pipeline in server.http("GET", "/v1/status").json()["pipelines"])
            (row,) = server.query("SELECT (SELECT count(*) FROM newest) AS ids, (SELECT sum(orders) FROM sums) AS orders, (SELECT count(*) FROM sums) AS customers")
            return row == expected
        eventually(is_whole, 120)
