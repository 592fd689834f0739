"""A sync that fails ends the process with 74, and what was acknowledged before is there at the next start."""

import random
import time

import pytest

from faults import PROJECT, Producer, Straced, Told, check_all, needs_strace
from harness import SLOWNESS, eventually
from sizes import SEED, size

pytestmark = needs_strace
LOG_CALLS = [2, 3, 10, 40, *range(11, 40), *range(41, 80)][:size("sync_failures")]  # of one thread


@pytest.mark.parametrize("call,when", [("fdatasync", n) for n in LOG_CALLS] + [("fsync", 2)])
def test_a_failed_sync_ends_the_process_and_loses_nothing(project, call, when):
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    with shop.server() as server:  # makes the folder, so that what fails is the work and not only the making
        told.send(server, [{"id": "first-0", "customer": "c0", "amount": 0}])
    print(f"seed {SEED}")
    server = Straced(shop, f"{call}:error=EIO:when={when}").start()
    if server.wait_ready_or_end():
        producers = [Producer(server, told, f"{name}{when}", random.Random(SEED + when), limit=400) for name in "ab"]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
    code = eventually(lambda: server.process.poll() or not server.injected() and -1, 15)
    said = server.stderr() + "".join(server.injected())
    print(said)
    assert code == 74, said[-2000:]
    assert "Input/output error" in server.stderr(), said[-2000:]  # in the program's own words
    with shop.server() as again:
        check_all(shop, again, told)
    assert shop.verb("verify", "--log").code == 0


def test_no_event_is_acknowledged_whose_sync_failed(project):
    """The first sync of the events fails: whoever waits for it is not told 200."""
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    with shop.server() as server:
        told.send(server, [{"id": "first-0", "customer": "c0", "amount": 0}])
    server = Straced(shop, "fdatasync:error=EIO:when=1").start()
    if server.wait_ready_or_end():
        assert told.send(server, [{"id": "second-0", "customer": "c0", "amount": 1}]) != 200
    assert server.process.wait(30 * SLOWNESS) == 74, server.stderr()
    assert "second-0" not in told.acknowledged
    with shop.server() as again:
        check_all(shop, again, told)


def test_a_failed_sync_of_the_tables_ends_the_process(project):
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    with shop.server() as server:
        told.send(server, [{"id": "first-0", "customer": "c0", "amount": 0}])
    # Later than what a start syncs; each pause makes a fold. After the failure nothing more is sent.
    server = Straced(shop, "fsync:error=EIO:when=5", shop.data / "tables.duckdb.wal").start(wait_ready=True)
    for number in range(20):
        told.send(server, [{"id": f"a-{number}", "customer": "c0", "amount": number}])
        time.sleep(1.5)
        if server.injected():
            break
    assert any("tables.duckdb" in line for line in server.injected())
    assert server.process.wait(30 * SLOWNESS) == 74, server.stderr()
    with shop.server() as again:
        check_all(shop, again, told)
