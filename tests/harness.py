"""Starts, asks, kills and stops the built binary, for the black-box tests beside this file.

    def test_rows_arrive(project):                          # the fixture of conftest.py
        shop = project({"millstream.yaml": "streams: …"})   # a folder of its own, removed after the test
        with shop.server() as server:                       # `millstream run`, waited for until it is ready
            answer = server.ingest("orders", [{"id": "a"}])
            rows = server.query("SELECT id FROM orders_table", wait=answer["position"])
            server.kill()                                   # as by kill -9
            server.start()
        shop.verb("query", "SELECT 1", "--format", "json")  # any verb, here without a server

Only Debian's Python and its packages. The binary is MILLSTREAM_BINARY, else build/millstream; every wait is stretched by
MILLSTREAM_SLOWNESS, for binaries under a sanitizer.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("MILLSTREAM_BINARY", ROOT / "build" / "millstream")).resolve()
SLOWNESS = int(os.environ.get("MILLSTREAM_SLOWNESS", 1))
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20 * SLOWNESS
VERB_SECONDS_MAX = 120 * SLOWNESS


def environment(extra=None):
    """What the binary sees: nothing of the caller's own Millstream settings, no colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_") or name == "MILLSTREAM_PLANT"}
    return {**kept, "NO_COLOR": "1", **(extra or {})}


def stretch():
    """By how much a time that is judged is longer than on a machine with nothing else to do: the build's slowness, and who else waits for
    the cores, over the last minute and now."""
    minute, _, _, runnable, _ = Path("/proc/loadavg").read_text().split()
    return SLOWNESS * max(1.0, float(minute) / os.cpu_count(), int(runnable.partition("/")[0]) / os.cpu_count())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(condition, seconds=30, every=0.05):
    """Calls `condition` until it gives something true, and returns that. An AssertionError counts as not yet."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        failure = None
        try:
            value = condition()
            if value:
                return value
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not within {seconds} s: {condition}")
        time.sleep(every)


def ndjson(events):
    return "".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in events).encode()


@dataclass
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)

    def lines(self):
        """An NDJSON body."""
        return [json.loads(line) for line in self.body.splitlines() if line]


@dataclass
class Done:
    """A verb that ended."""

    code: int
    stdout: str
    stderr: str

    def json(self):
        return json.loads(self.stdout)

    def lines(self):
        return [json.loads(line) for line in self.stdout.split("\n") if line]


class Server:
    """One `millstream run` of a project on a free port of loopback. A context manager: ready at entry, stopped at exit."""

    def __init__(self, project, *arguments, token=None, extra_environment=None):
        self.project, self.arguments, self.token = project, arguments, token
        self.extra_environment = extra_environment
        self.port = free_port()
        self.process = None
        self.stderr_path = project.folder.parent / f"{project.folder.name}.{self.port}.stderr"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        if self.process and self.process.poll() is None:
            self.stop(expect=None if kind else 0)

    def start(self, wait_ready=True):
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                [BINARY, "run", self.project.folder, "--listen", f"127.0.0.1:{self.port}", *self.arguments],
                stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL, env=environment(self.extra_environment))
        if wait_ready:
            self.wait_ready()
        return self

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def wait_ready(self, seconds=READY_SECONDS_MAX):
        def is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{self.stderr()[-4000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.http("GET", "/health/ready")
                assert answer.status == 200, f"not ready: {answer.body.decode()}"
                return True
        eventually(is_ready, seconds)

    def kill(self):
        """As kill -9: nothing is flushed or said goodbye to."""
        self.process.kill()
        self.process.wait()

    def stop(self, expect=0, seconds=STOP_SECONDS_MAX):
        """SIGTERM, and the end awaited. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end {seconds} s after SIGTERM:\n{self.stderr()[-4000:]}") from None
        assert expect is None or code == expect, f"exit code {code}:\n{self.stderr()[-4000:]}"
        return code

    def connection(self, timeout=60):
        """A keep-alive connection of its own, for tests that send more than one request on it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def http(self, method, path, body=None, headers=None, timeout=60):
        """One request. A body that is not bytes goes as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        with contextlib.closing(self.connection(timeout)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def ingest(self, stream, events, headers=None, expect=200):
        """POSTs events as NDJSON (bytes as they are) and returns the answer's JSON."""
        body = events if isinstance(events, bytes) else ndjson(events)
        answer = self.http("POST", f"/v1/streams/{stream}/events", body, {"Content-Type": "application/x-ndjson", **(headers or {})})
        assert answer.status == expect, (answer.status, answer.body)
        return answer.json()

    def query(self, sql, expect=200, **options):
        """The rows of a query as dictionaries; `options` as in POST /v1/query: params, wait, timeout."""
        answer = self.http("POST", "/v1/query", {"sql": sql, **options})
        assert answer.status == expect, (answer.status, answer.body)
        return answer.json()["rows"] if expect == 200 else answer.json()

    def metrics(self):
        """Series -> value, as /metrics prints them."""
        lines = self.http("GET", "/metrics").body.decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and not line.startswith("#")}


class Project:
    """A project folder, and the verbs in it."""

    def __init__(self, folder, files):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.servers = []
        self.write(files)

    def write(self, files):
        """Path -> text (or bytes), relative to the folder."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    @property
    def data(self):
        return self.folder / ".millstream"

    def server(self, *arguments, **options):
        server = Server(self, *arguments, **options)
        self.servers.append(server)
        return server

    def verb(self, *arguments, stdin=None, expect=0, extra_environment=None):
        """Runs `millstream ARGUMENTS` in the folder. `expect` is the exit code, or None for any."""
        done = subprocess.run([BINARY, *map(str, arguments)], cwd=self.folder, env=environment(extra_environment),
                              input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
                              capture_output=True, timeout=VERB_SECONDS_MAX)
        done = Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        assert expect is None or done.code == expect, f"{arguments}: exit code {done.code}\n{done.stdout}\n{done.stderr}"
        return done

    def close(self):
        for server in self.servers:
            if server.process and server.process.poll() is None:
                server.kill()
