"""Constants at module level, the last resort: names bound once to a literal, tables of settings, and defaults of the
function that the script calls, all of which the hooks can set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from narf.training.parameters import TABLES
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.propose import words_of
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
            if _CONFIG & set(words_of(name)):
                found += [_constant(source, statement, f"{name}.{key}", value) for key, value in _leaves(source, node)]
        elif isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp):
            found.append(_constant(source, statement, name, source.main.literal(node)))
    for owner, name, line, node in (*_attributes(source.main.tree), *_defaults(source)):
        item = _constant(source, None, f"{owner}.{name}", source.main.literal(node))
        found.append(None if item is None else replace(item, line=line))
    return [item for item in found if item is not None]


def _attributes(tree: ast.Module) -> Iterator[tuple[str, str, int, ast.expr]]:
    """(class, name, line, value) of `class Config: lr = 0.1`."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _CONFIG & set(words_of(node.name)) and not node.decorator_list:
            for statement in node.body:
                name, value = assigned(statement)
                if name and value is not None and not name.startswith("_"):
                    yield node.name, name, statement.lineno, value


def _defaults(source: Source) -> Iterator[tuple[str, str, int, ast.expr]]:
    """(function, parameter, line, default) of `def train(lr=0.1)` that the script calls at its top level, without giving that parameter."""
    for statement in _at_top(source.main.tree):
        call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        known = source.defined.get(call.func.id) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else None
        if not isinstance(call, ast.Call) or known is None or known[0] is not source.main:
            continue
        function = known[1]
        if function.decorator_list or any(item.arg is None for item in call.keywords):
            continue
        positional = [*function.args.posonlyargs, *function.args.args]
        given = {item.arg for item in positional[: len(call.args)]} | {item.arg for item in call.keywords}
        last = positional[len(positional) - len(function.args.defaults) :]
        pairs = [*zip(last, function.args.defaults, strict=True), *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)]
        for item, default in pairs:
            if default is not None and item.arg not in given:
                yield function.name, item.arg, item.lineno, default


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
    """(key, value) of a dict display or of a call of `dict`, `SimpleNamespace` and the like, where keys are plain text."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.Call) and not node.args and _called(node) in TABLES:
        yield from ((item.arg, item.value) for item in node.keywords if item.arg)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""


def _constant(source: Source, statement: ast.stmt | None, name: str, value: Any) -> FoundParameter | None:
    kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
    if kind not in ("int", "float", "bool", "str"):
        return None
    return FoundParameter(
        name=name,
        type=kind,
        style=Style.CONSTANT,
        passing=Passing(How.INJECT, name),
        default=value,
        line=statement.lineno if statement is not None else 0,
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
