"""Projects, their members and their invitations."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from narf.control.access.service import AccessService
from narf.control.access.store import find_user, hash_of
from narf.control.audit.store import record
from narf.control.cluster.quotas import check_move
from narf.control.database import Database
from narf.control.projects import store
from narf.control.projects.store import Invitation, Member, Project
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, Conflict, NotFound
from narf.domain.names import check_name, new_id

DEFAULT_PROJECT = "default"


class ProjectService:
    def __init__(self, database: Database, access: AccessService, now: Callable[[], datetime]) -> None:
        self._database, self._access, self._now = database, access, now

    def create(self, name: str, *, by: Principal, description: str = "", department: str = "default") -> Project:
        """A new project; whoever makes it maintains it."""
        check_name(name, kind="project")
        check_name(department, kind="department", field="department")
        project = Project(name=name, description=description, department=department, created_at=self._now())
        with self._database.write() as connection:
            if store.find_project(connection, name):
                raise Conflict(f"There is a project {name!r} already.", remedy="Choose another name.", field="name")
            store.add_project(connection, project)
            store.set_member(connection, Member(project=name, user=by.user, role=Role.MAINTAINER, created_at=project.created_at))
            record(connection, project.created_at, by.user, "create", "project", name, project=name)
        self._access.forget_cached()
        return project

    def exists(self, name: str) -> bool:
        with self._database.read() as connection:
            return store.find_project(connection, name) is not None

    def project(self, name: str) -> Project:
        with self._database.read() as connection:
            project = store.find_project(connection, name)
        if project is None:
            raise NotFound("project", name)
        return project

    def visible_to(self, principal: Principal, *, after: str = "", limit: int = 500) -> list[Project]:
        with self._database.read() as connection:
            return store.list_projects(connection, principal.projects, after=after, limit=limit)

    def change(
        self, name: str, *, by: Principal, description: str | None = None, department: str | None = None
    ) -> tuple[Project, list[str]]:
        """Changes what is given; the warnings say where its quota is more than the department it moves to can keep.

        Raises:
            BadInput: in that department, quotas and limits would contradict each other.
        """
        warnings: list[str] = []
        values = {key: value for key, value in {"description": description, "department": department}.items() if value is not None}
        if department is not None:
            check_name(department, kind="department", field="department")
        if values:
            with self._database.write() as connection:
                if department is not None:
                    warnings = check_move(connection, name, department)
                store.change_project(connection, name, **values)
                record(connection, self._now(), by.user, "change", "project", name, project=name, **values)
        return self.project(name), warnings

    # -- members

    def members(self, project: str) -> list[Member]:
        with self._database.read() as connection:
            return store.list_members(connection, project)

    def set_member(self, project: str, user: str, role: Role, *, by: Principal) -> Member:
        if role is Role.ADMIN:
            raise BadInput("A project has viewers, developers and maintainers; admin is a property of an account.", field="role")
        member = Member(project=project, user=user, role=role, created_at=self._now())
        with self._database.write() as connection:
            if find_user(connection, user) is None:
                raise NotFound("user", user, remedy="Invite them: narf project invite")
            store.set_member(connection, member)
            record(connection, member.created_at, by.user, "set_role", "member", user, project=project, role=role)
        self._access.forget_cached()
        return member

    def remove_member(self, project: str, user: str, *, by: Principal) -> None:
        with self._database.write() as connection:
            if not store.remove_member(connection, project, user):
                raise NotFound("member", user)
            record(connection, self._now(), by.user, "remove", "member", user, project=project)
        self._access.forget_cached()

    # -- invitations

    def invite(self, project: str, role: Role, *, by: Principal, expires_in: timedelta) -> tuple[Invitation, str]:
        """An invitation and its code, which is shown this once."""
        if role is Role.ADMIN:
            raise BadInput("Nobody is invited as admin.", remedy="Invite a maintainer, and make the account admin later.", field="role")
        code, now = secrets.token_urlsafe(24), self._now()
        invitation = Invitation(
            id=new_id("inv"), project=project, role=role, created_by=by.user, created_at=now, expires_at=now + expires_in
        )
        with self._database.write() as connection:
            store.add_invitation(connection, invitation, hash_of(code))
            record(connection, now, by.user, "create", "invitation", invitation.id, project=project, role=role)
        return invitation, code

    def invitations(self, project: str) -> list[Invitation]:
        with self._database.read() as connection:
            return store.list_invitations(connection, project)

    def withdraw_invitation(self, project: str, invitation_id: str, *, by: Principal) -> None:
        with self._database.write() as connection:
            if not store.remove_invitation(connection, project, invitation_id):
                raise NotFound("invitation", invitation_id)
            record(connection, self._now(), by.user, "withdraw", "invitation", invitation_id, project=project)

    def accept(self, code: str, *, user: str, password: str, display_name: str = "") -> str:
        """Make the account (there must be none of that name) and the membership; the user's name."""
        with self._database.read() as connection:
            invitation = store.find_invitation(connection, hash_of(code))
        if invitation is None or invitation.used_by is not None or invitation.expires_at <= self._now():
            raise NotFound("invitation", "with this code", remedy="It was used, withdrawn or is too old: ask for a new one.")
        self._access.create_user(user, by=f"invitation {invitation.id}"[:63], password=password, display_name=display_name)
        with self._database.write() as connection:
            if not store.use_invitation(connection, invitation.id, user):
                raise Conflict("This invitation was used a moment ago.", remedy="Ask for a new one.")
            store.set_member(connection, Member(project=invitation.project, user=user, role=invitation.role, created_at=self._now()))
            record(connection, self._now(), user, "accept", "invitation", invitation.id, project=invitation.project)
        self._access.forget_cached()
        return user
