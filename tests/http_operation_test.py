"""Status, pause, health, metrics and OpenAPI of a running server."""

import contextlib
import json
import re

from prometheus_client.parser import text_string_to_metric_families

from harness import eventually
from shop import ORDERS, SHOP


def test_definitions_and_status(shop):
    shop.ingest("orders", ORDERS)
    stream = shop.http("GET", "/v1/streams/orders").json()
    assert stream["definition"]["partitions"] in (2, "2") and stream["status"]["events"] == 10
    assert {each["name"] for each in shop.http("GET", "/v1/pipelines").json()} == {"revenue", "all_orders"}
    assert shop.http("GET", "/v1/pipelines/revenue").json()["status"]["stream"] == "orders"
    assert shop.http("GET", "/v1/pipelines/revenue/filters/gross").json()["kind"] == "sql"
    assert shop.http("GET", "/v1/pipelines/revenue/filters/gros").status == 404
    assert shop.http("GET", "/v1/sources").json() == []
    missing = shop.http("GET", "/v1/streams/order")
    assert missing.status == 404 and "did you mean 'orders'" in missing.json()["detail"]
    assert shop.http("GET", "/v1/status").json()["url"] == shop.url


def test_pause_and_resume(shop):
    assert shop.http("POST", "/v1/pipelines/revenue/pause").json() == {"state": "paused"}
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/wait?position={position}&table=all_orders&timeout=10s").status == 200
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue&timeout=300ms").status == 504
    assert eventually(lambda: shop.http("GET", "/v1/pipelines/revenue").json()["status"]["state"] == "paused")
    assert shop.http("POST", "/v1/pipelines/revenue/resume").status == 200
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue&timeout=10s").status == 200
    assert shop.http("POST", "/v1/pipelines/nope/pause").status == 404


def test_health_and_metrics(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    shop.http("GET", f"/v1/wait?position={position}")
    assert shop.http("GET", "/health/live").status == 200
    assert shop.http("GET", "/health/ready").json() == {"ready": True, "reasons": []}
    metrics = shop.metrics()
    assert metrics['millstream_stream_events_total{stream="orders"}'] == 10
    assert metrics['millstream_filter_in_total{pipeline="revenue",filter="paid"}'] == 10
    assert metrics['millstream_filter_out_total{pipeline="revenue",filter="paid"}'] == 5
    assert metrics['millstream_pipeline_lag_events{pipeline="revenue"}'] == 0
    assert metrics['millstream_sink_rows_total{pipeline="revenue",sink="table:revenue"}'] == 5


def test_metrics_are_as_prometheus_reads_them(shop):
    shop.http("GET", f"/v1/wait?position={shop.ingest('orders', ORDERS)['position']}")
    answer = shop.http("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    for name, kind in (("millstream_stream_events", "counter"), ("millstream_stream_bytes", "counter"), ("millstream_filter_in", "counter"), ("millstream_filter_out", "counter"),
                       ("millstream_sink_rows", "counter"), ("millstream_sink_retries", "counter"), ("millstream_pipeline_lag_events", "gauge"),
                       ("millstream_pipeline_lag_seconds", "gauge"), ("millstream_pipeline_state", "gauge"), ("millstream_dead_letters", "counter"),
                       ("millstream_disk_used_bytes", "gauge"), ("millstream_disk_free_bytes", "gauge")):
        assert families[name].type == kind and families[name].documentation and families[name].samples, name
    states = [(s.labels["state"], s.value) for s in families["millstream_pipeline_state"].samples if s.labels["pipeline"] == "revenue"]
    assert sum(value for _, value in states) == 1 and ("live", 1) in states
    first = shop.metrics()
    shop.ingest("orders", ORDERS)
    second = shop.metrics()
    for series, value in first.items():  # counters never fall
        if series.partition("{")[0].endswith("_total"):
            assert second[series] >= value, series


def test_readiness_says_what_does_not_go_forward(project):
    yaml = """
streams: {orders: {}}
pipelines:
  scores:
    from: orders
    filters: [{score: {exec: {command: ["false"], timeout: 1s, output: {id: varchar}}}}]
    to: [{table: scores}]
"""
    with project({"millstream.yaml": yaml}).server() as server:
        server.ingest("orders", [{"a": 1}])

        def is_degraded():
            answer = server.http("GET", "/health/ready")
            return answer.status == 503 and answer.json()
        ready = eventually(is_degraded)
        assert ready["ready"] is False
        reason = ready["reasons"][0]
        assert reason["pipeline"] == "scores" and reason["state"] == "degraded" and reason["reason"] and reason["lag_events"] == 1
        assert server.http("GET", "/health/live").status == 200


def test_logs_are_json_if_asked(project):
    with project({"millstream.yaml": SHOP + "server:\n  log: {format: json, level: debug}\n"}).server() as server:
        server.ingest("orders", ORDERS)
        server.stop()
        lines = [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]
    assert any(server.url in json.dumps(line) for line in lines), server.stderr()


def refs(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def test_openapi_is_sound(shop):
    """OpenAPI 3.1's own rules, as far as this document uses it."""
    document = shop.http("GET", "/openapi.json").json()
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"]) and document["info"]["title"] and document["info"]["version"]
    for ref in refs(document):
        node = document
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
    for path, operations in document["paths"].items():
        assert path.startswith("/") and set(operations) <= {"get", "put", "post", "delete", "patch"}
        for operation in operations.values():
            seen = [(p["name"], p["in"]) for p in operation["parameters"]]
            assert len(seen) == len(set(seen))
            for parameter in operation["parameters"]:
                assert parameter["in"] in ("path", "query", "header") and parameter["schema"]["type"] in ("string", "integer", "boolean")
                assert parameter["required"] is (parameter["in"] == "path")
                assert parameter["name"].lower() not in ("accept", "content-type", "authorization")  # which OpenAPI ignores as parameters
            for code, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d|default", code) and response["description"]
                assert all(re.fullmatch(r"[\w.+-]+/[\w.+-]+", media) for media in response["content"])
            for requirement in operation.get("security", []):
                assert set(requirement) <= set(document["components"]["securitySchemes"])


def test_openapi_tells_the_routes(shop):
    document = shop.http("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    ids = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["responses"]
            assert operation["operationId"] not in ids
            ids.add(operation["operationId"])
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            answer = shop.http(method.upper(), re.sub(r"{\w+}", "nope", path).replace("/v1/tap", "/v1/tap?at=nope"))
            assert answer.status != 405 and "no route" not in answer.body.decode(errors="replace"), (method, path)
    for expected in ("/v1/query", "/v1/streams/{stream}/events", "/v1/tables/{table}", "/health/ready", "/metrics", "/v1/wait"):
        assert expected in document["paths"]
    with contextlib.suppress(ImportError):
        from openapi_spec_validator import validate  # where it can be had
        validate(document)
