"""Data folders of releases, kept in golden/data-VERSION: every later version opens them, and answers what that release answered.

`MILLSTREAM_WRITE_GOLDEN=1 pytest tests/golden_folder_test.py` makes the folder of the present version, once, for a release.
"""

import json
import os
import shutil
import subprocess

import pytest

from harness import BINARY, ROOT, Project, eventually

GOLDEN = ROOT / "tests" / "golden"
FILES = {"millstream.yaml": """
streams:
  orders:
    key: customer
    partitions: 2
    dedupe: {by: id, window: 36500d}
    contract:
      id: varchar not null
      customer: varchar not null
      amount: decimal(12,2)
      placed: timestamptz
      lines: struct(sku varchar, qty integer)[]
  paid: {key: customer, codec: none}
pipelines:
  chain:
    from: orders
    filters:
      - paid: SELECT id, customer, CAST(amount AS INTEGER) AS amount FROM input WHERE amount IS NOT NULL
      - small: SELECT id, customer, CAST(amount AS TINYINT) AS amount FROM input
    to: {stream: {name: paid, key: customer}}
  rows:
    from: orders
    filters:
      - fields: SELECT id, amount, placed, lines FROM input
    to: {table: all_orders}
  newest:
    from: orders
    filters:
      - fields: SELECT customer, id FROM input
    to: {table: {name: newest, key: customer}}
  totals:
    from: paid
    filters:
      - fields: SELECT data->>'$.customer' AS customer, CAST(data->>'$.amount' AS INTEGER) AS amount FROM input
    to: {table: {name: totals, key: customer, values: {n: count(*), total: sum(amount)}}}
"""}
CHANGED = FILES["millstream.yaml"].replace("SELECT customer, id FROM input", "SELECT customer, id || '!' AS id FROM input")
QUERIES = ["SELECT * FROM all_orders ORDER BY id", "SELECT * FROM newest ORDER BY customer", "SELECT * FROM totals ORDER BY customer",
           "SELECT ce_id, _partition, _offset, _key, data FROM _streams.orders ORDER BY ALL", "SELECT ce_id, data FROM _streams.paid ORDER BY ALL",
           "SELECT stream, number, code, event, path, filter, sink FROM _dead_letters ORDER BY ALL"]


def version():
    return subprocess.run([BINARY, "version"], capture_output=True, text=True, check=True).stdout.split()[1]


def orders(first, count):
    return [{"id": f"o{n}", "customer": f"c{n % 3}", "amount": None if n % 5 == 4 else f"{n * 7}.50", "placed": f"2026-11-{n % 28 + 1:02}T10:00:00Z",
             "lines": [{"sku": "å", "qty": n}] * (n % 3)} for n in range(first, first + count)]


def answers(server):
    eventually(lambda: not any(row["lag_events"] for row in server.query("SELECT lag_events FROM _pipelines")))
    return {sql: server.query(sql) for sql in QUERIES}


def write(project):
    """Three epochs, a kill, a change of a filter, a closed and an open segment, dead letters of both kinds, receipts."""
    shop = project(FILES)
    server = shop.server().start()
    server.ingest("orders", orders(0, 6), {"Idempotency-Key": "first"})
    server.ingest("orders", [{"id": None}, *orders(6, 2)])
    server.kill()
    shop.write({"millstream.yaml": CHANGED})
    with shop.server() as server:
        server.ingest("orders", [*orders(8, 20), *orders(0, 1)])
        eventually(lambda: not any(row["lag_events"] for row in server.query("SELECT lag_events FROM _pipelines")))
    folder = GOLDEN / f"data-{version()}"
    shutil.rmtree(folder, ignore_errors=True)
    with shop.server() as server:
        expected = answers(server)
        shop.verb("log", "backup", folder / "backup")
    folder.mkdir(exist_ok=True)
    for leftover in ("lock", "tmp", "sinks"):
        path = folder / "backup" / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(shop.data / "log", folder / "log", ignore=shutil.ignore_patterns("space.reserve"))
    shutil.copy(shop.folder / "millstream.yaml", folder)
    lines = ",\n".join(f"{json.dumps(sql)}: {json.dumps(rows, ensure_ascii=False)}" for sql, rows in expected.items())
    (folder / "answers.json").write_text(f"{{\n{lines}\n}}\n")


if "MILLSTREAM_WRITE_GOLDEN" in os.environ:
    test_write = write


@pytest.mark.parametrize("kind", ["log", "backup"])
@pytest.mark.parametrize("release", sorted(path.name for path in GOLDEN.glob("data-*")))
def test_a_folder_of_a_release_opens(tmp_path, release, kind):
    folder = GOLDEN / release
    shop = Project(tmp_path / "project", {"millstream.yaml": (folder / "millstream.yaml").read_text()})
    shutil.copytree(folder / "backup", shop.data) if kind == "backup" else shutil.copytree(folder / "log", shop.data / "log")
    expected = json.loads((folder / "answers.json").read_text())
    try:
        assert shop.verb("verify", "--log").code == 0
        with shop.server() as server:
            assert answers(server) == expected
            assert server.ingest("orders", [*orders(1000, 3), *orders(3, 1)])["duplicates"] == 1, "dedupe forgot what the release took"
            eventually(lambda: len(answers(server)[QUERIES[0]]) == len(expected[QUERIES[0]]) + 3)
        assert len(shop.verb("history").stdout.splitlines()) > 2
        assert shop.verb("verify", "--log").code == 0
    finally:
        shop.close()


def test_this_release_has_its_folder():
    assert (GOLDEN / f"data-{version()}").is_dir(), "MILLSTREAM_WRITE_GOLDEN=1 pytest tests/golden_folder_test.py writes it"
