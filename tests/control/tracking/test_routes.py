"""Our own HTTP of runs: telemetry, metrics, artifacts, search, and what bad input gets."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from narf.control.tracking.mlflow_rules import role_for, rules_of, workload_may
from narf.domain.access import Role
from narf.tracking.points import record_bytes
from narf.tracking.series import from_bytes
from narf.tracking.server import routes

SPOOL = "00112233445566ff"


@pytest.fixture
def http(server):
    with server.client() as client:
        yield client


@pytest.fixture
def run(http) -> str:
    return http.post("/api/v1/projects/default/runs", json={"name": "r", "params": {"lr": "0.1"}, "tags": {"team": "x"}}).json()["id"]


def ship(http, run: str, stream: str, data: bytes, offset: int = 0, spool: str = SPOOL, **headers: str):
    return http.post(f"/api/v1/runs/{run}/spools/{spool}/{stream}", params={"offset": offset}, content=data, headers=headers)


def key(number: int, name: str) -> bytes:
    return json.dumps({"type": "key", "time": 1.0, "id": number, "name": name}).encode() + b"\n"


def points(count: int, start: int = 0, number: int = 0) -> bytes:
    steps = np.arange(start, start + count)
    return record_bytes(number, steps, 1000.0 + steps, np.sqrt(steps))


def test_telemetry_in_and_charts_out(http, run):
    assert ship(http, run, "events", key(0, "loss")).json() == {"offset": len(key(0, "loss"))}
    data = points(5000)
    assert ship(http, run, "points", gzip.compress(data), **{"Content-Encoding": "gzip"}).json() == {"offset": len(data)}
    (metric,) = http.get(f"/api/v1/runs/{run}/metrics").json()["items"]
    assert (metric["key"], metric["count"], metric["last_step"], metric["min"]) == ("loss", 5000, 4999, 0.0)
    answer = http.get("/api/v1/metrics/series", params={"run": run, "key": "loss", "buckets": 100})
    assert answer.headers["content-type"] == "application/vnd.narf.series"
    ((_, _, series),) = from_bytes(answer.content)
    assert len(series.steps) == 100 and series.count == 5000 and series.maxima.max() == np.sqrt(4999)
    ((_, _, zoomed),) = from_bytes(
        http.get("/api/v1/metrics/series", params={"run": run, "key": "loss", "from_step": 10, "to_step": 19}).content
    )
    assert zoomed.steps.tolist() == list(range(10, 20)) and zoomed.maxima is None
    ((_, _, whole),) = from_bytes(http.get(f"/api/v1/runs/{run}/history", params={"key": "loss"}).content)
    assert np.array_equal(whole.minima, np.sqrt(np.arange(5000)))
    assert http.get(f"/api/v1/runs/{run}/spools").json()["items"] == [
        {"spool": SPOOL, "stream": "events", "offset": len(key(0, "loss"))},
        {"spool": SPOOL, "stream": "points", "offset": len(data)},
    ]


def test_a_sender_that_is_ahead_gets_409_and_the_offset(http, run):
    answer = ship(http, run, "points", points(1), offset=64)
    assert answer.status_code == 409
    assert answer.json()["offset"] == 0 and answer.json()["code"] == "offset_mismatch"


@pytest.mark.parametrize(
    ("stream", "data", "headers", "status", "code"),
    [
        ("points", b"\0" * 32, {}, 422, "bad_record"),
        ("points", points(1), {}, 409, "unknown_key"),
        ("events", b"nonsense\n", {}, 422, "bad_record"),
        ("points", b"not gzip", {"Content-Encoding": "gzip"}, 422, "bad_gzip"),
        ("points", gzip.compress(points(9))[:-9], {"Content-Encoding": "gzip"}, 422, "bad_gzip"),
        ("points", gzip.compress(b"\0" * (65 << 20)), {"Content-Encoding": "gzip"}, 429, "limit_reached"),
        ("points", b"", {"Content-Encoding": "br"}, 422, "bad_input"),
        ("nothing", b"", {}, 422, "bad_input"),
    ],
)
def test_a_bad_shipment_changes_nothing(http, run, stream, data, headers, status, code):
    answer = ship(http, run, stream, data, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert http.get(f"/api/v1/runs/{run}/spools").json()["items"] == []


def test_a_bad_spool_name_offset_or_run(http, run):
    assert ship(http, run, "points", b"", spool="x").status_code == 422
    assert ship(http, run, "points", b"", offset=-1).status_code == 422
    assert ship(http, "0" * 32, "points", b"").status_code == 404


def test_runs_are_listed_in_pages_by_filter_and_order(http, server):
    http.post("/api/v1/projects/vision/experiments", json={"name": "pages"})
    made = [
        http.post("/api/v1/projects/vision/runs", json={"name": f"n{i}", "experiment": "pages", "params": {"i": str(i)}}).json()["id"]
        for i in range(5)
    ]
    for i, one in enumerate(made):
        server.runs.tracking.log_batch(one, metrics=[("score", float(i % 3), 1, 1)])
    query = {"experiment": "pages", "order_by": ["metrics.score DESC", "params.i"], "limit": 2}
    got, cursor = [], ""
    while True:
        page = http.get("/api/v1/projects/vision/runs", params={**query, "cursor": cursor}).json()
        got += [run["name"] for run in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert got == ["n2", "n1", "n4", "n0", "n3"]
    found = http.get("/api/v1/projects/vision/runs", params={"filter": "params.i = '3' and metrics.score < 1"}).json()["items"]
    assert [run["id"] for run in found] == [made[3]]


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "nonsense"},
        {"order_by": "metrics.a SIDEWAYS"},
        {"limit": 0},
        {"limit": 100_000},
        {"cursor": "!"},
        {"filter": "metrics.m = 'x'"},
    ],
)
def test_a_bad_search_says_so(http, query):
    answer = http.get("/api/v1/projects/default/runs", params=query)
    assert answer.status_code == 422 and answer.json()["detail"]


def test_a_run_is_changed_deleted_and_restored(http, run):
    changed = http.patch(f"/api/v1/runs/{run}", json={"name": "new", "status": "FINISHED", "tags": {"a": "b"}}).json()
    assert (changed["name"], changed["status"], changed["tags"]["a"]) == ("new", "FINISHED", "b") and changed["ended_at"]
    assert http.patch(f"/api/v1/runs/{run}", json={"status": "ODD"}).status_code == 422
    assert http.delete(f"/api/v1/runs/{run}").status_code == 204
    assert ship(http, run, "events", key(0, "a")).status_code == 409
    assert http.get(f"/api/v1/runs/{run}").json()["deleted"] is True
    assert http.post(f"/api/v1/runs/{run}/restore").json()["deleted"] is False


def test_numbers_that_json_has_not_are_words(http, run):
    ship(http, run, "events", key(0, "a") + key(1, "b") + key(2, "c"))
    ship(http, run, "points", record_bytes([0, 1, 2], [1, 1, 1], [1.0, 1.0, 1.0], [np.nan, np.inf, -np.inf]))
    assert http.get(f"/api/v1/runs/{run}").json()["metrics"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    assert [m["last"] for m in http.get(f"/api/v1/runs/{run}/metrics").json()["items"]] == ["NaN", "Infinity", "-Infinity"]


def test_artifacts_are_stored_listed_shown_and_removed(http, run):
    assert http.put(f"/api/v1/runs/{run}/artifacts/plots/a b.png", content=b"png").status_code == 204
    assert http.put(f"/api/v1/runs/{run}/artifacts/empty", content=b"").status_code == 204
    assert http.get(f"/api/v1/runs/{run}/artifacts").json()["items"] == [
        {"path": "empty", "is_folder": False, "size": 0},
        {"path": "plots", "is_folder": True, "size": None},
    ]
    answer = http.get(f"/api/v1/runs/{run}/artifacts/plots/a b.png")
    assert answer.content == b"png" and answer.headers["content-disposition"].startswith("inline")
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert http.get(f"/api/v1/runs/{run}/artifacts/none").status_code == 404
    assert http.put(f"/api/v1/runs/{run}/artifacts/plots", content=b"x").status_code == 422
    assert http.put(f"/api/v1/runs/{run}/artifacts/empty/below", content=b"x").status_code == 422
    assert http.delete(f"/api/v1/runs/{run}/artifacts/plots/a b.png").status_code == 204
    assert http.get(f"/api/v1/runs/{run}/artifacts/plots/a b.png").status_code == 404


def test_a_link_out_of_the_artifacts_is_not_followed(http, run, server, tmp_path):
    http.put(f"/api/v1/runs/{run}/artifacts/real", content=b"x")
    (tmp_path / "secret").write_text("secret")
    with server.runs.open_artifact(run, "real") as real:
        (real.parent / "link").symlink_to(tmp_path / "secret")
        (real.parent / "folder").symlink_to(tmp_path)
    assert http.get(f"/api/v1/runs/{run}/artifacts/link").status_code == 422
    assert http.get(f"/api/v1/runs/{run}/artifacts/folder/secret").status_code == 422
    assert http.put(f"/api/v1/runs/{run}/artifacts/folder/new", content=b"x").status_code == 422
    assert not (tmp_path / "new").exists()


def test_members_of_other_projects_see_nothing(server, http, run):
    with server.client(server.token("nina", {"vision": Role.MAINTAINER})) as other:
        for path in (
            f"/api/v1/runs/{run}",
            f"/api/v1/runs/{run}/metrics",
            f"/api/v1/runs/{run}/artifacts",
            f"/api/v1/runs/{run}/history?key=a",
        ):
            assert other.get(path).status_code == 404, path
        assert other.get("/api/v1/metrics/series", params={"run": run, "key": "a"}).status_code == 404
        mine = other.post("/api/v1/projects/vision/runs", json={}).json()["id"]
        assert other.get("/api/v1/compare", params={"run": [run, mine]}).status_code == 404
        assert ship(other, run, "events", key(0, "a")).status_code == 404
        assert other.get("/api/v1/projects/default/runs").status_code == 404


def test_the_token_of_a_workload_ships_for_its_own_run_only(server, http, run):
    foreign = http.post("/api/v1/projects/default/runs", json={}).json()["id"]
    with server.client(server.workload_token(run, "default")) as own:
        assert ship(own, run, "events", key(0, "a")).status_code == 200
        assert own.put(f"/api/v1/runs/{run}/artifacts/a", content=b"x").status_code == 204
        assert own.patch(f"/api/v1/runs/{run}", json={"tags": {"a": "b"}}).status_code == 200
        assert ship(own, foreign, "events", key(0, "a")).status_code == 403
        assert own.put(f"/api/v1/runs/{foreign}/artifacts/a", content=b"x").status_code == 403
        assert own.patch(f"/api/v1/runs/{foreign}", json={"tags": {"a": "b"}}).status_code == 403
        assert own.delete(f"/api/v1/runs/{run}").status_code == 403


def test_every_route_of_mlflow_is_sorted_and_what_is_new_is_refused():
    there = sorted(set(routes()))
    allowed = {(method, template) for method, template in there if role_for(method, template) is not None}
    assert len(there) > 350 and len(allowed) > 150
    changing = [(m, t) for m, t in allowed if role_for(m, t) is Role.VIEWER and m not in ("GET", "POST")]
    assert changing == []
    refused = {template for method, template in there if (method, template) not in allowed}
    for part in ("gateway", "webhooks", "jobs", "assistant", "/v1/traces", "invoke", "demo", "gateway-proxy", "ui-telemetry"):
        assert any(part in template for template in refused), part
        assert not any(part in template for _, template in allowed), part
    assert role_for("POST", "/api/2.0/mlflow/invented-later/create") is None
    assert role_for("DELETE", "/api/3.0/mlflow/workspaces/x") is None
    assert not workload_may("POST", "/api/2.0/mlflow/runs/delete")
    assert not workload_may("DELETE", "/api/2.0/mlflow/registered-models/delete")
    rules = rules_of(there)
    assert ("POST", "/api/2.0/mlflow/runs/search") in rules and ("POST", "/mlflow/ajax-api/2.0/mlflow/runs/search") in rules
    assert all(path.startswith(("/mlflow", "/api/2.0/mlflow", "/api/3.0/mlflow")) for _, path in rules)


def shipment(*parts: tuple[dict[str, object], bytes]) -> bytes:
    head = {"parts": [{**described, "size": len(data)} for described, data in parts]}
    return json.dumps(head).encode() + b"\n" + b"".join(data for _, data in parts)


def spool_part(kind: str, data: bytes, offset: int = 0) -> tuple[dict[str, object], bytes]:
    return {"kind": kind, "spool": SPOOL, "offset": offset}, data


def test_a_shipment_brings_telemetry_and_artifacts_in_one_request(http, run):
    named, data = key(0, "loss"), points(10)
    body = shipment(
        spool_part("events", named),
        spool_part("points", data),
        ({"kind": "artifact", "path": "a/b.txt"}, b"hello\n{}"),
        spool_part("events", b""),
    )
    for content in (body, body):  # sent again, it changes nothing
        assert http.post(f"/api/v1/runs/{run}/shipments", content=content).json() == {"offsets": [len(named), len(data), len(named)]}
    (metric,) = http.get(f"/api/v1/runs/{run}/metrics").json()["items"]
    assert (metric["key"], metric["count"]) == ("loss", 10)
    assert http.get(f"/api/v1/runs/{run}/artifacts/a/b.txt").content == b"hello\n{}"


def test_a_shipment_with_a_bad_part_stores_nothing(http, run):
    artifact = ({"kind": "artifact", "path": "a.txt"}, b"x")
    for bad, status in ((spool_part("points", points(1), 64), 409), (spool_part("points", b"\0" * 32), 422)):
        answer = http.post(f"/api/v1/runs/{run}/shipments", content=shipment(spool_part("events", key(0, "loss")), bad, artifact))
        assert answer.status_code == status
    assert http.get(f"/api/v1/runs/{run}/spools").json()["items"] == []
    assert http.get(f"/api/v1/runs/{run}/artifacts").json()["items"] == []
    way_out = shipment(({"kind": "artifact", "path": "../../x"}, b"x"))
    assert http.post(f"/api/v1/runs/{run}/shipments", content=way_out).json()["code"] == "bad_path"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"parts": []}\n',
        b'{"parts": [{"kind": "points"}]}\n',
        b'{"parts": {"a": 1}}\n',
        b'{"parts": [{"kind": "artifact", "path": "a", "size": 9}]}\nshort',
        b'{"parts": [{"kind": "artifact", "path": "a", "size": 1}]}\nlonger',
        b'{"parts": [{"kind": "artifact", "path": "a", "size": -1}]}\n',
        b'{"parts": [{"kind": "artifact", "path": "a", "size": true}]}\nx',
        b'{"parts": [{"kind": "other", "path": "a", "size": 0}]}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_shipment_is_refused(http, run, body):
    answer = http.post(f"/api/v1/runs/{run}/shipments", content=body)
    assert answer.status_code == 422 and answer.json()["code"] == "bad_shipment"
