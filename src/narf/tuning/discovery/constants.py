"""Constants at module level, the last resort: names bound once to a literal, tables of settings, and defaults of the
function that the script calls, all of which the hooks can set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from narf.training.parameters import TABLES
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.propose import sounds_like_a_setting, words_of
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Module, Source, Unknown, assigned

_CONFIG = {
    "config", "configs", "cfg", "cfgs", "conf", "confs", "configuration", "params", "parameters", "hparams", "hyperparameters", "hyperparams", "hyper", "hp", "settings", "options", "defaults", "args",
}  # fmt: skip


def find_constants(source: Source) -> list[FoundParameter]:
    """Names of the script bound once, at its top level, to a number, a bool or text; and what a table of settings there holds.

    A module beside it whose name says that it is one of settings, `config.py`, is read as the script itself; of the others, classes
    and tables of settings.
    """
    found: dict[str, FoundParameter] = {}
    handed_on, read = _handed_on(source), _read(source)
    for module in source.modules:
        is_settings = any(_CONFIG & set(words_of(part)) for part in PurePosixPath(module.file).with_suffix("").parts)
        for item in (
            *_bound(module, handed_on, read, is_main=module is source.main, is_settings=is_settings),
            *_with_owner(source, module),
        ):
            found.setdefault(item.name, item)
    return list(found.values())


def _bound(module: Module, handed_on: set[str], read: set[str], *, is_main: bool, is_settings: bool) -> Iterator[FoundParameter]:
    changed = _bound_more_than_once(module.tree)
    for statement in _at_top(module.tree):
        for name, node in bindings(statement):
            if name.startswith("_") or name in changed:
                continue
            if isinstance(node, ast.Dict | ast.Call):
                if is_settings or name in handed_on or _CONFIG & set(words_of(name)):
                    for key, value in _leaves(module, node):
                        yield from _constant(module, statement.lineno, f"{name}.{key}", value)
            elif (is_main or is_settings) and isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp):
                if name not in read and not sounds_like_a_setting(name):
                    continue  # nothing in the script asks for it
                yield from _constant(module, statement.lineno, name, module.literal(node))


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of `lr = 0.1`, and of each in `lr, hidden = 0.1, 32`."""
    name, value = assigned(statement)
    if name and value is not None:
        yield name, value
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple) and isinstance(statement.value, ast.Tuple):
        for target, item in zip(statement.targets[0].elts, statement.value.elts, strict=False):
            if isinstance(target, ast.Name):
                yield target.id, item


def _handed_on(source: Source) -> set[str]:
    """Names of tables that are settings by how they are used: `Model(**TREES)`, `set_params(**CHOSEN)`, `cfg["lr"]` and `cfg["hidden"]`."""
    found: set[str] = set()
    keys: dict[str, set[str]] = {}
    for module in source.modules:
        for node in module.nodes:
            if isinstance(node, ast.keyword) and node.arg is None:
                place = node.value.value if isinstance(node.value, ast.Subscript) else node.value
                found.add(_last(place))
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                keys.setdefault(_last(node.value), set()).add(node.slice.value)
    return (found | {name for name, used in keys.items() if len(used) > 1}) - {""}


def _read(source: Source) -> set[str]:
    """Names that some expression asks for, as they are or as attributes of a module."""
    found: set[str] = set()
    for module in source.modules:
        for node in module.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(_last(node))
            elif isinstance(node, ast.ImportFrom):
                found.update(alias.name for alias in node.names)
    return found


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _with_owner(source: Source, module: Module) -> Iterator[FoundParameter]:
    for owner, name, line, node in (*_attributes(module.tree), *(_defaults(source) if module is source.main else ())):
        yield from _constant(module, line, f"{owner}.{name}", module.literal(node))


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
        if function.decorator_list or any(item.arg is None and not isinstance(item.value, ast.Call) for item in call.keywords):
            continue  # what a table hands on is the table's to say; what is read from the command line, `**parse(sys.argv)`, is the user's
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


def _leaves(module: Module, node: ast.expr) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each constant in `{"lr": 0.1, "model": {...}}` or `dict(lr=0.1)`."""
    for key, value in entries(node):
        if isinstance(value, ast.Dict | ast.Call):
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in _leaves(module, value))
        else:
            yield key, module.literal(value)


def entries(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """(key, value) of a dict display or of a call of `dict`, `SimpleNamespace` and the like, where keys are plain text."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.Call) and not node.args and _last(node.func) in TABLES:
        yield from ((item.arg, item.value) for item in node.keywords if item.arg)


def _constant(module: Module, line: int, name: str, value: Any) -> Iterator[FoundParameter]:
    kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
    if kind in ("int", "float", "bool", "str"):
        yield FoundParameter(
            name=name, type=kind, style=Style.CONSTANT, passing=Passing(How.INJECT, name), default=value, line=line, file=module.file
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
    for node in _outside_functions(tree, _loops_over_the_command_line(tree)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            bind(node.id)
    return again


def _loops_over_the_command_line(tree: ast.Module) -> set[ast.AST]:
    """`for option, value in options:` after `options, _ = getopt.getopt(...)`, and loops over sys.argv: what they bind replaces a default."""
    names = {
        item.id
        for statement in tree.body
        if isinstance(statement, ast.Assign) and "getopt" in ast.dump(statement.value)
        for target in statement.targets
        for item in ast.walk(target)
        if isinstance(item, ast.Name)
    }
    return {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.For)
        and any(
            (isinstance(item, ast.Name) and item.id in names) or (isinstance(item, ast.Attribute) and item.attr == "argv")
            for item in ast.walk(node.iter)
        )
    }


def _outside_functions(tree: ast.AST, without: set[ast.AST]) -> list[ast.AST]:
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        for child in ast.iter_child_nodes(node):
            if child not in without and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                waiting.append(child)
    return found
