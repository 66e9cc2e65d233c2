"""Tables and SQL of projects: a team's space, its members and its invitations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from narf.control.database import Timestamp, metadata
from narf.domain.access import Role

projects = Table(
    "projects",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("description", Text, nullable=False, default=""),
    Column("department", String(63), nullable=False, default="default"),
    Column("created_at", Timestamp, nullable=False),
)
members = Table(
    "members",
    metadata,
    Column("project", String(63), ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("user", String(63), ForeignKey("users.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("project", "user"),
)
invitations = Table(
    "invitations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("code_hash", String(64), nullable=False, unique=True),
    Column("project", String(63), ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
    Column("used_by", String(63)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    name: str
    description: str
    department: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    project: str
    user: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    id: str
    project: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_by: str | None = None


# Made once: every workload that is begun asks for them.
_DEPARTMENT = select(projects.c.department).where(projects.c.name == bindparam("named"))
_PROJECTS = select(projects).where(projects.c.name > bindparam("after")).order_by(projects.c.name).limit(bindparam("most", type_=Integer))
_ROLES = select(members.c.project, members.c.role).where(members.c.user == bindparam("of")).order_by(members.c.project)


def add_project(connection: Connection, project: Project) -> None:
    connection.execute(
        insert(projects).values(
            name=project.name, description=project.description, department=project.department, created_at=project.created_at
        )
    )


def find_project(connection: Connection, name: str) -> Project | None:
    row = connection.execute(select(projects).where(projects.c.name == name)).mappings().first()
    return Project(**row) if row else None


def department_of(connection: Connection, name: str) -> str | None:
    return connection.execute(_DEPARTMENT, {"named": name}).scalar()


def list_projects(connection: Connection, names: tuple[str, ...] | None, *, after: str = "", limit: int = 500) -> list[Project]:
    """In order of name, those among `names` (None: all)."""
    query = _PROJECTS if names is None else _PROJECTS.where(projects.c.name.in_(names))
    return [Project(**row) for row in connection.execute(query, {"after": after, "most": limit}).mappings()]


def change_project(connection: Connection, name: str, **values: object) -> None:
    connection.execute(update(projects).where(projects.c.name == name).values(**values))


def set_member(connection: Connection, member: Member) -> None:
    remove_member(connection, member.project, member.user)
    connection.execute(
        insert(members).values(project=member.project, user=member.user, role=member.role.value, created_at=member.created_at)
    )


def remove_member(connection: Connection, project: str, user: str) -> bool:
    return connection.execute(delete(members).where(members.c.project == project, members.c.user == user)).rowcount == 1


def list_members(connection: Connection, project: str) -> list[Member]:
    query = select(members).where(members.c.project == project).order_by(members.c.user)
    return [Member(**{**row, "role": Role(row["role"])}) for row in connection.execute(query).mappings()]


def roles_of(connection: Connection, user: str) -> tuple[tuple[str, Role], ...]:
    return tuple((row.project, Role(row.role)) for row in connection.execute(_ROLES, {"of": user}))


def add_invitation(connection: Connection, invitation: Invitation, code_hash: str) -> None:
    connection.execute(
        insert(invitations).values(
            id=invitation.id,
            code_hash=code_hash,
            project=invitation.project,
            role=invitation.role.value,
            created_by=invitation.created_by,
            created_at=invitation.created_at,
            expires_at=invitation.expires_at,
        )
    )


def list_invitations(connection: Connection, project: str) -> list[Invitation]:
    query = select(invitations).where(invitations.c.project == project).order_by(invitations.c.created_at.desc())
    return [_invitation(dict(row)) for row in connection.execute(query).mappings()]


def find_invitation(connection: Connection, code_hash: str) -> Invitation | None:
    row = connection.execute(select(invitations).where(invitations.c.code_hash == code_hash)).mappings().first()
    return _invitation(dict(row)) if row else None


def use_invitation(connection: Connection, invitation_id: str, user: str) -> bool:
    """False if somebody used it before."""
    change = update(invitations).where(invitations.c.id == invitation_id, invitations.c.used_by.is_(None)).values(used_by=user)
    return connection.execute(change).rowcount == 1


def remove_invitation(connection: Connection, project: str, invitation_id: str) -> bool:
    condition = (invitations.c.project == project, invitations.c.id == invitation_id)
    return connection.execute(delete(invitations).where(*condition)).rowcount == 1


def _invitation(row: dict[str, object]) -> Invitation:
    row = {key: value for key, value in row.items() if key != "code_hash"}
    return Invitation(**{**row, "role": Role(str(row["role"]))})  # type: ignore[arg-type]
