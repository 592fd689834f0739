"""The workloads: each is a function of a Bench that returns a list of Results. WORKLOADS names them in order."""

import http.client
import json
import os
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import hot_change
import orders
from measure import CONTRACT, DUCKDB_MEMORY_MIB, Project, project_text
from postgres_server import BINARIES, PostgresServer

ONLY_PLACED = """
      - placed: SELECT id, customer, amount FROM input WHERE type = 'order.placed'"""
ALL_ROWS = """
      - rows: SELECT id, customer, amount, ts FROM input"""
WHOLE_CONTRACT = CONTRACT + """
      currency: varchar
      note: varchar"""
WHOLE_ROWS = """
      - rows: SELECT * FROM input"""
NO_CONTRACT_FILTERS = """
      - placed: SELECT * FROM input WHERE data->>'$.type' = 'order.placed'
      - gross: "SELECT data->>'$.id' AS id, data->>'$.customer' AS customer, round((data->>'$.amount')::decimal(12,2) * 1.1, 2) AS gross FROM input WHERE (data->>'$.amount')::decimal(12,2) > 50"
"""
UPSERT = "table: {name: latest, key: customer}"
AGGREGATE = "table: {name: sums, key: customer, values: {orders: count(*), total: sum(amount), highest: max(amount)}}"
WRK_CONNECTIONS = 8
COMMAND_CLIENTS, COMMAND_ACCOUNTS = 16, 10_000
AS_OF_EVENTS = 10_000_000
BATCHES = 200  # different bodies of the HTTP workload
LATENCY_BATCH_EVENTS, LATENCY_EVENTS_PER_SECOND, LATENCY_SENDERS = 20, 20_000, 4
LATENCY_SAMPLE_EVERY = 5  # of a sender's requests, one is waited for


@dataclass
class Result:
    name: str
    events: int
    seconds: float = 0.0      # median of the runs
    cpu_seconds: float = 0.0  # median of the runs
    peak_mib: float = 0.0     # largest of the runs
    goal: str = ""
    note: str = ""
    values: dict = field(default_factory=dict)  # anything else, e.g. p99_ms

    @property
    def rate(self):
        return self.events / self.seconds if self.seconds else 0

    @property
    def cpu_rate(self):
        return self.events / self.cpu_seconds if self.cpu_seconds else 0


class Bench:
    """Where a run keeps its files, and how large its workloads are."""

    def __init__(self, binary, folder, events, runs, full):
        self.binary, self.folder, self.events, self.runs, self.full = binary, folder, events, runs, full

    def input(self, events, customers=100_000):
        path = self.folder / f"orders_{events}_{customers}.ndjson"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            orders.write(unfinished, events, customers)
            unfinished.rename(path)
        return path

    def project(self, *arguments, **options):
        return Project(self.binary, self.folder / "project", project_text(*arguments, **options))

    def median(self, name, events, run, goal="", note=""):
        usages = [run() for _ in range(self.runs)]
        return Result(name, events, statistics.median(u.seconds for u in usages), statistics.median(u.cpu_seconds for u in usages),
                      max(u.peak_mib for u in usages), goal, note)

    def delivered(self, name, sink, goal, events=None, customers=100_000, note="", **options):
        """The log is filled first; what is measured is `run --once` over it, folds and the last commit included."""
        events = events or self.events
        path = self.input(events, customers)

        def run():
            project = self.project(sink, **options)
            project.verb("ingest", "orders", path, "--no-deliver")
            usage = project.verb("run", "--once")
            project.remove()
            return usage
        return self.median(name, events, run, goal, note)


def ingest(bench):
    path = bench.input(bench.events)

    def run():
        project = bench.project("drop:")
        usage = project.verb("ingest", "orders", path, "--no-deliver")
        project.remove()
        return usage
    return [bench.median("ingest from a file", bench.events, run, "1.5 M/s")]


def log_to_drop(bench):
    return [bench.delivered("log → drop, two filters", "drop:", "4 M/s a core")]


def log_to_table(bench):
    return [bench.delivered("log → append table, a fifth passes", "table: kept", "2 M/s a core")]


def keyed_tables(bench):
    results = []
    sizes = [(bench.events, 1_000_000, "500,000/s")] + ([(2 * bench.events, 10_000_000, "200,000/s")] if bench.full else [])
    for events, keys, goal in sizes:
        for kind, sink in (("upsert", UPSERT), ("aggregate", AGGREGATE)):
            results.append(bench.delivered(f"log → {kind} table, {keys // 1_000_000} M keys", sink, goal, events, keys,
                                           filters=ALL_ROWS))
            results.append(look_ups(bench, kind, sink, events, keys))
    return results


def postgres(bench):
    """Into PostgreSQL as Debian sets it up, on the same cores: its CPU time is not counted, its wall time is."""
    if BINARIES is None:
        return []
    results = []
    with PostgresServer() as server:
        os.environ["BENCH_POSTGRES"] = server.url()
        for name, sink in (("append", 'postgres: {table: kept, url: "${env:BENCH_POSTGRES}"}'),
                           ("upsert, 100,000 keys", 'postgres: {table: kept, key: customer, url: "${env:BENCH_POSTGRES}"}')):
            server.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            results.append(bench.delivered(f"log → PostgreSQL, {name}", sink, "100,000/s", bench.events // 5, filters=WHOLE_ROWS,
                                           contract=WHOLE_CONTRACT))
    return results


def look_ups(bench, kind, sink, events, keys):
    """Point look-ups, one after the other, while a server delivers the whole log into the table."""
    table = "latest" if kind == "upsert" else "sums"
    project = bench.project(sink, filters=ALL_ROWS)
    project.verb("ingest", "orders", bench.input(events, keys), "--no-deliver")
    took_ms = []
    with project.server() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        width = len(str(keys - 1))
        while True:
            key = f"c{len(took_ms) * 7919 % keys:0{width}}"
            began = time.perf_counter()
            connection.request("GET", f"/v1/tables/{table}?customer=eq.{key}")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                took_ms.append((time.perf_counter() - began) * 1000)
            connection.request("GET", "/metrics")
            lags = [float(line.rpartition(" ")[2]) for line in connection.getresponse().read().decode().splitlines()
                    if line.startswith("millstream_pipeline_lag_events")]
            if lags and sum(lags) == 0 and took_ms:
                break
            time.sleep(0.005)
    project.remove()
    return latency(f"point look-up meanwhile, {kind}, {keys // 1_000_000} M keys", took_ms, "10 ms")


def latency(name, took_ms, goal):
    took_ms = sorted(took_ms)
    p99 = took_ms[min(len(took_ms) - 1, len(took_ms) * 99 // 100)]
    return Result(name, 0, goal=goal, note=f"{len(took_ms)} samples",
                  values={"p50_ms": round(statistics.median(took_ms), 2), "p99_ms": round(p99, 2)})


def both_ends(bench):
    """In one process: a file in, two filters, out; once by `ingest`, once by a file source and `run --once`."""
    path = bench.input(bench.events)
    source = f"sources:\n  files:\n    from:\n      file: {{path: {json.dumps(str(path))}, follow: false}}\n    to: orders\n"
    results = []
    for end, sink in (("drop", "drop:"), ("append table", "table: kept")):
        for way, verb, declared in (("ingest", ("ingest", "orders", path), ""), ("file source", ("run", "--once"), source)):
            def run(sink=sink, verb=verb, declared=declared):
                project = bench.project(sink, source=declared)
                usage = project.verb(*verb)
                project.remove()
                return usage
            results.append(bench.median(f"both ends: {way} → {end}", bench.events, run, "1.5 M/s"))
    return results


def http_batches(bench):
    """wrk (Debian's; a C program) sends batches of 1,000, several connections, one thread."""
    seconds = 10 if bench.full else 3
    batches = bench.folder / "batches"
    batches.write_bytes(b"\0".join(b"".join(orders.orders(1000, 100_000, 1 + 1000 * i)) for i in range(BATCHES)))
    rates = []
    for _ in range(bench.runs):
        project = bench.project("drop:")
        with project.server() as server:
            environment = {**os.environ, "BATCHES": str(batches), "BATCHES_PATH": "/v1/streams/orders/events"}
            before = server.cpu_seconds()
            out = subprocess.run(["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", "-s", Path(__file__).parent / "batches.lua",
                                  f"http://127.0.0.1:{server.port}"], env=environment, check=True, capture_output=True, text=True)
            answer = json.loads(out.stdout.splitlines()[-1])
            if answer["faults"]:
                raise RuntimeError(f"{answer['faults']} of the requests failed")
            rates.append((answer["requests"] * 1000, answer["seconds"], server.cpu_seconds() - before, server.peak_mib()))
        project.remove()
    events, taken, cpu, _ = sorted(rates, key=lambda r: r[0] / r[1])[len(rates) // 2]
    return [Result("HTTP, batches of 1,000", events, taken, cpu, max(r[3] for r in rates), "1 M/s",
                   f"{WRK_CONNECTIONS} connections; delivery to drop meanwhile")]


def http_latency(bench):
    """From a request's acknowledgement to its rows in the table, at a steady rate, by GET /v1/wait; paced_sender is the load."""
    seconds = 20 if bench.full else 3
    lines = bench.folder / "latency.ndjson"
    lines.write_bytes(next(orders.orders(40_000, 100_000, 1)))
    project = bench.project("table: kept")
    with project.server() as server:
        out = subprocess.run([bench.binary.parent / "paced_sender", *map(str, (
            server.port, "/v1/streams/orders/events", lines, LATENCY_SENDERS, LATENCY_BATCH_EVENTS, LATENCY_EVENTS_PER_SECOND,
            seconds, LATENCY_SAMPLE_EVERY))], check=True, capture_output=True, text=True)
        cpu = server.cpu_seconds()
    project.remove()
    measured = json.loads(out.stdout)
    results = [latency("HTTP sent → acknowledged, 20,000/s in batches of 20", measured["acknowledged_ms"], ""),
               latency("HTTP acknowledged → visible, 20,000/s in batches of 20", measured["visible_ms"], "15 ms")]
    for result in results:
        result.values["sender_late_ms_max"] = round(measured["late_ms_max"], 1)
    results[1].note += f"; {cpu / seconds:.0%} of a core"
    return results


def replays(bench):
    """History through two filters by `replay start` without a server, the log filled before; its start and its end included."""
    results = []
    for name, into, goal in (("drop", "drop", "4 M/s a core"), ("append table, a fifth passes", "table:again", "2 M/s a core")):
        def run(into=into):
            project = bench.project("drop:")
            project.verb("ingest", "orders", bench.input(bench.events), "--no-deliver")
            usage = project.verb("replay", "start", "p", "--into", into)
            project.remove()
            return usage
        results.append(bench.median(f"replay → {name}", bench.events, run, goal))
    return results


def as_of(bench):
    """One question about the past without a server: its table is made for it out of the whole log, and its rows counted."""
    events, keys = AS_OF_EVENTS if bench.full else bench.events, 1_000_000
    sinks = {"append": "table: kept", "upsert": UPSERT, "aggregate": AGGREGATE}
    text = project_text(sinks["append"], filters=ALL_ROWS)
    begin = text.index("  p:\n")
    body = text[begin + len("  p:\n"):]
    text = text[:begin] + "".join(f"  p_{kind}:\n" + body.replace(sinks["append"], sink) for kind, sink in sinks.items())
    project = Project(bench.binary, bench.folder / "project", text)
    project.verb("ingest", "orders", bench.input(events, keys), "--no-deliver")
    results = []
    for kind, table in (("append", "kept"), ("upsert", "latest"), ("aggregate", "sums")):
        def run(table=table):
            return project.verb("query", f"SELECT count(*) AS n FROM {table}", "--as-of", "0s", "--timeout", "30m")
        name = f"as of → {kind} table" + ("" if kind == "append" else f", {keys // 1_000_000} M keys")
        results.append(bench.median(name, events, run, "60 s of CPU for 10 M events" if kind == "upsert" else ""))
    project.remove()
    return results


def without_contract(bench):
    return [bench.delivered("log → drop, two filters, no contract (data->>'$.path')", "drop:", "", filters=NO_CONTRACT_FILTERS,
                            contract="", note="beside “log → drop, two filters”")]


def changes_under_load(bench):
    """Filters are changed at 60,000 events/s; fails if a row is lost, doubled or of the wrong version."""
    folder = bench.folder / "hot_change"
    outcome = hot_change.run(bench.binary, folder, 500 if bench.full else 100, 60_000)
    shutil.rmtree(folder, ignore_errors=True)
    if outcome.lost or outcome.doubled or outcome.wrong or outcome.stdout_wrong:
        raise AssertionError(f"lost {outcome.lost}, doubled {outcome.doubled}, of the wrong version {outcome.wrong} and {outcome.stdout_wrong}")
    values = {name: round(of, 1) for name, of in (
        ("pause_p50_ms", hot_change.percentile(outcome.held_ms, 0.5)), ("pause_p99_ms", hot_change.percentile(outcome.held_ms, 0.99)),
        ("pause_max_ms", max(outcome.held_ms)), ("answer_p50_ms", hot_change.percentile(outcome.answer_ms, 0.5)),
        ("answer_p99_ms", hot_change.percentile(outcome.answer_ms, 0.99)))}
    note = (f"{outcome.changes} changes and {outcome.invalid} invalid ones at {outcome.events / outcome.seconds:,.0f} events/s; "
            f"of {outcome.events:,} rows 0 lost, 0 doubled, 0 of the wrong version")
    return [Result("hot change", outcome.events, goal="pause p99 10 ms", note=note, values=values)]


def commands(bench):
    """wrk sends one command at a time over each of 16 connections, for different accounts and for a single one; a rule reads the table."""
    text = (Path(__file__).parent.parent / "examples" / "bank" / "millstream.yaml").read_text()
    text = text[:text.index("sources:")] + text[text.index("pipelines:"):]
    results = []
    for accounts in (COMMAND_ACCOUNTS, 1):
        measured = []
        for _ in range(bench.runs):
            project = Project(bench.binary, bench.folder / "project", text)
            (project.folder / "deposits.ndjson").write_text("".join(
                f'{{"account":"a{i}","type":"deposited","amount":1000000}}\n' for i in range(accounts)))
            project.verb("ingest", "accounts", project.folder / "deposits.ndjson")
            with project.server() as server:
                before = server.cpu_seconds()
                out = subprocess.run(["wrk", "-t1", f"-c{COMMAND_CLIENTS}", f"-d{10 if bench.full else 3}s", "-s", Path(__file__).parent / "commands.lua",
                                      f"http://127.0.0.1:{server.port}"], check=True, capture_output=True, text=True,
                                     env={**os.environ, "ACCOUNTS": str(accounts), "COMMAND_PATH": "/v1/commands/withdraw"})
                answer = json.loads(out.stdout.splitlines()[-1])
                if answer["faults"]:
                    raise RuntimeError(f"{answer['faults']} of the commands failed")
                measured.append((answer, server.cpu_seconds() - before, server.peak_mib()))
            project.remove()
        answer, cpu, peak = sorted(measured, key=lambda m: m[0]["requests"])[len(measured) // 2]
        name = f"commands, {COMMAND_CLIENTS} clients, " + (f"{accounts:,} accounts" if accounts > 1 else "one account")
        results.append(Result(name, answer["requests"], answer["seconds"], cpu, peak, "5,000/s" if accounts > 1 else "",
                              f"answered after p50 {answer['p50_ms']:.1f}, p99 {answer['p99_ms']:.1f} ms"))
    return results


WORKLOADS = {f.__name__: f for f in (ingest, log_to_drop, log_to_table, keyed_tables, postgres, both_ends, http_batches, http_latency,
                                     without_contract, changes_under_load, replays, as_of, commands)}
QUICK = ("ingest", "log_to_drop", "log_to_table")
