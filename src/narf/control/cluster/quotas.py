"""Quotas of a department and of its projects: where they contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from narf.control.cluster.store import list_quotas
from narf.control.projects.store import list_projects
from narf.domain.errors import BadInput
from narf.scheduling.explanation import amount_of

DEPARTMENT = "department:"
Amounts = Mapping[str, float]


def promised(quota: Amounts, resource: str) -> float:
    """What of `resource` a queue with this quota is guaranteed: GPUs of a flavor are GPUs."""
    by_flavor = sum(amount for name, amount in quota.items() if name.startswith("gpu:")) if resource == "gpu" else 0.0
    return max(quota.get(resource, 0.0), by_flavor)


def check_family(department: str, limit: Amounts, projects: Iterable[Amounts], *, field: str, remedy: str) -> None:
    """Raises BadInput: `projects` are guaranteed more than their department may hold. That could be kept on no cluster.

    field: of the request, with {resource} for what there is too little of.
    """
    projects = list(projects)
    for resource, most in limit.items():
        below = sum(promised(quota, resource) for quota in projects)
        if below > most:
            raise BadInput(
                f"The projects of department {department!r} would be guaranteed {amount_of(resource, below)}; it may hold "
                f"{amount_of(resource, most)} at most.",
                remedy=remedy, field=field.format(resource=resource),
            )  # fmt: skip


def family_warnings(department: str, quota: Amounts, projects: Iterable[Amounts]) -> list[str]:
    """Where `projects` are promised more than their department is."""
    projects = list(projects)
    below = {resource: sum(promises.get(resource, 0.0) for promises in projects) for resource in quota}
    return [
        f"The projects of department {department!r} are promised {amount_of(resource, below[resource])}; it has {amount_of(resource, amount)}."
        for resource, amount in quota.items()
        if below[resource] > amount
    ]


def check_move(connection: Connection, project: str, department: str) -> list[str]:
    """What is to be known before `project` moves to `department`.

    Raises:
        BadInput: with it, the projects there would be guaranteed more than the department may hold.
    """
    quotas = {quota.queue: quota for quota in list_quotas(connection)}
    above = quotas.get(f"{DEPARTMENT}{department}")
    if above is None or project not in quotas:
        return []
    names = {other.name for other in list_projects(connection, None, limit=100_000) if other.department == department} | {project}
    promises = [quotas[name].quota for name in names if name in quotas]
    remedy = f"Lower the quota of {project!r} first, or raise the limit of the department."
    check_family(department, above.limit, promises, field="department", remedy=remedy)
    return family_warnings(department, above.quota, promises)
