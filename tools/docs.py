#!/usr/bin/python3
"""Writes the reference pages of docs/ from what the binary says of itself; --check only says which of them differ.

docs/reference-yaml.md is `millstream reference`, docs/reference-cli.md the help of every verb. The options that every verb takes stand once,
at the top.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
GENERATED = "<!-- Written by `make docs`; change what the binary says instead. -->\n\n"
ABOUT_CLI = """# The command line

`millstream help VERB` prints the same.

"""


def printed(binary, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return subprocess.run([binary, *arguments], check=True, capture_output=True, text=True,
                          env={**environment, "NO_COLOR": "1"}).stdout


def verbs_below(help_text):
    """The names under "Verbs", in their order; lines that go on are indented further."""
    listed = re.search(r"^Verbs\n((?:  .*\n?)+)", help_text, re.MULTILINE)
    return re.findall(r"^  (\S+)", listed.group(1), re.MULTILINE) if listed else []


def without_common_options(help_text):
    text = re.sub(r"^Everywhere\n(?:  .*\n)*", "", help_text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def section(level, title, text):
    return f"{'#' * level} `{title}`\n\n```text\n{text}\n```\n\n"


def command_line_page(binary):
    whole = printed(binary, "--help")
    page = GENERATED + ABOUT_CLI + section(2, "millstream", whole.strip("\n"))
    for verb in verbs_below(whole):
        text = printed(binary, verb, "--help")
        page += section(2, f"millstream {verb}", without_common_options(text))
        for below in verbs_below(text):
            page += section(3, f"millstream {verb} {below}", without_common_options(printed(binary, verb, below, "--help")))
    return page.rstrip("\n") + "\n"


def pages(binary):
    """Path -> what it must hold."""
    return {
        DOCS / "reference-yaml.md": GENERATED + printed(binary, "reference"),
        DOCS / "reference-cli.md": command_line_page(binary),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page differs")
    arguments = parser.parse_args()
    differ = {path: text for path, text in pages(arguments.binary.resolve()).items()
              if not path.exists() or path.read_text() != text}
    for path, text in differ.items():
        print(f"docs: {path.name} {'differs; make docs writes it' if arguments.check else 'written'}")
        if not arguments.check:
            path.write_text(text)
    if not differ:
        print("docs: the reference pages are what the binary says")
    sys.exit(1 if arguments.check and differ else 0)


if __name__ == "__main__":
    main()
