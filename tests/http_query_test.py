"""SQL over HTTP: answers, parameters, bounds, refusals, waits."""

import http.client
import json
import threading
import time

import pytest

from harness import SLOWNESS, eventually, ndjson
from shop import ORDERS, SHOP, offsets_of

SLOW_SQL = "SELECT sum(a.i * b.i) AS s FROM range(1000000) a(i), range(1000000) b(i)"


def test_queries_over_tables_streams_and_system_tables(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    rows = shop.query("SELECT id, gross FROM revenue ORDER BY gross DESC LIMIT 2", wait=position)
    assert rows == [{"id": "o8", "gross": 17.0}, {"id": "o6", "gross": 13.0}]
    assert shop.query("SELECT count(*) AS n FROM _streams.orders WHERE type = 'paid'") == [{"n": 5}]
    assert {row["name"] for row in shop.query("SELECT name, state FROM _pipelines")} == {"revenue", "all_orders"}
    assert [row["name"] for row in shop.query("SELECT name FROM _filters WHERE pipeline = 'revenue' ORDER BY number")] == ["paid", "gross"]
    assert shop.query("SELECT sum(end_offset) AS n FROM _segments WHERE stream = 'orders'")[0]["n"] in (10, "10")
    joined = shop.query("SELECT count(*) AS n FROM _streams.orders a JOIN _streams.orders b USING (id) JOIN revenue r USING (id)")
    assert joined == [{"n": 5}]


def test_stream_bounds(shop):
    shop.ingest("notes", [{"n": n} for n in range(100)])
    shop.ingest("notes", [{"n": n} for n in range(100, 200)])
    count = "SELECT count(*) AS n FROM _streams.notes WHERE "
    assert shop.query(count + "_offset >= 50 AND _offset < 150") == [{"n": 100}]
    assert shop.query(count + "_offset = $o", params={"o": 7}) == [{"n": 1}]
    assert shop.query(count + "_partition = 1") == [{"n": 0}]
    assert shop.query(count + "_ingested_at > now() - INTERVAL 1 HOUR") == [{"n": 200}]
    assert shop.query(count + "_ingested_at < '2020-01-01'") == [{"n": 0}]
    assert shop.query(count + "_offset < 10 OR _offset > 190") == [{"n": 19}]


def test_the_answer_of_a_query(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    body = {"sql": "SELECT id, gross FROM revenue WHERE id = $id", "params": {"id": "o2"}, "wait": position, "timeout": "5s"}
    answer = shop.http("POST", "/v1/query", body)
    assert b'"rows":[{"id":"o2","gross":5.00}]' in answer.body  # all digits
    document = answer.json()
    assert document["columns"] == [{"name": "id", "type": "VARCHAR"}, {"name": "gross", "type": "DECIMAL(18,2)"}] or document["columns"][0]["name"] == "id"
    assert offsets_of(document["position"]["revenue"]).items() >= offsets_of(position).items()
    lines = shop.http("POST", "/v1/query", {"sql": "SELECT i FROM range(3) t(i)"}, {"Accept": "application/x-ndjson"})
    assert lines.lines() == [{"i": 0}, {"i": 1}, {"i": 2}]
    csv = shop.http("POST", "/v1/query", {"sql": "SELECT 1 AS a, 'x,\"y' AS \"b,c\", NULL AS d, '' AS e"}, {"Accept": "text/csv"})
    assert csv.body == b'a,"b,c",d,e\r\n1,"x,""y",,""\r\n'
    assert csv.headers["Content-Type"].startswith("text/csv")
    assert shop.http("POST", "/v1/query", {"sql": "SELECT 1"}, {"Accept": "image/png"}).status == 406
    empty = shop.http("POST", "/v1/query", {"sql": "SELECT id FROM revenue WHERE false"}).json()
    assert empty["rows"] == [] and empty["columns"][0]["name"] == "id"


def test_large_results_stream(shop):
    connection = shop.connection()
    body = json.dumps({"sql": "SELECT i, 'some text that takes room ' || i AS t FROM range(300000) r(i)"})
    connection.request("POST", "/v1/query", body, {"Content-Type": "application/json", "Accept": "application/x-ndjson"})
    answer = connection.getresponse()
    assert answer.getheader("Transfer-Encoding") == "chunked"
    lines = answer.read().splitlines()
    assert len(lines) == 300000 and json.loads(lines[-1])["i"] == 299999
    connection.request("GET", "/health/live")
    assert connection.getresponse().read() == b'{"live":true}'


@pytest.mark.parametrize("sql,status,part", [
    ("SELECT nope FROM revenue", 422, "nope"),
    ("SELECT * FROM revenu", 422, "did you mean 'revenue'"),
    ("SELECT * FROM orders", 422, "_streams.orders"),
    ("SELECT * FROM _streams.ordrs", 422, "did you mean 'orders'"),
    ("SELEC 1", 422, "syntax"),
    ("SELECT 1; SELECT 2", 422, "several statements"),
    ("DROP TABLE revenue", 422, "DROP; one SELECT"),
    ("INSERT INTO revenue VALUES (1)", 422, "INSERT; one SELECT"),
    ("SET threads = 4", 422, "SET; one SELECT"),
    ("PRAGMA database_list", 422, "PRAGMA;"),
    ("INSTALL httpfs", 422, "INSTALL;"),
    ("CREATE MACRO f() AS 1", 422, "CREATE;"),
    ("EXPLAIN SELECT 1", 422, "EXPLAIN;"),
    ("DESCRIBE revenue", 422, "DESCRIBE"),
    ("SHOW TABLES", 422, "SHOW"),
    ("FROM (SUMMARIZE revenue)", 422, "SUMMARIZE"),
    ("SELECT * FROM query('SELECT 1')", 422, "function query"),
    ("SELECT * FROM query_table('revenue')", 422, "function query_table"),
    ("SELECT * FROM read_text('/etc/passwd')", 422, "function read_text"),
    ("SELECT * FROM glob('/*')", 422, "function glob"),
    ("SELECT * FROM duckdb_databases()", 422, "function duckdb_databases"),
    ("SELECT current_setting('threads')", 422, "function current_setting"),
    ("SELECT * FROM _batch(1)", 422, "function _batch"),
    ("WITH x AS (DELETE FROM revenue RETURNING *) SELECT * FROM x", 422, ""),
    ("SELECT * FROM read_csv('/etc/passwd')", 422, ""),
    ("SELECT * FROM '/etc/passwd'", 422, ""),
    ("COPY revenue TO '/tmp/x'", 422, "COPY;"),
    ("ATTACH 'x.db'", 422, "ATTACH;"),
    ("SELECT * FROM duckdb_settings()", 422, ""),
    ("SELECT * FROM information_schema.tables", 422, ""),
    ("SELECT * FROM _millstream.offsets", 422, ""),
    ("SELECT CAST('x' AS INTEGER)", 422, "x"),
    ("SELECT getenv('HOME')", 422, ""),
])
def test_queries_that_are_refused(shop, sql, status, part):
    answer = shop.http("POST", "/v1/query", {"sql": sql})
    assert answer.status == status, answer.body
    assert part.lower() in answer.body.decode().lower(), answer.body
    assert shop.query("SELECT 1 AS one") == [{"one": 1}]


def test_faults_of_sql_have_their_place(shop):
    fault = shop.http("POST", "/v1/query", {"sql": "SELECT id,\n  nope\nFROM revenue"}).json()["faults"][0]
    assert fault["line"] == 2 and fault["column"] == 3 and "nope" in fault["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"sql":1}', b'{"sql":""}', b'{"sql":"SELECT 1","extra":1}', b'{"sql":"SELECT 1","timeout":"soon"}',
                                  b'{"sql":"SELECT 1","wait":"x"}', b'{"sql":"SELECT 1","params":1}'])
def test_bodies_of_queries_that_are_refused(shop, body):
    assert shop.http("POST", "/v1/query", body, {"Content-Type": "application/json"}).status == 400


def test_parameters(shop):
    assert shop.query("SELECT $a AS a, $b AS b, $c AS c, $d AS d", params={"a": 1, "b": "x'y", "c": None, "d": True}) == [{"a": 1, "b": "x'y", "c": None, "d": True}]
    assert shop.query("SELECT $1 AS a, $2 AS b", params=[1, "x"]) == [{"a": 1, "b": "x"}]
    assert shop.query("SELECT ? AS a, ? AS b", params=[True, None]) == [{"a": True, "b": None}]
    assert shop.query("SELECT $o->>'$.x' AS x, CAST($l AS INTEGER[])[2] AS l", params={"o": {"x": "y"}, "l": [5, 6]}) == [{"x": "y", "l": 6}]
    assert shop.http("POST", "/v1/query", {"sql": "SELECT 1", "params": {"a": 1}}).status == 422
    assert shop.http("POST", "/v1/query", {"sql": "SELECT $a"}).status == 422
    assert shop.http("POST", "/v1/query", {"sql": "SELECT $1", "params": [1, 2]}).status == 422


@pytest.mark.parametrize("number,type_name", [
    ("1", "BIGINT"), ("-9223372036854775808", "BIGINT"), ("9223372036854775808", "HUGEINT"), ("-170141183460469231731687303715884105727", None),
    ("1.50", "DECIMAL(3,2)"), ("-0.05", "DECIMAL(2,2)"), ("12345678901234567890.123456789", "DECIMAL(29,9)"), ("-99999999999999999999.99", "DECIMAL(22,2)"), ("1e300", "DOUBLE"),
])
def test_numbers_of_parameters_keep_their_digits(shop, number, type_name):
    body = b'{"sql":"SELECT $n AS n, typeof($n) AS t","params":{"n":%s}}' % number.encode()
    answer = shop.http("POST", "/v1/query", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    if type_name == "DOUBLE" or type_name is None:
        assert answer.json()["rows"][0]["n"] == float(number)
    else:
        assert b'"rows":[{"n":%s,"t":"%s"}]' % (number.encode(), type_name.encode()) in answer.body, answer.body


def test_values_of_all_types(shop):
    answer = shop.http("POST", "/v1/query", {"sql": """SELECT 9007199254740993::BIGINT AS i, 170141183460469231731687303715884105727::HUGEINT AS h,
        12345678901234567890.123456789::DECIMAL(38,9) AS d, 'NaN'::DOUBLE AS nan, 'inf'::FLOAT AS inf, TIMESTAMPTZ '2026-01-01 01:02:03.5+02' AS z, DATE '2026-01-02' AS dt,
        'ab\\xFF'::BLOB AS b, [1, NULL] AS l, {'a': 1, 'b': ['x']} AS s, '{"x": 1.50}'::JSON AS j, true AS t, NULL AS n, 'q"\u0001\U0001F600' AS st,
        uuid '00000000-0000-0000-0000-000000000001' AS u, 'b'::ENUM('a','b') AS e"""})
    assert answer.status == 200, answer.body
    text = answer.body.decode()
    for part in ('"i":9007199254740993', '"h":170141183460469231731687303715884105727', '"d":12345678901234567890.123456789', '"nan":null', '"inf":null',
                 '"z":"2025-12-31T23:02:03.5', '"dt":"2026-01-02"', '"b":"YWL/"', '"l":[1,null]', '"s":{"a":1,"b":["x"]}', '"j":{"x": 1.50}', '"t":true', '"n":null'):
        assert part in text, (part, text)
    row = answer.json()["rows"][0]
    assert row["st"] == 'q"\u0001\U0001F600' and row["u"] == "00000000-0000-0000-0000-000000000001" and row["e"] == "b"


def test_a_fault_after_the_first_byte_cuts_the_answer(shop):
    connection = shop.connection()
    sql = "SELECT CASE WHEN i < 900000 THEN 'some text that takes room' ELSE CAST('x' || i AS INTEGER)::VARCHAR END AS t FROM range(1000000) r(i)"
    connection.request("POST", "/v1/query", json.dumps({"sql": sql}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()


def resident_mib(server):
    return int(next(line for line in open(f"/proc/{server.process.pid}/status") if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.skipif(SLOWNESS > 1, reason="a sanitizer keeps freed memory for a while")
def test_a_large_answer_takes_no_memory_and_a_client_that_leaves_ends_it(shop):
    shop.query("SELECT count(*) AS n FROM range(100000)")
    before = resident_mib(shop)
    connection = shop.connection()
    body = json.dumps({"sql": "SELECT i, 'some text that takes room ' || i AS t FROM range(5000000) r(i)", "timeout": "2m"})
    connection.request("POST", "/v1/query", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    peak = received = pieces = 0
    while piece := answer.read1(1 << 20):
        received += len(piece)
        pieces += 1
        if pieces % 64 == 0:
            peak = max(peak, resident_mib(shop))
    assert received > 200_000_000 and peak - before < 64, (received, before, peak)
    connection.request("POST", "/v1/query", body, {"Content-Type": "application/json"})
    connection.getresponse().read1(1000)
    time.sleep(0.5)  # the server waits for the client, which does not read on
    assert resident_mib(shop) - before < 64
    connection.close()


def test_a_query_ends_when_its_client_leaves(project):
    with project({"millstream.yaml": SHOP + "server:\n  query: {concurrent: 1}\n"}).server() as server:
        for _ in range(3):
            connection = server.connection()
            connection.request("POST", "/v1/query", json.dumps({"sql": SLOW_SQL}), {"Content-Type": "application/json"})
            time.sleep(0.3)
            connection.close()
            left = time.monotonic()
            assert server.query("SELECT 1 AS one") == [{"one": 1}]  # the only place is free again
            assert time.monotonic() - left < 1.5


def test_a_burst_waits_for_its_turn_and_a_wait_takes_no_place(project):
    with project({"millstream.yaml": SHOP + "server:\n  query: {concurrent: 1}\n"}).server() as server:
        statuses = []
        ask = lambda: statuses.append(server.http("POST", "/v1/query", {"sql": "SELECT count(*) AS n FROM range(100000)"}).status)  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 12
        late = []
        waiting = threading.Thread(target=lambda: late.append(server.http("POST", "/v1/query", {"sql": "SELECT * FROM revenue", "wait": "orders/0:1000000", "timeout": "3s"}).status))
        waiting.start()
        time.sleep(0.5)
        assert server.query("SELECT 1 AS one") == [{"one": 1}]
        waiting.join()
        assert late == [504]


def test_bounds_of_a_stream_are_pushed_down(shop):
    """Looking at the last of 800,000 events costs far less than looking at all."""
    for first in range(0, 800_000, 50_000):
        shop.ingest("notes", ndjson([{"n": n, "text": "some text that takes room"} for n in range(first, first + 50_000)]))
    boundary = shop.query("SELECT _ingested_at AS t FROM _streams.notes WHERE _offset = 799999")[0]["t"]
    count = "SELECT count(*) AS n, sum(length(data::VARCHAR)) AS bytes FROM _streams.notes"

    def seconds(sql, rows, **options):
        best = 10.0
        for _ in range(5):
            started = time.monotonic()
            assert shop.query(sql, **options)[0]["n"] == rows
            best = min(best, time.monotonic() - started)
        return best

    everything = seconds(count, 800_000)
    assert seconds(count + " WHERE _offset >= $o", 10, params={"o": 799_990}) < everything / 2
    assert seconds(count + " WHERE _partition = 3", 0) < everything / 2
    assert seconds(count + f" WHERE _ingested_at > TIMESTAMPTZ '{boundary}'", 0) < everything / 2


def test_readers_beside_a_writer_see_whole_batches(shop):
    """Each query reads one snapshot: the same count in both of its halves, and never fewer rows than the last one."""
    stop, faults = threading.Event(), []

    def read():
        last = 0
        while not stop.is_set():
            row = shop.query("SELECT (SELECT count(*) FROM all_orders) AS a, (SELECT count(*) FROM all_orders) AS b")[0]
            if row["a"] != row["b"] or row["a"] < last:
                faults.append((last, row))
            last = row["a"]

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    position = ""
    for first in range(0, 4000, 100):
        position = shop.ingest("orders", [{"id": f"w{n}", "customer": "c", "type": "open"} for n in range(first, first + 100)])["position"]
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert shop.query("SELECT count(*) AS n FROM all_orders", wait=position) == [{"n": 4000}]


def test_deadlines_and_clients_that_leave(shop):
    started = time.monotonic()
    assert shop.http("POST", "/v1/query", {"sql": SLOW_SQL, "timeout": "300ms"}).status == 504
    assert time.monotonic() - started < 5
    for _ in range(12):  # more than run at once: each must give its place back
        connection = shop.connection()
        connection.request("POST", "/v1/query", json.dumps({"sql": SLOW_SQL}), {"Content-Type": "application/json"})
        time.sleep(0.1)
        connection.close()
    assert eventually(lambda: shop.http("POST", "/v1/query", {"sql": "SELECT 1"}).status == 200, 10)


def test_queries_are_bounded(project):
    with project({"millstream.yaml": SHOP + "server:\n  query: {concurrent: 2, deadline: 3s}\n"}).server() as server:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.http("POST", "/v1/query", {"sql": SLOW_SQL}).status)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        busy = server.http("POST", "/v1/query", {"sql": "SELECT 1"})
        assert busy.status == 429 and busy.headers["Retry-After"]
        for thread in threads:
            thread.join()
        assert answers == [504, 504]  # the server's deadline
        assert server.query("SELECT 1 AS one") == [{"one": 1}]


def test_memory_runs_out_with_a_clear_error(project):
    with project({"millstream.yaml": SHOP + "server: {memory: 100MiB}\n"}).server() as server:
        answer = server.http("POST", "/v1/query", {"sql": "SELECT list(i) AS l FROM range(100000000) r(i)", "timeout": "60s"}, timeout=120)
        assert answer.status == 429 and "memory" in answer.json()["detail"].lower(), answer.body
        assert server.query("SELECT 1 AS one") == [{"one": 1}]


def test_waits(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/wait?position={position}&timeout=10s").json() == {"position": position}
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue").status == 200
    late = shop.http("GET", "/v1/wait?position=orders/0:1000000&timeout=100ms")
    assert late.status == 504 and late.json()["position"].startswith("orders/0:")
    late = shop.http("POST", "/v1/query", {"sql": "SELECT * FROM revenue", "wait": "orders/0:1000000", "timeout": "100ms"})
    assert late.status == 504 and late.json()["position"].startswith("orders/0:")
    assert shop.http("GET", "/v1/wait?position=nope").status == 400
    assert shop.http("GET", "/v1/wait?position=nope/0:1").status == 404
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenu").status == 404


def test_a_query_by_key_answers_what_the_whole_view_does(project):
    """`id = 'x'` reads the parts of the table by the key's hash; `id || '' = 'x'` cannot, and reads the view."""
    with project({"millstream.yaml": """
streams:
  orders: {partitions: 2, key: id, contract: {id: varchar not null, day: integer, amount: "decimal(12,2)", gone: boolean}}
pipelines:
  p:
    from: orders
    filters: [{rows: "SELECT id, day, amount, gone FROM input"}]
    to:
      - table: {name: latest, key: id, delete_when: gone}
      - table: {name: pairs, key: [day, id], delete_when: gone}
      - table: {name: sums, key: day, values: {n: count(*), total: sum(amount), newest: last(id)}}
"""}).server() as server:
        def events(step):
            return [{"id": f"o'{n}", "day": n % 7, "amount": n + step, "gone": n % 11 == step} for n in range(0, 200, step)]

        def compare():
            for n in (0, 1, 2, 3, 11, 22, 77, 150, 199, 300):
                who, day = f"o''{n}", n % 7
                for pushed, whole in (
                        (f"FROM latest WHERE id = '{who}'", f"FROM latest WHERE id || '' = '{who}'"),
                        (f"FROM main.latest x WHERE '{who}' = x.id AND amount > 5", f"FROM latest WHERE id || '' = '{who}' AND amount > 5"),
                        (f"FROM pairs WHERE day = {day} AND id = '{who}'", f"FROM pairs WHERE day + 0 = {day} AND id || '' = '{who}'"),
                        (f"FROM pairs WHERE id = '{who}'", f"FROM pairs WHERE id || '' = '{who}'"),
                        (f"FROM sums WHERE day = {day}", f"FROM sums WHERE day + 0 = {day}"),
                        (f"FROM range(3) r(i) LEFT JOIN latest l ON l.day = i WHERE l.id = '{who}'",
                         f"FROM range(3) r(i) LEFT JOIN latest l ON l.day = i WHERE l.id || '' = '{who}'"),
                        (f"FROM latest a, latest b WHERE a.id = '{who}' AND b.id = 'o''2'",
                         f"FROM latest a, latest b WHERE a.id || '' = '{who}' AND b.id || '' = 'o''2'")):
                    assert server.query(f"SELECT * {pushed}") == server.query(f"SELECT * {whole}"), pushed
            by_name = {"sql": "SELECT amount FROM latest WHERE id = $id", "params": {"id": "o'6"}}
            whole = server.query("SELECT amount FROM latest WHERE id || '' = 'o''6'")
            assert server.http("POST", "/v1/query", by_name).json()["rows"] == whole and len(whole) == 1

        for step in (1, 2, 3):
            position = server.ingest("orders", events(step))["position"]
            server.http("GET", f"/v1/wait?position={position}")
            compare()
            if step == 2:
                server.stop()  # folds everything
                server.start()
                compare()
        wrong = "SELECT id FROM latest WHERE id = 'o''4' AND nope = 1"
        fault = server.query(wrong, expect=422)["faults"][0]
        assert (fault["line"], fault["column"]) == (1, wrong.index("nope") + 1)


def test_a_query_that_only_waited_says_so(project):
    with project({"millstream.yaml": SHOP + "server:\n  query: {concurrent: 1}\n"}).server() as server:
        holder = server.connection()
        holder.request("POST", "/v1/query", json.dumps({"sql": SLOW_SQL, "timeout": "20s"}), {"Content-Type": "application/json"})
        # It has the one place once another is refused for want of it.
        busy = lambda: server.http("POST", "/v1/query", {"sql": "SELECT 1", "timeout": "300ms"})  # noqa: E731
        answer = eventually(lambda: (given := busy()).status == 504 and given)
        assert answer.json()["detail"] == ("the query only waited until its deadline: 1 others run, and no more may at once "
                                           "(server.query.concurrent)")
        holder.close()
