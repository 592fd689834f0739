"""Runs the text cases of tests/pipelines/ against the built binary. tests/pipelines/README.md describes their form.

Each case gets a folder of its own and drives the command line alone, without a server, as a user's cron job would.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harness import SLOWNESS

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("MILLSTREAM_BINARY", str(ROOT / "build" / "millstream"))
CASES = sorted((ROOT / "tests" / "pipelines").glob("*.test"))
SECTION = re.compile(r"^=== (\w+) ?(.*)$")
KINDS = {"project", "file", "append", "events", "run", "rows", "dead", "output", "check", "fails"}
STEP_SECONDS_MAX = 60 * SLOWNESS
DEAD_LIMIT = "1000"


class Section:
    def __init__(self, kind, argument, line):
        self.kind, self.argument, self.line = kind, argument, line
        self.lines = []

    def text(self):
        """The section's lines; blank ones at its end only separate it from the next."""
        lines = list(self.lines)
        while lines and not lines[-1].strip():
            lines.pop()
        return lines


def read_case(path):
    """The sections of a case. What stands before the first is a comment."""
    sections = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        match = SECTION.match(line)
        if match:
            assert match.group(1) in KINDS, f"{path.name}:{number}: no section '{match.group(1)}'; there are {sorted(KINDS)}"
            sections.append(Section(match.group(1), match.group(2).strip(), number))
        elif sections:
            sections[-1].lines.append(line)
    assert sections and sections[0].kind == "project", f"{path.name}: begins with === project"
    return sections


def lines_of(text):
    return text.rstrip("\n").split("\n") if text.strip() else []


def matches(expected, actual):
    """Equal, or equal up to an asterisk at the end of the expected line."""
    return actual.startswith(expected[:-1]) if expected.endswith("*") else actual == expected


class Runner:
    def __init__(self, case, folder):
        self.case, self.folder = case, folder

    def millstream(self, *arguments, stdin="", codes=(0,)):
        # LC_ALL: nothing may depend on the caller's language; no colours in pipes anyway.
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run([BINARY, *arguments], cwd=self.folder, input=stdin.encode(), capture_output=True,
                              timeout=STEP_SECONDS_MAX, env=environment)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode in codes, f"millstream {shlex.join(arguments)}: exit code {done.returncode}\n{err}{out}"
        return out, err

    def expect(self, section, actual):
        expected = section.text()
        same = len(expected) == len(actual) and all(map(matches, expected, actual))
        if not same:
            shown = "\n".join(["expected:", *expected, "got:", *actual])
            pytest.fail(f"{self.case.name}:{section.line}: === {section.kind} {section.argument}\n{shown}", pytrace=False)

    def run(self, section):
        getattr(self, "do_" + section.kind)(section)

    def do_project(self, section):
        (self.folder / "millstream.yaml").write_text("\n".join(section.lines) + "\n")

    def do_file(self, section):
        path = self.folder / section.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(section.text()) + "\n")

    def do_append(self, section):
        with (self.folder / section.argument).open("a") as file:
            file.write("\n".join(section.text()) + "\n")

    def do_events(self, section):
        stream, *options = shlex.split(section.argument)
        # Refused events are exit code 1 only under --strict.
        self.millstream("ingest", stream, "-", *(options or ["--format", "ndjson"]), stdin="\n".join(section.text()) + "\n")

    def do_run(self, section):
        self.millstream("run", "--once")

    def do_rows(self, section):
        out, _ = self.millstream("query", section.argument, "--format", "ndjson")
        self.expect(section, lines_of(out))

    def do_dead(self, section):
        out, _ = self.millstream("dead", "list", section.argument, "--json")
        answer = json.loads(out)
        letters = answer if isinstance(answer, list) else answer.get("letters", answer.get("items"))
        actual = []
        for letter in sorted(letters, key=lambda letter: letter["number"]):
            reason = f"{letter['path']}: {letter['reason']}" if letter.get("path") else letter["reason"]
            actual.append(f"{letter['at']} {letter['code']} {letter['event']}: {reason}")
        self.expect(section, actual)

    def do_output(self, section):
        path = self.folder / section.argument
        self.expect(section, lines_of(path.read_text()) if path.exists() else ["(no such file)"])

    def do_check(self, section):
        out, err = self.millstream("check", codes=(0, 1))
        self.expect(section, lines_of(out + err))

    def do_fails(self, section):
        """=== fails CODE VERB…: the lines are what it says."""
        code, *arguments = shlex.split(section.argument)
        out, err = self.millstream(*arguments, codes=(int(code),))
        self.expect(section, lines_of(out + err))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_pipeline(case, tmp_path):
    runner = Runner(case, tmp_path)
    for section in read_case(case):
        runner.run(section)


def test_a_case_can_fail(tmp_path):
    """The runner itself: a wrong row is told with its line, a missing one too."""
    runner = Runner(Path("x.test"), tmp_path)
    section = Section("rows", "SELECT 1", 7)
    section.lines = ['{"a":1}', ""]
    runner.expect(section, ['{"a":1}'])
    for actual in ([], ['{"a":2}'], ['{"a":1}', '{"a":1}']):
        with pytest.raises(pytest.fail.Exception, match="x.test:7"):
            runner.expect(section, actual)
