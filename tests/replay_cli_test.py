"""Replays as people start them: a table made anew by the verb, filters from a file, Ctrl-C while it follows, and the log that waits for a paused one."""

import contextlib
import signal
import socket
import subprocess
import time

import pytest

import fault_retention_test as retention
from replay_test import PROJECT, ended, expected, ids, orders

from harness import BINARY, environment, eventually

SLOW = ("--share", "1%")
VERSIONS = "SELECT v, count(*) AS n FROM revenue GROUP BY v ORDER BY v"


def versions(count, version):
    """Of `revenue` once its first filter takes every third event and marks it so."""
    return [{"v": 1, "n": sum(n % 10 == 9 and n % 3 > 0 for n in range(count))}, {"v": version, "n": sum(n % 3 == 0 for n in range(count))}]


def test_a_table_is_made_anew_by_the_verb(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        position = server.ingest("orders", orders(0, 1000))["position"]
        server.query("SELECT 1 FROM revenue", wait=position)
        text = shop.verb("replay", "start", "revenue", "--cutover", "--set", "even=SELECT id, customer, n, 2 AS v FROM input WHERE n % 3 = 0").stdout
        assert text.startswith("replay 1 of revenue into table revenue: finished\n") and "0 refused" in text, text
        assert ids(server, "revenue") == expected(1000, lambda n: n % 3 == 0 or n % 10 == 9)
        # Rows of the other pipeline that writes it were made anew too; of an event of both the same one wins as ever.
        assert server.query(VERSIONS) == versions(1000, 2)
        assert "n % 3 = 0" in shop.verb("pipeline", "show", "revenue", "--yaml").stdout, "the filter holds from now on"
        # Without a change it is the same again, and nothing is left behind.
        assert "replay 2 of revenue into table revenue: finished" in shop.verb("replay", "start", "revenue", "--cutover").stdout
        server.ingest("orders", orders(1000, 20))
        eventually(lambda: ids(server, "revenue") == expected(1020, lambda n: n % 3 == 0 or n % 10 == 9))
        assert [table["name"] for table in server.http("GET", "/v1/tables").json() if "@" in table["name"]] == []
        for arguments, code, part in [(("revenue", "--cutover", "--into", "table:x"), 2, "one of --into"), (("revenue", "--cutover", "--from", "1h"), 1, "have no meaning"),
                                      (("revenue", "--cutover", "--set", "even=SELECT nix FROM input"), 1, "no column 'nix'")]:
            assert part in shop.verb("replay", "start", *arguments, expect=code).stderr
        assert len(shop.verb("replay", "list").stdout.splitlines()) == 3, "what is refused is no replay"
    shop.verb("replay", "start", "revenue", "--cutover", "--set", "even=SELECT id, customer, n, 3 AS v FROM input WHERE n % 3 = 0")  # without a server
    assert shop.verb("query", VERSIONS, "--format", "ndjson").lines() == versions(1020, 3)


def test_filters_from_a_file(project):
    listed = "- odd: SELECT id, n FROM input WHERE n % 2 = 1\n- twice: SELECT id, n * 2 AS twice FROM input\n"
    shop = project({"millstream.yaml": PROJECT, "list.yaml": listed, "none.yaml": "[]\n", "broken.yaml": "- odd: SELECT nix FROM input\n", "text.yaml": "- {\n",
                    "pipeline.yaml": "from: orders\nfilters:\n  - odd: SELECT id, n FROM input WHERE n % 5 = 1\n"})
    with shop.server() as server:
        server.ingest("orders", orders(0, 100))
        shop.verb("replay", "start", "revenue", "--filters", "list.yaml", "--into", "table:a")
        assert server.query("SELECT count(*) AS n, sum(twice) AS s FROM a") == [{"n": 50, "s": 2 * sum(range(1, 100, 2))}]
        shop.verb("replay", "start", "revenue", "--filters", "pipeline.yaml", "--into", "table:b")
        assert ids(server, "b") == expected(100, lambda n: n % 5 == 1)
        shop.verb("replay", "start", "revenue", "--filters", "none.yaml", "--into", "table:c")
        assert ids(server, "c") == expected(100, lambda n: True), "no filter lets all through"
        for name, part in [("broken.yaml", "no column 'nix'"), ("text.yaml", "text.yaml:"), ("nowhere.yaml", "nowhere.yaml")]:
            refused = shop.verb("replay", "start", "revenue", "--filters", name, "--into", "table:d", expect=None)
            assert refused.code != 0 and part in refused.stderr, refused
        assert "table 'd'" not in shop.verb("query", "SELECT 1 FROM d", expect=1).stdout
        assert [table["name"] for table in server.http("GET", "/v1/tables").json() if table["name"] == "d"] == []


def interrupted(shop, wait_for, *arguments):
    """`replay start`, and Ctrl-C once `wait_for` is true: what it says on stderr."""
    verb = subprocess.Popen([BINARY, "replay", "start", *arguments], cwd=shop.folder, env=environment(), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for()
        verb.send_signal(signal.SIGINT)
        said = verb.communicate(timeout=30)[1].decode()
    finally:
        verb.kill()
    assert verb.returncode == 130, (verb.returncode, said)
    return said


def test_ctrl_c_leaves_a_replay_running(project):
    shop = project({"millstream.yaml": "server: {limits: {batch_events: 1000}}\n" + PROJECT})  # small pieces, and a pause after each
    count = "SELECT count(*) AS n, count(DISTINCT id) AS d FROM "
    whole = [{"n": 180_000, "d": 180_000}]
    with shop.server() as server:
        for first in range(0, 180_000, 10_000):
            server.ingest("orders", orders(first, 10_000))
        runs = lambda: [replay["state"] for replay in server.http("GET", "/v1/replays").json()] == ["running"]  # noqa: E731
        said = interrupted(shop, lambda: eventually(runs), "log_all", "--into", "table:copy", *SLOW)
        assert said == "millstream: replay 1 goes on; millstream replay cancel 1 ends it\n"
        assert runs(), "and it had not ended before"
        assert ended(server, 1, 120)["done"] == 180_000
        assert server.query(count + "copy") == whole
    # Without a server it runs in the verb's own process; the next server goes on with it.
    said = interrupted(shop, lambda: time.sleep(2), "log_all", "--into", "table:own", *SLOW)
    assert said.splitlines()[-1] == "millstream: replay 2 goes on when a server runs; millstream replay cancel 2 ends it"
    assert "running" in shop.verb("replay", "list").stdout.splitlines()[2]
    with shop.server() as server:
        assert ended(server, 2, 120)["done"] == 180_000
        assert server.query(count + "own") == whole
        assert "goes on" not in shop.verb("replay", "start", "log_all", "--into", "table:third", "--detach").stderr
        assert ended(server, 3, 120)["state"] == "finished"


def test_the_log_keeps_what_a_paused_replay_needs(project):
    shop = project({"millstream.yaml": "server: {limits: {batch_events: 10}}\n" + retention.PROJECT % "size: 4MiB"})  # so that it can be paused on its way
    with shop.server() as server:
        server.http("POST", "/v1/pipelines/rows/pause", {})
        retention.fill(server)
        assert server.http("POST", "/v1/replays", {"pipeline": "rows", "into": {"table": {"name": "copy"}}, "share": "1%"}).status == 201
        assert server.http("POST", "/v1/replays/1/pause").json()["state"] == "paused"
        server.http("POST", "/v1/pipelines/rows/resume", {})
        eventually(lambda: server.query("SELECT count(*) AS n FROM rows")[0]["n"] == retention.EVENTS)
        done = server.http("GET", "/v1/replays/1").json()["done"]
        assert done < retention.EVENTS, "it is over already, so nothing can be seen"
        server.kill()
        server.start()
        time.sleep(retention.PAUSED_SECONDS)
        assert retention.bounds(server)["start"] <= done
        server.http("POST", "/v1/replays/1/resume")
        ended(server, 1, 120)
        assert server.query("SELECT count(*) AS n, count(DISTINCT id) AS d FROM copy") == [{"n": retention.EVENTS, "d": retention.EVENTS}]
        eventually(lambda: retention.bounds(server)["start"] > done, 60)
        # What is gone cannot be run again, and the earliest that there is is named.
        def is_named():
            earliest = retention.bounds(server)["start"]  # retention may go on meanwhile
            gone = shop.verb("replay", "start", "rows", "--into", "table:late", expect=1).stderr
            assert f"the earliest position is orders/0:{earliest}" in gone, gone
            return True
        eventually(is_named)


@pytest.mark.parametrize("arguments", [("replay", "start", "revenue", "--into", "table:a", "--detach"), ("sandbox", "create", "b"), ("top",)])
def test_a_signal_ends_a_verb_whose_request_is_not_answered(project, arguments):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        verb = subprocess.Popen([BINARY, "--server", url, *arguments], cwd=project({}).folder, env=environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            with contextlib.closing(silent.accept()[0]) as asked:
                assert asked.recv(1000)
                verb.send_signal(signal.SIGTERM)
                said = verb.communicate(timeout=20)[1].decode()
        finally:
            verb.kill()
    assert verb.returncode == (0 if arguments == ("top",) else 130), (verb.returncode, said)
    assert arguments == ("top",) or said == f"millstream: interrupted before {url} answered; what was asked for may be done all the same\n"
