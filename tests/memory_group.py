"""A memory cgroup of its own for a process that a test starts: version 1 or 2 of the controller, whichever is mounted and lets itself be used."""

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Refused(Exception):
    """Why no group can be made here."""


def _parent():
    """(version, folder) in which a group can be made."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update({name: path for name in controllers.split(",")})
    if (ROOT / "memory").is_dir():  # below our own group, whose limit holds on
        mine = ROOT / "memory" / own.get("memory", "/").lstrip("/")
        return 1, mine if mine.is_dir() else ROOT / "memory"
    if (ROOT / "cgroup.controllers").exists():
        if "memory" not in (ROOT / "cgroup.controllers").read_text().split():
            raise Refused("the memory controller is not available")
        with open(ROOT / "cgroup.subtree_control", "w") as control:
            control.write("+memory")
        return 2, ROOT
    raise Refused("no memory controller is mounted")


class MemoryGroup:
    """A context manager: the group is there at entry and gone at exit, by when its processes must have ended."""

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes

    def __enter__(self):
        try:
            self.version, parent = _parent()
            self.folder = parent / f"millstream-{os.getpid()}"
            self.folder.mkdir()
            self.write("memory.limit_in_bytes" if self.version == 1 else "memory.max", self.limit_bytes)
            with contextlib.suppress(OSError):  # no swap beside it, where that is counted
                self.write("memory.memsw.limit_in_bytes" if self.version == 1 else "memory.swap.max", self.limit_bytes if self.version == 1 else 0)
        except OSError as error:
            raise Refused(f"no memory cgroup can be made: {error}") from error
        return self

    def __exit__(self, *_):
        self.folder.rmdir()

    def write(self, name, value):
        (self.folder / name).write_text(str(value))

    def command(self, arguments):
        """What runs `arguments` within the group."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', self.folder / "cgroup.procs", *arguments]

    def _counts(self, name):
        return {key: int(value) for key, value in (line.split() for line in (self.folder / name).read_text().splitlines())}

    def kills(self):
        """Processes that the kernel has killed for memory."""
        return self._counts("memory.oom_control" if self.version == 1 else "memory.events")["oom_kill"]

    def resident_bytes(self):
        """Without the page cache, which is given back when it is asked for."""
        counts = self._counts("memory.stat")
        return counts["total_rss"] if self.version == 1 else counts["anon"]

    def peak_bytes(self):
        """With the page cache; None where the kernel does not keep it."""
        path = self.folder / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        return int(path.read_text()) if path.exists() else None
