"""HTTP of projects, members and invitations."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Depends, Query, Request

from narf.control.access.caller import caller
from narf.control.access.rules import PUBLIC, SIGNED_IN, Rules, in_project
from narf.control.access.service import require_admin
from narf.control.projects.service import ProjectService
from narf.control.projects.store import Invitation, Member, Project
from narf.domain.access import Principal, Role
from narf.wire.access import (
    InvitationAnswer,
    InvitationIn,
    InvitationOut,
    MemberIn,
    MemberOut,
    NewInvitation,
    ProjectChange,
    ProjectIn,
    ProjectOut,
)
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor

RULES: Rules = {
    ("GET", "/api/v1/projects"): SIGNED_IN,
    ("POST", "/api/v1/projects"): SIGNED_IN,  # admins only, see the handler
    ("GET", "/api/v1/projects/{project}"): in_project(Role.VIEWER),
    ("PATCH", "/api/v1/projects/{project}"): in_project(Role.MAINTAINER),
    ("GET", "/api/v1/projects/{project}/members"): in_project(Role.VIEWER),
    ("PUT", "/api/v1/projects/{project}/members/{user}"): in_project(Role.MAINTAINER),
    ("DELETE", "/api/v1/projects/{project}/members/{user}"): in_project(Role.MAINTAINER),
    ("GET", "/api/v1/projects/{project}/invitations"): in_project(Role.MAINTAINER),
    ("POST", "/api/v1/projects/{project}/invitations"): in_project(Role.MAINTAINER),
    ("DELETE", "/api/v1/projects/{project}/invitations/{invitation}"): in_project(Role.MAINTAINER),
    ("POST", "/api/v1/invitations/accept"): PUBLIC,
}


def router(projects: ProjectService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["projects"])

    @routes.get("/projects", response_model=Page[ProjectOut])
    def list_projects(
        limit: Limit = 50, cursor: str = Query("", max_length=500), principal: Principal = Depends(caller)
    ) -> Page[ProjectOut]:
        """The projects that the caller can see, in order of name."""
        after = str(decode_cursor(cursor, 1)[0]) if cursor else ""
        found = projects.visible_to(principal, after=after, limit=limit + 1)
        following = encode_cursor(found[limit - 1].name) if len(found) > limit else None
        return Page(items=[_project(project, principal) for project in found[:limit]], next=following)

    @routes.post("/projects", response_model=ProjectOut, status_code=201)
    def create_project(body: ProjectIn, principal: Principal = Depends(caller)) -> ProjectOut:
        require_admin(principal)
        return _project(projects.create(body.name, by=principal, description=body.description, department=body.department), principal)

    @routes.get("/projects/{project}", response_model=ProjectOut)
    def show_project(project: str, principal: Principal = Depends(caller)) -> ProjectOut:
        return _project(projects.project(project), principal)

    @routes.patch("/projects/{project}", response_model=ProjectOut)
    def change_project(project: str, body: ProjectChange, principal: Principal = Depends(caller)) -> ProjectOut:
        """Describe it, or move it to another department (admins, as for quotas: the department's quota and limit are then its own)."""
        if body.department is not None and body.department != projects.project(project).department:
            require_admin(principal)
        changed, warnings = projects.change(project, by=principal, description=body.description, department=body.department)
        return _project(changed, principal, warnings)

    @routes.get("/projects/{project}/members", response_model=Page[MemberOut])
    def list_members(project: str) -> Page[MemberOut]:
        return Page(items=[_member(member) for member in projects.members(project)])

    @routes.put("/projects/{project}/members/{user}", response_model=MemberOut)
    def set_member(project: str, user: str, body: MemberIn, principal: Principal = Depends(caller)) -> MemberOut:
        """Add a member, or change their role."""
        return _member(projects.set_member(project, user, body.role, by=principal))

    @routes.delete("/projects/{project}/members/{user}", status_code=204)
    def remove_member(project: str, user: str, principal: Principal = Depends(caller)) -> None:
        projects.remove_member(project, user, by=principal)

    @routes.get("/projects/{project}/invitations", response_model=Page[InvitationOut])
    def list_invitations(project: str) -> Page[InvitationOut]:
        return Page(items=[_invitation(invitation) for invitation in projects.invitations(project)])

    @routes.post("/projects/{project}/invitations", response_model=NewInvitation, status_code=201)
    def invite(project: str, body: InvitationIn, request: Request, principal: Principal = Depends(caller)) -> NewInvitation:
        """Invite somebody: whoever has the link makes an account with this role."""
        invitation, code = projects.invite(project, body.role, by=principal, expires_in=timedelta(days=body.expires_in_days))
        url = str(request.base_url).rstrip("/") + f"/login?invitation={code}"
        return NewInvitation(**_invitation(invitation).model_dump(), code=code, url=url)

    @routes.delete("/projects/{project}/invitations/{invitation}", status_code=204)
    def withdraw(project: str, invitation: str, principal: Principal = Depends(caller)) -> None:
        projects.withdraw_invitation(project, invitation, by=principal)

    @routes.post("/invitations/accept", status_code=201)
    def accept(body: InvitationAnswer) -> dict[str, str]:
        """Make an account by invitation."""
        return {"user": projects.accept(body.code, user=body.user, password=body.password, display_name=body.display_name)}

    return routes


def _project(project: Project, principal: Principal, warnings: list[str] | None = None) -> ProjectOut:
    return ProjectOut(
        id=project.name,
        name=project.name,
        description=project.description,
        department=project.department,
        created_at=project.created_at,
        role=principal.role_in(project.name),
        warnings=warnings or [],
    )


def _member(member: Member) -> MemberOut:
    return MemberOut(id=member.user, user=member.user, role=member.role, created_at=member.created_at)


def _invitation(invitation: Invitation) -> InvitationOut:
    return InvitationOut(
        id=invitation.id,
        project=invitation.project,
        role=invitation.role,
        created_by=invitation.created_by,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
        used_by=invitation.used_by,
    )
