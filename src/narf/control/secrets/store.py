"""Tables and SQL of secrets: values are stored encrypted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Connection, ForeignKey, LargeBinary, PrimaryKeyConstraint, String, Table, delete, insert, select

from narf.control.database import Timestamp, metadata

secrets = Table(
    "secrets",
    metadata,
    Column("project", String(63), ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    project: str
    name: str
    created_by: str
    created_at: datetime


def set_secret(connection: Connection, secret: Secret, ciphertext: bytes) -> None:
    remove_secret(connection, secret.project, secret.name)
    connection.execute(
        insert(secrets).values(
            project=secret.project,
            name=secret.name,
            ciphertext=ciphertext,
            created_by=secret.created_by,
            created_at=secret.created_at,
        )
    )


def ciphertext_of(connection: Connection, project: str, name: str) -> bytes | None:
    query = select(secrets.c.ciphertext).where(secrets.c.project == project, secrets.c.name == name)
    return connection.execute(query).scalar()


def list_secrets(connection: Connection, project: str) -> list[Secret]:
    query = (
        select(secrets.c.project, secrets.c.name, secrets.c.created_by, secrets.c.created_at)
        .where(secrets.c.project == project)
        .order_by(secrets.c.name)
    )
    return [Secret(**row) for row in connection.execute(query).mappings()]


def remove_secret(connection: Connection, project: str, name: str) -> bool:
    return connection.execute(delete(secrets).where(secrets.c.project == project, secrets.c.name == name)).rowcount == 1
