"""Killed inside one system call: at each point nothing acknowledged is lost and nothing is doubled, in the log and in every sink."""

import random

import pytest

from faults import PROJECT, Producer, Straced, Told, check_all, needs_strace
from harness import SLOWNESS
from sizes import SEED, size

pytestmark = needs_strace
POINTS = size("crash_points")  # for each system call
CALLS = {"fdatasync": 30, "fsync": 25, "pwrite64": 8, "pwritev": 25, "write": 10, "rename": 12, "ftruncate": 10, "unlink": 1}  # call: the last N
ROUNDS = 2  # the first in a new folder, the second on what the first left and some events more


def points():
    rng = random.Random(SEED)
    for call, last in CALLS.items():
        for when in sorted(rng.sample(range(1, last + 1), min(POINTS, last))):
            yield pytest.param(call, when, id=f"{call}-{when}")


@pytest.mark.parametrize("call,when", points())
def test_a_kill_at_a_point_loses_and_doubles_nothing(project, call, when):
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    print(f"seed {SEED}, {POINTS} points: SIGKILL at {call} {when}")
    killed = 0
    for round_number in range(ROUNDS):
        if round_number > 0:
            with shop.server() as server:
                assert told.send(server, [{"id": f"between-{i}", "customer": f"c{i}", "amount": i} for i in range(10)]) == 200
        server = Straced(shop, f"{call}:signal=SIGKILL:when={when}").start()
        if server.wait_ready_or_end():
            producers = [Producer(server, told, f"{name}{round_number}", random.Random(f"{SEED}{name}{when}"), limit=60) for name in "ab"]
            for producer in producers:
                producer.start()
            for producer in producers:
                producer.join()
            if server.process.poll() is None:
                server.stop(expect=None)  # a point that comes at the end, or is not reached
        code = server.process.wait(30 * SLOWNESS)
        killed += code == -9
        assert code in (0, -9), f"{code}: {server.stderr()}"
    with shop.server() as again:
        check_all(shop, again, told)
    print(f"killed {killed} of {ROUNDS} times, {len(told.acknowledged)} acknowledged, {len(told.unknown)} unknown")
    assert shop.verb("verify", "--log").code == 0
    assert killed > 0, "the point was never reached"
