"""What the fault tests share: a project of every kind of place, a server under strace, a producer that remembers, the reckoning."""

import http.client
import os
import shutil
import subprocess
import threading
from collections import Counter

import pytest

from harness import BINARY, Server, environment, eventually, ndjson

PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    contract: {id: varchar not null, customer: varchar not null, amount: bigint}
pipelines:
  rows:
    from: orders
    to: {table: all_orders}
  newest:
    from: orders
    to:
      - table: {name: newest, key: customer}
  lines:
    from: orders
    filters:
      - ids: SELECT id FROM input
    to:
      - file: {path: out/lines.ndjson, format: ndjson}
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


def strace_refusal():
    """Why strace cannot be used here, or nothing."""
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"],
                          capture_output=True, check=False)
    return "" if done.returncode == 0 else f"strace cannot trace here: {done.stderr.decode(errors='replace')[:200]}"


needs_strace = pytest.mark.skipif(bool(strace_refusal()), reason=strace_refusal() or "strace works")


class Straced(Server):
    """A server some of whose system calls fail or kill it. strace counts calls thread by thread: the first thread with `when` calls is hit.

    With -D strace is not the parent: the process that the harness sees is the server itself.
    """

    def __init__(self, project, inject):
        super().__init__(project)
        self.inject = inject
        self.trace_path = project.folder.parent / f"{project.folder.name}.{self.port}.strace"
        project.servers.append(self)

    def start(self, wait_ready=False):
        call = self.inject.split(":")[0]
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                ["strace", "-D", "-f", "-qq", "-y", "-o", self.trace_path, "-e", f"trace={call}", "-e", f"inject={self.inject}",
                 BINARY, "run", self.project.folder, "--listen", f"127.0.0.1:{self.port}"],
                stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL, env=environment())
        if wait_ready:
            self.wait_ready()
        return self

    def injected(self):
        """The calls that were made to fail, as strace writes them."""
        return [line for line in self.trace_path.read_text(errors="replace").splitlines() if "(INJECTED)" in line]

    def wait_ready_or_end(self):
        """True: it is ready."""
        try:
            self.wait_ready()
        except RuntimeError:
            return False
        return True


class Told:
    """What was sent: acknowledged, or unknown (sent, and not answered with 200)."""

    def __init__(self):
        self.acknowledged, self.unknown, self.statuses = {}, {}, Counter()
        self.lock = threading.Lock()

    def send(self, server, batch):
        """The answer's status; 0 without an answer."""
        try:
            status = server.http("POST", "/v1/streams/orders/events", ndjson(batch), {"Content-Type": "application/x-ndjson"}, timeout=30).status
        except (OSError, http.client.HTTPException):
            status = 0
        with self.lock:
            self.statuses[status] += 1
            (self.acknowledged if status == 200 else self.unknown).update((event["id"], event) for event in batch)
        return status


class Producer(threading.Thread):
    """Sends batches until a request goes without an answer, `limit` batches were sent, or `until` is set."""

    def __init__(self, server, told, prefix, random, limit=1_000_000):
        super().__init__(daemon=True)
        self.server, self.told, self.prefix, self.random, self.limit = server, told, prefix, random, limit
        self.until = threading.Event()

    def run(self):
        number = 0
        for _ in range(self.limit):
            batch = []
            for _ in range(self.random.randint(1, 8)):
                batch.append({"id": f"{self.prefix}-{number}", "customer": f"c{self.random.randrange(10)}", "amount": number})
                number += 1
            if self.told.send(self.server, batch) == 0 or self.until.is_set():
                return


def check_log(server, told):
    """Nothing acknowledged is lost, nothing is doubled, nothing is there that nobody sent, every payload is what was sent. Returns the rows."""
    log = server.query("SELECT id, customer, amount, _partition, _offset FROM _streams.orders")
    ids = Counter(row["id"] for row in log)
    sent = {**told.unknown, **told.acknowledged}
    assert not [i for i, n in ids.items() if n > 1], "the log holds an event twice"
    assert not set(told.acknowledged) - set(ids), "an acknowledged event is lost"
    assert not set(ids) - set(sent), "the log holds what nobody sent"
    for row in log:
        event = sent[row["id"]]
        assert (row["customer"], row["amount"]) == (event["customer"], event["amount"]), row
    return log


def check_all(project, server, told):
    """As check_log, and every sink of PROJECT holds exactly what the log does."""
    log = check_log(server, told)
    ids = sorted(row["id"] for row in log)
    newest = {row["customer"]: row["id"] for row in sorted(log, key=lambda row: (row["_partition"], row["_offset"]))}

    def lines():
        path = project.folder / "out" / "lines.ndjson"
        return sorted(line[7:-2] for line in path.read_text().splitlines()) if path.exists() else []  # {"id":"…"}

    eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] >= len(ids) if ids else True)
    if ids:
        assert sorted(row["id"] for row in server.query("SELECT id FROM all_orders")) == ids
        eventually(lambda: {row["customer"]: row["id"] for row in server.query("SELECT customer, id FROM newest")} == newest)
    eventually(lambda: len(lines()) >= len(ids))
    assert lines() == ids
    return log
