"""Tests of check_floors.py, check_docs.py and test.py: each rule must be able to fail."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check_docs  # noqa: E402
import check_floors  # noqa: E402
import test as runner  # noqa: E402

ROOMS = """
room(base     LIBRARIES spdlog::spdlog PkgConfig::X)   # floor 0
room(event    USES base LIBRARIES PkgConfig::Y)        # floor 1; room(ghost USES base)
room(log      USES event)
room(sql      USES event LIBRARIES duckdb)
room(sinks    USES log)
"""


def make_tree(root, files):
    for name, text in {"cmake/rooms.cmake": ROOMS, "src/main.cc": '#include "sinks/a.h"\n', **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(check_floors.check_tree(root))


def test_rooms_are_read():
    assert check_floors.read_rooms(ROOMS) == {"base": [], "event": ["base"], "log": ["event"], "sql": ["event"], "sinks": ["log"]}


def test_a_clean_tree_has_no_faults(tmp_path):
    assert make_tree(tmp_path, {"src/sinks/a.cc": '#include "sinks/a.h"\n#include "base/b.h"\n#include <vector>\n',
                                "src/sql/d.cc": "#include <duckdb.h>\n"}) == []


def test_two_types_of_one_name_are_a_fault(tmp_path):
    faults = make_tree(tmp_path, {"src/event/a.h": "class Feed {\n};\nstruct Own final : public X {\n};\n",
                                  "src/log/b.cc": "namespace {\nclass Feed {\n};\n}  // namespace\nclass Feed;\n",
                                  "src/sql/c.h": "class Feed final {\n};\n"})
    assert faults == ["src/sql/c.h: Feed is defined in src/event/a.h too; give one another name"]


def test_includes_go_down_only(tmp_path):
    faults = make_tree(tmp_path, {"src/log/a.cc": '#include "event/e.h"\n#include "sinks/s.h"\n', "src/log/b.h": '#include "sql/q.h"\n'})
    assert [fault.split(";")[0] for fault in faults] == ["src/log/a.cc:2: log may not include sinks", "src/log/b.h:1: log may not include sql"]


def test_duckdb_stays_in_sql(tmp_path):
    assert make_tree(tmp_path, {"src/log/a.cc": "#include <duckdb.h>\n"}) == ["src/log/a.cc:1: duckdb.h may be included in src/sql/ alone"]


def test_unknown_rooms(tmp_path):
    faults = make_tree(tmp_path, {"src/attic/a.cc": "\n", "src/log/a.cc": '#include "attic/a.h"\n'})
    assert len(faults) == 2 and all("attic" in fault for fault in faults)


def test_long_files_and_words_for_later(tmp_path):
    word = "TO" + "DO"
    faults = make_tree(tmp_path, {"src/log/a.cc": "\n" * 501, "src/log/b.cc": f"// {word}: later\nchar t[] = \"/tmp/XXXXXX\";\n",
                                  "src/log/c.cc": "\n" * 500})
    assert faults == ["src/log/a.cc: 501 lines; at most 500", f"src/log/b.cc:1: '{word}' leaves work for later: do it now, or file an issue"]


def test_rooms_stand_on_lower_floors():
    assert len(list(check_floors.check_rooms({"a": ["b"], "b": []}))) == 1


def test_the_lockfile_names_no_host(tmp_path):
    assert len(make_tree(tmp_path, {"third_party/duckdb/package-lock.json": '{"resolved": "https://example"}'})) == 1


def test_links(tmp_path):
    (tmp_path / "b.md").write_text("# A heading: with `code`\n# Twice\n# Twice\n```\n# not one\n```\n")
    page = tmp_path / "a.md"
    page.write_text("[x](b.md#a-heading-with-code) [x](b.md#twice-1) [x](https://example.org/none) `[x](none.md)`\n"
                    "```\n[x](none.md)\n```\n[x](none.md)\n[x](b.md#not-one)\n[x](#here)\n")
    assert list(check_docs.check_page(page, tmp_path)) == [
        "a.md:5: none.md does not exist", "a.md:6: b.md has no heading #not-one", "a.md:7: a.md has no heading #here"]


def test_totals_count_each_kind_of_case(tmp_path):
    xml = tmp_path / "x.xml"
    xml.write_text('<testsuites><testsuite><testcase name="a" classname="S" status="run" result="completed"/>'
                   '<testcase name="b" classname="S" status="run" result="completed"><failure/></testcase>'
                   '<testcase name="c" classname="S" status="run" result="skipped"><skipped/></testcase>'
                   '<testcase name="d" classname="S" status="notrun" result="suppressed"/>'
                   '<testcase name="e" classname="S"><error/></testcase></testsuite></testsuites>')
    totals = runner.Totals()
    for case in runner.cases_of(xml):
        totals.add_case("room", case)
    assert totals.line() == "1 passed, 2 failed, 2 skipped"
    assert totals.failures == ["room: S.b", "room: S.e"]


def test_torn_results_are_none(tmp_path):
    (tmp_path / "torn.xml").write_text("<testsuites><testcase")
    assert runner.cases_of(tmp_path / "torn.xml") is None
    assert runner.cases_of(tmp_path / "missing.xml") is None


def test_verbs_in_pages_must_exist(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "reference-cli.md").write_text("## `millstream run`\n")
    page = tmp_path / "a.md"
    page.write_text("`millstream run --once`, `millstream -C x rum`, millstream is a binary\n```\n$ build/millstream walk\n```\n")
    assert list(check_docs.check_verbs(page, tmp_path, check_docs.verbs(tmp_path))) == [
        "a.md:1: there is no verb `millstream rum`", "a.md:3: there is no verb `millstream walk`"]


def test_the_project_itself_passes():
    for tool in ("check_floors.py", "check_docs.py"):
        done = subprocess.run([sys.executable, str(Path(__file__).parent / tool)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
