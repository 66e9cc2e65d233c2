"""What is kept in memory between passes is what the database says, whatever happened in between."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from narf.backends.protocol import Replica
from narf.control.database import Database
from narf.control.workloads import store
from narf.control.workloads.alive import ALIVE, Alive
from narf.control.workloads.store import Attempt
from narf.domain.workload import NEXT, EndReason, Program, Resources, Workload, WorkloadKind, WorkloadState

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(number: int) -> Workload:
    return Workload(
        id=f"wl-{number:03}", project="p", owner="ada", name="w", kind=WorkloadKind.TRAINING, created_at=AT, resources=Resources(),
        program=Program(command=("true",)),
    )  # fmt: skip


def project(database: Database) -> None:
    from sqlalchemy import insert

    from narf.control.projects.store import projects

    with database.write() as connection:
        connection.execute(insert(projects), [{"name": "p", "description": "", "department": "d", "created_at": AT}])


def test_it_is_what_the_database_says_after_any_change(database: Database) -> None:
    project(database)
    rng, alive = random.Random(3), Alive()
    with database.write() as connection:
        for number in range(60):
            store.add(connection, made(number))
    for _ in range(12):
        with database.write() as connection:
            for workload in rng.sample(store.in_states(connection, ALIVE), 6):
                state = rng.choice(sorted(NEXT[workload.state] & set(ALIVE)) * 4 + sorted(NEXT[workload.state]))
                store.save(connection, workload.to(state), AT)
                if state is WorkloadState.ADMITTED:
                    placement = (Replica(node=f"n{rng.randrange(9)}"),)
                    store.add_attempts(
                        connection,
                        [Attempt(workload_id=workload.id, attempt=workload.attempt, backend="b", placement=placement, admitted_at=AT)],
                    )
        with database.read() as connection:
            expected = store.in_states(connection, ALIVE)
            attempts = store.attempts_of(connection, [workload.id for workload in expected])
            found = alive.load(connection)
        assert [workload for workload, _ in found] == expected
        for workload, current in found:
            wanted = next((a for a in attempts[workload.id] if a.attempt == workload.attempt), None)
            assert current == (wanted if workload.state is not WorkloadState.QUEUED else None)


def test_of_many_that_are_written_at_once_those_that_somebody_changed_are_left_out(database: Database) -> None:
    project(database)
    with database.write() as connection:
        for number in range(3):
            store.add(connection, made(number))
        loaded = store.in_states(connection, ALIVE)
        store.save(connection, replace(loaded[1].to(WorkloadState.CANCELLED), end_reason=EndReason.CANCELLED), AT)
    with database.write() as connection:
        saved = store.save_all(connection, [workload.to(WorkloadState.ADMITTED) for workload in loaded], AT)
    assert [(workload.id, workload.version) for workload in saved] == [("wl-000", 1), ("wl-002", 1)]
    with database.read() as connection:
        assert [event.state for event in store.events_of(connection, "wl-000")] == [WorkloadState.QUEUED, WorkloadState.ADMITTED]
        assert [event.state for event in store.events_of(connection, "wl-001")] == [WorkloadState.QUEUED, WorkloadState.CANCELLED]
