"""`millstream ingest` that a signal ends: while a request of its is not answered, and while nothing comes on standard input."""

import contextlib
import http.server
import re
import signal
import subprocess
import threading

import pytest

from harness import BINARY, SLOWNESS, environment, eventually, ndjson

PROJECT = """streams:
  orders: {partitions: 2, contract: {id: varchar}, key: id}
pipelines:
  kept: {from: orders, to: {table: {name: orders}}}
"""
EVENTS = 30_000  # three pieces and a bit
END_SECONDS_MAX = 20 * SLOWNESS


def count(server):
    return server.query("SELECT count(*) AS n, count(DISTINCT id) AS d FROM _streams.orders")


@contextlib.contextmanager
def in_between(server, answered):
    """Hands requests on to the server; the first `answered` POSTs are answered, the next is taken and gets no answer."""
    held, over = threading.Event(), threading.Event()
    posts = []

    class Between(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")}
            answer = server.http(self.command, self.path, body or None, headers)
            if self.command == "POST":
                posts.append(answer.json())
                if len(posts) > answered:
                    held.set()
                    over.wait()
                    self.close_connection = True
                    return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = pass_on

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between) as between:
        thread = threading.Thread(target=between.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{between.server_address[1]}", held, posts
        finally:
            over.set()
            between.shutdown()
            thread.join()


@contextlib.contextmanager
def ingest(shop, *arguments):
    verb = subprocess.Popen([BINARY, *arguments], cwd=shop.folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield verb
    finally:
        verb.kill()
        verb.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("answered", [0, 1])
def test_a_signal_ends_an_ingest_that_gets_no_answer(project, number, answered):
    shop = project({"millstream.yaml": PROJECT, "many.ndjson": ndjson({"id": f"{n}", "text": "x" * 80} for n in range(EVENTS))})
    with shop.server() as server:
        with in_between(server, answered) as (url, held, posts), ingest(shop, "--server", url, "ingest", "orders", "many.ndjson") as verb:
            assert held.wait(END_SECONDS_MAX)
            verb.send_signal(number)
            said = verb.communicate(timeout=END_SECONDS_MAX)[1].decode()
        assert verb.returncode == 130, (verb.returncode, said)
        acknowledged = sum(post["accepted"] for post in posts[:answered])
        summary, *told = said.splitlines()
        assert f" {acknowledged:,} accepted" in summary, said
        reached = f"after {acknowledged:,} events" if answered else "before events"
        assert re.fullmatch(rf"millstream: interrupted {reached} of many\.ndjson.*; the same command goes on where it stopped", "".join(told)), said
        taken = sum(post["accepted"] for post in posts)
        assert acknowledged < taken < EVENTS and count(server) == [{"n": taken, "d": taken}], "it was to end within the file"
        again = shop.verb("ingest", "orders", "many.ndjson").stderr
        assert f"going on after {taken:,} events" in again, again
        assert count(server) == [{"n": EVENTS, "d": EVENTS}], "each once, also what had been taken and not answered"


def test_a_signal_ends_an_ingest_that_waits_for_stdin(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server, ingest(shop, "ingest", "orders", "-") as verb:
        verb.stdin.write(ndjson([{"id": "a"}]) + b'{"id":')
        verb.stdin.flush()
        eventually(lambda: count(server) == [{"n": 1, "d": 1}])
        verb.send_signal(signal.SIGINT)
        assert verb.wait(END_SECONDS_MAX) == 130
        assert verb.stderr.read().decode().splitlines()[-1] == "millstream: interrupted after 1 event of stdin"
        assert count(server) == [{"n": 1, "d": 1}], "half an event is none"
