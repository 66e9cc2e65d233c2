"""Rules: what a route asks of its caller. Every route has one; a route without is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from narf.domain.access import Role


class Scope(StrEnum):
    PUBLIC = "public"  # no sign-in
    SIGNED_IN = "signed_in"  # anybody with an account or a token; the handler narrows what is listed
    ADMIN = "admin"
    PROJECT = "project"  # a role in the project named {project} in the path
    OBJECT = "object"  # a role in the project that the object named in the path belongs to


@dataclass(frozen=True, slots=True)
class Rule:
    """`kind` and `parameter`: which resolver finds the project, from which path parameter (scope OBJECT)."""

    scope: Scope
    role: Role = Role.VIEWER
    kind: str = ""
    parameter: str = ""
    workload_may: bool = False  # also with a workload's own token, for its own run or workload


PUBLIC = Rule(Scope.PUBLIC)
SIGNED_IN = Rule(Scope.SIGNED_IN)
ADMIN = Rule(Scope.ADMIN, Role.ADMIN)


def in_project(role: Role, *, workload_may: bool = False) -> Rule:
    return Rule(Scope.PROJECT, role, workload_may=workload_may)


def of(kind: str, role: Role, *, parameter: str = "", workload_may: bool = False) -> Rule:
    """A role in the project of the `kind` whose id is path parameter `parameter` (by default named as the kind)."""
    return Rule(Scope.OBJECT, role, kind, parameter or kind, workload_may)


Rules = dict[tuple[str, str], Rule]
