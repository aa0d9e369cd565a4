"""The service about itself, and what every answer has in common."""

import json
import re

import pytest

from conftest import ROOT, assert_problem, raw_exchange

ROUTE = re.compile(r'^ROUTE\((\w+), "([^"]+)", (\w+), (\w+), (\w+), ([^)]*)\)', re.M)


def documented():
    return json.loads((ROOT / "openapi.json").read_text())


def routes():
    table = ROUTE.findall((ROOT / "api" / "routes.def").read_text())
    assert len(table) > 10
    return [(m, p, op) for m, p, op, _, _, flags in table if "HIDDEN" not in flags]


def test_health_version_ready(service):
    assert service.get("/healthz").json() == {"status": "ok"}
    assert service.get("/readyz").status_code == 200
    assert re.fullmatch(r"\d+\.\d+\.\d+", service.get("/version").json()["version"])


def test_app_is_served_with_policy_and_tag(service):
    r = service.get("/")
    assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in r.headers["Content-Security-Policy"]
    assert "unsafe" not in r.headers["Content-Security-Policy"]
    again = service.get("/", headers={"If-None-Match": r.headers["ETag"]})
    assert again.status_code == 304 and not again.content
    for path in re.findall(r'(?:src|href)="(/[\w./-]+)"', r.text):
        assert service.get(path).status_code == 200, path


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1/jobs/x/y/z", "/../etc/passwd", "/%2e%2e/etc/passwd",
                                  "/v1/jobs/01m827jqp9xjv3vtpm7sfydmr/"])
def test_unknown_paths(service, path):
    assert_problem(service.get(path), 404, "not_found")


@pytest.mark.parametrize("target", ["/a%zz", "/%00", "/v1/jobs?limit=%0", "/v1/jobs?limit=1&limit=1", "/" + "a/" * 40,
                                    "*", "http://x/healthz"])
def test_malformed_targets(service, target):
    answer = raw_exchange(service, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"malformed"' in answer


def test_methods_come_from_the_table(service):
    by_path = {}
    for method, path, _ in routes():
        by_path.setdefault(path, set()).add(method)
    for path, methods in by_path.items():
        concrete = re.sub(r"\{n\}", "1", re.sub(r"\{\w+\}", "01m827jqp9xjv3vtpm7sfydmr2", path))
        want = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        if "OPTIONS" not in methods:
            r = service.request("OPTIONS", concrete)
            assert r.status_code == 204 and set(r.headers["Allow"].split(", ")) == want, path
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - methods:
            r = service.request(method, concrete)
            assert r.status_code == 405, f"{method} {path}: {r.status_code}"
            assert set(r.headers["Allow"].split(", ")) == want


def test_head_is_get_without_body(service):
    r = service.request("HEAD", "/version")
    assert r.status_code == 200 and r.content == b"" and int(r.headers["Content-Length"]) > 0


def test_request_ids(service):
    assert service.get("/healthz", headers={"X-Request-Id": "abc-1.2:3_x"}).headers["X-Request-Id"] == "abc-1.2:3_x"
    seen = set()
    for bad in ("", "a b", "x" * 65, "\u00e9".encode(), 'a"b'):
        got = service.get("/nope", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-z]{26}", got)
        seen.add(got)
    assert len(seen) == 5


def test_traceparent(service):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    given = f"00-{trace}-00f067aa0ba902b7-00"
    got = service.get("/healthz", headers={"traceparent": given}).headers["traceparent"]
    assert re.fullmatch(rf"00-{trace}-[0-9a-f]{{16}}-00", got) and got != given
    for bad in (f"00-{'0' * 32}-00f067aa0ba902b7-01", f"01-{trace}-00f067aa0ba902b7-01", "00-x", given.upper()):
        got = service.get("/healthz", headers={"traceparent": bad}).headers["traceparent"]
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", got) and trace not in got


def test_metrics(service):
    service.get("/version")
    text = service.get("/metrics").text
    assert re.search(r'salient_http_requests_total\{method="GET",route="/version",status="200"\} [1-9]', text)
    assert re.search(r"^salient_workers 1$", text, re.M)
    assert 'salient_process_resident_bytes{role="worker"' in text
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            name = line.split()[2]
            assert name not in seen, f"{name} is declared twice"
            seen.add(name)
        elif not line.startswith("#"):
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+', line), line


def test_openapi_documents_every_route():
    doc = documented()
    there = {(m.upper(), p, op["operationId"]) for p, item in doc["paths"].items()
             for m, op in item.items() if m != "parameters"}
    assert there == set(routes())


def test_openapi_is_served_and_consistent(service):
    doc = service.get("/openapi.json").json()
    assert doc == documented()
    assert doc["info"]["version"] == service.get("/version").json()["version"]

    def resolve(node):
        while "$ref" in node:
            at = doc
            for key in node["$ref"].removeprefix("#/").split("/"):
                at = at[key]
            node = at
        return node

    def check_refs(node):
        if isinstance(node, dict):
            resolve(node)
            for v in node.values():
                check_refs(v)
        elif isinstance(node, list):
            for v in node:
                check_refs(v)

    check_refs(doc)
    for path, item in doc["paths"].items():
        named = set(re.findall(r"\{(\w+)\}", path))
        for method, op in item.items():
            if method == "parameters":
                continue
            all_params = [resolve(p) for p in op.get("parameters", []) + item.get("parameters", [])]
            given = {p["name"] for p in all_params if p["in"] == "path"}
            assert given == named, f"{method} {path}"
            assert op["responses"] and op["summary"], f"{method} {path}"
