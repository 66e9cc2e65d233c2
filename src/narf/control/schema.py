"""Brings the database to the newest revision."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

# Every feature's tables, so that `metadata` knows them.
import narf.control.access.store
import narf.control.audit.store
import narf.control.data.lineage
import narf.control.data.outbox
import narf.control.data.sources
import narf.control.data.store
import narf.control.endpoints.store
import narf.control.models.store
import narf.control.projects.store
import narf.control.secrets.store
import narf.control.studies.store
import narf.control.workloads.store  # noqa: F401
from narf.control.database import Database, metadata
from narf.domain.errors import Unavailable

VERSION_TABLE = "narf_version"


def upgrade(database: Database) -> None:
    """Raises Unavailable: the database cannot be reached, or is damaged."""
    try:
        metadata.create_all(database.engine)
    except DBAPIError as error:
        where = database.engine.url.render_as_string(hide_password=True)
        raise Unavailable(
            f"The database {where} cannot be used: {str(error.orig).strip()}.",
            remedy="Correct NARF_DATABASE_URL, start its server, or bring back a backup: narf restore",
        ) from error
