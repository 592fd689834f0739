"""HTTP itself: framing, smuggling shapes, slow clients, limits of connections, the orderly stop."""

import http.client
import json
import resource
import signal
import socket
import threading
import time

import pytest

from harness import eventually
from shop import SHOP, Feed, Raw, post

NOTES = "/v1/streams/notes/events"
HEAD = b"POST /v1/streams/notes/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW_SQL = "SELECT sum(a.i * b.i) AS s FROM range(1000000) a(i), range(1000000) b(i)"


def test_stop_ends_feeds_and_answers(shop):
    feed = Feed(shop, "/v1/streams/notes/events?follow=true")
    tap = Feed(shop, "/v1/tap?at=stream:notes")
    started = time.monotonic()
    assert shop.stop() == 0
    assert time.monotonic() - started < 10
    assert feed.answer.read() == b""  # whole: with its last chunk
    feed.close()
    tap.close()


def test_many_requests_on_one_connection(shop):
    connection = shop.connection()
    for i in range(200):
        connection.request("POST", "/v1/streams/notes/events", json.dumps({"n": i}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        assert answer.getheader("Millstream-Data")
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 200}]


def test_garbage_harms_nobody(shop):
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5"):
        with socket.create_connection(("127.0.0.1", shop.port), timeout=5) as connection:
            connection.sendall(garbage)
    assert shop.http("GET", "/health/live").status == 200


@pytest.mark.parametrize("request_bytes", [
    HEAD + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 7\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}',
    HEAD + b"Content-Length: 7\r\nContent-Length: 8\r\n\r\n" + b'{"a":1}',
    HEAD + b"Content-Length: 7, 7\r\n\r\n" + b'{"a":1}',
    HEAD + b"Content-Length: +7\r\n\r\n" + b'{"a":1}',
    HEAD + b"Content-Length: 0x7\r\n\r\n" + b'{"a":1}',
    HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x7\r\n" + b'{"a":1}\r\n0\r\n\r\n',
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n7\n" + b'{"a":1}\r\n0\r\n\r\n',
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n-7\r\n" + b'{"a":1}\r\n0\r\n\r\n',
    HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    HEAD + b"Host: localhost\r\nContent-Length: 0\r\n\r\n",
    HEAD.replace(b"Host: localhost\r\n", b"") + b"Content-Length: 0\r\n\r\n",
    HEAD.replace(b"Host: localhost", b"Host: localhost@evil.example") + b"Content-Length: 0\r\n\r\n",
])
def test_shapes_that_two_servers_may_read_differently_end_the_connection(shop, request_bytes):
    with Raw(shop) as connection:
        connection.send(request_bytes + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.until_closed()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1, answer
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 0}]


def test_pipelined_and_chunked_requests_are_answered_in_order(shop):
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\n{\"a\r\n4\r\n\":2}\r\n0\r\nTrailer: x\r\n\r\n"
    last = b"GET /v1/tables/nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with Raw(shop) as connection:
        connection.send(post(NOTES, b'{"a":1}') + chunked + post(NOTES, b'{"a":3}') + last)
        answers = connection.until_closed()
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]
    assert [row["a"] for row in shop.query("SELECT data->>'$.a' AS a FROM _streams.notes ORDER BY _offset")] == ["1", "2", "3"]


def test_a_client_that_expects_is_told_to_go_on(shop):
    body = b'{"a":1}'
    with Raw(shop) as connection:
        connection.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert b'"accepted":1' in connection.until(b"faults")
    with Raw(shop) as connection:  # a body that is refused need not be sent
        connection.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert connection.until(b"\r\n").startswith(b"HTTP/1.1 413 ")
    with Raw(shop) as connection:
        connection.send(HEAD.replace(b"application/json", b"text/plain") + b"Expect: 100-continue\r\nContent-Length: 7\r\n\r\n")
        assert connection.until(b"\r\n").startswith(b"HTTP/1.1 415 ")


def test_heads_and_bodies_beyond_their_limits(shop):
    for too_long in (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 17000 + b"\r\n\r\n", b"GET /" + b"a" * 17000):
        with Raw(shop) as connection:
            connection.send(too_long)
            assert b"HTTP/1.1 431 " in connection.until(b"limits: header")
    chunks = b"400000\r\n" + b"1" * 0x400000 + b"\r\n"
    with Raw(shop) as connection:
        connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = b""
        try:
            for _ in range(5):
                connection.send(chunks)
        except OSError:
            pass  # refused before all was sent
        answer = connection.until_closed()
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer
    assert shop.http("GET", "/health/live").status == 200


def test_slow_clients_are_told_and_harm_nobody(shop):
    answers = {}

    def read(name, first):
        with Raw(shop) as connection:
            connection.send(first)
            answers[name] = connection.until_closed()

    beginnings = {"head": b"GET /health/live HTTP/1.1\r\nHost: lo", "body": HEAD + b"Content-Length: 100\r\n\r\n{", "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n7\r\n{"}
    threads = [threading.Thread(target=read, args=item) for item in beginnings.items()]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert shop.http("POST", NOTES, {"a": 1}).status == 200
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 25  # 10 s each, at once
    for name, answer in answers.items():
        assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"slow_client"' in answer, (name, answer)


def test_a_client_that_sends_no_more_is_answered(shop):
    with Raw(shop) as connection:
        connection.send(post(NOTES, b'{"a":1}'))
        connection.socket.shutdown(socket.SHUT_WR)
        assert b'"accepted":1' in connection.until_closed()


def test_more_connections_than_the_limit_are_turned_away(project):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with project({"millstream.yaml": SHOP + "server:\n  limits: {connections: 20}\n"}).server() as server:
        held = [Raw(server) for _ in range(20)]
        time.sleep(0.2)
        with Raw(server) as connection:
            answer = connection.until_closed()
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in answer and b'"code":"unavailable"' in answer, answer
        for each in held:
            each.socket.close()
        assert eventually(lambda: server.http("GET", "/health/live").status == 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:  # a shell's usual limit of open files does not bound the connections
        with project({"millstream.yaml": SHOP}, name="files").server() as server:
            for line in open(f"/proc/{server.process.pid}/limits"):
                if line.startswith("Max open files") and hard > 2048:
                    assert int(line.split()[3]) > 2048, line
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stop_finishes_what_is_under_way(shop):
    body = json.dumps({"text": "x" * 1000}).encode()
    with Raw(shop) as connection:
        request = post(NOTES, body)
        connection.send(request[:-500])
        time.sleep(0.3)
        started = time.monotonic()
        shop.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", shop.port), timeout=2)
        connection.send(request[-500:])
        answer = connection.until_closed()
        assert answer.startswith(b"HTTP/1.1 200 ") and b"Connection: close" in answer, answer
    assert shop.process.wait(10) == 0 and time.monotonic() - started < 10
    shop.start()
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 1}]


def test_a_stop_does_not_wait_for_a_long_query_and_a_second_signal_ends_at_once(shop):
    def ask():
        with Raw(shop) as connection:
            connection.send(post("/v1/query", json.dumps({"sql": SLOW_SQL}).encode()))
            connection.until_closed()

    for again in (False, True):
        shop.http("POST", NOTES, {"a": 1})
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        shop.process.send_signal(signal.SIGTERM)
        if again:
            time.sleep(0.3)
            shop.process.send_signal(signal.SIGTERM)
            assert shop.process.wait(10) == 130 and time.monotonic() - started < 2
        else:
            assert shop.process.wait(15) == 0 and time.monotonic() - started < 10
        thread.join()
        shop.start()
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 2}]


def processor_seconds(server):
    fields = open(f"/proc/{server.process.pid}/stat").read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_an_idle_server_costs_next_to_nothing(shop):
    held = [http.client.HTTPConnection("127.0.0.1", shop.port) for _ in range(300)]
    for connection in held:
        connection.request("GET", "/health/live")
        connection.getresponse().read()
    feeds = [Feed(shop, "/v1/streams/orders/events?follow=true") for _ in range(20)]
    time.sleep(1)
    before = processor_seconds(shop)
    time.sleep(5)
    assert processor_seconds(shop) - before < 0.15  # 3 %
    for connection in held + feeds:
        connection.close()
