"""Killed inside one system call of a change of filters, and of a table made anew and switched: every row was made by the version that owns its
offset, and a table is the old one whole or the new one whole."""

import http.client
import random
import subprocess

import pytest
from checker import Checker

import faults
from faults import Producer, Told, check_all, needs_strace
from harness import SLOWNESS, eventually
from sizes import SEED, size

pytestmark = needs_strace
POINTS = size("change_points")  # for each system call
CHANGE = {"fdatasync": 12, "pwritev": 30, "write": 30}  # call: one of the first N
CUTOVER = {"fdatasync": 30, "fsync": 12, "pwrite64": 40, "pwritev": 30, "write": 60}
STREAMS = faults.PROJECT.split("pipelines:")[0]
PROJECT = STREAMS + """
pipelines:
  rows:
    from: orders
    filters:
      - marked: SELECT id, customer, amount, VERSION AS v FROM input
    to: {table: all_orders}
  lines:
    from: orders
    filters:
      - marked: SELECT id, VERSION AS v FROM input
    to:
      - file: {path: out/lines.ndjson, format: ndjson}
"""
KEYED = STREAMS + """
pipelines:
  newest:
    from: orders
    filters:
      - marked: SELECT id, customer, amount, VERSION AS v FROM input
    to:
      - table: {name: newest, key: customer}
"""


class Doom:
    """strace on a server that runs: the first of its threads that makes its Nth `call` from now on is hit, and all end."""

    def __init__(self, server, call, when):
        self.process = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}",
                                         "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "attached" in line, line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()  # lets go of a server that lives
        self.process.communicate()


def points(rng, last):
    return sorted({1, *rng.sample(range(2, last + 1), min(POINTS, last) - 1)})


def change_and_die(shop, server, told, when, call, project_text, *arguments):
    """Applies the project while events come, until the point is reached or the change has ended. True if it killed."""
    producers = [Producer(server, told, f"{name}{call}{when}{len(told.acknowledged)}", random.Random(f"{SEED}{name}{when}"), limit=40) for name in "ab"]
    shop.write({"millstream.yaml": project_text})
    with Doom(server, call, when):
        for producer in producers:
            producer.start()
        shop.verb("apply", "--yes", *arguments, expect=None)
        for producer in producers:
            producer.join()
    try:
        server.http("GET", "/health/live")
        return False
    except (OSError, http.client.HTTPException):
        server.process.wait(30 * SLOWNESS)  # strace may have held it for a moment
        return True


def knows(server, pipeline, version):
    return f"{version} AS v" in server.http("GET", f"/v1/pipelines/{pipeline}").body.decode()


def replays_at_their_end(server):
    def look():
        replays = server.http("GET", "/v1/replays").json()
        assert all(each["state"] in ("finished", "cancelled") for each in replays), replays
        return [replays]
    return eventually(look, 60)[0]


@pytest.mark.parametrize("call,last", CHANGE.items())
def test_a_kill_at_a_step_of_a_change(project, call, last):
    shop, told = project({"millstream.yaml": PROJECT.replace("VERSION", "1")}), Told()
    killed, version = 0, 1
    server = shop.server().start()
    for when in points(random.Random(f"{SEED}{call}"), last):
        version += 1
        killed += change_and_die(shop, server, told, when, call, PROJECT.replace("VERSION", str(version)))
        if server.process.poll() is not None:
            server.start()
        check_all(shop, server, told)
        # Known whole or not at all, and it can be made again.
        shop.verb("apply", "--yes")
        assert knows(server, "rows", version)
        check_all(shop, server, told)
    assert killed > 0, "no point was reached"
    print(f"{call}: killed {killed} times, {len(told.acknowledged)} acknowledged, {len(told.unknown)} unknown")
    server.stop()
    assert shop.verb("verify", "--log").code == 0 and shop.verb("verify").code == 0


@pytest.mark.parametrize("call,last", CUTOVER.items())
def test_a_kill_at_a_step_of_a_cutover(project, call, last):
    shop, told = project({"millstream.yaml": KEYED.replace("VERSION", "1")}), Told()
    killed, version, known = 0, 1, 0
    server = shop.server().start()
    for when in points(random.Random(f"{SEED}{call}"), last):
        version += 1
        killed += change_and_die(shop, server, told, when, call, KEYED.replace("VERSION", str(version)), "--rebuild", "newest")
        if server.process.poll() is not None:
            server.start()
        replays = replays_at_their_end(server)
        if len(replays) == known:  # it died before the change was known; the start has taken the files as they are
            shop.verb("apply", "--yes", "--rebuild", "newest")
            replays = replays_at_their_end(server)
        assert len(replays) == known + 1 and replays[-1]["state"] == "finished", replays
        known = len(replays)
        eventually(lambda: not any(pipeline["lag_events"] for pipeline in server.http("GET", "/v1/status").json()["pipelines"]), 60)
        events = Checker(shop.data, told).check_log()
        newest = {event.value()["customer"]: event.value()["id"] for event in sorted(events, key=lambda event: (event.partition, event.offset))}
        rows = server.query("SELECT customer, id, v FROM newest")
        assert {row["customer"]: row["id"] for row in rows} == newest and len(rows) == len(newest)
        assert {row["v"] for row in rows} <= {version}
        assert [table["name"] for table in server.http("GET", "/v1/tables").json()] == ["newest"]
    assert killed > 0, "no point was reached"
    print(f"{call}: killed {killed} times, {len(told.acknowledged)} acknowledged, {len(told.unknown)} unknown")
    server.stop()
    assert shop.verb("verify", "--log").code == 0 and shop.verb("verify").code == 0
