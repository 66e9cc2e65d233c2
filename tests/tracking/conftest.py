"""Stores on SQLite and PostgreSQL, and a tracking on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from narf.tracking.server import SERVER_VARIABLES, open_stores
from narf.tracking.tracking import Tracking


@pytest.fixture(autouse=True, scope="module")
def no_server_variables() -> Iterator[None]:
    """MLflow is configured by the environment; what a test sets must not reach the next module."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SERVER_VARIABLES:
            patch.setenv(name, "")
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def postgres_database(postgres_url: str) -> Iterator[str]:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text('DROP DATABASE IF EXISTS "tracking" WITH (FORCE)'))
        connection.execute(text('CREATE DATABASE "tracking"'))
    yield url.set(database="tracking").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text('DROP DATABASE "tracking" WITH (FORCE)'))
    server.dispose()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def tracking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, no_server_variables: None) -> Iterator[Tracking]:
    home: Path = tmp_path_factory.mktemp("stores")
    url = f"sqlite:///{home / 'mlflow.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    made = Tracking(open_stores(url, str(home / "artifacts"), lambda _project: True))
    yield made
    made.close()


@pytest.fixture
def run(tracking: Tracking) -> str:
    return tracking.create_run(project="default", name="test", user="me")
