"""Who may do what: roles in a project, and the principal that a request speaks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a member may do in a project. Each role includes those before it."""

    VIEWER = "viewer"  # see
    DEVELOPER = "developer"  # run, tune, register, call endpoints
    MAINTAINER = "maintainer"  # members, secrets, quota requests, deploy to shared endpoints
    ADMIN = "admin"  # everything, in every project

    def includes(self, other: Role) -> bool:
        return _RANK[self] >= _RANK[other]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: a user, or a token that a user or a workload holds.

    role_limit: a token may be narrower than its user. run_id: a workload's token reaches its own run only.
    """

    user: str
    is_admin: bool = False
    roles: tuple[tuple[str, Role], ...] = ()  # (project, role)
    role_limit: Role = Role.ADMIN
    projects_limit: tuple[str, ...] | None = None
    run_id: str | None = None
    workload_id: str | None = None

    def role_in(self, project: str) -> Role | None:
        """The role that counts in `project`, None if it may not even be seen."""
        if self.projects_limit is not None and project not in self.projects_limit:
            return None
        role = Role.ADMIN if self.is_admin else dict(self.roles).get(project)
        if role is None:
            return None
        return role if self.role_limit.includes(role) else self.role_limit

    @property
    def projects(self) -> tuple[str, ...] | None:
        """Names of the projects it can see; None: all of them."""
        if self.projects_limit is not None:
            return self.projects_limit
        return None if self.is_admin else tuple(project for project, _ in self.roles)
