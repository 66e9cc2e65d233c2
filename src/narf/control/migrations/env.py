"""Alembic's entry: our tables only, in a version table of our own (MLflow's may be in the same server)."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from narf.control.database import Timestamp, metadata
from narf.control.schema import VERSION_TABLE


def ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    """Whether Alembic should look at this: a table that we did not define is somebody else's."""
    return kind != "table" or name in metadata.tables


def render(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Our own types as what they are in the database, so that migrations do not depend on our code."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Timestamp) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=ours,
    render_item=render,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
