"""Tables and SQL of access: users, sessions, tokens. What proves an identity is kept as a hash only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Boolean, Column, Connection, ForeignKey, Index, String, Table, Text, bindparam, delete, insert, select, update

from narf.control.database import Timestamp, metadata
from narf.domain.access import Role

users = Table(
    "users",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("display_name", Text, nullable=False, default=""),
    Column("password_hash", Text),  # none: signs in by link or single sign-on only
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("created_at", Timestamp, nullable=False),
    Column("disabled_at", Timestamp),
)
sessions = Table(
    "sessions",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("user", String(63), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("user", String(63), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role_limit", String(16), nullable=False),
    Column("projects", Text),  # comma-separated names; none: all of the user's
    Column("run_id", String(32)),
    Column("workload_id", String(40)),
    Column("created_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp),
    Column("revoked_at", Timestamp),
    Index("ix_tokens_user", "user"),
    Index("ix_tokens_workload_id", "workload_id"),
)
login_links = Table(
    "login_links",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("user", String(63), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str
    display_name: str
    is_admin: bool
    created_at: datetime
    disabled_at: datetime | None = None
    password_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id_hash: str
    user: str
    csrf: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str
    user: str
    name: str
    role_limit: Role
    projects: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    run_id: str | None = None
    workload_id: str | None = None


def hash_of(secret: str) -> str:
    """SHA-256 in hex. Enough for secrets of 256 random bits; passwords go through argon2."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add_user(connection: Connection, user: User) -> None:
    connection.execute(
        insert(users).values(
            name=user.name,
            display_name=user.display_name,
            is_admin=user.is_admin,
            created_at=user.created_at,
            password_hash=user.password_hash,
        )
    )


def find_user(connection: Connection, name: str) -> User | None:
    row = connection.execute(select(users).where(users.c.name == name)).mappings().first()
    return User(**row) if row else None


def list_users(connection: Connection, *, after: str = "", limit: int = 500) -> list[User]:
    query = select(users).where(users.c.name > after).order_by(users.c.name).limit(limit)
    return [User(**row) for row in connection.execute(query).mappings()]


def change_user(connection: Connection, name: str, **values: object) -> bool:
    return connection.execute(update(users).where(users.c.name == name).values(**values)).rowcount == 1


def add_session(connection: Connection, session: Session) -> None:
    connection.execute(delete(sessions).where(sessions.c.expires_at < session.created_at))
    connection.execute(
        insert(sessions).values(
            id_hash=session.id_hash, user=session.user, csrf=session.csrf, created_at=session.created_at, expires_at=session.expires_at
        )
    )


def find_session(connection: Connection, id_hash: str) -> Session | None:
    row = connection.execute(select(sessions).where(sessions.c.id_hash == id_hash)).mappings().first()
    return Session(**row) if row else None


def extend_session(connection: Connection, id_hash: str, expires_at: datetime) -> None:
    connection.execute(update(sessions).where(sessions.c.id_hash == id_hash).values(expires_at=expires_at))


def remove_sessions(connection: Connection, *, id_hash: str | None = None, user: str | None = None) -> None:
    condition = sessions.c.id_hash == id_hash if id_hash is not None else sessions.c.user == user
    connection.execute(delete(sessions).where(condition))


# Made once: every attempt of a workload has one.
_ADD_TOKEN = insert(tokens)
_TOKEN_OF_SECRET = select(tokens).where(tokens.c.secret_hash == bindparam("hash"))


def add_token(connection: Connection, token: Token, secret_hash: str) -> None:
    row = {
        "id": token.id,
        "secret_hash": secret_hash,
        "user": token.user,
        "name": token.name,
        "role_limit": token.role_limit.value,
        "projects": None if token.projects is None else ",".join(token.projects),
        "run_id": token.run_id,
        "workload_id": token.workload_id,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
    connection.execute(_ADD_TOKEN, row)


def find_token(connection: Connection, *, secret_hash: str | None = None, token_id: str | None = None) -> Token | None:
    query = _TOKEN_OF_SECRET if secret_hash is not None else select(tokens).where(tokens.c.id == token_id)
    row = connection.execute(query, {"hash": secret_hash}).mappings().first()
    return _token(dict(row)) if row else None


def list_tokens(connection: Connection, user: str | None) -> list[Token]:
    """People's tokens, newest first; those of workloads are not listed."""
    query = select(tokens).where(tokens.c.workload_id.is_(None)).order_by(tokens.c.created_at.desc())
    if user is not None:
        query = query.where(tokens.c.user == user)
    return [_token(dict(row)) for row in connection.execute(query).mappings()]


def revoke_tokens(connection: Connection, now: datetime, *, token_id: str | None = None, workload_id: str | None = None) -> None:
    condition = tokens.c.id == token_id if token_id is not None else tokens.c.workload_id == workload_id
    connection.execute(update(tokens).where(condition, tokens.c.revoked_at.is_(None)).values(revoked_at=now))


def add_login_link(connection: Connection, code_hash: str, user: str, expires_at: datetime) -> None:
    connection.execute(insert(login_links).values(code_hash=code_hash, user=user, expires_at=expires_at))


def take_login_link(connection: Connection, code_hash: str, now: datetime) -> str | None:
    """The user a link signs in; the link is gone afterwards, so it works once."""
    row = connection.execute(select(login_links).where(login_links.c.code_hash == code_hash)).mappings().first()
    taken = connection.execute(delete(login_links).where(login_links.c.code_hash == code_hash)).rowcount
    return row["user"] if row and taken and row["expires_at"] > now else None


def _token(row: dict[str, object]) -> Token:
    row = {key: value for key, value in row.items() if key != "secret_hash"}
    projects = row.pop("projects")
    assert projects is None or isinstance(projects, str)
    role = Role(str(row.pop("role_limit")))
    return Token(**row, role_limit=role, projects=None if projects is None else tuple(p for p in projects.split(",") if p))  # type: ignore[arg-type]
