"""Is it up, is it ready, what are its numbers: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import text
from starlette.responses import JSONResponse, Response

from narf.control.access.rules import PUBLIC, Rules
from narf.control.database import Database
from narf.domain.workload import WorkloadState

RULES: Rules = {("GET", "/healthz"): PUBLIC, ("GET", "/readyz"): PUBLIC, ("GET", "/metrics"): PUBLIC}


class WorkloadCollector(Collector):
    """How many workloads are in each state, read when asked."""

    def __init__(self, counts: Callable[[], dict[WorkloadState, int]]) -> None:
        self._counts = counts

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("narf_workloads", "Workloads by state", labels=["state"])
        counts = self._counts()
        for state in WorkloadState:
            family.add_metric([state.value], counts.get(state, 0))
        return [family]

    def describe(self) -> list[GaugeMetricFamily]:
        return []


def router(database: Database, checks: dict[str, Callable[[], bool]], registry: CollectorRegistry) -> APIRouter:
    """`checks`: what must be true before requests are welcome, by name."""
    routes = APIRouter(tags=["health"])
    ProcessCollector(registry=registry)

    @routes.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/readyz")
    def readyz() -> JSONResponse:
        """It can serve: its database answers and its reconcilers run."""
        states = {name: _holds(check) for name, check in {"database": lambda: _answers(database), **checks}.items()}
        ready = all(states.values())
        return JSONResponse({"status": "ready" if ready else "not ready", "checks": states}, 200 if ready else 503)

    @routes.get("/metrics")
    def metrics() -> Response:
        """Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # whatever a check raises, its answer is no
        return False


def _answers(database: Database) -> bool:
    with database.read() as connection:
        return connection.execute(text("SELECT 1")).scalar() == 1
