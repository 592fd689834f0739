#!/usr/bin/python3
"""clang-tidy over src/, with the checks of .clang-tidy.

The build is GCC's; clang gets the include folders and definitions of its commands, and a precompiled header of its own. A file whose
text, headers of ours and checks are as in an earlier clean run is not run again (build/lint/clean.json).
"""

import argparse
import concurrent.futures
import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++20", "-march=x86-64-v2", "-Wall", "-Wextra"]
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


def fingerprint(path, headers):
    digest = hashlib.sha256(headers)
    digest.update(path.read_bytes())
    return digest.hexdigest()


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

    headers = hashlib.sha256()
    for path in [ROOT / ".clang-tidy", Path(__file__), *sorted((ROOT / "src").rglob("*.h"))]:
        headers.update(path.read_bytes())
    remembered = folder / "clean.json"
    clean = set(json.loads(remembered.read_text())) if remembered.exists() else set()
    marks = {path: fingerprint(path, headers.digest()) for path in sources}
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
                clean.add(marks[path])
            else:
                failed += 1
                print(done.stdout + done.stderr, flush=True)
    remembered.write_text(json.dumps(sorted(clean & set(marks.values()))))
    print(f"lint: {failed} of {len(changed)} files have faults" if failed else f"lint: ok, {len(changed)} files")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
