"""Tables and SQL of studies and trials. The record here is the only one: samplers are rebuilt from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from narf.control.database import Timestamp, metadata
from narf.domain.workload import Program, Resources
from narf.tuning.binding import read_bindings
from narf.tuning.space import read_space
from narf.tuning.study import Budget, Direction, Engine, Fault, Search, Study, StudyEnd, StudyState, Trial, TrialState

studies = Table(
    "studies",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("owner", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp),
    Column("end", String(31)),
    Column("detail", Text, nullable=False, default=""),
    Column("metric", Text, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("engine", String(16), nullable=False),
    Column("run_id", String(32)),
    Column("workload_id", String(40)),
    Column("spec", Text, nullable=False),  # what was asked: program, space, search, budget, ...
    Column("active_seconds", Float, nullable=False, default=0.0),
    Column("active_since", Timestamp),
    Column("events", Integer, nullable=False, default=0),
    Column("version", Integer, nullable=False),
    Index("ix_studies_project_created", "project", "created_at", "id"),
    Index("uq_studies_project_name", "project", "name", unique=True),
    Index("ix_studies_state", "state"),
)
trials = Table(
    "trials",
    metadata,
    Column("study_id", String(40), ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("values", Text, nullable=False),
    Column("workload_id", String(40)),
    Column("run_id", String(32)),
    Column("created_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("value", Float),
    Column("reports", Text, nullable=False, default="[]"),
    Column("fault", String(31)),
    Column("detail", Text, nullable=False, default=""),
    Column("asked_at", Integer, nullable=False),
    Column("told_at", Integer),
    Column("gpu_seconds", Float, nullable=False, default=0.0),
    Column("stopping", String(16)),
    Column("member", Integer),
    Column("generation", Integer, nullable=False, default=0),
    Column("source", Integer),
    Column("key", String(64)),  # what a driver calls it
    Index("ix_trials_study_key", "study_id", "key"),
    PrimaryKeyConstraint("study_id", "number"),
    Index("ix_trials_run_id", "run_id"),
)


# Made once: to put a statement of twenty columns together anew costs as much as to execute it.
_SAVE = update(studies).where(studies.c.id == bindparam("of"), studies.c.version == bindparam("loaded"))
_ADD_TRIAL = insert(trials)
_SAVE_TRIAL = update(trials).where(trials.c.study_id == bindparam("of"), trials.c.number == bindparam("numbered"))
_UNFINISHED = select(trials.c.study_id).where(trials.c.state.in_([TrialState.RUNNING, TrialState.PAUSED])).distinct()
_ACTIVE = (
    select(studies)
    .where(or_(studies.c.state.in_([StudyState.RUNNING, StudyState.PAUSED]), studies.c.id.in_(_UNFINISHED)))
    .order_by(studies.c.created_at)
)
_FIND = select(studies).where(studies.c.id == bindparam("of"))
_PROJECT = select(studies.c.project).where(studies.c.id == bindparam("of"))
_OF_STUDIES = trials.c.study_id.in_(bindparam("ids", expanding=True))
_COUNTS = select(trials.c.study_id, trials.c.state, func.count()).where(_OF_STUDIES).group_by(trials.c.study_id, trials.c.state)
_BEST = (
    select(trials.c.study_id, func.min(trials.c.value), func.max(trials.c.value))
    .where(_OF_STUDIES, trials.c.state.in_([TrialState.SUCCEEDED, TrialState.PAUSED]), trials.c.value.is_not(None))
    .group_by(trials.c.study_id)
)


def add(connection: Connection, study: Study) -> None:
    connection.execute(insert(studies).values(**_study_row(study)))


def save(connection: Connection, study: Study) -> Study | None:
    """Write `study`, whose version is the one it was loaded with; None if somebody was quicker."""
    following = replace(study, version=study.version + 1)
    row = _study_row(following) | {"of": study.id, "loaded": study.version}
    return following if connection.execute(_SAVE, row).rowcount == 1 else None


def find(connection: Connection, study_id: str) -> Study | None:
    row = connection.execute(_FIND, {"of": study_id}).mappings().first()
    return _study(dict(row)) if row else None


def find_by_name(connection: Connection, project: str, name: str) -> Study | None:
    row = connection.execute(select(studies).where(studies.c.project == project, studies.c.name == name)).mappings().first()
    return _study(dict(row)) if row else None


def project_of(connection: Connection, study_id: str) -> str | None:
    return connection.execute(_PROJECT, {"of": study_id}).scalar()


def active(connection: Connection) -> list[Study]:
    """Those that run or are paused, and finished ones whose trials still stop."""
    return [_study(dict(row)) for row in connection.execute(_ACTIVE).mappings()]


def page(
    connection: Connection,
    project: str,
    *,
    states: Sequence[StudyState] = (),
    text: str = "",
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[Study]:
    query = select(studies).where(studies.c.project == project).order_by(studies.c.created_at.desc(), studies.c.id.desc()).limit(limit)
    if states:
        query = query.where(studies.c.state.in_(states))
    if text:
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = query.where(studies.c.name.like(f"%{pattern}%", escape="\\"))
    if before is not None:
        at, key = before
        query = query.where(or_(studies.c.created_at < at, and_(studies.c.created_at == at, studies.c.id < key)))
    return [_study(dict(row)) for row in connection.execute(query).mappings()]


def add_trial(connection: Connection, trial: Trial, key: str | None = None) -> None:
    connection.execute(_ADD_TRIAL, _trial_row(trial) | {"key": key})


def save_trials(connection: Connection, changed: Iterable[Trial]) -> None:
    for trial in changed:
        connection.execute(_SAVE_TRIAL, _trial_row(trial) | {"of": trial.study_id, "numbered": trial.number})


def trials_of(connection: Connection, study_id: str) -> list[Trial]:
    rows = connection.execute(select(trials).where(trials.c.study_id == study_id).order_by(trials.c.number)).mappings()
    return [_trial(dict(row)) for row in rows]


def trial(connection: Connection, study_id: str, number: int) -> Trial | None:
    row = connection.execute(select(trials).where(trials.c.study_id == study_id, trials.c.number == number)).mappings().first()
    return _trial(dict(row)) if row else None


def trial_by_key(connection: Connection, study_id: str, key: str) -> Trial | None:
    row = connection.execute(select(trials).where(trials.c.study_id == study_id, trials.c.key == key)).mappings().first()
    return _trial(dict(row)) if row else None


def counts(connection: Connection, study_ids: Sequence[str]) -> dict[str, dict[TrialState, int]]:
    """How many trials of each state, by study."""
    found: dict[str, dict[TrialState, int]] = {study_id: {} for study_id in study_ids}
    for study_id, state, count in connection.execute(_COUNTS, {"ids": study_ids}):
        found[study_id][TrialState(state)] = count
    return found


def best_values(connection: Connection, study_ids: Sequence[str]) -> dict[str, tuple[float, float]]:
    """(least, greatest) value of the trials that succeeded or are put aside, by study."""
    return {study_id: (least, greatest) for study_id, least, greatest in connection.execute(_BEST, {"ids": study_ids})}


def _study_row(study: Study) -> dict[str, Any]:
    spec = {
        "program": asdict(study.program),
        "resources": asdict(study.resources),
        "space": study.space.to_json(),
        "bindings": {name: passing.to_json() for name, passing in study.bindings},
        "search": asdict(study.search),
        "budget": study.budget.to_json(),
        "parallel": study.parallel,
        "value_from": study.value_from,
        "initial": list(study.initial),
        "warm_from": list(study.warm_from),
        "trial_time_limit_seconds": study.trial_time_limit_seconds,
        "priority": study.priority,
        "experiment": study.experiment,
    }
    return {
        "id": study.id,
        "project": study.project,
        "owner": study.owner,
        "name": study.name,
        "state": study.state.value,
        "created_at": study.created_at,
        "ended_at": study.ended_at,
        "end": study.end.value if study.end else None,
        "detail": study.detail,
        "metric": study.metric,
        "direction": study.direction.value,
        "engine": study.engine.value,
        "run_id": study.run_id,
        "workload_id": study.workload_id,
        "spec": json.dumps(spec),
        "active_seconds": study.active_seconds,
        "active_since": study.active_since,
        "events": study.events,
        "version": study.version,
    }


def _study(row: dict[str, Any]) -> Study:
    spec = json.loads(row.pop("spec"))
    row["state"], row["direction"], row["engine"] = StudyState(row["state"]), Direction(row["direction"]), Engine(row["engine"])
    row["end"] = StudyEnd(row["end"]) if row["end"] else None
    return Study(
        **row,
        program=Program(**{key: _tuples(value) for key, value in spec["program"].items()}),
        resources=Resources(**{key: _tuples(value) for key, value in spec["resources"].items()}),
        space=read_space(spec["space"]),
        bindings=tuple(read_bindings(spec["bindings"]).items()),
        search=Search(**{key: _tuples(value) for key, value in spec["search"].items()}),
        budget=Budget(**spec["budget"]),
        parallel=spec["parallel"],
        value_from=spec["value_from"],
        initial=tuple(spec["initial"]),
        warm_from=tuple(spec["warm_from"]),
        trial_time_limit_seconds=spec["trial_time_limit_seconds"],
        priority=spec["priority"],
        experiment=spec["experiment"],
    )


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _trial_row(trial: Trial) -> dict[str, Any]:
    row = {
        name: getattr(trial, name)
        for name in (column.name for column in trials.c)
        if name not in ("values", "reports", "state", "fault", "stopping", "key")
    }
    return row | {
        "values": json.dumps(trial.values),
        "reports": json.dumps(trial.reports),
        "state": trial.state.value,
        "fault": trial.fault.value if trial.fault else None,
        "stopping": trial.stopping.value if trial.stopping else None,
    }


def _trial(row: dict[str, Any]) -> Trial:
    row.pop("key")
    row["values"] = json.loads(row["values"])
    row["reports"] = tuple((step, value) for step, value in json.loads(row["reports"]))
    row["state"] = TrialState(row["state"])
    row["fault"] = Fault(row["fault"]) if row["fault"] else None
    row["stopping"] = TrialState(row["stopping"]) if row["stopping"] else None
    return Trial(**row)
