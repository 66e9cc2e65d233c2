"""Tracking as a feature of the control plane: our routes for runs, and MLflow's application behind its gate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from narf.control.app import Feature
from narf.control.tracking.gate import MlflowGate, Owners
from narf.control.tracking.mlflow_rules import PAGES, ROOTS, rules_of
from narf.control.tracking.routes import RULES, router
from narf.control.tracking.service import RunService
from narf.tracking.server import Stores, mlflow_app, routes


def tracking_features(runs: RunService, stores: Stores, project_exists: Callable[[str], bool]) -> list[Feature]:
    """Our routes and MLflow's. MLflow's pages and all of its API lie below /mlflow, what programs call also at the root."""
    app = mlflow_app(stores)
    owners = Owners(
        of_run=runs.project_of, of_experiment=runs.tracking.project_of_experiment, parent_of=runs.parent_of, project_exists=project_exists
    )
    return [
        Feature(router=router(runs), rules=RULES, resolvers={"run": runs.project_of}),
        Feature(
            rules=rules_of(routes()),
            mounts={PAGES: MlflowGate(app, owners, prefix=PAGES)} | {root: MlflowGate(app, owners) for root in ROOTS},
        ),
    ]


class CompactionReconciler:
    """Merges small metric chunks, a few series a pass."""

    name = "metric compaction"

    def __init__(self, runs: RunService) -> None:
        self._tracking = runs.tracking

    def pass_once(self, now: datetime) -> bool:
        return self._tracking.compact() > 0

    def next_look_seconds(self) -> float:
        return 20.0
