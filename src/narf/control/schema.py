"""Brings the database to the newest revision."""

from __future__ import annotations

# Every feature's tables, so that `metadata` knows them.
import narf.control.access.store
import narf.control.audit.store
import narf.control.data.lineage
import narf.control.data.outbox
import narf.control.data.sources
import narf.control.data.store
import narf.control.projects.store
import narf.control.secrets.store
import narf.control.studies.store
import narf.control.workloads.store  # noqa: F401
from narf.control.database import Database, metadata


def upgrade(database: Database) -> None:
    metadata.create_all(database.engine)
