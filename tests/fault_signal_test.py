"""SIGTERM under load: the end comes in time with code 0, a second one ends at once, and nothing acknowledged is lost."""

import random
import signal
import time

import pytest

from faults import PROJECT, Producer, Told, check_all
from harness import SLOWNESS
from sizes import SEED

STOP_SECONDS_MAX = 10
AT_ONCE_SECONDS_MAX = 2


@pytest.mark.parametrize("signals,pause", [(1, 0), (2, 0), (2, 0.02)], ids=["one", "two", "two-later"])
def test_a_stop_under_load_loses_nothing(project, signals, pause):
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    print(f"seed {SEED}")
    for round_number in range(3):
        server = shop.server().start()
        producers = [Producer(server, told, f"{name}{round_number}", random.Random(f"{SEED}{name}{round_number}")) for name in "abc"]
        for producer in producers:
            producer.start()
        time.sleep(0.4)
        begin = time.monotonic()
        for number in range(signals):
            if number:
                time.sleep(pause)
            server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        seconds = time.monotonic() - begin
        for producer in producers:
            producer.until.set()
            producer.join()
        assert seconds < (STOP_SECONDS_MAX if signals == 1 else AT_ONCE_SECONDS_MAX) * SLOWNESS
        assert code == 0 if signals == 1 else code in (0, 130, -signal.SIGTERM), f"exit code {code}: {server.stderr()}"
    assert len(told.acknowledged) > 100
    with shop.server() as again:
        check_all(shop, again, told)
    assert shop.verb("verify", "--log").code == 0
