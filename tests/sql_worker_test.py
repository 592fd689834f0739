"""SQL that was never bound is bound in a process of its own first (sql/sql_workers.h): what that does not survive is refused by name, and takes
neither ingest nor pipelines down."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import BINARY, SLOWNESS, eventually, stretch

PROJECT = """
server: {memory: 512MiB}
streams:
  orders: {contract: {id: varchar, amount: bigint}}
pipelines:
  rows:
    from: orders
    filters:
      - keep: SELECT * FROM input
    to: {table: {name: rows, key: id}}
"""
DEEP = "repeat('[', 1000000) || repeat(']', 1000000)"
# Constants that take seconds, gigabytes, or DuckDB's stack. Each is an expression.
CONSTANTS = {
    "range": "len(range(300000000))",
    "generate_series": "len(generate_series(1, 300000000))",
    "list_sum": "list_sum(range(300000000))",
    "list_resize": "len(list_resize([1], 300000000, 0))",
    "list_reduce": "list_reduce(range(100000000), lambda a, b: a + b)",
    "nested lambdas": "list_sum(list_transform(range(300000), lambda x: list_sum(range(x))))",
    "levenshtein": "levenshtein(repeat('a', 100000), repeat('b', 100000))",
    "damerau_levenshtein": "damerau_levenshtein(repeat('a', 20000), repeat('b', 20000))",
    "string_split": "len(string_split(repeat('x,', 100000000), ','))",
    "format": "length(format('{:>1000000000}', 'x'))",
    "printf": "length(printf('%1000000000d', 1))",
    "json": "json_valid('[' || repeat('1,', 100000000) || '1]')",
}


def children(server):
    """Process ids of the server's workers."""
    pids = []
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            pids += map(int, (task / "children").read_text().split())
    return pids


def try_alone(*requests):
    """What a worker answers, line by line."""
    done = subprocess.run([BINARY, "--worker"], input="".join(json.dumps(request) + "\n" for request in requests), capture_output=True, text=True,
                          timeout=120 * SLOWNESS, check=False)
    return done.stdout.splitlines()


def query(sql):
    return {"tables": [], "query": sql}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    from harness import Project
    project = Project(tmp_path_factory.mktemp("worker") / "project", {"millstream.yaml": PROJECT})
    with project.server() as server:
        position = server.ingest("orders", [{"id": str(i), "amount": i} for i in range(100)])["position"]
        server.query("SELECT count(*) FROM rows", wait=position, timeout="30s")
        yield server
        assert server.query("SELECT count(*) AS n FROM rows") == [{"n": 100}]
    project.close()


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_that_cannot_be_computed_are_refused_as_query_and_as_filter(served, name):
    answer = served.http("POST", "/v1/query", {"sql": f"SELECT {CONSTANTS[name]} AS x FROM rows"}, timeout=60 * SLOWNESS)
    assert answer.status in (422, 504), (answer.status, answer.body)
    answer = served.http("PUT", "/v1/pipelines/rows/filters/attack", f"SELECT *, {CONSTANTS[name]} AS x FROM input".encode(),
                         {"Content-Type": "application/sql"}, timeout=120 * SLOWNESS)
    assert answer.status == 422, (answer.status, answer.body)
    fault = answer.json()["faults"][0]
    assert fault["path"] == "pipelines.rows.filters.attack", fault
    assert served.process.poll() is None, served.stderr()[-2000:]


def test_what_crashes_duckdb_crashes_the_worker_alone():
    # As a user's query json_structure is refused by name; here DuckDB meets it.
    assert try_alone(query(f"SELECT json_structure({DEEP})")) == ["died 0  DuckDB crashes over it (SIGSEGV)"]


def test_a_worker_goes_on_after_what_is_wrong_with_sql():
    assert try_alone(query("SELECT no_such_function(1)"), query("SELEC"), query("SELECT 1"), {"tables": ["CREATE"], "query": "SELECT 1"}) == ["ok"] * 4


def test_ingest_and_queries_go_on_while_a_candidate_is_tried(served):
    status = []

    def attack():
        sql = f"SELECT *, {CONSTANTS['levenshtein']} AS x FROM input".encode()
        status.append(served.http("PUT", "/v1/pipelines/rows/filters/attack", sql, {"Content-Type": "application/sql"}, timeout=120 * SLOWNESS).status)

    attacker = threading.Thread(target=attack)
    begun, done = time.monotonic(), 0
    attacker.start()
    while attacker.is_alive():
        position = served.ingest("orders", [{"id": "1", "amount": 1}])["position"]
        assert served.query("SELECT amount FROM rows WHERE id = '1'", wait=position, timeout="30s") == [{"amount": 1}]
        done += 1
    attacker.join()
    assert status == [422] and done >= 5, f"{done} in {time.monotonic() - begun:.1f} s"


def test_a_worker_has_no_files_no_network_and_few_system_calls(served):
    served.query("SELECT 41 + 1 AS x FROM rows LIMIT 1")
    worker = children(served)[0]
    status = dict(line.split(":", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", status
    assert os.getpriority(os.PRIO_PROCESS, worker) == 10
    opened = {os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")}
    assert not any(name.startswith(("socket:", str(served.project.folder))) for name in opened if not name.endswith("stderr")), opened


def test_a_worker_that_somebody_killed_is_replaced(served):
    served.query("SELECT 42 AS x FROM rows LIMIT 1")
    before = children(served)
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    assert served.query("SELECT 43 AS x FROM rows LIMIT 1") == [{"x": 43}]
    assert children(served) and not set(children(served)) & set(before)


def test_workers_end_with_a_server_that_is_killed(project):
    with project({"millstream.yaml": PROJECT}).server() as server:
        server.query("SELECT 1 AS x FROM rows")
        worker = children(server)[0]
        server.kill()
        eventually(lambda: not Path(f"/proc/{worker}").exists())


def test_check_run_and_preview_refuse_the_same(project):
    shop = project({"millstream.yaml": PROJECT})
    attack = f"SELECT *, {CONSTANTS['levenshtein']} AS x FROM input"
    with shop.server() as server:
        server.ingest("orders", [{"id": "1", "amount": 1}])
        done = shop.verb("preview", "rows", "--set", f"keep={attack}", expect=None)
        assert done.code == 1 and "pipelines.rows.filters.keep: refused: it takes more than" in done.stderr + done.stdout, done
    shop.write({"millstream.yaml": PROJECT.replace("SELECT * FROM input", attack)})
    done = shop.verb("check", expect=1)
    assert "millstream.yaml:9:" in done.stdout and "pipelines.rows.filters.keep: refused: it takes more than" in done.stdout, done.stdout
    begun = time.monotonic()
    done = shop.verb("run", "--once", expect=None)
    assert done.code != 0 and "refused" in done.stderr and time.monotonic() - begun < 10 * stretch(), done
