"""Runs the built binary in projects made for a benchmark, and takes its wall time, CPU time and largest memory."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass

MIB = 1 << 20
DUCKDB_MEMORY_MIB = 512
READY_SECONDS_MAX = 60

CONTRACT = """
    contract:
      id: varchar not null
      type: varchar
      customer: varchar
      amount: decimal(12,2)
      ts: timestamptz"""
TWO_FILTERS = """
      - placed: SELECT * FROM input WHERE type = 'order.placed'
      - gross: SELECT id, customer, round(amount * 1.1, 2) AS gross FROM input WHERE amount > 50"""


@dataclass
class Usage:
    seconds: float
    cpu_seconds: float
    peak_mib: float


def project_text(sink, filters=TWO_FILTERS, contract=CONTRACT, source=""):
    return f"""server:
  memory: {DUCKDB_MEMORY_MIB}MiB
streams:
  orders:
    partitions: 2
    key: customer{contract}
{source}pipelines:
  p:
    from: orders
    filters:{filters}
    to:
      - {sink}
"""


class Project:
    """A project in a folder of its own."""

    def __init__(self, binary, folder, text):
        self.binary, self.folder = binary, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "millstream.yaml").write_text(text)
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}, "NO_COLOR": "1"}

    def verb(self, *arguments):
        """Runs a verb to its end. RuntimeError with its stderr if it fails."""
        began = time.monotonic()
        stderr = self.folder / "stderr"
        with open(stderr, "wb") as out:
            process = subprocess.Popen([self.binary, *map(str, arguments)], cwd=self.folder, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"millstream {arguments[0]} ended with {process.returncode}:\n{stderr.read_text()[-2000:]}")
        return Usage(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    @contextlib.contextmanager
    def server(self):
        """`millstream run`, ready; stopped by SIGTERM at the end."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with open(self.folder / "stderr", "wb") as out:
            process = subprocess.Popen([self.binary, "run", self.folder, "--listen", f"127.0.0.1:{port}"],
                                       env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out)
        running = Server(process, port)
        try:
            running.wait_ready()
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Server:
    def __init__(self, process, port):
        self.process, self.port = process, port

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5):
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not become ready")
            time.sleep(0.02)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
