#!/usr/bin/python3
"""Checkpoints and folds under load: how long commits take, and what grows, while a server keeps three kinds of tables.

    bench/checkpoints.py --minutes 60            what the docs state (about an hour and five minutes)
    bench/checkpoints.py --minutes 5 --keys 500000

First `--keys` orders, one a key, are delivered into an append table, an upsert table by that key and an aggregate table by customer. Then 20,000 orders a second in
batches of 20 come from four senders (paced_sender.cc), and a query that groups the whole append table by customer runs again and again beside them. Of each sender's
requests every fifth is followed by a wait for its rows in all three tables. Prints a table in Markdown: milliseconds from request to acknowledgement and from there until
the rows are visible, the query's time, and files and memory over time.
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import orders  # noqa: E402
from hot_change import percentile  # noqa: E402
from measure import CONTRACT, DUCKDB_MEMORY_MIB, MIB, Project  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
EVENTS_A_SECOND, BATCH_EVENTS, SENDERS, SAMPLE_EVERY = 20_000, 20, 4, 5
CUSTOMERS = 100_000
SAMPLES = 12  # of sizes, over the run
LOOK_SECONDS = 0.25
PROJECT = f"""server:
  memory: {DUCKDB_MEMORY_MIB}MiB
  query: {{deadline: 600s}}
streams:
  orders:
    partitions: 2
    key: customer{CONTRACT}
pipelines:
  p:
    from: orders
    filters:
      - rows: SELECT id, type, customer, amount, ts FROM input
    to:
      - table: kept
      - table: {{name: newest, key: id}}
      - table: {{name: sums, key: customer, values: {{orders: count(*), total: sum(amount), highest: max(amount)}}}}
"""
QUERY = "SELECT customer, count(*) AS n, sum(amount) AS total, max(ts) AS last FROM kept GROUP BY customer ORDER BY n DESC, customer LIMIT 10"


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=700)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


class Queries(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.seconds, self.failures, self.over = port, [], {}, threading.Event()

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            status, body = ask(self.port, "/v1/query", json.dumps({"sql": QUERY, "timeout": "600s"}).encode())
            if status == 200:
                self.seconds.append(time.monotonic() - began)
            else:
                code = json.loads(body).get("code", status)
                self.failures[code] = self.failures.get(code, 0) + 1
                self.over.wait(1)


class Sizes(threading.Thread):
    """Files and memory, looked at often; `rows` keeps the largest of each of SAMPLES stretches of time."""

    def __init__(self, project, server, seconds):
        super().__init__(daemon=True)
        self.data, self.pid, self.over = project.folder / ".millstream", server.process.pid, threading.Event()
        self.every, self.rows, self.began = seconds / SAMPLES, [], time.monotonic()

    def look(self):
        def size(name):
            with contextlib.suppress(OSError):
                return os.stat(self.data / name).st_size / MIB
            return 0
        with open(f"/proc/{self.pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        return {"tables": size("tables.duckdb"), "wal": size("tables.duckdb.wal"), "rss": int(status["RssAnon"].split()[0]) / 1024,
                "log": sum(path.stat().st_size for path in (self.data / "log" / "orders").rglob("*.seg")) / MIB}

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError, KeyError):
                now, stretch = self.look(), int((time.monotonic() - self.began) / self.every)
                while len(self.rows) <= stretch:
                    self.rows.append(now)
                self.rows[stretch] = {name: max(value, self.rows[stretch][name]) for name, value in now.items()}
            self.over.wait(LOOK_SECONDS)


def paced(build, port, events, seconds):
    done = subprocess.run([build / "paced_sender", str(port), "/v1/streams/orders/events", events, str(SENDERS), str(BATCH_EVENTS), str(EVENTS_A_SECOND),
                           str(seconds), str(SAMPLE_EVERY)], capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    return json.loads(done.stdout)


def line(name, values, unit="ms"):
    figures = [percentile(values, share) for share in (0.5, 0.99, 0.999)] + [max(values, default=0)]
    return f"| {name} | {len(values):,} | " + " | ".join(f"{figure:.1f} {unit}" for figure in figures) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--keys", type=int, default=5_000_000)
    given = parser.parse_args()
    seconds = int(given.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="millstream-checkpoints-") as folder:
        events = Path(folder, "orders.ndjson")
        orders.write(events, given.keys, CUSTOMERS)
        project = Project(given.build / "millstream", Path(folder, "project"), PROJECT)
        began = time.monotonic()
        project.verb("ingest", "orders", events)
        filled = time.monotonic() - began
        with project.server() as server:
            queries, sizes = Queries(server.port), Sizes(project, server, seconds)
            cpu, began = server.cpu_seconds(), time.monotonic()
            queries.start()
            sizes.start()
            told = paced(given.build, server.port, events, seconds)
            elapsed, cpu = time.monotonic() - began, server.cpu_seconds() - cpu
            queries.over.set()
            sizes.over.set()
            sizes.join()
            sent = len(told["acknowledged_ms"]) * BATCH_EVENTS
            queries.join(700)
            while any(pipeline["lag_events"] for pipeline in json.loads(ask(server.port, "/v1/status")[1])["pipelines"]):
                time.sleep(0.2)
            counts = json.loads(ask(server.port, "/v1/query", b'{"sql": "SELECT (SELECT count(*) FROM kept) AS kept, (SELECT count(*) FROM newest) AS newest, '
                                    b'(SELECT sum(orders)::BIGINT FROM sums) AS sums", "timeout": "600s"}')[1])["rows"][0]
        load = os.getloadavg()
    print(f"{given.keys:,} keys filled in {filled:.0f} s; then {sent:,} orders in {elapsed:.0f} s, {sent / elapsed:,.0f}/s; a sender late by {told['late_ms_max']:.0f} ms at most; "
          f"CPU {cpu / elapsed:.2f} cores; DuckDB's memory {DUCKDB_MEMORY_MIB} MiB; load {load[0]:.1f}\n")
    print("| | how many | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|")
    print(line("sent → acknowledged", told["acknowledged_ms"]))
    print(line("acknowledged → visible in all three tables", told["visible_ms"]))
    print(line("the query beside", queries.seconds, "s"))
    print(f"\nQueries that failed: {queries.failures or 'none'}\n")
    print("| minutes | tables.duckdb | its WAL | log | anonymous memory |\n|---|---|---|---|---|")
    for number, row in enumerate(sizes.rows[:SAMPLES]):
        print(f"| to {(number + 1) * given.minutes / SAMPLES:.1f} | {row['tables']:,.0f} MiB | {row['wal']:,.0f} MiB | {row['log']:,.0f} MiB | {row['rss']:,.0f} MiB |")
    wanted = {"kept": given.keys + sent, "newest": given.keys, "sums": given.keys + sent}
    print(f"\nRows: {counts}" + ("" if counts == wanted else f", and should be {wanted}"))
    return 0 if counts == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
