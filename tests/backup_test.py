"""`log backup` on the built binary: a copy of one moment under load, kept through kills of either side, that is a data folder when used as one."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from checker import Event
from faults import PROJECT, Producer, Told, check_all
from harness import BINARY, Project, environment, eventually
from sizes import SEED

CHAINED = PROJECT + """
  chain:
    from: orders
    filters:
      - odd: SELECT id, customer, amount, CASE WHEN amount % 7 = 3 THEN CAST('x' || id AS BIGINT) END AS bad FROM input
    to: {stream: {name: derived, key: customer}}
  derived:
    from: derived
    filters:
      - fields: SELECT data->>'$.id' AS id FROM input
    to: {table: derived_rows}
"""
CHAINED = CHAINED.replace("pipelines:", "  derived: {partitions: 2, key: customer}\npipelines:", 1)


def backup(shop, *more, expect=0):
    return shop.verb("log", "backup", shop.folder.parent / "backup", *more, expect=expect)


def restored(shop, name):
    """A project over a copy of the backup; its files as sinks write them are not there."""
    folder = shop.folder.parent / name
    folder.mkdir()
    shutil.copy(shop.folder / "millstream.yaml", folder)
    shutil.copytree(shop.folder.parent / "backup", folder / ".millstream")
    return Project(folder, {})


def recomputed(events):
    return sorted(row["id"] for row in map(Event.value, events) if row["amount"] % 7 != 3)


def check_restored(shop, told, name, at_least):
    """What the log of the backup says is what every sink holds; nothing that was acknowledged before the backup is missing."""
    again = restored(shop, name)
    told_then = Told()
    told_then.acknowledged.update({i: told.acknowledged[i] for i in at_least})
    told_then.unknown.update(told.acknowledged | told.unknown)
    try:
        with again.server() as server:
            assert "was a backup of" in server.stderr()
            log = check_all(again, server, told_then, unmodelled=("chain",))
            right = recomputed(log)
            eventually(lambda: server.query("SELECT count(*) AS n FROM derived_rows")[0]["n"] >= len(right))
            assert sorted(row["id"] for row in server.query("SELECT id FROM derived_rows")) == right
            eventually(lambda: server.http("GET", "/v1/dead/orders").json()["total"] == len(log) - len(right))
            server.ingest("orders", [{"id": "later", "customer": "c0", "amount": 1}])
            eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == len(log) + 1)
        assert again.verb("verify", "--log").code == 0
    finally:
        again.close()
    return len(log)


def test_backups_under_load_and_kills(project):
    rng, told = random.Random(SEED), Told()
    print(f"seed {SEED}")
    shop = project({"millstream.yaml": CHAINED})
    whole, cut, sizes = 0, 0, []
    for round_number in range(6):
        server = shop.server().start()
        producers = [Producer(server, told, f"{name}{round_number}", random.Random(f"{SEED}{name}{round_number}")) for name in "abc"]
        for producer in producers:
            producer.start()
        time.sleep(rng.uniform(0.2, 0.6))
        before = set(told.acknowledged)
        if round_number % 3 != 1:
            assert backup(shop, "--json").json()["number"] > 0
            sure = before
            whole += 1
        verb = subprocess.Popen([BINARY, "log", "backup", shop.folder.parent / "backup"], cwd=shop.folder, env=environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0, 0.08))
        victim = rng.choice(["verb", "server", "both"])
        if victim != "server":
            verb.send_signal(signal.SIGKILL)
        if victim != "verb":
            server.kill()
        verb.communicate(timeout=60)
        cut += verb.returncode != 0
        for producer in producers:
            producer.until.set()
        for producer in producers:
            producer.join()
        if server.process.poll() is None:
            server.kill()
        assert backup(shop, "--verify").code == 0
        sizes.append(check_restored(shop, told, f"restored{round_number}", sure))
    print(f"{whole} backups, {cut} cut short, events {sizes}, {dict(told.statuses)}")
    assert cut > 0 and sizes[-1] > 100


def test_a_second_run_copies_little_and_a_used_backup_is_refused(project):
    shop = project({"millstream.yaml": CHAINED})
    with shop.server() as server:
        server.ingest("orders", [{"id": f"o{n}", "customer": f"c{n % 9}", "amount": n, "note": os.urandom(500).hex()} for n in range(5000)])
        eventually(lambda: not any(row["lag_events"] for row in server.query("SELECT lag_events FROM _pipelines")))
        first = backup(shop, "--json").json()
        assert first["copied_bytes"] == first["bytes"] > 1_000_000
        server.ingest("orders", [{"id": "new", "customer": "c1", "amount": 1}])
        second = backup(shop, "--json").json()
        assert (second["number"], second["bytes"] > first["bytes"]) == (2, True) and second["copied_bytes"] < 20_000
    # Without a server, and then nothing is new but what the start wrote.
    third = backup(shop, "--json").json()
    assert third["number"] == 3 and third["copied_bytes"] < 20_000
    said = backup(shop).stdout
    assert said.startswith("backup 4 of ") and "copied" in said
    again = restored(shop, "used")
    assert len(again.verb("query", "--json", "SELECT id FROM _streams.orders").json()["rows"]) == 5001
    refused = again.verb("-C", shop.folder, "log", "backup", again.folder / ".millstream", expect=1)
    assert "is a data folder" in refused.stderr
    assert "--server" in shop.verb("--server", "http://127.0.0.1:1", "log", "backup", "x", expect=2).stderr
    assert "no finished backup" in shop.verb("log", "backup", "--verify", shop.folder, expect=1).stderr


def test_damage_of_a_backup_is_named(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin='{"id": "a", "customer": "c"}\n')
    backup(shop)
    path = next((shop.folder.parent / "backup" / "log" / "_control").glob("0/*.seg"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    named = backup(shop, "--verify", "--json", expect=1).json()["damage"]
    assert [each["file"] for each in named] == [f"_control/0/{path.name}"]


@pytest.mark.parametrize("name", ["backup.manifest", "log"])
def test_a_backup_with_a_part_missing_does_not_start(project, name):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin='{"id": "a", "customer": "c"}\n')
    backup(shop)
    again = restored(shop, "again")
    if name == "log":
        next((again.data / "log" / "orders" / "0").glob("*.seg")).unlink()
    else:
        text = (again.data / name).read_text()
        (again.data / name).write_text(text.replace(" open ", " sealed ", 1))
    refused = again.verb("run", "--once", expect=1)
    assert "manifest" in refused.stderr or "the backup should have" in refused.stderr, refused
