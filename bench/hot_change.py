#!/usr/bin/python3
"""Filters are changed while events flow; afterwards each row is held against the versions that `_control` names.

    hot_change.py [--binary build/millstream] [--changes 2000] [--rate 50000] [--kills 0] [--seed 1] [--folder DIR]

Exit code 1 if a row is lost, doubled or of the wrong version. Used by the workload hot_change and by tests/hot_change_test.py. A change adds, edits, moves or removes a filter, or is invalid. Each
version of the pipeline leaves its mark in the columns v and w of every row, beside the partition and the offset of its event. One sink is a
table; another is standard output, a pipe that nobody reads now and then, so that the sink hangs.
"""

import argparse
import bisect
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = """
server: {query: {deadline: 120s}}
streams:
  orders: {partitions: 2, contract: {n: bigint}}
pipelines:
  p:
    from: orders
    filters:
      - stamp: SELECT _partition AS p, _offset AS o, 1 AS v, 1::BIGINT AS w FROM input
      - double: SELECT p, o, v, (w * 2) % 1000003 AS w FROM input
      - plus: SELECT p, o, v, w + 1 AS w FROM input
    to:
      - table: rows
      - stdout:
"""
STAMP = "SELECT _partition AS p, _offset AS o, {} AS v, 1::BIGINT AS w FROM input"
EXTRA = "SELECT p, o, v, w + {} AS w FROM input"
BATCH_EVENTS = 1000
STANDSTILL_SECONDS_MAX = 45  # without a further row; then some are lost
READ_BYTES = 1 << 16
BODY = b"".join(b'{"n":%d}\n' % n for n in range(BATCH_EVENTS))


@dataclass
class Outcome:
    changes: int = 0
    invalid: int = 0
    kills: int = 0
    events: int = 0
    seconds: float = 0.0
    held_ms: list = field(default_factory=list)    # commits stood still, each change
    answer_ms: list = field(default_factory=list)  # from request to answer
    lost: int = 0
    doubled: int = 0
    wrong: int = 0        # rows of a version that does not own their offset
    stdout_rows: int = 0
    stdout_wrong: int = 0


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Filters:
    """The chain as it should be: names in order, and what a row of it carries."""

    def __init__(self):
        self.v, self.chain, self.added = 1, ["stamp", "double", "plus"], {}

    def copy(self):
        other = Filters()
        other.v, other.chain, other.added = self.v, list(self.chain), dict(self.added)
        return other

    def marks(self):
        w = 1
        for name in self.chain[1:]:
            w = (w * 2) % 1000003 if name == "double" else w + 1 if name == "plus" else w + self.added[name]
        return self.v, w


class Server:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "millstream.yaml").write_text(PROJECT)
        self.lives = []  # what each process has printed on standard output, as files: it may be millions of rows
        self.reads = threading.Event()
        self.reads.set()

    def start(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        log = open(self.folder.parent / "hot_change.stderr", "ab")  # noqa: SIM115: the process has it
        self.process = subprocess.Popen([self.binary, "run", self.folder, "--listen", f"127.0.0.1:{self.port}"], stdout=subprocess.PIPE, stderr=log)
        self.reader = threading.Thread(target=self.read, args=(self.process.stdout,))
        self.reader.start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.http("GET", "/health/live")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def read(self, stdout):
        self.lives.append(self.folder.parent / f"stdout.{len(self.lives)}")
        with open(self.lives[-1], "wb") as file:
            while piece := stdout.read1(READ_BYTES):
                file.write(piece)
                self.reads.wait()

    def kill(self):
        self.reads.set()
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def stop(self):
        self.reads.set()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join()
        return code

    def http(self, method, path, body=None, kind="application/json", connection=None):
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        own.request(method, path, body, {"Content-Type": kind} if body is not None else {})
        answer = own.getresponse()
        text = answer.read()
        if connection is None:
            own.close()
        return answer.status, text

    def query(self, sql):
        status, text = self.http("POST", "/v1/query", json.dumps({"sql": sql, "timeout": "120s"}).encode())
        assert status == 200, text
        return json.loads(text)["rows"]


class Producer(threading.Thread):
    """Sends batches at a steady rate until it is told to stop; a server that is away is waited for."""

    def __init__(self, server, events_per_second):
        super().__init__()
        self.server, self.every, self.done, self.events = server, BATCH_EVENTS / events_per_second, False, 0

    def run(self):
        connection, due = None, time.monotonic()
        while not self.done:
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
                status, _ = self.server.http("POST", "/v1/streams/orders/events", BODY, "application/x-ndjson", connection)
                self.events += BATCH_EVENTS if status == 200 else 0
            except (OSError, http.client.HTTPException):
                connection = None
                time.sleep(0.02)
            due = max(due + self.every, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))


class Changer:
    def __init__(self, server, seed):
        self.server, self.random, self.filters, self.by_version = server, random.Random(seed), Filters(), {}
        self.by_version[1] = self.filters.copy()
        self.number, self.pending = 1, None
        self.outcome = Outcome()

    def version(self):
        return json.loads(self.server.http("GET", "/v1/status")[1])["catalog_version"]

    def settle(self):
        """After a kill: whether the change under way was made durable."""
        if self.pending and self.version() > max(self.by_version):
            self.filters = self.pending
            self.by_version[self.version()] = self.pending.copy()
        self.pending = None

    def request(self, method, path, body, after):
        """Sends it; `after` are the filters that then hold, None if it must be refused."""
        self.pending = after
        began = time.monotonic()
        status, text = self.server.http(method, path, body, "application/sql")
        took_ms = (time.monotonic() - began) * 1000
        self.pending = None
        if after is None:
            assert status == 422, (status, text)
            self.outcome.invalid += 1
            return
        assert status == 200, (status, text)
        answer = json.loads(text)
        self.filters = after
        self.by_version[answer["version"]] = after.copy()
        self.outcome.changes += 1
        self.outcome.answer_ms.append(took_ms)
        self.outcome.held_ms.append(max(change.get("held_us", 0) for change in answer["changes"]) / 1000)

    def change(self):
        self.number += 1
        after, base = self.filters.copy(), "/v1/pipelines/p/filters/"
        action = self.random.choice(["edit", "edit", "add", "remove", "move", "invalid"])
        extras = [name for name in after.chain if name in after.added]
        if action == "add" and len(extras) < 4:
            name, amount = f"extra{self.number}", self.random.randrange(1, 1000)
            at = self.random.randrange(1, len(after.chain))
            before = after.chain[at]
            after.chain.insert(at, name)
            after.added[name] = amount
            return self.request("PUT", f"{base}{name}?before={before}&new=true", EXTRA.format(amount).encode(), after)
        if action == "remove" and extras:
            name = self.random.choice(extras)
            after.chain.remove(name)
            return self.request("DELETE", base + name, None, after)
        if action == "move":
            name = self.random.choice(after.chain[1:])
            after.chain.remove(name)
            beside = self.random.choice(after.chain)
            after.chain.insert(after.chain.index(beside) + 1, name)
            if after.chain != self.filters.chain:
                return self.request("POST", f"{base}{name}/move?after={beside}", None, after)
        if action == "invalid":
            return self.request("PUT", base + "plus", b"SELECT p, o, v, nothing AS w FROM input", None)
        after = self.filters.copy()
        after.v = self.number
        return self.request("PUT", base + "stamp", STAMP.format(after.v).encode(), after)


def owners(server, by_version):
    """(partition, first offset, v, w) of each version's stretch, by `_control`."""
    stretches = {0: [(0, *by_version[1].marks())], 1: [(0, *by_version[1].marks())]}
    for event in json.loads(server.http("GET", "/v1/history")[1]):
        if event["kind"] != "activated" or event["version"] == 1:
            continue
        for place in event["boundary"]:
            stretch = stretches[place["partition"]]
            while stretch and stretch[-1][0] >= place["offset"]:
                stretch.pop()
            stretch.append((place["offset"], *by_version[event["version"]].marks()))
    return [(partition, *each) for partition, list_ in stretches.items() for each in list_]


def verify(server, by_version, outcome):
    ends = {each["partition"]: each["end"] for each in json.loads(server.http("GET", "/v1/status")[1])["streams"][0]["partitions"]}
    total = sum(ends.values())
    seen, moved = 0, time.monotonic()
    while seen < total and time.monotonic() < moved + STANDSTILL_SECONDS_MAX:
        time.sleep(0.2)
        count = server.query("SELECT count(*) AS n FROM rows")[0]["n"]
        if count != seen:
            seen, moved = count, time.monotonic()
    counts = server.query("SELECT count(*) AS n, count(DISTINCT o * 2 + p) AS places FROM rows")[0]
    outcome.events = total
    outcome.lost, outcome.doubled = total - counts["places"], counts["n"] - counts["places"]
    stretches = owners(server, by_version)
    values = ",".join(str(each) for each in stretches)
    outcome.wrong = server.query(
        f"SELECT count(*) AS n FROM rows r ASOF JOIN (VALUES {values}) b(p, o, v, w) ON r.p = b.p AND r.o >= b.o WHERE r.v <> b.v OR r.w <> b.w")[0]["n"]
    # Standard output is at least once: a kill may double rows, or tear the last line.
    by_partition = {0: [], 1: []}
    for each in stretches:
        by_partition[each[0]].append(each[1:])
    for life in server.lives:
        with open(life, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    stretches = by_partition[row["p"]]
                    owner = stretches[bisect.bisect_right(stretches, row["o"], key=lambda each: each[0]) - 1]
                    outcome.stdout_rows += 1
                    outcome.stdout_wrong += (row["v"], row["w"]) != owner[1:]


def run(binary, folder, changes, events_per_second, kills=0, seed=1, block_every=50):
    """Makes so many changes while events flow, kills the server in between so often, and verifies. Answers the Outcome."""
    server = Server(Path(binary).resolve(), Path(folder) / "project")
    server.start()
    changer, producer = Changer(server, seed), Producer(server, events_per_second)
    outcome, began = changer.outcome, time.monotonic()
    producer.start()
    chance = random.Random(seed + 1)
    kill_at = sorted(chance.sample(range(1, changes), kills))
    try:
        for number in range(changes):
            if number in kill_at:
                killer = threading.Timer(chance.uniform(0, 0.15), os.kill, (server.process.pid, signal.SIGKILL))
                killer.start()
            if number % block_every == block_every // 2:
                server.reads.clear()  # standard output hangs
            if number % block_every == 0:
                server.reads.set()
            try:
                changer.change()
                if number in kill_at:
                    killer.join()
                    server.process.wait()
            except (OSError, http.client.HTTPException):
                assert number in kill_at, "the server is gone"
            if number in kill_at:
                outcome.kills += 1
                server.kill()
                server.start()
                changer.settle()
    finally:
        producer.done = True
        producer.join()
        server.reads.set()
    outcome.seconds = time.monotonic() - began
    verify(server, changer.by_version, outcome)
    assert server.stop() == 0
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=Path(__file__).parent.parent / "build" / "millstream")
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=50_000, help="events a second")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the data; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        outcome = run(options.binary, folder, options.changes, options.rate, options.kills, options.seed)
    print(f"{outcome.changes:,} changes, {outcome.invalid:,} invalid ones and {outcome.kills} kills in {outcome.seconds:,.0f} s "
          f"at {outcome.events / outcome.seconds:,.0f} events/s")
    for name, values in (("commits held", outcome.held_ms), ("answer", outcome.answer_ms)):
        print(f"{name}: p50 {percentile(values, 0.5):.1f} ms, p99 {percentile(values, 0.99):.1f} ms, max {max(values):.1f} ms")
    print(f"of {outcome.events:,} rows {outcome.lost} lost, {outcome.doubled} doubled, {outcome.wrong} of the wrong version; "
          f"of {outcome.stdout_rows:,} lines {outcome.stdout_wrong} of the wrong version")
    # Standard output is at least once: after a kill its lines may come again by a later version.
    return 1 if outcome.lost or outcome.doubled or outcome.wrong or (outcome.stdout_wrong and not outcome.kills) else 0


if __name__ == "__main__":
    sys.exit(main())
