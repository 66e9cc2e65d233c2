"""What several gateways and replicas report of the same revision at the same time, on both databases."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from typing import Any

import pytest

from narf.control.database import Database
from narf.control.endpoints import store
from narf.control.endpoints.demand import DemandBoard
from narf.control.endpoints.plan import ReplicaState, Role
from narf.control.endpoints.store import Endpoint, Replica, Revision
from narf.control.endpoints.watching import Watching
from narf.domain.access import Principal
from narf.serving.identity import Identities

TIMES = 20
BY = Principal(user="admin", is_admin=True)


@pytest.fixture
def watching(database: Database, clock) -> Watching:
    """One endpoint with a revision in two replicas; of the rest of the platform nothing is needed."""
    nobody: Any = None
    now = clock()
    endpoint = Endpoint(
        id="ep-1", project="bank", name="digits", model="digits", alias="", least=0, most=2, target=16.0, idle_seconds=300.0,
        timeout_seconds=30.0, resources={}, rollout={}, webhook="", public=False, created_by="ada", created_at=now,
    )  # fmt: skip
    revision = Revision(
        id="rev-1", endpoint_id="ep-1", number=1, model="digits", version=1, package_id="p", role=Role.ACTIVE, weight=100.0,
        created_by="ada", created_at=now,
    )  # fmt: skip
    with database.write() as connection:
        store.add_endpoint(connection, endpoint)
        store.add_revision(connection, revision)
        for name in ("wl-1", "wl-2"):
            replica = Replica(
                workload_id=name, endpoint_id="ep-1", revision_id="rev-1", state=ReplicaState.READY, created_at=now, since=now
            )
            store.add_replica(connection, replica)
    made = Watching(database, nobody, nobody, DemandBoard(), nobody, nobody, clock)
    made._look_for_drift = lambda *_: None  # type: ignore[method-assign]
    return made


def at_once(work) -> None:
    """`work("1")` and `work("2")` in two threads, so many times each."""
    begin, failed = threading.Barrier(2), []

    def run(who: str) -> None:
        begin.wait(10)
        try:
            for _ in range(TIMES):
                work(who)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(who,)) for who in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


def test_reports_of_two_gateways_that_come_together_are_added_together(watching, database, clock):
    answers = {"requests": 3, "errors": 0, "rejected": 1, "histogram": [3] + [0] * 15, "seconds": 0.5}
    report = {"ep-1": {"concurrency": 1, "waiting": 0, "arrived": 3, "revisions": {"rev-1": answers}}}
    at_once(lambda who: watching.gateway_reports(f"gw-{who}", report))
    with database.read() as connection:
        (minute,) = store.minutes_of(connection, "ep-1", clock().replace(second=0, microsecond=0))
    assert (minute.requests, minute.rejected, minute.histogram[0], minute.seconds) == (6 * TIMES, 2 * TIMES, 6 * TIMES, float(TIMES))


def test_reports_of_two_replicas_that_come_together_are_added_together(watching, database, clock):
    def report(who: str) -> None:
        columns = {"ids": [Identities().new().decode()], "rows": [2], "milliseconds": [1.0], "input_means": [None], "output_means": [None]}
        records = base64.b64encode(zlib.compress(json.dumps(columns).encode())).decode()
        outputs = {"numbers": {"y": [2, 1.0, 1.0, 0.0, 1.0]}, "labels": {}}
        value = {"revision": "rev-1", "records": records, "rows": 2, "inputs": {}, "outputs": outputs, "summary": {}}
        watching.replica_report(f"wl-{who}", value, by=BY)

    at_once(report)
    with database.read() as connection:
        seen = store.find_observation(connection, "rev-1", clock().replace(minute=0, second=0, microsecond=0))
    assert seen["rows"] == 4 * TIMES and seen["outputs"]["numbers"]["y"][0] == 4 * TIMES
