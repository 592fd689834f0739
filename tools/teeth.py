#!/usr/bin/python3
"""Proves that the suites can fail: each planted bug (src/base/planted.h) turns its suites red, and without one they are green.

    teeth.py --build build [--programs] [BUG …]

MILLSTREAM_PLANT turns one bug on in the test programs and in the binary millstream_planted. --programs: only the suites that are test programs, which take
seconds. Ends with one line a bug and suite, and exit code 1 if a bug was not found or a suite is red without one.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 300
CRASH_STATES = ["log_test", "--gtest_filter=CrashStatesTest.*"]
SIMULATOR = ["pipeline_test", "--gtest_filter=Simulator.HoldsInEveryHistory"]
HOT_CHANGE = ["pytest", "tests/hot_change_test.py"]
SUITES = {  # bug: the suites that must find it
    "ack_early": [CRASH_STATES, SIMULATOR],
    "skip_fsync": [CRASH_STATES, SIMULATOR],
    "no_dirsync": [CRASH_STATES, SIMULATOR],
    "truncate_mid": [["log_test", "--gtest_filter=DamageTest.*"]],
    "offset_before_rows": [["sinks_test", "--gtest_filter=*RotatedFile*"]],
    "dup_on_retry": [["sinks_test", "--gtest_filter=*RotatedFile*"]],
    "lost_on_swap": [["pipeline_test", "--gtest_filter=ChangeTest.VersionsTakeOverWhileEventsFlow"]],
    "stale_plan": [SIMULATOR, HOT_CHANGE],
    "checksum_off": [["log_test", "--gtest_filter=DamageTest.*"]],
    "dedupe_forgets": [SIMULATOR, ["pytest", "tests/golden_folder_test.py"]],
    "order_by_scan": [["pytest", "tests/fault_signal_test.py"]],
    "batch_cut_matters": [SIMULATOR, ["pytest", "tests/property_test.py", "-k", "1-1"]],
    "backup_in_place": [["log_test", "--gtest_filter=BackupTest.*"]],
    "sandbox_leaks": [["pytest", "tests/sandbox_test.py", "-k", "nothing_leaves"]],
}


def planted():
    text = (ROOT / "src/base/planted.h").read_text()
    return re.findall(r"BUG\((\w+)\)", text)


def run(build, suite, bug):
    """"green", "red", or "late": it did not end, which proves nothing."""
    environment = {**os.environ, "MILLSTREAM_BINARY": str(build / "millstream_planted")}
    environment.pop("MILLSTREAM_PLANT", None)
    if bug:
        environment["MILLSTREAM_PLANT"] = bug
    program, *arguments = suite
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"] if program == "pytest" else [build / program]
    done = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)
    try:
        said = done.communicate(timeout=SECONDS_MAX)[0]
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)  # the servers that it has started too
        done.communicate()
        return "late"
    if bug is None and done.returncode != 0:
        sys.stdout.write(said.decode(errors="replace")[-4000:])
    return "green" if done.returncode == 0 else "red"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--programs", action="store_true", help="only suites that are test programs")
    parser.add_argument("bugs", nargs="*")
    options = parser.parse_args()
    build = options.build.resolve()
    names = planted()
    assert sorted(names) == sorted(SUITES), sorted(set(names) ^ set(SUITES))
    chosen = [(bug, suite) for bug in options.bugs or names for suite in SUITES[bug] if not options.programs or suite[0] != "pytest"]
    wrong = 0
    for suite in sorted({tuple(suite) for _, suite in chosen}):
        colour = run(build, suite, None)
        wrong += colour != "green"
        print(f"{colour:6} without a bug        {' '.join(suite)}", flush=True)
    for bug, suite in chosen:
        began = time.monotonic()
        colour = run(build, suite, bug)
        wrong += colour != "red"
        print(f"{ {'green': 'MISSED', 'red': 'found', 'late': 'LATE'}[colour]:6} {bug:20} {' '.join(suite)}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len({bug for bug, _ in chosen})} planted bugs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
