"""The example of docs/adding-a-stage.md is the one that src/sinks/example_test.cc compiles and runs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding-a-stage.md").read_text()
SOURCE = (ROOT / "src" / "sinks" / "example_test.cc").read_text()


def between(begin, end):
    return SOURCE.split(begin + "\n", 1)[1].split(end, 1)[0].strip("\n")


def code_blocks():
    return [block.strip("\n") for block in re.findall(r"^```cpp\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


def test_the_sink_is_the_compiled_one():
    assert between("// docs: begin", "// docs: end") in code_blocks()


def test_its_test_is_the_one_that_runs():
    assert between("// docs: test begin", "// docs: test end") in code_blocks()


def test_the_list_has_the_lines_that_the_page_shows():
    header = (ROOT / "src" / "sinks" / "sinks.h").read_text()
    assert "#define MILLSTREAM_SINKS(SINK)" in header and "MILLSTREAM_SINKS" in PAGE
