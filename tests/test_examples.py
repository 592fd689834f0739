"""Each folder of examples/ is checked, run once over a copy of itself, and answers its queries as written down.

examples/NAME/queries/Q.sql is asked after the run; what it answers must be examples/NAME/queries/Q.csv.
"""

import shutil

import pytest

import harness

EXAMPLES = sorted(path.parent for path in (harness.ROOT / "examples").glob("*/millstream.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example, project, tmp_path):
    shutil.copytree(example, tmp_path / "copy", ignore=shutil.ignore_patterns(".millstream"))
    copy = project(name="copy")
    copy.verb("check")
    copy.verb("run", "--once")
    for query in sorted(example.glob("queries/*.sql")):
        answer = copy.verb("query", f"@queries/{query.name}", "--format", "csv")
        assert answer.stdout.splitlines() == query.with_suffix(".csv").read_text().splitlines(), query.name  # CSV ends lines with CR LF
