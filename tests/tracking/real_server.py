"""The control plane's tracking on a real socket, as a process to be killed: `real_server.py HOME PORT`.

Whatever MLflow's own application serves is left out, so that it starts in a second.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from narf.control.access import routes as access_routes
from narf.control.access.service import AccessService
from narf.control.app import Feature, create_app
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.schema import upgrade
from narf.control.tracking.routes import RULES, router
from narf.control.tracking.service import RunService
from narf.domain.errors import NarfError
from narf.tracking.server import open_stores
from narf.tracking.tracking import Tracking


def now() -> datetime:
    return datetime.now(UTC)


def main(home: Path, port: int) -> None:
    database = Database(f"sqlite:///{home / 'narf.db'}")
    upgrade(database)
    access = AccessService(database, now)
    projects = ProjectService(database, access, now)
    runs = RunService(Tracking(open_stores(f"sqlite:///{home / 'mlflow.db'}", str(home / "artifacts"), projects.exists)))
    if not (home / "token").exists():
        access.create_user("admin", by="admin", password="correct horse battery staple", is_admin=True)
        with contextlib.suppress(NarfError):  # it is there from the beginning
            projects.create("default", by=access.principal_of_user("admin"))
        (home / "run").write_text(runs.tracking.create_run(project="default"))
        (home / "token").write_text(access.create_token("admin", name="test", by="admin")[1])
    features = [
        Feature(router=access_routes.router(access), rules=access_routes.RULES),
        Feature(router=router(runs), rules=RULES, resolvers={"run": runs.project_of}),
    ]
    uvicorn.run(create_app(features, access, projects.exists), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
