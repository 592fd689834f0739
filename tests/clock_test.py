"""The wall clock leaps by years and back while events flow, and nothing that is promised hangs on it."""

import subprocess
import threading
import time

import pytest

from faults import Producer, Told, check_all
from harness import Project, eventually
from sizes import SEED

import random

LEAPS_HOURS = [87_600, -87_600, -1, 0]  # against the true time: ten years on, ten years back, an hour back, right again
PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    retain: {age: 1d}
    dedupe: {by: id, window: 2h}
    contract: {id: varchar not null, customer: varchar not null, amount: bigint}
pipelines:
  rows:
    from: orders
    to: {table: all_orders}
  newest:
    from: orders
    to:
      - table: {name: newest, key: customer}
"""
# Adds the seconds that a file holds to what the system's clock says.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile int64_t *seconds;
__attribute__((constructor)) static void open_shift(void) {
  const char *path = getenv("CLOCK_SHIFT");
  int descriptor = path ? open(path, O_RDONLY) : -1;
  void *mapped = descriptor < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped != MAP_FAILED) seconds = mapped;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, now);
  if (code == 0 && seconds && clock == CLOCK_REALTIME) now->tv_sec += *seconds;
  return code;
}
"""


@pytest.fixture
def clock(tmp_path):
    """Sets the clock of servers that are started with its environment."""
    source, library, shift = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "shift"
    source.write_text(SHIM)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler for the clock: {error}")

    class Clock:
        environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}

        @staticmethod
        def leap(hours):
            with open(shift, "r+b" if shift.exists() else "wb") as file:
                file.write(int(hours * 3600).to_bytes(8, "little", signed=True))
    Clock.leap(0)
    return Clock


def offsets(server):
    return [(row["_partition"], row["_offset"], row["_ingested_at"])
            for row in server.query("SELECT _partition, _offset, _ingested_at FROM _streams.orders ORDER BY ALL")]


def test_leaps_while_events_flow(tmp_path, clock):
    told = Told()
    shop = Project(tmp_path / "project", {"millstream.yaml": PROJECT})
    try:
        server = shop.server(extra_environment=clock.environment).start()
        producers = [Producer(server, told, name, random.Random(f"{SEED}{name}")) for name in "ab"]
        for producer in producers:
            producer.start()
        for hours in LEAPS_HOURS:
            time.sleep(0.5)
            clock.leap(hours)
        time.sleep(0.5)
        for producer in producers:
            producer.until.set()
        for producer in producers:
            producer.join()
        assert set(told.statuses) == {200}, told.statuses
        stamps = offsets(server)
        begun, ended = min(stamp for _, _, stamp in stamps), max(stamp for _, _, stamp in stamps)
        assert begun[:4] == ended[:4] == time.strftime("%Y", time.gmtime()), (begun, ended)  # stamps went on
        # A repeated event is known, whatever the clock says; retention by age has removed nothing.
        again = server.ingest("orders", [told.acknowledged[name] and {"id": name, "customer": "c0"} for name in list(told.acknowledged)[:5]])
        assert again["duplicates"] == 5
        check_all(shop, server, told)
        server.stop()

        # Starts under a wrong clock, both ways.
        for hours in (-87_600, 87_600):
            clock.leap(hours)
            server = shop.server(extra_environment=clock.environment).start()
            number = 1_000_000 + hours
            assert told.send(server, [{"id": f"leap{abs(hours)}{'-' if hours < 0 else '+'}-{number}", "customer": "c1", "amount": 1}]) == 200
            last = offsets(server)
            assert len(last) == len(told.acknowledged)
            if hours > 0:  # so the clock was another one
                assert max(stamp for _, _, stamp in last)[:4] == str(int(ended[:4]) + 10), last[-1]
            check_all(shop, server, told)
            server.kill()
        clock.leap(0)
        server = shop.server().start()
        check_all(shop, server, told)
        assert eventually(lambda: server.http("GET", "/health/ready").status == 200)
        server.stop()
        assert shop.verb("verify", "--log").code == 0
        print(f"{len(told.acknowledged)} acknowledged, stamps {begun} to {ended}; {threading.active_count()} threads")
    finally:
        shop.close()
