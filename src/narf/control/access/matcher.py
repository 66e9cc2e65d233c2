"""Finds the rule of a request: (method, path) against the templates that routes declare.

Independent of the web framework's own routing on purpose: what this does not know is refused before
any handler sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from narf.control.access.rules import Rule


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    rest: dict[str, tuple[str, Rule]] = field(default_factory=dict)  # "{path:path}": method -> (name, rule)
    rules: dict[str, tuple[tuple[str, ...], Rule]] = field(default_factory=dict)  # method -> (parameter names, rule)
    rest_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """`rule` is None when the path is known but not with this method."""

    rule: Rule | None
    parameters: Mapping[str, str]


class Matcher:
    """Built once from every feature's rules."""

    def __init__(self, rules: Mapping[tuple[str, str], Rule]) -> None:
        self._root = _Node()
        for (method, template), rule in rules.items():
            self._add(method, template, rule)

    def find(self, method: str, path: str) -> Match | None:
        """What is declared for `path`; None if nothing is. HEAD is read as GET."""
        method = "GET" if method == "HEAD" else method
        return _walk(self._root, method, path.strip("/").split("/"), 0, [])

    def _add(self, method: str, template: str, rule: Rule) -> None:
        node = self._root
        names: list[str] = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{") and segment.endswith(":path}"):
                node.rest[method] = (segment[1:-6], rule)
                node.rest_names = tuple(names)
                return
            if segment.startswith("{"):
                names.append(segment[1:-1].split(":")[0])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        assert method not in node.rules, f"two rules for {method} {template}"
        node.rules[method] = (tuple(names), rule)


def _walk(node: _Node, method: str, segments: list[str], at: int, values: list[str]) -> Match | None:
    if at == len(segments):
        if node.rules:
            names, rule = node.rules.get(method, ((), None))
            return Match(rule, dict(zip(names, values, strict=True)) if rule else {})
    else:
        segment = segments[at]
        if (child := node.literal.get(segment)) and (found := _walk(child, method, segments, at + 1, values)):
            return found
        if (
            segment
            and node.parameter is not None
            and (found := _walk(node.parameter, method, segments, at + 1, [*values, segment])) is not None
        ):
            return found
    if node.rest:
        name, rule = node.rest.get(method, ("", None))
        if rule is None:
            return Match(None, {})
        return Match(rule, {**dict(zip(node.rest_names, values, strict=True)), name: "/".join(segments[at:])})
    return None
