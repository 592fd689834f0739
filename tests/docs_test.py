"""The documentation does what it says: its commands are run, in order, page by page, and what it shows printed is compared.

A page is README.md, a page of docs/, or the README.md of an example (run in a copy of the example's folder). Of its fenced blocks

    ```console      has commands, lines that begin with "$ " (a "\\" at the end goes on in the next), and below each what it prints on
                    stdout and stderr; with nothing below, only the exit code counts. A command that ends in "# exits with N" must do that.
                    In what is printed, "…" stands for any text within the line, and a line of "…" alone for any lines.
    ```yaml PATH    (or sql, python, json, … with a path) is the file PATH of the page's folder.

`millstream run` without --once goes on in the background until the page ends; its port is a free one, whatever the page says.
A block that is not run, though it holds commands, says why: <!-- not run: REASON --> on the line above it.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tools"))
import docs  # noqa: E402

REQUESTS = harness.ROOT / "docs" / "http.md"  # its requests stand in no order; the HTTP tests send them to every route
PAGES = sorted({harness.ROOT / "README.md", *harness.ROOT.glob("docs/*.md"), *harness.ROOT.glob("examples/*/README.md")} - {REQUESTS})
BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<kind>\S*) *(?P<path>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(\$ )?(build/)?(millstream|curl|make) ", re.MULTILINE)
DEFAULT_PORT = "8410"
COMMAND_SECONDS_MAX = 60


@dataclass
class Command:
    text: str
    printed: list
    line: int

    @property
    def exit_code(self):
        code = re.search(r"# exits with (\d+)$", self.text)
        return int(code.group(1)) if code else 0

    def serves(self):
        return bool(re.match(r"(\S*/)?millstream( -C \S+)? run\b", self.text)) and "--once" not in self.text


def commands_of(block, first_line):
    commands = []
    going_on = False
    for number, line in enumerate(block.splitlines(), first_line):
        if going_on:
            commands[-1].text += "\n" + line
        elif line.startswith("$ "):
            commands.append(Command(line[2:], [], number))
        else:
            commands[-1].printed.append(line)
        going_on = line.endswith("\\") and not (commands[-1].printed)
    return commands


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def matches(shown, printed):
    """Whether the lines that a page shows stand for those that were printed."""
    pattern = "\n".join("@ANY@" if line == "…" else re.escape(line.rstrip()).replace("…", "[^\n]*") for line in shown)
    pattern = pattern.replace("@ANY@\n", "(?:[^\n]*\n)*?").replace("\n@ANY@", "(?:\n[^\n]*)*").replace("@ANY@", "(?s:.*)")
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed)) is not None


class Session:
    """A page's folder, with `millstream` on PATH and the server that it may have started."""

    def __init__(self, folder, tools):
        self.folder, self.port, self.server = folder, str(harness.free_port()), None
        tools.mkdir()
        (tools / "millstream").symlink_to(harness.BINARY)
        if not (folder / "build").exists():
            (folder / "build").symlink_to(tools)
        self.environment = harness.environment({"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tools)})

    def at_free_port(self, text):
        return re.sub(rf"(127\.0\.0\.1|localhost):{DEFAULT_PORT}", rf"\1:{self.port}", text)

    def serve(self, command):
        log = open(self.folder.parent / "server.log", "wb")
        verb = re.sub(r" +#.*", "", command.text)
        self.server = subprocess.Popen(["bash", "-c", f"exec {verb} --listen 127.0.0.1:{self.port}"], cwd=self.folder,
                                       env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def ready():
            assert self.server.poll() is None, (self.folder.parent / "server.log").read_text()
            return subprocess.run(["curl", "-sf", f"http://127.0.0.1:{self.port}/health/ready"], capture_output=True).returncode == 0

        harness.eventually(ready)

    def run(self, command):
        if command.serves():
            self.serve(command)
            return
        done = subprocess.run(["bash", "-o", "pipefail", "-c", self.at_free_port(command.text)], cwd=self.folder, env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS_MAX)
        text = done.stdout.decode(errors="replace").replace(f":{self.port}", f":{DEFAULT_PORT}")
        assert done.returncode == command.exit_code, f"line {command.line}: {command.text}: exit code {done.returncode}\n{text}"
        if command.printed:
            assert matches(command.printed, text.rstrip("\n").split("\n")), \
                f"line {command.line}: {command.text}\nthe page shows\n" + "\n".join(command.printed) + f"\nbut it prints\n{text}"

    def close(self):
        if self.server and self.server.poll() is None:
            self.server.terminate()
            assert self.server.wait(harness.STOP_SECONDS_MAX) == 0


def name_of(page):
    return str(page.relative_to(harness.ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_shows_happens(page, tmp_path):
    folder = tmp_path / "page"
    if page.parent.parent.name == "examples":
        shutil.copytree(page.parent, folder, ignore=shutil.ignore_patterns(".millstream"))
    else:
        folder.mkdir()
    text = page.read_text()
    session = Session(folder, tmp_path / "tools")
    try:
        for block in BLOCK.finditer(text):
            if block["reason"]:
                continue
            if block["path"]:
                (folder / block["path"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / block["path"]).write_text(block["text"])
            if block["kind"] == "console":
                for command in commands_of(block["text"], line_of(text, block.start("text"))):
                    session.run(command)
    finally:
        session.close()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_commands_is_run_or_says_why_not(page):
    text = page.read_text()
    left_out = [f"{name_of(page)}:{line_of(text, block.start('text'))}" for block in BLOCK.finditer(text)
                if COMMAND.search(block["text"]) and block["kind"] not in ("console", "text") and not block["reason"]]
    assert left_out == []


@pytest.mark.parametrize("path", docs.pages(harness.BINARY), ids=lambda path: path.name)
def test_reference_pages_are_what_the_binary_says(path):
    assert path.read_text() == docs.pages(harness.BINARY)[path], "make docs writes it anew"


def test_what_is_shown_can_differ_from_what_is_printed():
    assert matches(["a … c", "…", "z"], ["a b c", "1", "2", "z"])
    assert matches(["a", "…"], ["a", "b"]) and matches(["…", "b"], ["a", "b"]) and matches(["…"], ["b", "c"])
    assert not matches(["a … d"], ["a b c"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "b"], ["a"])
