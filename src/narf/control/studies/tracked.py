"""Studies' view of tracking: values that trials reported, notes on the run of a study, models that a trial logged."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence

from sqlalchemy import bindparam, select

from narf.control.models.service import ModelService
from narf.tracking import metrics, tables
from narf.tracking.tracking import Tracking

# Made once: they are asked at every end of a trial.
_COUNTS = select(tables.series.c.run_uuid, tables.series.c.count).where(
    tables.series.c.run_uuid.in_(bindparam("runs", expanding=True)), tables.series.c.key == bindparam("of")
)
_END = select(tables.run_events.c.id).where(tables.run_events.c.run_uuid == bindparam("run"), tables.run_events.c.type == "end").limit(1)


class TrackedMetrics:
    """Metrics of trials, read from the tracking store."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def counts(self, run_ids: Sequence[str], key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._tracking.store.engine.connect() as connection:
            for at in range(0, len(run_ids), 500):
                rows = connection.execute(_COUNTS, {"runs": run_ids[at : at + 500], "of": key})
                found.update({row.run_uuid: int(row.count) for row in rows})
        return found

    def points(self, run_id: str, key: str, after: int) -> Sequence[tuple[int, float]]:
        with self._tracking.store.engine.connect() as connection:
            found = metrics.find_series(connection, run_id, key)
            if found is None or found[1] <= after:
                return []
            points = metrics.read(connection, found[0]).take(slice(after, None))
        return list(zip(points.steps.tolist(), points.values.tolist(), strict=True))

    def names(self, run_id: str) -> Sequence[str]:
        return [summary.key for summary in self._tracking.metrics(run_id) if not summary.key.startswith("system/")]

    def is_complete(self, run_id: str) -> bool:
        """The program has said that it ends, which it does after all it reported."""
        with self._tracking.store.engine.connect() as connection:
            return connection.execute(_END, {"run": run_id}).first() is not None


class UnusedValues:
    """What the hooks said of values that found no place in the script."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def of(self, study_id: str) -> dict[str, list[int]]:
        """Where a value was to go -> numbers of the trials in which it did not get there."""
        said, study, trial = tables.tags.alias(), tables.tags.alias(), tables.tags.alias()
        query = (
            select(said.c.value, trial.c.value.label("number"))
            .where(said.c.key == "narf.unused_parameters", study.c.key == "narf.study", study.c.value == study_id)
            .where(study.c.run_uuid == said.c.run_uuid, trial.c.key == "narf.trial", trial.c.run_uuid == said.c.run_uuid)
        )
        found: dict[str, list[int]] = {}
        with self._tracking.store.engine.connect() as connection:
            for row in connection.execute(query):
                with contextlib.suppress(ValueError, TypeError):  # the program may have written anything there
                    number, names = int(row.number), [str(name) for name in json.loads(row.value)]
                    for name in names:
                        found.setdefault(name, []).append(number)
        return {name: sorted(numbers) for name, numbers in found.items()}


class TrackedParents:
    """Notes on the runs of studies."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def note(self, run_id: str, *, tags: dict[str, str], metrics: dict[str, float]) -> None:
        at = round(time.time() * 1000)
        self._tracking.set_tags(run_id, tags)
        self._tracking.log_batch(run_id, metrics=[(key, value, 0, at) for key, value in metrics.items()])


class RegisteredModels:
    """Registers what a run logged, as the registry does it for everybody. `models` is set once there is a registry: it is made after studies."""

    models: ModelService | None = None

    def register_run(self, project: str, user: str, run_id: str, name: str) -> str:
        assert self.models is not None
        version, _ = self.models.register(project, run_id, name=name, by=user)
        return str(version.version)
