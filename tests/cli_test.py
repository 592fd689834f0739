"""The command line as a user meets it: what each verb prints, where, and with which exit code."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from harness import BINARY, environment  # noqa: E402

ORDERS = """streams:
  orders:
    partitions: 1
    contract:
      id: varchar not null
      amount: decimal(12,2) check (amount >= 0)
pipelines:
  revenue:
    from: orders
    filters:
      - gross: SELECT id, amount, round(amount * 1.2, 2) AS gross FROM input
    to: {table: {name: revenue, key: id}}
"""
EVENTS = '{"id":"a","amount":1.50}\n{"id":"b","amount":2}\n{"id":"c","amount":"much"}\n'


def plain(text):
    """Text without what differs from run to run: times, rates, sizes, versions."""
    text = re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "TIME", text)
    text = re.sub(r"[\d.]+ s, [\d.,]+( M)?/s", "SECONDS, RATE", text)
    return text


def terminal(arguments, folder, seconds=60, until=None):
    """Runs a verb on a terminal of its own, with SIGINT once it has shown `until`. Returns (exit code, what it showed)."""
    child, screen = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update({**environment(), "TERM": "xterm"})
        os.environ.pop("NO_COLOR", None)
        os.execv(BINARY, [str(BINARY), *map(str, arguments)])
    got, deadline, is_sent = b"", time.monotonic() + seconds, False
    try:
        while time.monotonic() < deadline:
            if select.select([screen], [], [], 0.1)[0]:
                try:
                    piece = os.read(screen, 65536)
                except OSError:
                    piece = b""
                if not piece:
                    break
                got += piece
            if until and until in got and not is_sent:
                os.kill(child, signal.SIGINT)
                is_sent = True
    finally:
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(screen)
    return code, got.decode(errors="replace")


@pytest.fixture
def shop(project):
    """A project whose data folder holds two orders and a dead letter; no server runs."""
    made = project({"millstream.yaml": ORDERS, "orders.ndjson": EVENTS})
    made.verb("ingest", "orders", "orders.ndjson")
    return made


def test_help_of_every_verb_has_examples_and_fits_a_terminal(project):
    here = project({})
    overview = here.verb("help").stdout
    names = re.findall(r"^  ([a-z]+) ", overview.split("Verbs\n")[1].split("\nEverywhere")[0], re.M)
    assert {"init", "demo", "check", "run", "ingest", "query", "tap", "top", "completion", "help"} <= set(names)
    for name in names:
        text = here.verb("help", name).stdout
        assert text.startswith(f"millstream {name} - ") and "\nExamples\n  " in text, name
        for line in here.verb(name, "--help").stdout.splitlines():
            assert len(line) <= 80 or line.startswith("  millstream") or line.startswith(("  kcat", "  source")), line


def test_usage_errors_name_the_nearest_and_exit_2(project):
    here = project({})
    for arguments, said in {
        (): "Usage: millstream VERB",
        ("inti",): "millstream: no verb 'inti'; did you mean 'init'?\n",
        ("run", "--onc"): "millstream: no option '--onc'; did you mean '--once'?\n`millstream help run` shows its use\n",
        ("query",): "millstream: SQL is required\n",
        ("pipeline",): "millstream: pipeline: expected list, show, pause, resume, skip\n",
        ("pipeline", "lst"): "millstream: no verb 'pipeline lst'; expected list, show, pause, resume, skip\n",
        ("query", "SELECT 1", "--format", "xml"): "millstream: --format xml: expected table, json, ndjson or csv\n",
        ("ingest", "s", "f", "--format", "xml"): "millstream: --format xml: expected ndjson, json or csv\n",
        ("top", "--color", "red"): "millstream: --color red: expected auto, always or never\n",
        ("help", "tabel"): "millstream: no help for 'tabel'; did you mean 'table'?\n",
        ("completion", "fish"): "millstream: completion for 'fish'? expected bash or zsh\n",
        ("filter", "show", "gross"): "millstream: 'gross' names no filter; expected PIPELINE.FILTER\n",
    }.items():
        done = here.verb(*arguments, expect=2)
        assert said in done.stderr and done.stdout == "", arguments


def test_a_kind_of_later_says_what_to_do_today(project):
    done = project({}).verb("help", "kafka")
    assert "not there yet in this version" in done.stdout and "kcat -C" in done.stdout and "millstream ingest" in done.stdout


def test_version_names_the_libraries(project):
    here = project({})
    lines = here.verb("version").stdout.splitlines()
    assert re.fullmatch(r"millstream \d+\.\d+\.\d+", lines[0])
    libraries = here.verb("version", "--json").json()["libraries"]
    assert {"duckdb", "boost", "simdjson", "curl", "openssl", "lz4", "zstd"} <= set(libraries)
    assert [line.split() for line in lines[1:]] == [[name, version] for name, version in libraries.items()]
    assert all(version for version in libraries.values())


def test_completion_in_a_real_bash(project):
    script = f"""PATH={BINARY.parent}:$PATH; source <(millstream completion bash)
try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _millstream; echo "${{COMPREPLY[*]}}"; }}
try millstream in; try millstream -C shop pipeline p; try millstream ingest --st; try millstream query --format ''; try millstream help ex"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines() == ["init ingest", "pause", "--strict", "table json ndjson csv", "exec"]
    assert done.stderr == ""


def test_init_prints_steps_that_work_from_where_one_stands(project):
    here = project({})
    steps = [line.strip() for line in here.verb("init", "shop").stdout.splitlines() if line.startswith("  millstream")]
    assert steps[0] == "millstream run shop" and len(steps) == 4
    for step in steps[1:]:
        subprocess.run(["bash", "-ec", f"PATH={BINARY.parent}:$PATH; {step}"], cwd=here.folder, check=True,
                       env=environment(), capture_output=True)
    assert here.verb("init", "shop", expect=1).stderr == "millstream: shop is not empty; give the name of a new folder\n"


def test_check_prints_every_fault_with_its_place(project):
    here = project({
        "millstream.yaml": ORDERS.replace("decimal(12,2) check (amount >= 0)", "decmal(12,2)").replace(
            "SELECT id, amount, round(amount * 1.2, 2) AS gross FROM input", "filters/gross.sql"),
        "filters/gross.sql": "SELECT *, ammount * 1.1 AS gross FROM input\n"})
    done = here.verb("check", expect=1)
    assert done.stdout == (
        "millstream.yaml:6:15: streams.orders.contract.amount: unknown type 'decmal(12,2)'; did you mean 'decimal(12,2)'?\n"
        "filters/gross.sql:1:11: pipelines.revenue.filters.gross: no column 'ammount'; input has id, amount\n"
        "    SELECT *, ammount * 1.1 AS gross FROM input\n"
        "              ^~~~~~~\n"
        "2 faults in 2 files; peers not asked (--connect)\n")
    faults = here.verb("check", "--json", expect=1).json()["faults"]
    assert [(fault["file"], fault["line"], fault["column"]) for fault in faults] == [
        ("millstream.yaml", 6, 15), ("filters/gross.sql", 1, 11)]
    here.write({"millstream.yaml": ORDERS})
    assert here.verb("check").stdout == "ok: 1 stream, 0 sources, 1 pipeline, 1 table\n"


@pytest.mark.parametrize("text, said", [
    ("streams:\n  a: {}\n  a: {}\n", "millstream.yaml:3:3: key 'a' stands twice in one map; first on line 2"),
    ("streams: {a: {key: [x}}\n", "put a value that holds '{', '[' or ',' in quotes"),
    ("streams: {a: {}}\npipelines:\n  p:\n    from: a\n    filters:\n      - f: SELECT 1 AS x FROM input # why\n    to: drop\n",
     "YAML cuts plain text at ' #'"),
    ("streams: {a: {}}\nsources:\n  k: {from: {kafka: {}}, to: a}\n", "kcat -C -b BROKER -t TOPIC | millstream ingest STREAM -"),
])
def test_traps_of_yaml_get_a_sentence(project, text, said):
    assert said in project({"millstream.yaml": text}).verb("check", expect=1).stdout


def test_ingest_into_a_stream_that_rejects(project):
    """With and without a server: the faults, exit code 1, and nothing of what was refused."""
    strict = "streams:\n  orders:\n    on_violation: reject\n    contract: {id: varchar not null, amount: integer}\n"
    bad = '{"id":"a","amount":1}\n{"amount":"x"}\n{"id":"c","amount":"much"}\n'
    said = []
    for with_server in (False, True):
        here = project({"millstream.yaml": strict, "bad.ndjson": bad, "good.ndjson": '{"id":"g"}\n', "bad.csv": "id,amount\na,1\nb,x\n"})
        with here.server() if with_server else contextlib.nullcontext():
            refused = here.verb("ingest", "orders", "bad.ndjson", expect=1)
            lines = refused.stderr.splitlines()
            assert "bad.ndjson: 3 read, 0 accepted" in lines[0]
            said.append(lines[1:])
            assert "  bad.csv#3: /amount: " in here.verb("ingest", "orders", "bad.csv", expect=1).stderr
            assert "  line 2: /id: " in here.verb("ingest", "orders", stdin=bad, expect=1).stderr
            here.verb("ingest", "orders", "good.ndjson")
            assert here.verb("query", "SELECT data->>'id' AS id FROM _streams.orders", "--format", "csv").stdout.split() == ["id", "g"]
            assert here.verb("dead", "list", "orders").stdout.count("\n") <= 1
    assert said[0] == said[1] == [
        "millstream: 2 of 3 events are at fault; nothing of the request was appended",
        "  bad.ndjson#2: /id: id is missing, but the contract says not null",
        '  bad.ndjson#2: /amount: "x" is not integer',
        '  bad.ndjson#3: /amount: "much" is not integer',
    ]


def test_run_and_apply_tell_all_faults_at_once_as_check_does(project):
    here = project({"millstream.yaml": "streams: {a: {contract: {id: varchr}}}\npipelines:\n  p:\n    from: a\n    filters:\n"
                                       "      - f: SELECT id, count(*) AS n FROM input\n    to: stdout\n"})
    for arguments in (["check"], ["run", "--once"], ["apply", "--yes"], ["plan"]):
        done = here.verb(*arguments, expect=1)
        said = done.stdout + done.stderr
        assert "did you mean 'varchar'?" in said and "the aggregate count_star over `input`" in said, (arguments, said)


def test_descriptions_say_what_to_use(shop):
    said = shop.verb("query", "DESCRIBE revenue", expect=1).stderr
    assert "SELECT * FROM TABLE LIMIT 1" in said and "millstream table show TABLE" in said
    said = shop.verb("query", 'SELECT * FROM revenue WHERE id = "a"', expect=1).stderr
    assert said.count("a text stands in single quotes: 'a'") == 1 and "did you mean" not in said


def test_a_source_into_a_stream_that_rejects(project):
    """A source has nobody to refuse: `check` says so, and what is bad becomes a dead letter."""
    here = project({"millstream.yaml": "streams:\n  orders: {on_violation: reject, contract: {id: varchar not null}}\n"
                                       "sources:\n  old:\n    from: {file: old.ndjson}\n    to: orders\n",
                    "old.ndjson": '{"id":"a"}\n{"x":1}\n'})
    checked = here.verb("check")
    assert ("millstream.yaml:6:9: sources.old.to: stream 'orders' has 'on_violation: reject', and a source has nobody to refuse; what breaks the "
            "contract becomes a dead letter: `millstream dead list` shows it") in checked.stdout + checked.stderr
    here.verb("run", "--once")
    assert here.verb("query", "SELECT data->>'id' AS id FROM _streams.orders", "--format", "csv").stdout.split() == ["id", "a"]
    assert "old.ndjson#2" in here.verb("dead", "list", "orders").stdout


def test_ingest_and_query_without_a_server(project):
    here = project({"millstream.yaml": ORDERS, "orders.ndjson": EVENTS})
    done = here.verb("ingest", "orders", "orders.ndjson")
    assert plain(done.stderr) == ("orders.ndjson: 3 read, 2 accepted, 1 quarantined (millstream dead list orders), "
                                  "SECONDS, RATE, durable at orders/0:1\n")
    assert done.stdout == ""
    assert here.verb("query", "SELECT id, gross FROM revenue ORDER BY id").stdout == "id  gross\na    1.80\nb    2.40\n"
    sql = "SELECT id, gross FROM revenue ORDER BY id"
    assert here.verb("query", sql, "--format", "csv").stdout == "id,gross\na,1.80\nb,2.40\n".replace("\n", "\r\n")
    assert here.verb("query", sql, "--format", "ndjson").stdout == '{"id":"a","gross":1.80}\n{"id":"b","gross":2.40}\n'
    assert here.verb("query", sql, "--json").json()["position"] == {"revenue": "orders/0:1"}
    assert here.verb("query", "-", "--param", "n=2", stdin="SELECT $n::INT + 1 AS x").stdout == "x\n3\n"
    assert plain(here.verb("dead", "list", "orders").stdout) == (
        "N  TIME  AT      CODE      EVENT            REASON\n"
        '0  TIME  ingest  contract  orders.ndjson#3  /amount: "much" is not decimal(12,2)\n'
        "1 of 1. millstream dead show orders 0\n").replace("TIME  AT", "TIME      AT")
    assert here.verb("dead", "show", "orders", "0", "--bytes").stdout == '{"id":"c","amount":"much"}\n'


def test_a_file_is_known(shop):
    assert "is in orders already" in shop.verb("ingest", "orders", "orders.ndjson").stderr
    again = shop.verb("ingest", "orders", "orders.ndjson", "--again", "--strict", "--json", expect=1).json()
    assert (again["read"], again["accepted"], again["quarantined"]) == (3, 2, 1)


def test_records_that_are_not_there_do_not_use_up_the_file(project):
    here = project({"millstream.yaml": ORDERS, "a.json": '{"entry":[{"id":"x"}]}'})
    done = here.verb("ingest", "orders", "a.json", "--records", "/entries/*", expect=1)
    assert done.stderr.endswith("millstream: a.json: nothing lies at /entries/* (--records)\n")
    assert "1 read, 1 accepted" in here.verb("ingest", "orders", "a.json", "--records", "/entry/*").stderr


def test_without_a_server_a_query_only_reads_and_says_how_far(shop):
    shop.verb("ingest", "orders", "--no-deliver", stdin='{"id":"d","amount":3}\n')
    done = shop.verb("query", "SELECT count(*) AS n FROM revenue")
    assert done.stdout == "n\n2\n" and "table revenue is 1 event behind stream orders" in done.stderr
    late = shop.verb("query", "SELECT 1 FROM revenue", "--wait", "orders/0:2", expect=4)
    assert "no server runs, so nothing is delivered meanwhile; reached orders/0:1" in late.stderr
    assert shop.verb("pipeline", "list").stdout == (
        "PIPELINE  STREAM  STATE    LAG  DEAD  SINKS\n"
        "revenue   orders  stopped    1     0  table:revenue\n")


def test_an_sql_error_shows_the_users_text_with_a_caret(shop):
    done = shop.verb("query", "SELECT nme FROM revenue", expect=1)
    assert done.stderr.endswith("    SELECT nme FROM revenue\n           ^~~\n") and done.stdout == ""
    assert shop.verb("query", "SELECT count(*) FROM range(10000000000) t(i) WHERE sqrt(i) = 2.5", "--timeout", "200ms",
                     expect=4).stderr == "millstream: the query took longer than its deadline\n"


def test_which_server(project, shop):
    nowhere = project({})
    none = {"MILLSTREAM_SERVER": "http://127.0.0.1:1"}
    assert "cannot reach http://127.0.0.1:1" in nowhere.verb("top", "--once", expect=3, extra_environment=none).stderr
    missing = shop.verb("-C", "nix", "query", "SELECT 1", expect=1)
    assert missing.stderr == "millstream: no millstream.yaml in nix; `millstream init nix` makes a project\n"
    assert "nothing flows: no server runs" in shop.verb("tap", "revenue", expect=3).stderr
    with shop.server() as server:
        done = shop.verb("query", "SELECT count(*) AS n FROM revenue", "--wait", "orders/0:1")
        assert done.stdout == "n\n2\n" and done.stderr == ""
        assert server.url in shop.verb("top", "--once").stdout


def test_a_server_of_other_data_is_an_error(shop):
    with shop.server():
        with open(shop.data / "lock", "r+") as lock:
            holder = json.load(lock)
            holder["uuid"] = "0" + holder["uuid"][1:] if holder["uuid"][0] != "0" else "1" + holder["uuid"][1:]
            lock.seek(0)
            lock.write(json.dumps(holder))
        assert "serves other data than this project's" in shop.verb("query", "SELECT 1", expect=1).stderr


def test_a_busy_folder_is_waited_for(shop):
    with open(shop.data / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write('{"pid":4242,"uuid":"","url":""}\n')
        lock.flush()
        begun = time.monotonic()
        done = shop.verb("query", "SELECT 1", expect=1)
        assert 4 < time.monotonic() - begun
        assert f"waiting for process 4242, which holds {shop.data}\n" in done.stderr
        assert f"the data folder {shop.data} is in use by process 4242" in done.stderr


def test_nouns_list_and_show(shop):
    assert re.sub(r"[\d.]+ (B|KiB)", "SIZE", shop.verb("stream", "list").stdout).split() == (
        "STREAM PARTITIONS EVENTS SIZE DEAD orders 1 2 SIZE 1".split())
    assert shop.verb("table", "list").stdout == (
        "TABLE    KEY  ROWS  WRITERS  POSITION\nrevenue  id      2  revenue  orders/0:1\n")
    assert shop.verb("stream", "show", "orders", "--yaml").stdout == (
        "streams:\n  orders:\n    partitions: 1\n    contract:\n      id: varchar not null\n      amount: decimal(12,2) check (amount >= 0)\n")
    assert shop.verb("filter", "show", "revenue.gross", "--yaml").stdout == (
        "pipelines:\n  revenue:\n    filters:\n      - gross: SELECT id, amount, round(amount * 1.2, 2) AS gross FROM input\n")
    assert shop.verb("show").stdout == shop.verb("show", "--yaml").stdout == ORDERS.replace("gross FROM input\n    to: {table: {name: revenue, key: id}}", "gross FROM input\n    to:\n      table:\n        name: revenue\n        key: id")
    assert list(shop.verb("show", "--json").json()) == ["streams", "pipelines"]
    assert "did you mean 'orders'?" in shop.verb("stream", "show", "ordes", expect=1).stderr
    for noun in ("stream", "source", "pipeline", "table", "command"):
        listed = shop.verb(noun, "list", "--json").json()
        assert [each["name"] for each in listed] == {"stream": ["orders"], "pipeline": ["revenue"], "table": ["revenue"]}.get(noun, []), (noun, listed)
        assert noun == "table" or all(list(each) == ["name", "definition", "status"] for each in listed), (noun, listed)
    assert shop.verb("stream", "list", "--json").json()[0]["status"]["events"] == 2
    filters = shop.verb("filter", "list", "--json").json()
    assert [(each["pipeline"], each["name"]) for each in filters] == [("revenue", "gross")] and "dead" in filters[0], filters
    assert shop.verb("pipeline", "pause", "revenue").stderr == "pipeline revenue: paused\n"
    assert "paused" in shop.verb("pipeline", "list").stdout
    assert "written by a pipeline" in shop.verb("table", "drop", "revenue", expect=1).stderr
    assert "did you mean 'orders'?" in shop.verb("log", "list", "ordes", expect=1).stderr
    assert shop.verb("log", "read", "orders", "--from", "orders/0:1").lines()[0]["data"] == {"id": "b", "amount": 2}
    assert shop.verb("verify", "--log").stdout == "0 damaged places\n"
    assert shop.verb("verify", "--json").json()["damage"] == []
    assert "varchar not null" in shop.verb("contract", "infer", "orders.ndjson").stdout


def test_verify_names_file_and_byte_of_damage(shop):
    segment = next((shop.data / "log" / "orders" / "0").glob("*.seg"))
    held = bytearray(segment.read_bytes())
    held[-3] ^= 0xFF
    segment.write_bytes(held)
    done = shop.verb("verify", "--log", expect=1)
    assert re.search(r"orders/0/\d+\.seg: byte \d+: ", done.stdout) and "1 damaged place" in done.stdout


def test_run_ends_with_0_at_ctrl_c_and_logs_on_stderr(shop):
    code, screen = terminal(["run", "--listen", "127.0.0.1:0"], shop.folder, until=b"ready")
    assert code == 0 and "http://127.0.0.1:" in screen and "stopped" in screen


def test_run_once_prints_a_summary(shop):
    done = shop.verb("run", "--once")
    assert done.stdout == "" and done.stderr.split()[:7] == "PIPELINE STREAM STATE IN OUT DEAD revenue".split()
    assert shop.verb("run", "--once", "-q").stderr == ""


def test_colours_and_progress_only_on_a_terminal(shop):
    assert "\033" not in shop.verb("top", "--once").stdout
    code, screen = terminal(["top"], shop.folder, until=b"revenue")
    assert code == 0 and "\033[H" in screen and "stopped" in screen
    # So many that it takes longer than the pause before a first progress line on any machine.
    many = b"".join(b'{"id":"k%d","amount":1}\n' % i for i in range(2_000_000))
    shop.write({"many.ndjson": many, "more.ndjson": b" " + many})
    code, screen = terminal(["ingest", "orders", "many.ndjson", "--no-deliver"], shop.folder)
    assert code == 0 and "2,000,000 read, 2,000,000 accepted" in screen and "\r\033[K" in screen and "left" in screen
    assert "\r" not in shop.verb("ingest", "orders", "more.ndjson", "--no-deliver").stderr


def test_demo_elsewhere_than_on_a_terminal_ends_with_0(project):
    done = project({}).verb("demo")
    said = done.stdout
    for part in ("1  Events arrive", "2  Filters work", "3  Tables answer", "4  A filter changes", "5  History runs", "6  The past answers", "7  How it runs", "/s"):
        assert part in said, part
    assert done.stderr == "" and "\033" not in said
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert re.search(r"~ pipelines\.activity\.filters\.named  live  from webhooks/\S+ on\n  commits were held for [\d.]+ ms", said), said
    # Each row is of the version that owns its offset: the new one's alone have the new column.
    (old, old_kinds), (new, new_kinds) = [map(int, found) for found in re.findall(r"^ +[12] +(\d+) +(\d+)$", said, re.MULTILINE)]
    assert old_kinds == 0 and new == new_kinds and old > 0 < new, said
    # All of history was run again, and before the change there were exactly the rows of the old version.
    assert len(set(re.search(r"([\d,]+) of ([\d,]+) events", said).groups())) == 1
    assert [int(count) for count in re.findall(r"events +kinds_of_event\n +(\d+) ", said)] == [old + new, old]


def test_demo_on_a_terminal_goes_on_until_ctrl_c(project):
    code, screen = terminal(["demo"], project({}).folder, until=b"events.desc")
    assert code == 0 and "It goes on serving until Ctrl-C" in screen and screen.rstrip().endswith("Done."), screen[-2000:]
    assert "\033[1m6  The past answers\033[0m" in screen and "table activity" in screen, "titles are bold, and one line tells how far it is"
