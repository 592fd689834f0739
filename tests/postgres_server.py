"""A PostgreSQL server of a test's own: Debian's, in a temporary folder, on a free port of loopback; and a proxy before it that breaks things.

PostgreSQL does not run as root; then its user is Debian's `postgres`.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from harness import free_port

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class PostgresServer:
    """A context manager: runs at entry, is gone at exit."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="postgres"))
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.port = free_port()
        self._run("initdb", "-D", "data", "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_):
        self.stop(check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program, *arguments, check=True):
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        with open(self.folder / "log", "ab") as log:
            subprocess.run([*user, BINARIES / program, *arguments], cwd=self.folder, check=check, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self):
        self._run("pg_ctl", "-D", "data", "-w", "-l", self.folder / "data" / "log", "-o", f"-k {self.folder} -h 127.0.0.1 -p {self.port}", "start")

    def stop(self, mode="immediate", check=True):
        self._run("pg_ctl", "-D", "data", "-w", "stop", "-m", mode, check=check)

    def url(self, port=None):
        return f"postgresql://test:pass-w0rd@127.0.0.1:{port or self.port}/postgres"

    def query(self, sql):
        """Rows as tuples of text; a NULL is None."""
        done = subprocess.run([BINARIES / "psql", self.url(), "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", "-P", "null=\x1e", "-c", sql],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [tuple(None if value == "\x1e" else value for value in line.split("\x1f")) for line in done.stdout.splitlines()]


class Proxy:
    """Stands between a client and a server. `lose_commits`: so many times the reply to a COMMIT is lost, the server's work not;
    `hang`: nothing is passed on any more; `drip`: a few bytes at a time."""

    def __init__(self, port):
        self.target, self.lose_commits, self.lost, self.hang, self.drip = port, 0, 0, False, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        for each in [self.listener, *self.sockets]:
            each.close()

    def reset(self):
        """Every connection ends at once, in the midst of whatever is under way (RST)."""
        sockets, self.sockets = self.sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD)  # wakes the thread that waits for it
                each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            self.sockets += [client, server]
            pair = {"commits": False}
            threading.Thread(target=self._pass, args=(client, server, pair, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, pair, False), daemon=True).start()

    def _pass(self, source, sink, pair, from_client):
        try:
            while data := source.recv(1 << 16):
                while self.hang:
                    threading.Event().wait(0.05)
                if from_client and b"COMMIT\0" in data and self.lose_commits > 0:
                    self.lose_commits -= 1
                    pair["commits"] = True
                elif not from_client and pair["commits"]:
                    self.lost += 1  # the server has answered; the client never hears of it
                    break
                while data and self.drip:
                    sink.sendall(data[:7])
                    data = data[7:]
                    threading.Event().wait(0.001)
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
