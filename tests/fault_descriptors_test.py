"""Out of descriptors, by a real limit on the running process: what needs a new file or connection waits or is refused, nothing ends, nothing is lost, and all
goes on by itself once there are some again."""

import contextlib
import http.client
import json
import resource
import time

from faults import PROJECT, Told, check_all
from harness import SLOWNESS, eventually, ndjson

BACK_SECONDS_MAX = 5
SHORT_SECONDS = 4  # longer than tables wait for more rows, so that they are written meanwhile


class Kept:
    """A connection that was there before descriptors ran out."""

    def __init__(self, server):
        self.connection = server.connection(timeout=20)
        self.ask("GET", "/health/live")

    def ask(self, method, path, body=None, kind="application/json"):
        self.connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def send(self, told, batch):
        status, _ = self.ask("POST", "/v1/streams/orders/events", ndjson(batch), "application/x-ndjson")
        told.record("acknowledged" if status == 200 else "unknown", batch, status)
        return status


@contextlib.contextmanager
def no_descriptors(process):
    """The process keeps what it has and gets no more: the numbers below the limit are those of its standard streams."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def is_answered(server, seconds):
    """Whether a new connection gets an answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.http("GET", "/health/live", timeout=seconds).status == 200
    return False


def test_what_has_its_descriptors_goes_on_and_the_rest_comes_back(project):
    shop, told = project({"millstream.yaml": PROJECT}), Told()
    with shop.server() as server:
        producer, reader = Kept(server), Kept(server)
        assert producer.send(told, [{"id": f"before-{i}", "customer": f"c{i % 3}", "amount": i} for i in range(50)]) == 200
        eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == 50)
        with no_descriptors(server.process):
            statuses, begin, number = set(), time.monotonic(), 0
            while time.monotonic() - begin < SHORT_SECONDS:
                statuses.add(producer.send(told, [{"id": f"short-{number}-{i}", "customer": f"c{i}", "amount": i} for i in range(5)]))
                number += 1
                status, body = reader.ask("POST", "/v1/query", b'{"sql": "SELECT count(*) AS n FROM all_orders"}')
                assert status == 200, body
                time.sleep(0.02)
            assert statuses <= {200, 503, 507}
            degraded = [pipeline for pipeline in json.loads(reader.ask("GET", "/v1/status")[1])["pipelines"] if pipeline["state"] != "live"]
            print(statuses, degraded)
            assert server.process.poll() is None, f"exit code {server.process.returncode}: {server.stderr()}"
            assert reader.ask("GET", "/health/live")[0] == 200
            assert not is_answered(server, 0.5), "a new connection was taken"
        begin = time.monotonic()
        eventually(lambda: is_answered(server, 1), BACK_SECONDS_MAX)
        assert producer.send(told, [{"id": "after-0", "customer": "c0", "amount": 1}]) == 200
        eventually(lambda: server.http("GET", "/health/ready").status == 200, BACK_SECONDS_MAX)
        acknowledged = len(told.acknowledged)
        eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] >= acknowledged, BACK_SECONDS_MAX)
        assert time.monotonic() - begin < BACK_SECONDS_MAX * SLOWNESS
        check_all(shop, server, told)
        for kept in (producer, reader):
            kept.connection.close()
        server.kill()
        server.start()
        check_all(shop, server, told)
