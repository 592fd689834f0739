"""A damaged tables' file or write-ahead log costs no row: found, set aside, and the tables made anew from the log, if the log reaches back."""

import os
import random
import shutil

import pytest

from fault_retention_test import PROJECT as RETAINED, bounds, fill
from harness import Project, eventually
from sizes import SEED, size

PROJECT = """
streams:
  orders:
    contract: {id: varchar not null, n: bigint, note: varchar}
pipelines:
  rows:
    from: orders
    filters:
      - short: SELECT id, n, note FROM input
    to:
      - table: rows
      - table: {name: latest, key: [id]}
"""
CASES = size("damage_cases")
EVENTS, KEYS = 20_000, 5_000
COUNTS = "SELECT (SELECT count(*) FROM rows) AS rows, (SELECT sum(n) FROM rows) AS total, (SELECT count(*) FROM latest) AS keys, (SELECT sum(n) FROM latest) AS latest"
RIGHT = {"rows": EVENTS, "total": EVENTS * (EVENTS - 1) // 2, "keys": KEYS, "latest": sum(range(EVENTS - KEYS, EVENTS))}


def events():
    rng = random.Random(SEED)
    return [{"id": f"e{n % KEYS}", "n": n, "note": rng.randbytes(20).hex()} for n in range(EVENTS)]


def as_numbers(row):
    return {name: int(value) for name, value in row.items()}


@pytest.fixture(scope="module", params=["stopped", "killed"])
def original(request, tmp_path_factory):
    """A folder whose tables hold all events: after a stop, without a write-ahead log; after SIGKILL, with one."""
    shop = Project(tmp_path_factory.mktemp("tables") / "project", {"millstream.yaml": PROJECT})
    server = shop.server()
    with server:
        sent = events()
        for begin in range(0, EVENTS, 2000):
            server.ingest("orders", sent[begin:begin + 2000])
        eventually(lambda: as_numbers(server.query(COUNTS)[0]) == RIGHT)
        if request.param == "killed":
            eventually((shop.data / "tables.duckdb.wal").exists)  # rows are written after a pause of deliveries
            server.kill()
    shop.close()
    assert (shop.data / "tables.duckdb.wal").exists() == (request.param == "killed")
    return shop


def hurt(path, rng):
    """Changes, cuts or empties a part of the file; in a third of the cases near its start, where DuckDB's headers and catalog lie."""
    kind, size = rng.choice(["flip", "zero", "noise", "cut"]), path.stat().st_size
    at = rng.randrange(min(size, 300_000)) if rng.random() < 0.34 else rng.randrange(size)
    if kind == "cut":
        os.truncate(path, at)
        return f"{path.name} cut at {at}"
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1 if kind == "flip" else 4096)
        file.seek(at)
        file.write(bytes([old[0] ^ 1 << rng.randrange(8)]) if kind == "flip" else bytes(len(old)) if kind == "zero" else rng.randbytes(len(old)))
    return f"{kind} in {path.name} at {at}"


@pytest.mark.parametrize("number", range(CASES * 2))
def test_a_damaged_tables_file_is_made_anew(original, tmp_path, number):
    rng = random.Random(f"{SEED} {number}")
    shutil.copytree(original.folder, tmp_path / "project")
    shop = Project(tmp_path / "project", {})
    print(hurt(rng.choice([path for path in (shop.data / "tables.duckdb", shop.data / "tables.duckdb.wal") if path.exists()]), rng))
    shop.verb("run", "--once")
    answer = shop.verb("query", "--json", COUNTS, expect=None)
    if answer.code != 0:  # damage where a start does not look
        assert answer.code == 1 and "the next start makes the tables anew" in answer.stderr.lower(), answer
        again = shop.verb("run", "--once")
        assert "set aside" in again.stderr, again
        answer = shop.verb("query", "--json", COUNTS)
    assert as_numbers(answer.json()["rows"][0]) == RIGHT


def test_tables_that_the_log_cannot_give_again_stay(project):
    shop = project({"millstream.yaml": RETAINED % "size: 4MiB"})
    with shop.server() as server:
        fill(server)
        eventually(lambda: bounds(server)["start"] > 0, 60)
    tables = shop.data / "tables.duckdb"
    with tables.open("r+b") as file:
        file.write(b"\0" * 4096 * 3)
    refused = shop.verb("run", "--once", expect=1)
    assert "the log no longer has all of its events: orders:0 begins at offset" in refused.stderr, refused
    assert tables.exists() and not list(shop.data.glob("tables.duckdb.damaged-*"))
    tables.rename(shop.data / "away")  # as the message says
    shop.verb("run", "--once")


def test_a_start_after_one_that_did_not_end_looks_at_the_file_first(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin='{"id": "a", "n": 1}\n')
    (shop.data / "tables.duckdb.opening").write_bytes(b"")
    assert shop.verb("query", "--json", "SELECT n FROM rows").json()["rows"] == [{"n": 1}]
    assert not (shop.data / "tables.duckdb.opening").exists()
