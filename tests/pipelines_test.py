"""Runs the text cases of tests/pipelines/ with `millstream test`. tests/pipelines/README.md describes their form."""

import json
from pathlib import Path

import pytest

import harness

CASES = sorted((Path(__file__).resolve().parent / "pipelines").glob("*.test"))
CASE = """A case.

=== project
streams:
  orders: {contract: {id: varchar not null, n: bigint}}
pipelines:
  p: {from: orders, filters: [{f: "SELECT id, n FROM input"}], to: [{table: kept}]}

=== events orders
{"id":"a","n":1}
{"n":2}

=== rows SELECT id, n FROM kept ORDER BY id
ROWS
=== dead orders
ingest contract line 2: *
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_pipeline(case, project):
    done = project().verb("test", case, expect=None)
    assert done.code == 0, done.stdout + done.stderr


def test_a_case_can_fail(project):
    """The runner itself: a wrong row is told with its line, a missing one too, and no folder is left."""
    row = '{"id":"a","n":1}\n'
    for rows, code in [(row, 0), ("", 1), ('{"id":"a","n":2}\n', 1), (row + row, 1), ('{"id":"a"*\n', 0)]:
        shop = project({"tests/x.test": CASE.replace("ROWS\n", rows + "\n"), "millstream.yaml": "streams: {}", "scratch/.keep": ""})
        done = shop.verb("test", "--json", expect=code, extra_environment={"TMPDIR": str(shop.folder / "scratch")})
        answer = done.lines()
        assert len(answer) == 1 and answer[0]["passed"] == (code == 0)
        if code == 1:
            assert "x.test:13: === rows" in answer[0]["reason"] and '{"id":"a","n":1}' in answer[0]["reason"]
        assert [path.name for path in (shop.folder / "scratch").iterdir()] == [".keep"]
    shop.write({"tests/x.test": CASE.replace("=== dead", "=== deed")})
    assert "x.test:15: no section 'deed'" in shop.verb("test", expect=1).stdout
    assert "no case 'y'" in shop.verb("test", "tests", "y", expect=1).stderr


PROJECT = """
streams:
  orders:
    partitions: 2
    key: id
    envelope: {type: kind}
    contract: {id: varchar not null, n: bigint, kind: varchar}
pipelines:
  p:
    from: orders
    filters:
      - f: SELECT id, n, ce_type AS kind, CASE WHEN n = 13 THEN error('thirteen') ELSE n * 2 END AS twice FROM input
    to:
      - table: {name: newest, key: id}
      - table: {name: sums, key: kind, values: {n: count(*), total: sum(twice)}}
  q:
    from: orders
    to:
      - drop: {}
"""


def test_a_recorded_case_holds_until_the_filter_changes(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", [{"id": f"o{n % 9}", "n": n, "kind": "ab"[n % 2]} for n in range(60)])
        case = shop.verb("test", "--record", "p", "--last", 100).stdout
        assert "3 in all" not in case and "60 in all" in case
        short = shop.verb("test", "--record", "p", "--last", 10).stdout
        assert short.count('"specversion"') == 10
        plain = shop.verb("test", "--record", "q", "--last", 4).stdout
    # Against the live tables, which have seen just these events.
        kinds = server.query("SELECT kind, n, total FROM sums ORDER BY ALL")
    assert [json.dumps(row, separators=(",", ":")) for row in kinds] == [
        line for line in case.splitlines() if line.startswith('{"kind"') and '"total"' in line]
    assert sum(1 for line in case.splitlines() if line.startswith("p.f sql orders/")) == 2, "once for each sink"
    shop.write({"tests/p.test": case, "tests/short.test": short, "tests/q.test": plain})
    assert "3 of 3 cases passed" in shop.verb("test").stdout
    shop.write({"tests/p.test": case.replace("n * 2", "n * 3")})
    failed = shop.verb("test", expect=1).stdout
    assert "FAILED p.test" in failed and "2 of 3 cases passed" in failed
    assert "no pipeline" in shop.verb("test", "--record", "nothing", expect=1).stderr
