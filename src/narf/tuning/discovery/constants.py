"""Constants at module level, the last resort: names bound once to a literal, and tables of settings, which the hooks can set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Source, Unknown, assigned

_CONFIG = {
    "config", "cfg", "conf", "configuration", "params", "parameters", "hparams", "hyperparameters", "hyperparams", "hyper", "hp", "settings", "options", "defaults", "args",
}  # fmt: skip


def find_constants(source: Source) -> list[FoundParameter]:
    """Names of the script bound once, at its top level, to a number, a bool or text; and what a table of settings there holds."""
    changed = _bound_more_than_once(source.main.tree)
    found = []
    for statement in _at_top(source.main.tree):
        name, node = assigned(statement)
        if not name or name.startswith("_") or name in changed:
            continue
        if isinstance(node, ast.Dict | ast.Call):
            if _CONFIG & set(name.lower().split("_")):
                found += [_constant(source, statement, f"{name}.{key}", value) for key, value in _leaves(source, node)]
        elif isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp):
            found.append(_constant(source, statement, name, source.main.literal(node)))
    return [item for item in found if item is not None]


def _at_top(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements of the top level, those under `if __name__ == "__main__":` and its like among them."""
    for statement in tree.body:
        if isinstance(statement, ast.If):
            yield from statement.body
        else:
            yield statement


def _leaves(source: Source, node: ast.expr) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each constant in `{"lr": 0.1, "model": {...}}` or `dict(lr=0.1)`."""
    for key, value in entries(node):
        if isinstance(value, ast.Dict | ast.Call):
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in _leaves(source, value))
        else:
            yield key, source.main.literal(value)


def entries(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """(key, value) of a dict display or of a call of `dict`, where keys are plain text."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        yield from ((item.arg, item.value) for item in node.keywords if item.arg)


def _constant(source: Source, statement: ast.stmt, name: str, value: Any) -> FoundParameter | None:
    kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
    if kind not in ("int", "float", "bool", "str"):
        return None
    return FoundParameter(
        name=name,
        type=kind,
        style=Style.CONSTANT,
        passing=Passing(How.INJECT, name),
        default=value,
        line=statement.lineno,
        file=source.main.file,
    )


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
