"""Constants at module level, the last resort: names bound once to a literal, which the hooks can set."""

from __future__ import annotations

import ast

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import UNKNOWN, Source, Unknown, assigned


def find_constants(source: Source) -> list[FoundParameter]:
    """Names of the script bound once, at its top level, to a number, a bool or text."""
    changed = _bound_more_than_once(source.main.tree)
    found = []
    for statement in source.main.tree.body:
        name, node = assigned(statement)
        value = source.main.literal(node) if isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp) else UNKNOWN
        if not name or name.startswith("_") or name in changed or isinstance(value, Unknown) or value is None:
            continue
        kind = type_of_value(value)
        if kind in ("int", "float", "bool", "str"):
            found.append(
                FoundParameter(
                    name=name,
                    type=kind,
                    style=Style.CONSTANT,
                    passing=Passing(How.INJECT, name),
                    default=value,
                    line=statement.lineno,
                    file=source.main.file,
                )
            )
    return found


def _bound_more_than_once(tree: ast.Module) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()

    def bind(name: str) -> None:
        (again if name in seen else seen).add(name)

    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            again.update(node.names)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            again.add(node.target.id)
    for node in _outside_functions(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            bind(node.id)
    return again


def _outside_functions(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                waiting.append(child)
    return found
