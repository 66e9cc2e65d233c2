"""Brings the database to the newest revision."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# Every feature's tables, so that `metadata` knows them.
import narf.control.access.store
import narf.control.audit.store
import narf.control.cluster.store
import narf.control.data.lineage
import narf.control.data.outbox
import narf.control.data.sources
import narf.control.data.store
import narf.control.endpoints.store
import narf.control.live.store
import narf.control.models.store
import narf.control.projects.store
import narf.control.secrets.store
import narf.control.studies.store
import narf.control.workloads.store  # noqa: F401
from narf.control.database import Database
from narf.domain.errors import Unavailable

VERSION_TABLE = "narf_version"  # MLflow's Alembic has one of its own, possibly in the same server
_UPGRADE_LOCK = 0x6E617267


def upgrade(database: Database) -> None:
    """Bring an empty or older database to the newest revision; two processes at once do it one after the other.

    Raises:
        Unavailable: the database cannot be reached, or is damaged.
    """
    try:
        with database.write() as connection:
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _UPGRADE_LOCK})
            command.upgrade(configuration(connection), "head")
    except DBAPIError as error:
        where = database.engine.url.render_as_string(hide_password=True)
        raise Unavailable(
            f"The database {where} cannot be used: {str(error.orig).strip()}.",
            remedy="Correct NARF_DATABASE_URL, start its server, or bring back a backup: narf restore",
        ) from error


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for our migrations, on this connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
