"""Models and endpoints as features of the control plane: builds their parts and says what runs beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from narf.control.access.service import AccessService
from narf.control.app import Feature
from narf.control.database import Database
from narf.control.endpoints import routes as endpoint_routes
from narf.control.endpoints.alerts import Alerts
from narf.control.endpoints.demand import DemandBoard
from narf.control.endpoints.gateway import GatewayKeeper
from narf.control.endpoints.payloads import PayloadStore
from narf.control.endpoints.reconciler import EndpointReconciler
from narf.control.endpoints.routing import Routing
from narf.control.endpoints.service import EndpointService
from narf.control.endpoints.watching import Watching
from narf.control.models import routes as model_routes
from narf.control.models.registry import Registry
from narf.control.models.service import ModelService, PackagingReconciler, RunFiles
from narf.control.webhooks import Webhooks
from narf.control.workloads.service import WorkloadService
from narf.domain.errors import NotSignedIn
from narf.scheduling.decisions import Waiting


@dataclass(frozen=True, kw_only=True)
class Inference:
    models: ModelService
    endpoints: EndpointService
    features: list[Feature]
    reconcilers: list[Any]
    keeper: GatewayKeeper
    alerts: Alerts
    watching: Watching

    def close(self) -> None:
        self.keeper.stop()
        self.alerts.close()


def inference(
    *,
    database: Database,
    home: Path,
    host: str,
    gateway_port: int,
    gateways: int = 2,
    url: str,
    registry: Any,
    tracking: Any,
    in_project: Callable[[str], AbstractContextManager[None]],
    runs: RunFiles,
    workloads: WorkloadService,
    access: AccessService,
    wake: Callable[[], None],
    now: Callable[[], datetime],
    webhooks: Webhooks,
    told: Callable[[str, str, str], None] = lambda _project, _kind, _name: None,
    waits: Callable[[str], Waiting | None] = lambda _workload: None,
    all_waiting: Callable[[], Mapping[str, Waiting]] = dict,
) -> Inference:
    """registry, tracking: MLflow's stores. wake: have all reconcilers look at once. told: hears what the reconciler moves.
    waits: why a workload waits to be admitted, None when it does not. all_waiting: why each does that does."""
    models = ModelService(database, Registry(registry, tracking, in_project), runs, workloads, home / "packages", url, now)
    demand, alerts, routing = DemandBoard(), Alerts(webhooks), Routing(database)
    endpoints = EndpointService(database, models, demand, now)
    payloads = PayloadStore(database, home / "payloads")
    watching = Watching(database, endpoints, models, demand, alerts, payloads, now)
    endpoints.deleted = payloads.forget
    token = _GatewayToken(access, home / "run" / "gateway.token")
    keeper = GatewayKeeper(home / "run", home / "log" / "gateway.log", host, gateway_port, url, token, count=gateways)

    def changed() -> None:
        routing.changed()
        wake()

    endpoints.changed = models.changed = changed
    endpoints.check_webhook = webhooks.check
    endpoints.check_fits = workloads.check_fits
    reconciler = EndpointReconciler(database, endpoints, models, workloads, alerts, url, routing.changed)
    reconciler.waits, reconciler.all_waiting, reconciler.tidy = waits, all_waiting, watching.tidy
    reconciler.told = lambda endpoint: told(endpoint.project, "endpoint", endpoint.name)
    router = endpoint_routes.router(endpoints, watching, routing, lambda: keeper.address, token, wake)
    return Inference(
        models=models,
        endpoints=endpoints,
        features=[
            Feature(router=model_routes.router(models, home / "packages" / "incoming"), rules=model_routes.RULES),
            Feature(router=router, rules=endpoint_routes.RULES, resolvers={"endpoint": endpoints.project_of}),
        ],
        reconcilers=[reconciler, PackagingReconciler(models)],
        keeper=keeper,
        alerts=alerts,
        watching=watching,
    )


class _GatewayToken:
    """The gateway's own token, kept in a file that only this account can read, so that a restart finds it again."""

    def __init__(self, access: AccessService, place: Path) -> None:
        self._access, self._place = access, place

    def __call__(self) -> str:
        try:
            known = self._place.read_text(encoding="utf-8").strip()
            self._access.principal_of_token(known)
            return known
        except (FileNotFoundError, NotSignedIn):
            pass  # the first start, or it was revoked
        admin = next(user for user in self._access.users() if user.is_admin and user.disabled_at is None)
        _, secret = self._access.create_token(admin.name, name="gateway of this machine", by="platform", expires_in=None)
        temporary = self._place.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
        os.replace(temporary, self._place)
        return secret
