"""What the fault tests share: a project of every kind of place, a server under strace, producers that remember, and checker.py at the end."""

import http.client
import os
import shutil
import subprocess
import threading

import pytest
from checker import Checker, Journal

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

    def __init__(self, project, inject, path=None):
        """`path`: of calls on this file only."""
        super().__init__(project)
        self.inject, self.only = inject, ["-P", str(path)] if path else []
        self.trace_path = project.folder.parent / f"{project.folder.name}.{self.port}.strace"
        project.servers.append(self)

    def start(self, wait_ready=False):
        call = self.inject.split(":")[0]
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                ["strace", "-D", "-f", "-qq", "-y", "-o", self.trace_path, "-e", f"trace={call}", "-e", f"inject={self.inject}", *self.only,
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


class Told(Journal):
    """A journal that sends: 200 acknowledges, 4xx refuses, everything else leaves it unknown, as does an answer after `power_is_off`."""

    def __init__(self):
        super().__init__()
        self.power_is_off = threading.Event()

    def send(self, server, batch):
        """The answer's status; 0 without an answer."""
        try:
            status = server.http("POST", "/v1/streams/orders/events", ndjson(batch), {"Content-Type": "application/x-ndjson"}, timeout=30).status
        except (OSError, http.client.HTTPException):
            status = 0
        if self.power_is_off.is_set():
            status = 0
        self.record("acknowledged" if status == 200 else "refused" if 400 <= status < 500 else "unknown", batch, status)
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


def check_all(project, server, told, checker=None, unmodelled=()):
    """Once all is delivered: the log against what producers were told, and every sink against the log (checker.py). Returns the log's events."""
    checker = checker or Checker(project.data, told, unmodelled=unmodelled)

    def is_delivered():
        status = server.http("GET", "/v1/status").json()
        checker.check_offsets(status)
        return not any(pipeline["lag_events"] for pipeline in status["pipelines"])

    def read_table(name, columns):
        return [tuple(row.values()) for row in server.query(f"SELECT {', '.join(columns)} FROM {name}")]

    eventually(lambda: is_delivered() and is_delivered(), 60)  # a chain's next stream may have got more meanwhile
    events = checker.check_log()
    checker.check_sinks(read_table, project.folder)
    return events
