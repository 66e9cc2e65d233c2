"""Topics: what a page can listen to, who may, and which of them are read from a tail."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from narf.control.access.matcher import Matcher
from narf.control.access.rules import Rule, Scope, in_project, of
from narf.control.live.service import Live
from narf.domain.access import Principal, Role
from narf.domain.errors import NotFound

_VIEWER = Role.VIEWER
TOPICS: dict[str, Rule] = {
    "projects/{project}/workloads": in_project(_VIEWER),
    "projects/{project}/runs": in_project(_VIEWER),
    "projects/{project}/studies": in_project(_VIEWER),
    "projects/{project}/models": in_project(_VIEWER),
    "projects/{project}/endpoints": in_project(_VIEWER),
    "projects/{project}/datasets": in_project(_VIEWER),
    "workloads/{workload}/log": of("workload", _VIEWER),
    "runs/{run}/metrics": of("run", _VIEWER),
    "studies/{study}": of("study", _VIEWER),
    "endpoints/{endpoint}": of("endpoint", _VIEWER),
}


_OF_PROJECT = {"study": "studies", "model": "models", "endpoint": "endpoints", "dataset": "datasets", "source": "datasets"}


def tell(live: Live, project: str, kind: str, name: str) -> None:
    """Something of this kind and name is another than before: the lists and pages that show it read it again."""
    if kind in _OF_PROJECT:
        live.publish(f"projects/{project}/{_OF_PROJECT[kind]}", {"name": name})


@dataclass(frozen=True, slots=True)
class Topic:
    """`name` is what events carry; `template` finds the tail, if it has one."""

    name: str
    template: str
    parameters: Mapping[str, str]


class Topics:
    def __init__(self, resolvers: Mapping[str, Callable[[str], str | None]], topics: Mapping[str, Rule] = TOPICS) -> None:
        self._resolvers = resolvers
        self._matcher = Matcher({("LIVE", template): rule for template, rule in topics.items()})
        self._templates = list(topics)

    def topic(self, asked: str, principal: Principal) -> Topic:
        """The topic of this name. What follows a '#' only tells two streams of one tab apart.

        Raises:
            NotFound: there is no such topic, or this caller may not see it (which of them is not said).
        """
        name = asked.split("#", 1)[0]
        match = self._matcher.find("LIVE", name)
        if match is None or match.rule is None or principal.workload_id is not None:
            raise NotFound("topic", name)
        rule, parameters = match.rule, match.parameters
        if rule.scope is Scope.PROJECT:
            project: str | None = parameters["project"]
        else:
            resolver = self._resolvers.get(rule.kind)
            project = resolver(parameters[rule.parameter]) if resolver else None
        role = principal.role_in(project) if project else None
        if role is None or not role.includes(rule.role):
            raise NotFound("topic", name)
        return Topic(name, self._template(name, parameters), parameters)

    def _template(self, name: str, parameters: Mapping[str, str]) -> str:
        return next(template for template in self._templates if _filled(template, parameters) == name)


def _filled(template: str, parameters: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: parameters.get(match[1], "{}"), template)
