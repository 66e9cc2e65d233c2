"""Bodies of sign-in, users, tokens, projects, members, invitations, secrets and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from narf.domain.access import Role


class SignIn(BaseModel):
    """Either a user's name and password, or the code of a one-time link."""

    user: str = Field("", max_length=63)
    password: str = Field("", max_length=1000)
    code: str = Field("", max_length=200)


class Me(BaseModel):
    user: str
    display_name: str
    is_admin: bool
    roles: dict[str, Role]
    csrf: str | None = None  # sent back as X-CSRF-Token with every change, when signed in by cookie


class UserOut(BaseModel):
    id: str
    name: str
    display_name: str
    is_admin: bool
    created_at: datetime
    disabled_at: datetime | None


class UserIn(BaseModel):
    name: str = Field(max_length=10_000)
    display_name: str = Field("", max_length=200)
    password: str | None = Field(None, max_length=1000)
    is_admin: bool = False


class UserChange(BaseModel):
    password: str | None = Field(None, max_length=1000)
    disabled: bool | None = None


class TokenIn(BaseModel):
    name: str = Field("token", max_length=1000)
    role_limit: Role = Role.ADMIN
    projects: list[str] | None = Field(None, max_length=100)
    expires_in_days: int | None = Field(90, ge=1, le=3650)


class TokenOut(BaseModel):
    id: str
    user: str
    name: str
    role_limit: Role
    projects: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenOut):
    token: str  # shown this once


class ProjectIn(BaseModel):
    name: str = Field(max_length=10_000)
    description: str = Field("", max_length=10_000)
    department: str = Field("default", max_length=63)


class ProjectChange(BaseModel):
    description: str | None = Field(None, max_length=10_000)
    department: str | None = Field(None, max_length=63)


class ProjectOut(BaseModel):
    id: str
    name: str
    description: str
    department: str
    created_at: datetime
    role: Role | None = None  # the caller's
    warnings: list[str] = Field(default=[], description="where it was changed: quotas that its department cannot keep")


class MemberIn(BaseModel):
    role: Role


class MemberOut(BaseModel):
    id: str
    user: str
    role: Role
    created_at: datetime


class InvitationIn(BaseModel):
    role: Role = Role.DEVELOPER
    expires_in_days: int = Field(7, ge=1, le=90)


class InvitationOut(BaseModel):
    id: str
    project: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_by: str | None


class NewInvitation(InvitationOut):
    code: str  # shown this once
    url: str


class InvitationAnswer(BaseModel):
    """Accept an invitation: as the signed-in user, or with a new account."""

    code: str = Field(max_length=200)
    user: str = Field("", max_length=63)
    password: str = Field("", max_length=1000)
    display_name: str = Field("", max_length=200)


class SecretIn(BaseModel):
    value: str = Field(max_length=65_536)


class SecretOut(BaseModel):
    """Never the value: that only workloads get."""

    id: str
    name: str
    created_by: str
    created_at: datetime


class AuditEntry(BaseModel):
    id: int
    created_at: datetime
    who: str
    action: str
    kind: str
    name: str
    project: str | None
    detail: dict[str, Any]
