#!/usr/bin/python3
"""clang-tidy over src/, with the checks of .clang-tidy.

The build is GCC's; clang gets the include folders and definitions of its commands, and a precompiled header of its own. A file is not
run again if it, the headers of ours that it includes and the checks are as they were when it was clean. That is remembered in the
user's cache folder, like what ccache keeps, so that a new clone knows it too.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++20", "-march=x86-64-v2", "-Wall", "-Wextra"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream" / "lint.json"
REMEMBERED_MAX = 5_000
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
TESTS = re.compile(r"_(test|bench|fuzz)\.cc$")


def arguments_of(command):
    """Of a GCC command only where it looks for headers and what it defines."""
    words, kept = shlex.split(command), []
    for word, following in zip(words, words[1:] + [""]):
        if word.startswith(("-I", "-D")):
            kept.append(word)
        elif word == "-isystem":
            kept += [word, following]
    return kept


class Fingerprints:
    """Of a source file, its headers of ours, and the checks."""

    def __init__(self):
        self.checks = (ROOT / ".clang-tidy").read_bytes() + " ".join(FLAGS).encode()

    @functools.cache
    def digest(self, path):
        return hashlib.sha256(path.read_bytes()).digest()

    @functools.cache
    def headers(self, path):
        """What a file includes of ours, also by its headers."""
        included = [header for name in INCLUDE.findall(path.read_text()) if (header := ROOT / "src" / name).exists()]
        return frozenset(included).union(*map(self.headers, included))

    def of(self, path):
        whole = hashlib.sha256(self.checks)
        for each in [path, ROOT / "src/base/precompiled.h", *sorted(self.headers(path))]:
            whole.update(self.digest(each))
        return whole.hexdigest()


def remembered():
    """Fingerprints of clean files, the latest last."""
    try:
        return json.loads(CACHE.read_text())
    except (FileNotFoundError, ValueError):
        return []


def remember(marks):
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    unfinished = CACHE.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(list(dict.fromkeys(marks))[-REMEMBERED_MAX:]))
    unfinished.rename(CACHE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    folder = arguments.build.resolve() / "lint"
    folder.mkdir(exist_ok=True)
    commands = json.loads((arguments.build / "compile_commands.json").read_text())
    sources = {}
    for entry in commands:
        path = Path(entry["file"])
        if path.suffix == ".cc" and (ROOT / "src") in path.parents and path.name != "precompiled.cc" and not TESTS.search(path.name):
            sources[path] = arguments_of(entry["command"])

    fingerprints = Fingerprints()
    marks = {path: fingerprints.of(path) for path in sources}
    clean = set(remembered())
    changed = [path for path in sorted(sources) if marks[path] not in clean]
    if not changed:
        print(f"lint: ok, {len(sources)} files as in an earlier clean run")
        return

    precompiled = folder / "precompiled.pch"
    subprocess.run(["clang++-16", *FLAGS, "-Xclang", "-emit-pch", "-x", "c++-header", str(ROOT / "src/base/precompiled.h"),
                    "-o", str(precompiled)], check=True)
    (folder / "compile_commands.json").write_text(json.dumps([
        {"directory": str(ROOT), "file": str(path),
         "arguments": ["clang++-16", *FLAGS, "-include-pch", str(precompiled), *sources[path], "-c", str(path)]}
        for path in changed]))

    def run(path):
        return path, subprocess.run(["clang-tidy-16", "--quiet", "-p", str(folder), str(path)], capture_output=True, text=True)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for path, done in pool.map(run, changed):
            if done.returncode == 0:
                remember([*remembered(), marks[path]])
            else:
                failed += 1
                print(done.stdout + done.stderr, flush=True)
    print(f"lint: {failed} of {len(changed)} files have faults" if failed else f"lint: ok, {len(changed)} files")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
