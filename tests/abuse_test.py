"""Clients that mean ill, all at once, beside one that does not: the latter's answers stay quick and the server's memory bounded."""

import contextlib
import gzip
import multiprocessing
import random
import socket
import threading
import time

from harness import SLOWNESS, eventually, stretch
from shop import SHOP, post
from sizes import SEED, size

P99_SECONDS_MAX = 0.1
GROWTH_MIB_MAX = 64 + 2 * 16  # two bodies of 16 MiB are under way, as anybody may send them
PAUSE_SECONDS, WARM_SECONDS = 0.02, 4
IDLE = 600  # of the 1,024 connections that are allowed
HEAD = b"POST /v1/streams/notes/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SMUGGLED = [
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
]


def resident_mib(server):
    return int(next(line for line in open(f"/proc/{server.process.pid}/status") if line.startswith("VmRSS")).split()[1]) / 1024


class Abuse:
    """Each kind is a thread that connects again and again until the end."""

    def __init__(self, port, seconds):
        self.port, self.until, self.done = port, time.monotonic() + seconds, {}
        self.bombed = gzip.compress(b'{"a":"' + b"x" * (300 << 20) + b'"}', compresslevel=9)
        kinds = [self.slow_head, self.slow_body, self.endless_chunks, self.bomb, self.many_headers, self.smuggle, self.half_closed, self.noise]
        self.threads = [threading.Thread(target=self.again, args=(kind,), daemon=True) for kind in kinds for _ in range(2)]

    def again(self, kind):
        rng = random.Random(f"{SEED} {kind.__name__}")
        while time.monotonic() < self.until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                kind(connection, rng)
            time.sleep(PAUSE_SECONDS)  # all that there is to do must not be the abusers' own work
            self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1

    def drip(self, connection, text, every):
        for at in range(len(text)):
            if time.monotonic() > self.until:
                return
            connection.sendall(text[at:at + 1])
            time.sleep(every)

    def slow_head(self, connection, _rng):
        self.drip(connection, HEAD, 0.05)

    def slow_body(self, connection, _rng):
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        self.drip(connection, b'{"a":"' + b"x" * 990, 0.05)

    def endless_chunks(self, connection, _rng):
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while time.monotonic() < self.until:
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            time.sleep(0.02)

    def bomb(self, connection, _rng):
        connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(self.bombed) + self.bombed)
        connection.recv(4096)
        time.sleep(0.2)

    @staticmethod
    def many_headers(connection, _rng):
        connection.sendall(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n")
        connection.recv(4096)

    @staticmethod
    def smuggle(connection, rng):
        connection.sendall(rng.choice(SMUGGLED))
        connection.recv(4096)

    @staticmethod
    def half_closed(connection, _rng):
        connection.sendall(post("/v1/streams/notes/events", b'{"a":1}'))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)

    @staticmethod
    def noise(connection, rng):
        connection.sendall(rng.randbytes(rng.randrange(1, 4000)))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)


def abuse(port, seconds, started, done):
    """A process of its own, so that what is measured is the server and not this interpreter's lock."""
    made = Abuse(port, seconds)
    made.until = time.monotonic() + seconds
    started.set()
    for thread in made.threads:
        thread.start()
    for thread in made.threads:
        thread.join(seconds + 15)
    done.put(made.done)


def test_a_legitimate_client_beside_all_abuse(project):
    seconds = size("abuse_seconds")
    with project({"millstream.yaml": SHOP}).server() as server:
        connection = server.connection()

        def ask(number):
            began = time.monotonic()
            connection.request("POST", "/v1/streams/orders/events", b'{"id":"o%d","customer":"c","amount":1}' % number, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            return time.monotonic() - began
        number, before, most = 0, 0, 0
        warm = time.monotonic() + WARM_SECONDS
        while time.monotonic() < warm:
            ask(number)
            number += 1
            before = max(before, resident_mib(server))
        held = []
        for _ in range(IDLE):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        started, answers = multiprocessing.Event(), multiprocessing.Queue()
        process = multiprocessing.Process(target=abuse, args=(server.port, seconds, started, answers))
        process.start()
        started.wait()
        took, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            took.append(ask(number))
            number += 1
            most = max(most, resident_mib(server))
            time.sleep(0.01)
        done = answers.get(timeout=seconds + 30)
        process.join()
        for each in held:
            each.close()
        took.sort()
        p99 = took[len(took) * 99 // 100]
        print(f"seed {SEED}: {len(took)} answers, p99 {1000 * p99:.1f} ms, most {1000 * took[-1]:.1f}; {before:.0f} MiB before, at most {most:.0f}; {done}")
        assert all(done.get(kind) for kind in ("bomb", "many_headers", "smuggle", "half_closed", "noise")), done
        assert p99 < P99_SECONDS_MAX * stretch()
        assert most < before + GROWTH_MIB_MAX * SLOWNESS
        eventually(lambda: server.query("SELECT count(*) AS n FROM all_orders")[0]["n"] == number)
