"""Kept payloads: what is deleted, as a property; who may keep and see them, over HTTP."""

from __future__ import annotations

import base64
import json
import os
import random
import zlib
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from starlette.testclient import TestClient

from narf.control.endpoints import store
from narf.control.endpoints.payloads import to_delete
from narf.control.endpoints.store import PayloadBlock
from narf.domain.access import Role
from narf.serving.identity import Identities

NOW = datetime(2026, 11, 28, tzinfo=UTC)
KEEP = {"percent": 100, "errors": True, "days": 2}
BLOCKS = st.lists(
    st.builds(
        PayloadBlock,
        id=st.integers(0, 10_000),
        endpoint_id=st.just("ep"),
        first_ms=st.just(0),
        last_ms=st.integers(0, 20).map(lambda days: round((NOW - timedelta(days=days)).timestamp() * 1e3)),
        count=st.just(1),
        size_bytes=st.integers(0, 100),
        name=st.just("x"),
    ),
    max_size=20,
    unique_by=lambda block: block.id,
)


@given(BLOCKS, st.integers(0, 20), st.integers(0, 500))
def test_what_is_kept_is_young_and_fits_and_nothing_older_stays_for_something_younger(blocks, days, most):
    gone = to_delete(blocks, NOW, days=days, most_bytes=most)
    kept = [block for block in blocks if block not in gone]
    oldest = (NOW - timedelta(days=days)).timestamp() * 1e3
    assert all(block.last_ms >= oldest for block in kept) and sum(block.size_bytes for block in kept) <= most
    young = [block for block in gone if block.last_ms >= oldest]
    assert all(one.last_ms <= other.last_ms for one in young for other in kept)
    if young:  # the newest of those was one too many
        newest = max(young, key=lambda block: (block.last_ms, block.id))
        assert sum(block.size_bytes for block in kept) + newest.size_bytes > most
    assert not to_delete(kept, NOW, days=days, most_bytes=most)


def deploy(served, **more):
    served.register("digits")
    answer = served.http.post("/api/v1/projects/default/endpoints", json={"model": "digits/1", "name": "watched", **more})
    assert answer.status_code == 201, answer.text
    served.look()
    served.become_ready("watched")
    served.look()
    return served.endpoint("watched")


def send(served, endpoint, *items, expect=200):
    """A gateway hands on (status, request, response) of new predictions: their ids."""
    ids = [Identities().new().decode() for _ in items]
    block = [
        {
            "id": prediction,
            "revision": endpoint["revisions"][0]["id"],
            "status": status,
            "request_type": "application/json",
            "request": base64.b64encode(request).decode(),
            "request_bytes": len(request),
            "response_type": "application/json",
            "response": base64.b64encode(response).decode(),
            "response_bytes": len(response),
        }
        for prediction, (status, request, response) in zip(ids, items, strict=True)
    ]
    packed = base64.b64encode(zlib.compress(json.dumps(block).encode())).decode()
    answer = served.http.post("/api/v1/gateway/payloads", json={"endpoints": {endpoint["id"]: packed}})
    assert answer.status_code == expect, answer.text
    return ids


def files(served):
    return sorted((served.platform.settings.home / "payloads").rglob("*.z"))


def test_a_kept_payload_is_found_by_its_prediction_and_reading_it_is_in_the_audit_log(served):
    endpoint = deploy(served, keep=KEEP)
    assert served.table("watched")["keep"]["percent"] == 100
    _, second = send(served, endpoint, (200, b"one", b"1"), (500, b"two", b"2"))
    found = served.http.get(f"/api/v1/predictions/{second}/payload").json()
    assert (base64.b64decode(found["request"]), base64.b64decode(found["response"]), found["status"]) == (b"two", b"2", 500)
    traced = served.http.get(f"/api/v1/predictions/{second}").json()  # it failed, so there is no record of it
    assert traced["payload"] and traced["status"] == 500 and traced["endpoint"] == "watched" and traced["lineage"]["model"] == "digits"
    assert any(entry["action"] == "read_payload" for entry in served.http.get("/api/v1/audit").json()["items"])
    assert all(place.stat().st_mode & 0o077 == 0 for place in files(served))
    assert served.http.get(f"/api/v1/predictions/{Identities().new().decode()}/payload").status_code == 404


def test_nothing_is_kept_where_no_policy_says_so_and_what_cannot_be_read_is_refused(served):
    endpoint = deploy(served)
    send(served, endpoint, (200, b"one", b"1"))
    assert not files(served)
    served.http.patch("/api/v1/endpoints/watched", json={"keep": KEEP})
    assert served.endpoint("watched")["keep"]["days"] == 2
    for wrong in ("!", base64.b64encode(b"x").decode(), base64.b64encode(zlib.compress(b'[{"id": 3}]')).decode()):
        assert served.http.post("/api/v1/gateway/payloads", json={"endpoints": {endpoint["id"]: wrong}}).status_code in (400, 422)
    bomb = base64.b64encode(zlib.compress(b"[" + b" " * (40 << 20))).decode()
    assert served.http.post("/api/v1/gateway/payloads", json={"endpoints": {endpoint["id"]: bomb}}).status_code in (400, 422)
    assert not files(served)


def test_payloads_go_with_their_time_their_size_and_their_endpoint(served):
    endpoint = deploy(served, keep=KEEP | {"most_bytes": 1 << 20})
    first, *_ = send(served, endpoint, (200, b"one", b"1"))
    noise = [random.Random(seed).randbytes(250_000) for seed in range(5)]
    for each in noise:  # more than a MiB together: the oldest make room
        send(served, endpoint, (200, each, b"1"))
    assert served.http.get(f"/api/v1/predictions/{first}/payload").status_code == 404
    assert 0 < sum(place.stat().st_size for place in files(served)) <= 1 << 20
    served.look(86_400 * 3)
    assert not files(served)
    send(served, endpoint, (200, b"one", b"1"))
    served.http.delete(f"/api/v1/endpoints/{endpoint['id']}")
    assert not files(served)


def test_a_block_that_comes_costs_the_same_however_many_are_kept(served):
    """They are counted once a minute, and read when there are too many."""
    endpoint = deploy(served, keep=KEEP | {"most_bytes": 8_000_000})
    noise = random.Random(0).randbytes(200_000)
    database, seen = served.platform.workloads._database, []

    def hear(_connection, _cursor, statement, *_):
        if "endpoint_payloads" in statement and statement.lstrip().startswith("SELECT"):
            seen.append(statement)

    send(served, endpoint, (200, b"first", b"1"))
    event.listen(database.engine, "before_cursor_execute", hear)
    try:
        for _ in range(20):
            send(served, endpoint, (200, noise, b"1"))
        assert len(files(served)) == 21 and seen == []
        for _ in range(40):
            send(served, endpoint, (200, noise, b"1"))
    finally:
        event.remove(database.engine, "before_cursor_execute", hear)
    size = sum(place.stat().st_size for place in files(served))
    assert 7_000_000 < size <= 8_000_000 and 0 < len(seen) < 60
    with database.read() as connection:
        assert store.payload_bytes(connection, endpoint["id"]) == size


def test_files_that_nothing_leads_to_are_deleted_when_they_are_an_hour_old(served):
    """A kill came between the file and its row, or before the file had its name."""
    endpoint = deploy(served, keep=KEEP)
    (prediction,) = send(served, endpoint, (200, b"one", b"1"))
    (kept,) = files(served)
    left = [kept.parent / "0000000000001-aa.z", kept.parent / ".0000000000002-bb.z", kept.parent.parent / "ep-gone" / "0000000000003-cc.z"]
    left[2].parent.mkdir()
    for place, minutes in zip(left, (30, 90, 30), strict=True):
        place.write_bytes(b"x")
        os.utime(place, ((served.now - timedelta(minutes=minutes)).timestamp(),) * 2)
    served.reconciler.tidy(served.now - timedelta(days=1))  # the next look tidies
    served.look(1)
    assert not left[1].exists() and left[0].exists() and left[2].exists()
    served.look(3_700)
    assert files(served) == [kept] and not left[2].parent.exists()
    assert served.http.get(f"/api/v1/predictions/{prediction}/payload").status_code == 200


def with_role(served, role):
    """A client whose token may do so much and no more."""
    _, token = served.platform.access.create_token("admin", name=role, by="admin", role_limit=role)
    return TestClient(served.platform.app, headers={"Authorization": f"Bearer {token}"})


def test_only_maintainers_keep_and_see_payloads(served):
    endpoint = deploy(served, keep=KEEP)
    (prediction,) = send(served, endpoint, (200, b"one", b"1"))
    developer = with_role(served, Role.DEVELOPER)
    assert developer.patch("/api/v1/endpoints/watched", json={"keep": KEEP}).status_code == 403
    assert developer.patch("/api/v1/endpoints/watched", json={"least": 1}).status_code == 200
    assert developer.get(f"/api/v1/predictions/{prediction}").json()["payload"]
    assert developer.get(f"/api/v1/predictions/{prediction}/payload").status_code == 403
    assert with_role(served, Role.MAINTAINER).get(f"/api/v1/predictions/{prediction}/payload").status_code == 200
