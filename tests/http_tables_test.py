"""Tables over HTTP by PostgREST's parameters."""

import time
from urllib.parse import quote

import pytest

from shop import ORDERS, offsets_of


def test_tables_by_parameters(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    def rows(query="", **headers):
        answer = shop.http("GET", f"/v1/tables/revenue?wait={position}&{query}", headers=headers)
        assert answer.status == 200, answer.body
        return answer.json()
    def ids(query):
        return [row["id"] for row in rows(query)]
    assert sorted(ids("")) == ["o0", "o2", "o4", "o6", "o8"]
    assert rows("select=id,gross&gross=gt.5&order=gross.desc,id&limit=2") == [{"id": "o8", "gross": 17.0}, {"id": "o6", "gross": 13.0}]
    assert ids("order=id&limit=2&offset=1") == ["o2", "o4"]
    assert ids("order=id&gross=gte.5&gross=lte.9") == ["o2", "o4"]
    assert ids("order=id&id=in.(o2,\"o4\",nope)") == ["o2", "o4"]
    assert ids("order=id&id=not.in.(o2,o4)") == ["o0", "o6", "o8"]
    assert ids("order=id&id=like.*4") == ["o4"] and ids("order=id&id=ilike.O4") == ["o4"]
    assert ids("order=id&customer=neq.c0") == ["o2", "o4", "o6", "o8"]
    assert ids("order=id&customer=is.null") == [] and len(ids("customer=not.is.null")) == 5
    assert ids("order=id&or=(id.eq.o0,and(gross.gt.8,gross.lt.10),id.eq.\"o8\")") == ["o0", "o4", "o8"]
    assert ids("order=id&not.or=(id.eq.o0,id.eq.o2)") == ["o4", "o6", "o8"]
    assert rows("select=who:customer&id=eq.o2") == [{"who": "c2"}]
    assert ids("id=eq.o2") == ["o2"] and ids("id=eq.nope") == []  # the key: looked up


def test_tables_refuse_what_they_do_not_know(shop):
    for query, part in (("colour=eq.1", "colour"), ("gros=eq.1", "gross"), ("gross=1", "op.value"), ("gross=foo.1", "op.value"), ("order=id.up", "up"),
                        ("limit=x", "limit"), ("select=nope", "nope"), ("or=id.eq.1", "or"), ("or=(nope.eq.1)", "nope"), ("customer=is.maybe", "maybe")):
        answer = shop.http("GET", f"/v1/tables/revenue?{query}")
        assert answer.status == 400 and part in answer.json()["detail"], (query, answer.body)
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/tables/revenue?gross=gt.abc&wait={position}").status == 422
    assert shop.http("GET", "/v1/tables/revenue?id=eq.x%27%20OR%201=1--").json() == []
    missing = shop.http("GET", "/v1/tables/revenu")
    assert missing.status == 404 and "did you mean 'revenue'" in missing.json()["detail"]


def test_counts_and_formats_of_tables(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    answer = shop.http("GET", f"/v1/tables/revenue?wait={position}&order=id&limit=2&offset=1", headers={"Prefer": "count=exact"})
    assert answer.headers["Content-Range"] == "1-2/5"
    assert shop.http("GET", "/v1/tables/revenue?id=eq.nope", headers={"Prefer": "count=exact"}).headers["Content-Range"] == "*/0"
    csv = shop.http("GET", "/v1/tables/revenue?select=id,gross&order=id&limit=1", headers={"Accept": "text/csv"})
    assert csv.body == b"id,gross\r\no0,1.00\r\n"
    assert shop.http("GET", "/v1/tables/revenue?select=id&order=id&limit=1", headers={"Accept": "application/x-ndjson"}).lines() == [{"id": "o0"}]


def test_what_tables_there_are(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    shop.http("GET", f"/v1/wait?position={position}")
    tables = {table["name"]: table for table in shop.http("GET", "/v1/tables").json()}
    assert tables["revenue"]["key"] == ["id"] and tables["revenue"]["writers"] == ["revenue"]
    assert tables["all_orders"]["rows"] == 10
    assert offsets_of(tables["all_orders"]["position"]) == offsets_of(position)
    schema = shop.http("GET", "/v1/tables/revenue/schema").json()
    assert [column["name"] for column in schema["columns"]][:3] == ["id", "customer", "gross"]
    assert shop.http("DELETE", "/v1/tables/revenue").status == 409
    assert shop.http("DELETE", "/v1/tables/nope").status == 404


def test_a_key_is_looked_up_with_chosen_columns(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    path = f"/v1/tables/revenue?wait={position}&id=eq.o2&select=gross,who:customer"
    assert shop.http("GET", path).body == b'[{"gross":5.00,"who":"c2"}]'
    assert shop.http("GET", path, headers={"Accept": "text/csv"}).body == b"gross,who\r\n5.00,c2\r\n"
    assert shop.http("GET", path, headers={"Accept": "application/x-ndjson"}).lines() == [{"gross": 5.0, "who": "c2"}]
    assert shop.http("GET", path.replace("o2", "nope")).json() == []


@pytest.mark.parametrize("query", [
    "id%22%20OR%201=1--=eq.1", "select=id%22%2C(SELECT%201)", "select=(SELECT%201)", "order=id;DROP%20TABLE%20revenue", "order=(SELECT%201)", "id%20IS%20NOT%20NULL%20OR%20id=eq.1",
    "or=(id%22.eq.1)", "or=(id.eq.1))%20OR%20(1=1", "limit=1;SELECT", "offset=-1", "select=:id",
])
def test_names_cannot_carry_sql(shop, query):
    assert shop.http("GET", f"/v1/tables/revenue?{query}").status == 400


@pytest.mark.parametrize("value", ["x' OR '1'='1", 'x" OR 1=1 --', "%' OR 1=1 --", "$p1", "'; DROP TABLE revenue; --", "\\", "(SELECT 1)"])
def test_values_cannot_carry_sql(shop, value):
    position = shop.ingest("orders", [*ORDERS, {"id": value, "customer": value, "type": "paid", "amount": 1}])["position"]
    for query in (f"id=eq.{quote(value)}", f"customer=eq.{quote(value)}&order=id"):
        rows = shop.http("GET", f"/v1/tables/revenue?wait={position}&{query}").json()
        assert [row["id"] for row in rows] == [value], query


def test_a_wait_reaches_through_a_chain_of_pipelines(project):
    chain = """
streams: {raw: {partitions: 2}, clean: {}}
pipelines:
  second: {from: clean, filters: [{rows: "SELECT data->>'$.n' AS n FROM input"}], to: [{table: numbers}]}
  first: {from: raw, filters: [{rows: "SELECT data->>'$.n' AS n FROM input"}], to: [{stream: clean}]}
"""
    with project({"millstream.yaml": chain}).server() as server:
        for n in range(20):
            position = server.ingest("raw", [{"n": str(n)}])["position"]
            assert server.query("SELECT count(*) AS n FROM numbers", wait=position) == [{"n": n + 1}]


def test_a_wait_is_woken_as_soon_as_the_rows_are_there(shop):
    took = []
    for n in range(60):
        started = time.monotonic()
        position = shop.ingest("orders", [{"id": f"x{n}", "customer": f"c{n}", "type": "paid", "amount": 1}])["position"]
        rows = shop.http("GET", f"/v1/tables/revenue?id=eq.x{n}&wait={position}").json()
        took.append(time.monotonic() - started)
        assert [row["id"] for row in rows] == [f"x{n}"]
    assert sorted(took)[len(took) // 2] < 0.15, took


def test_values_of_another_type_are_told_in_words_of_the_request(shop):
    shop.http("GET", f"/v1/wait?position={shop.ingest('orders', ORDERS)['position']}")
    for query, said in (("amount=eq.abc", "amount: 'abc' is not of the column's type, DECIMAL(12,2)"), ("at=not.gt.soon", "at: 'soon' is not of the column's type"),
                        ("amount=in.(1,\"2,5\",x)", "amount: '2,5' is not of"), ("or=(amount.lt.1,at.eq.q)", "at: 'q' is not of"),
                        ("id=like.o*&amount=gt.1e", "amount: '1e' is not of"), ("amount=eq.99999999999999", "amount: '99999999999999' is not of")):
        for headers in ({}, {"Prefer": "count=exact"}):
            answer = shop.http("GET", f"/v1/tables/all_orders?{quote(query, safe='=&')}", headers=headers)
            assert answer.status == 422 and answer.json()["detail"].startswith(said), (query, answer.body)
            assert "SELECT" not in answer.body.decode() and "CAST" not in answer.body.decode()
