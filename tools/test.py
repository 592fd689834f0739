#!/usr/bin/python3
"""Runs the tests of one build folder and ends with one line: N passed, N failed, N skipped.

GoogleTest programs run through ctest, one ctest test a room; their cases are counted from the XML that they write. A program that
fails without a failed case (a crash, a time-out, a sanitizer's report at exit) counts as one failed case. The Python tests named
after --python run too, on the binary of that build; --slowness stretches their time-outs for builds that are slower. A race that
ThreadSanitizer reports, in whichever process of a test, counts as one failed case however often it was seen.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM_SECONDS_MAX = 900
NO_TESTS_COLLECTED = 5  # pytest's exit code


class Totals:
    def __init__(self):
        self.passed = self.skipped = 0
        self.failures = []  # "room: Suite.Case"

    def add_case(self, group, case):
        name = f"{group}: {case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            self.failures.append(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun" or case.get("result") == "skipped":
            self.skipped += 1
        else:
            self.passed += 1

    def line(self):
        return f"{self.passed} passed, {len(self.failures)} failed, {self.skipped} skipped"


def cases_of(path):
    """The test cases of a JUnit-like XML file; None if it is missing or torn."""
    try:
        return list(ElementTree.parse(path).getroot().iter("testcase"))
    except (FileNotFoundError, ElementTree.ParseError):
        return None


def sanitizer_environment(build):
    suppressions = ROOT / "tools" / "sanitizers"
    return {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
        "LSAN_OPTIONS": f"suppressions={suppressions}/leak.txt:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        # Of DuckDB's locks and unlocks only those are seen that are inline functions which the linker took from our objects, so
        # that locks seem to be held for ever or never to have been taken.
        "TSAN_OPTIONS": f"suppressions={suppressions}/thread.txt:report_mutex_bugs=0:detect_deadlocks=0:"
                        f"log_path={build}/results/race",
    }


def fixed_addresses():
    """ThreadSanitizer of GCC 12 cannot run under the address randomisation of newer kernels; this prefix switches it off."""
    prefix = ["setarch", os.uname().machine, "-R"]
    works = shutil.which("setarch") and subprocess.run(prefix + ["true"], stderr=subprocess.DEVNULL).returncode == 0
    return prefix if works else []


def run_gtest(build, jobs, rooms, totals):
    results = build / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    environment = {**sanitizer_environment(build), **os.environ, "GTEST_OUTPUT": f"xml:{results}/"}
    ctest = ["ctest", "--test-dir", str(build)]
    if rooms:
        ctest += ["--tests-regex", f"^({'|'.join(rooms)})$"]
    subprocess.run(
        fixed_addresses() + ctest + ["-j", str(jobs), "--output-on-failure", "--timeout", str(PROGRAM_SECONDS_MAX),
                                     "--output-junit", str(results / "ctest.junit")], env=environment)
    listing = json.loads(subprocess.check_output(ctest + ["--show-only=json-v1"]))
    programs = {test["name"]: Path(test["command"][0]).name for test in listing["tests"] if "command" in test}
    outcomes = {case.get("name"): case for case in cases_of(results / "ctest.junit") or []}
    for room in [test["name"] for test in listing["tests"]]:
        failures_before = len(totals.failures)
        for case in cases_of(results / f"{programs.get(room)}.xml") or []:
            totals.add_case(room, case)
        ended_well = room in outcomes and outcomes[room].get("status") == "run"
        if not ended_well and len(totals.failures) == failures_before:
            totals.failures.append(f"{room}: the program failed, though none of its cases did (crash, time-out, sanitizer)")


def run_pytest(build, jobs, paths, slowness, totals):
    junit = build / "results" / "pytest.junit"
    environment = {**sanitizer_environment(build), **os.environ, "MILLSTREAM_BINARY": str(build / "millstream"),
                   "MILLSTREAM_SLOWNESS": str(slowness)}
    workers = jobs + 1 if slowness == 1 else jobs  # a fifth of their time is waiting
    code = subprocess.run(
        fixed_addresses() +
        [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-p", "no:cacheprovider", "--junitxml", str(junit), *paths],
        cwd=ROOT, env=environment).returncode
    if code == NO_TESTS_COLLECTED:
        return
    failures_before = len(totals.failures)
    for case in cases_of(junit) or []:
        totals.add_case("python", case)
    if code != 0 and len(totals.failures) == failures_before:
        totals.failures.append(f"python: pytest ended with exit code {code}")


def add_races(build, totals):
    reports = {}  # summary: each report
    for path in sorted((build / "results").glob("race.*")):
        for report in path.read_text(errors="replace").split("=" * 18 + "\n"):
            if summary := re.search("^SUMMARY: (.*)", report, re.MULTILINE):
                reports.setdefault(summary[1], []).append(report)
    for summary, seen in reports.items():
        print(seen[0])
        totals.failures.append(f"{summary} (seen {len(seen)} times)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help="build folder")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rooms", nargs="+", default=[], metavar="ROOM", help="the test programs of these rooms alone")
    parser.add_argument("--python", nargs="+", default=[], metavar="PATH", help="Python tests, as pytest takes them")
    parser.add_argument("--slowness", type=int, default=1, help="the Python tests wait so many times as long")
    arguments = parser.parse_args()
    build = arguments.build.resolve()

    totals = Totals()
    run_gtest(build, arguments.jobs, arguments.rooms, totals)
    if arguments.python:
        run_pytest(build, arguments.jobs, arguments.python, arguments.slowness, totals)
    add_races(build, totals)
    for failure in totals.failures:
        print(f"FAILED {failure}")
    (build / "results" / "totals.json").write_text(
        json.dumps({"passed": totals.passed, "failed": len(totals.failures), "skipped": totals.skipped}))
    print(totals.line(), flush=True)
    sys.exit(1 if totals.failures else 0)


if __name__ == "__main__":
    main()
