"""Tables of settings, and constants at module level, which are the last resort. The hooks can set both."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from narf.training.places import TABLES
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.names import core_of, sounds_like_a_setting, words_of
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Module, Source, Unknown, assigned

_CONFIG = {
    "config", "configs", "cfg", "cfgs", "conf", "confs", "configuration", "params", "parameters", "hparams", "hyperparameters", "hyperparams", "hyper", "hp", "settings", "options", "defaults", "args",
}  # fmt: skip


def find_tables(source: Source) -> list[FoundParameter]:
    """What tables of settings hold, at the top level of the script and of the modules beside it: `config = {"lr": 0.1}`,
    `class Config: lr = 0.1`, a table that is handed on, `Model(**TREES)`, or looked into, `cfg["lr"]`."""
    used, written = handed_on(source), _written(source)
    found: dict[str, FoundParameter] = {}
    for module in source.modules:
        changed, is_settings = _bound_more_than_once(module.tree), _is_of_settings(module)
        for statement in _at_top(module.tree):
            for name, node in bindings(statement):
                if not isinstance(node, ast.Dict | ast.Call) or name.startswith("_") or name in changed:
                    continue
                leaves = list(_leaves(module, node, written))
                if is_settings or name in used or is_named_settings(name) or sounds_like_settings(leaves):
                    for key, value in leaves:
                        _add(found, module, statement.lineno, f"{name}.{key}", value, Style.TABLE)
        for owner, name, line, node in _attributes(module.tree):
            inner = list(_leaves(module, node, written)) if isinstance(node, ast.Dict | ast.Call) else []
            if inner and (name in used or is_named_settings(name) or sounds_like_settings(inner)):
                for key, value in inner:
                    _add(found, module, line, f"{owner}.{name}.{key}", value, Style.TABLE)
            else:
                _add(found, module, line, f"{owner}.{name}", module.literal(node), Style.TABLE)
    return list(found.values())


def overridden(source: Source) -> set[str]:
    """`Base.lr` where `class Large(Base): lr = 0.3`, and nothing else uses Base."""
    used = {node.id for module in source.modules for node in module.nodes if isinstance(node, ast.Name)} if source.classes else set()
    found: set[str] = set()
    for module, node in source.classes.values():
        own = {name for statement in node.body for name, _ in bindings(statement)}
        for base in node.bases:
            known = source.class_of(module.dotted(base))
            if known is None or _uses(source, known[1].name, used) > _bases(source, known[1].name):
                continue
            found |= {f"{known[1].name}.{name}" for name in own}
    return found


def _uses(source: Source, name: str, used: set[str]) -> int:
    """How often a class is named, where it is named at all."""
    return sum(isinstance(node, ast.Name) and node.id == name for module in source.modules for node in module.nodes) if name in used else 0


def _bases(source: Source, name: str) -> int:
    return sum(module.dotted(base).rpartition(".")[2] == name for module, node in source.classes.values() for base in node.bases)


def find_constants(source: Source) -> list[FoundParameter]:
    """Names of the script, and of a module beside it whose name says that it is one of settings, bound once at the top level to a
    number, a bool or text. What only a report asks for, `log_metric("gini", FACTOR * auc - 1)`, sets nothing."""
    found: dict[str, FoundParameter] = {}
    read, told = _read(source)
    for module in source.modules:
        is_main = module is source.main or _is_of_settings(module)
        changed = _bound_more_than_once(module.tree)
        for statement in _at_top(module.tree):
            for name, node in bindings(statement):
                node = fallback(node)
                if name.startswith("_") or name in changed or not isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp):
                    continue
                if not is_main and not (name.isupper() and name in read and sounds_like_a_setting(name)):
                    continue  # of other modules: only what is called as people call what they tune
                if name in read or (sounds_like_a_setting(name) and name not in told):
                    _add(found, module, statement.lineno, name, module.literal(node), Style.CONSTANT)
    return list(found.values())


def is_named_settings(name: str) -> bool:
    return bool(_CONFIG & set(words_of(name)))


def fallback(node: ast.expr) -> ast.expr:
    """What holds if nobody says otherwise: 0.1 of `float(sys.argv[1]) if len(sys.argv) > 1 else 0.1` and of `os.environ.get("LR") or 0.1`."""
    if isinstance(node, ast.IfExp):
        return node.orelse if isinstance(node.orelse, ast.Constant | ast.UnaryOp | ast.BinOp) else node.body
    return node.values[-1] if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) else node


def _is_of_settings(module: Module) -> bool:
    return any(is_named_settings(part) for part in PurePosixPath(module.file).with_suffix("").parts)


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of `lr = 0.1`, and of each in `lr, hidden = 0.1, 32`."""
    name, value = assigned(statement)
    if name and value is not None:
        yield name, value
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple) and isinstance(statement.value, ast.Tuple):
        for target, item in zip(statement.targets[0].elts, statement.value.elts, strict=False):
            if isinstance(target, ast.Name):
                yield target.id, item


def handed_on(source: Source) -> set[str]:
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


def _read(source: Source) -> tuple[set[str], set[str]]:
    """Names that some expression asks for, as they are or as attributes of a module, and those that only reports ask for."""
    found: set[str] = set()
    told: set[str] = set()
    for module in source.modules:
        reports = {
            inner for call in module.calls() if _reports(call) for told_of in _arguments(call) for inner in _of_results(module, told_of)
        }
        for node in module.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                (told if node in reports else found).add(_last(node))
            elif isinstance(node, ast.ImportFrom):
                found.update(alias.name for alias in node.names)
    return found, told - found


_REPORTS = {
    "print",
    "pprint",
    "echo",
    "info",
    "debug",
    "warning",
    "add_scalar",
    "add_scalars",
    "add_text",
    "log",
    "report",
    "write",
    "title",
    "savefig",
}


def _reports(call: ast.Call) -> bool:
    name = _last(call.func)
    is_method = isinstance(call.func, ast.Attribute) and not (isinstance(call.func.value, ast.Name) and call.func.value.id in _NUMBERS)
    return name == "print" or (is_method and (name in _REPORTS or name.startswith("log_")))


_NUMBERS = {"np", "numpy", "math", "torch", "F"}  # their log is a logarithm


def _of_results(module: Module, node: ast.expr) -> list[ast.AST]:
    """The parts of `FACTOR * auc - 1`: arithmetic on what is there already, not what makes it."""
    parts = list(ast.walk(node))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return parts if names - set(module.constants) and not any(isinstance(part, ast.Call) for part in parts) else []


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(item.value for item in call.keywords)]


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _attributes(tree: ast.Module) -> Iterator[tuple[str, str, int, ast.expr]]:
    """(class, name, line, value) of `class Config: lr = 0.1`."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.decorator_list:
            continue
        bound = [(*assigned(statement), statement.lineno) for statement in node.body]
        held = [(name, value, line) for name, value, line in bound if name and value is not None and not name.startswith("_")]
        held = [each for each in held if each[0] != "model_config"]  # how pydantic reads a record
        numbers = [(name, value.value) for name, value, _ in held if isinstance(value, ast.Constant)]
        is_of_settings = is_named_settings(node.name) or sounds_like_settings(numbers)
        for name, value, line in held:
            if is_of_settings or isinstance(value, ast.Dict | ast.Call):
                yield node.name, name, line, value


def _at_top(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements of the top level, those under `if __name__ == "__main__":` and its like among them."""
    for statement in tree.body:
        if isinstance(statement, ast.If):
            yield from statement.body
        else:
            yield statement


def _leaves(module: Module, node: ast.expr, written: Counter[str]) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each constant in `{"lr": 0.1, "model": {...}}` or `dict(lr=0.1)`. Of presets, `{"small": {"lr": 0.1}, "large":
    {"lr": 0.3}}`, those of the one that the script names."""
    pairs = list(entries(node))
    if _are_presets(pairs):
        named = [key for key, _ in pairs if written[key] > 1]
        pairs = [pair for pair in pairs if len(named) == 1 and pair[0] == named[0]]
    for key, value in pairs:
        if isinstance(value, ast.Dict | ast.Call):
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in _leaves(module, value, written))
        elif not isinstance(value, ast.Name):  # what it names says it
            yield key, module.literal(value)


def _are_presets(pairs: list[tuple[str, ast.expr]]) -> bool:
    """Several tables of the same keys, some of which may say nothing."""
    keys = [{key for key, _ in entries(value)} for _, value in pairs if isinstance(value, ast.Dict | ast.Call)]
    said = [each for each in keys if each]
    return len(keys) == len(pairs) > 1 and (len(said) < len(keys) or len(set.intersection(*said)) * 2 >= max(map(len, said)))


def _written(source: Source) -> Counter[str]:
    """How often each text stands in the files."""
    return Counter(
        node.value for module in source.modules for node in module.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def sounds_like_settings(leaves: list[tuple[str, Any]]) -> bool:
    """A table of any name in which numbers are called as people call what they tune."""
    numbers = [key for key, value in leaves if isinstance(value, int | float) and not isinstance(value, bool)]
    return any(core_of(key) for key in numbers) and sum(sounds_like_a_setting(key) for key in numbers) > 1


def entries(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """(key, value) of a dict display or of a call of `dict`, `SimpleNamespace` and the like, where keys are plain text."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.Call) and not node.args and _last(node.func) in TABLES:
        yield from ((item.arg, item.value) for item in node.keywords if item.arg)


def _add(found: dict[str, FoundParameter], module: Module, line: int, name: str, value: Any, style: Style) -> None:
    kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
    if kind in ("int", "float", "bool", "str"):
        passing = Passing(How.INJECT, name)
        found.setdefault(
            name, FoundParameter(name=name, type=kind, style=style, passing=passing, default=value, line=line, file=module.file)
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
