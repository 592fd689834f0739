"""A full disk refuses events with 507, says so, keeps all that was acknowledged, and goes on by itself once there is room."""

import os
import subprocess
import time
from contextlib import suppress

import pytest

from checker import Checker, line_of
from faults import PROJECT, Told, check_all, needs_root
from harness import SLOWNESS, eventually

pytestmark = needs_root
ROOM_SECONDS_MAX = 5
DISK_MIB = 160


@pytest.fixture
def disk(tmp_path):
    """A small file system, mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode(errors='replace').strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(path, leave):
    """Makes a file so large that `leave` bytes of its file system stay free."""
    with suppress(OSError), open(path, "ab", buffering=0) as file:
        while True:
            space = os.statvfs(path)
            free = space.f_bavail * space.f_frsize - leave
            if free <= 0 or not file.write(b"\0" * min(free, 1 << 20)):
                return


def batch(name, count=5):
    return [{"id": f"{name}-{i}", "customer": f"c{i % 3}", "amount": i} for i in range(count)]


def goes_again(server, told, name):
    """Seconds until events are taken again."""
    begin = time.monotonic()
    numbers = iter(range(1000))
    eventually(lambda: told.send(server, batch(f"{name}{next(numbers)}")) == 200)
    return time.monotonic() - begin


def project_on(project, disk, floor):
    return project({"millstream.yaml": f"server: {{data: {disk}/data, limits: {{free_space: {floor}}}}}\n{PROJECT}"})


def test_below_the_floor_events_are_refused_and_all_else_goes_on(project, disk):
    shop, told = project_on(project, disk, "20%"), Told()
    with shop.server() as server:
        assert told.send(server, batch("before")) == 200
        fill(disk / "filler", DISK_MIB * 2**20 // 10)
        refused = []

        def is_refused():
            name = f"full{len(refused)}"
            if told.send(server, batch(name)) == 507:
                return True
            refused.append(name)
            return False
        eventually(is_refused, ROOM_SECONDS_MAX)

        answer = server.http("POST", "/v1/streams/orders/events", {"id": "never-0", "customer": "c0"})
        problem = answer.json()
        assert (answer.status, answer.headers["Content-Type"], problem["code"]) == (507, "application/problem+json", "disk_full")
        assert problem["status"] == 507 and "20%" in problem["detail"]
        told.unknown["never-0"] = line_of({"id": "never-0", "customer": "c0"})

        acknowledged = len(told.acknowledged)
        eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == acknowledged)
        assert server.query("SELECT count(*) AS n FROM _streams.orders")[0]["n"] == acknowledged
        assert len(server.http("GET", "/v1/streams/orders/events?from=earliest").lines()) == acknowledged
        assert server.http("GET", "/health/live").status == 200
        ready = server.http("GET", "/health/ready")
        reason, = [reason for reason in ready.json()["reasons"] if "ingest" in reason]
        assert ready.status == 503 and reason["state"] == "refused" and "server.limits.free_space" in reason["reason"]

        (disk / "filler").unlink()
        assert goes_again(server, told, "after") < ROOM_SECONDS_MAX * SLOWNESS
        eventually(lambda: server.http("GET", "/health/ready").status == 200)
        check_all(shop, server, told, Checker(disk / "data", told))
    with shop.server() as server:
        log = check_all(shop, server, told, Checker(disk / "data", told))
        assert {event.value()["id"] for event in log} == set(told.acknowledged), "a refused event is in the log"


def test_a_disk_filled_to_the_last_byte(project, disk):
    """free_space 0%: what refuses is ENOSPC itself."""
    shop, told = project_on(project, disk, "0%"), Told()
    server = shop.server().start()
    assert told.send(server, batch("before")) == 200
    eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == 5)
    fill(disk / "filler", 0)
    for number in range(100):
        status = told.send(server, [{**event, "note": os.urandom(100_000).hex()} for event in batch(f"full{number}")])
        if status != 200:
            break
        fill(disk / "filler", 0)
    alive = server.process.poll() is None
    assert alive, f"exit code {server.process.returncode}: {server.stderr()}"
    assert status == 507, (told.statuses, server.stderr())
    assert server.query("SELECT count(*) AS n FROM _streams.orders")[0]["n"] >= 5
    (disk / "filler").unlink()
    assert goes_again(server, told, "after") < ROOM_SECONDS_MAX * SLOWNESS
    eventually(lambda: server.http("GET", "/health/ready").status == 200, 60)
    check_all(shop, server, told, Checker(disk / "data", told))
    server.stop()
    with shop.server() as again:
        check_all(shop, again, told, Checker(disk / "data", told))
    assert shop.verb("verify", "--log").code == 0
