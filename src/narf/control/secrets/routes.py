"""HTTP of secrets. Values go in and never come out."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from narf.control.access.caller import caller
from narf.control.access.rules import Rules, in_project
from narf.control.secrets.service import SecretService
from narf.domain.access import Principal, Role
from narf.wire.access import SecretIn, SecretOut
from narf.wire.page import Page

RULES: Rules = {
    ("GET", "/api/v1/projects/{project}/secrets"): in_project(Role.DEVELOPER),
    ("PUT", "/api/v1/projects/{project}/secrets/{name}"): in_project(Role.MAINTAINER),
    ("DELETE", "/api/v1/projects/{project}/secrets/{name}"): in_project(Role.MAINTAINER),
}


def router(secrets: SecretService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["secrets"])

    @routes.get("/projects/{project}/secrets", response_model=Page[SecretOut])
    def list_secrets(project: str) -> Page[SecretOut]:
        return Page(
            items=[SecretOut(id=s.name, name=s.name, created_by=s.created_by, created_at=s.created_at) for s in secrets.of_project(project)]
        )

    @routes.put("/projects/{project}/secrets/{name}", response_model=SecretOut)
    def set_secret(project: str, name: str, body: SecretIn, principal: Principal = Depends(caller)) -> SecretOut:
        secret = secrets.set(project, name, body.value, by=principal)
        return SecretOut(id=name, name=name, created_by=secret.created_by, created_at=secret.created_at)

    @routes.delete("/projects/{project}/secrets/{name}", status_code=204)
    def remove_secret(project: str, name: str, principal: Principal = Depends(caller)) -> None:
        secrets.remove(project, name, by=principal)

    return routes
