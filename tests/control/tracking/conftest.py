"""A control plane with tracking alone, served over a real socket, for tests that use MLflow's own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn

from narf.control.access import routes as access_routes
from narf.control.access.service import AccessService
from narf.control.app import Feature, create_app
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.schema import upgrade
from narf.control.tracking.feature import tracking_features
from narf.control.tracking.service import RunService
from narf.domain.access import Principal, Role
from narf.tracking.server import SERVER_VARIABLES, open_stores
from narf.tracking.tracking import Tracking


@dataclass(frozen=True)
class Server:
    url: str
    access: AccessService
    projects: ProjectService
    runs: RunService
    admin: str  # a token

    def client(self, token: str | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token or self.admin}"}, timeout=30)

    def token(self, user: str, roles: dict[str, Role]) -> str:
        """A token of a new user with these roles."""
        root = Principal(user="admin", is_admin=True)
        self.access.create_user(user, by="admin", password="correct horse battery staple")
        for project, role in roles.items():
            self.projects.set_member(project, user, role, by=root)
        return self.access.create_token(user, name=user, by="admin")[1]

    def workload_token(self, run_id: str, project: str) -> str:
        return self.access.create_token(
            "admin",
            name="workload",
            by="admin",
            role_limit=Role.DEVELOPER,
            projects_limit=(project,),
            run_id=run_id,
            workload_id="wl-1",
        )[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home: Path = tmp_path_factory.mktemp("tracking")
    patch = pytest.MonkeyPatch()
    for name in SERVER_VARIABLES:
        patch.delenv(name, raising=False)
    database = Database(f"sqlite:///{home / 'narf.db'}")
    upgrade(database)

    def now() -> datetime:
        return datetime.now(UTC)

    access = AccessService(database, now)
    projects = ProjectService(database, access, now)
    access.create_user("admin", by="admin", password="correct horse battery staple", is_admin=True)
    root = access.principal_of_user("admin")
    for name in ("default", "vision", "a_b.c"):
        projects.create(name, by=root)
    stores = open_stores(f"sqlite:///{home / 'mlflow.db'}", str(home / "artifacts"), projects.exists)
    runs = RunService(Tracking(stores))
    features = [Feature(router=access_routes.router(access), rules=access_routes.RULES), *tracking_features(runs, stores, projects.exists)]
    app = create_app(features, access, projects.exists)
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not running.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    token = access.create_token("admin", name="test", by="admin")[1]
    yield Server(f"http://127.0.0.1:{port}", access, projects, runs, token)
    running.should_exit = True
    thread.join(10)
    for name in SERVER_VARIABLES:
        patch.delenv(name, raising=False)
    patch.undo()
