"""A script and the local modules it imports, parsed, with the questions that every style of discovery asks."""

from __future__ import annotations

import ast
import contextlib
import functools
import itertools
import operator
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narf.domain.errors import BadInput

MAX_BYTES = 4_000_000
MAX_MODULES = 40


class Unknown:
    """What cannot be known without running the script."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()

_BINARY: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_TARGET = re.compile(r"^[ \t]*(?:_target_|class_path):[ \t]*[\"']?([A-Za-z_][\w.]*\.\w+)", re.MULTILINE)
_READERS = {"float": float, "int": int}


@dataclass(frozen=True, eq=False)
class Module:
    """One parsed file. `file` is relative to the script's folder; `names` maps what imports bind to full dotted names."""

    file: str
    tree: ast.Module
    names: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)

    def dotted(self, node: ast.AST | None) -> str:
        """The full name an expression refers to: `pl.Trainer` is "lightning.pytorch.Trainer". "" if it is no name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Subscript):
            return self.dotted(node.value)
        return ""

    def literal(self, node: ast.AST | None) -> Any:
        """The value of a constant expression, names of module-level constants included; else UNKNOWN."""
        if node is None:
            return UNKNOWN
        try:
            return self._literal(node)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError, AttributeError):
            return UNKNOWN

    def _literal(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.constants[name]
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self._literal(inner)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return not self._literal(inner)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                base, exponent = self._literal(left), self._literal(right)
                if abs(exponent) > 64:
                    raise ValueError("too large")
                return base**exponent
            case ast.BinOp(left=left, op=ast.LShift(), right=right):
                base, exponent = self._literal(left), self._literal(right)
                if not 0 <= exponent <= 64:
                    raise ValueError("too large")
                return base << exponent
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                values = self._literal(left), self._literal(right)
                if not all(isinstance(value, int | float) for value in values):
                    raise ValueError("no number")
                return _BINARY[type(op)](*values)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return [self._literal(item) for item in items]
            case ast.Dict(keys=keys, values=values):
                return {self._literal(key): self._literal(value) for key, value in zip(keys, values, strict=True) if key is not None}
            case ast.Call(func=ast.Name(id="range"), args=arguments):
                found = range(*(self._literal(argument) for argument in arguments))
                return list(found) if len(found) <= 64 else UNKNOWN
            case ast.Call(func=ast.Name(id="float" | "int" as reader), args=[ast.Constant(value=text)], keywords=[]):
                return _READERS[reader](text)
            case ast.Call(func=ast.Name(id="list" | "tuple" | "sorted"), args=[inner]):
                return list(self._keys(inner))
            case ast.Call(func=ast.Attribute(value=inner, attr="keys"), args=[]):
                return list(self._keys(inner))
        raise ValueError("not a literal")

    def options(self, node: ast.AST | None) -> Any:
        """What `choices=` names: a list, or a table whose keys they are."""
        return self.tables[node.id] if isinstance(node, ast.Name) and node.id in self.tables else self.literal(node)

    def _keys(self, node: ast.AST) -> Any:
        """What a loop over a list or over a table goes through; of a table of functions or classes, its keys are known."""
        return self.tables[node.id] if isinstance(node, ast.Name) and node.id in self.tables else self._literal(node)

    @functools.cached_property
    def tables(self) -> dict[str, list[Any]]:
        """The keys of each table at the top level, whatever its values are."""
        found: dict[str, list[Any]] = {}
        for statement in self.tree.body:
            name, value = assigned(statement)
            if isinstance(value, ast.Dict):
                keys = [self.literal(key) for key in value.keys]
            elif isinstance(value, ast.DictComp) and len(value.generators) == 1 and not value.generators[0].ifs:
                rounds = self.literal(value.generators[0].iter)
                is_each = (
                    ast.dump(value.key, include_attributes=False) == ast.dump(ast.Name(value.generators[0].target.id, ast.Load()))
                    if isinstance(value.generators[0].target, ast.Name)
                    else False
                )
                keys = rounds if is_each and isinstance(rounds, list) else []
            else:
                continue
            if keys and not any(isinstance(key, Unknown) for key in keys):
                found[name] = keys
        return found

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree."""
        return list(ast.walk(self.tree))

    @functools.cached_property
    def _calls(self) -> list[ast.Call]:
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def calls(self) -> Iterator[ast.Call]:
        return iter(self._calls)


@dataclass(frozen=True, eq=False)
class Source:
    """The script (`main`) and what it imports from its own folder."""

    folder: Path
    main: Module
    imported: tuple[Module, ...]

    @property
    def modules(self) -> tuple[Module, ...]:
        return (self.main, *self.imported)

    def calls(self, *names: str) -> Iterator[tuple[Module, ast.Call, str]]:
        """Calls of any of these full names; a name that begins with "." matches any object's method or attribute."""
        for module in self.modules:
            for call in module.calls():
                name = module.dotted(call.func)
                last = call.func.attr if isinstance(call.func, ast.Attribute) else name.rpartition(".")[2]
                if name in names or "." + last in names:
                    yield module, call, last

    @functools.cached_property
    def classes(self) -> dict[str, tuple[Module, ast.ClassDef]]:
        found: dict[str, tuple[Module, ast.ClassDef]] = {}
        for module in reversed(self.modules):
            for node in module.nodes:
                if isinstance(node, ast.ClassDef):
                    found[node.name] = (module, node)
        return found

    @functools.cached_property
    def methods(self) -> dict[str, list[tuple[Module, ast.FunctionDef]]]:
        """The methods of each name, of all classes."""
        found: dict[str, list[tuple[Module, ast.FunctionDef]]] = {}
        for home, node in self.classes.values():
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    found.setdefault(item.name, []).append((home, item))
        return found

    @functools.cached_property
    def defined(self) -> dict[str, tuple[Module, ast.FunctionDef]]:
        found: dict[str, tuple[Module, ast.FunctionDef]] = {}
        for module in reversed(self.modules):
            for node in module.tree.body:
                if isinstance(node, ast.FunctionDef):
                    found[node.name] = (module, node)
        return found

    def class_of(self, name: str) -> tuple[Module, ast.ClassDef] | None:
        """The class of this (possibly dotted) name, if one of these files defines it."""
        return self.classes.get(name.rpartition(".")[2])

    def descends(self, name: str, *bases: str, depth: int = 8) -> bool:
        """Whether the class called `name` is, or inherits from, a class whose last name is one of `bases`."""
        if name.rpartition(".")[2] in bases:
            return True
        found = self.class_of(name)
        if found is None or depth == 0:
            return False
        module, node = found
        return any(self.descends(module.dotted(base), *bases, depth=depth - 1) for base in node.bases)

    def enum_choices(self, name: str) -> list[tuple[str, Any]]:
        """Members (name, value) of an Enum class defined here."""
        found = self.class_of(name)
        if found is None or not self.descends(name, "Enum", "StrEnum", "IntEnum"):
            return []
        module, node = found
        members: list[tuple[str, Any]] = []
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                member = statement.targets[0].id
                value = module.literal(statement.value)
                if isinstance(statement.value, ast.Call):  # auto()
                    value = member.lower() if self.descends(name, "StrEnum") else len(members) + 1
                members.append((member, value))
        return members


def read_source(script: Path, also: Sequence[str] = ()) -> Source:
    """Parse the script and the modules beside it that it imports, and those of `also`, which a run was seen to import.

    Raises:
        BadInput: there is no such file, or it is not Python.
    """
    if script.is_dir():
        raise BadInput(f"{str(script)[:200]!r} is a folder.", remedy="Name the script in it.", field="script")
    if not script.is_file():
        raise BadInput(f"There is no file {str(script)!r}.", remedy="Give the path of a Python script.", field="script")
    if script.suffix == ".ipynb":
        raise BadInput(
            f"{script.name} is a notebook, which cannot be run as a script.",
            remedy=f"Make one of it: jupyter nbconvert --to script {script.name}",
            field="script",
            code="not_python",
        )
    folder = script.parent
    main = _parse(script, folder)
    imported: dict[Path, Module] = {}
    waiting = [(script, main)]
    for path in (folder / file for file in also):
        with contextlib.suppress(BadInput, OSError):
            imported[path] = _parse(path, folder)
            waiting.append((path, imported[path]))
    for path in _targets(folder) if set(main.names) & {"hydra", "instantiate", "LightningCLI"} else ():
        with contextlib.suppress(BadInput):
            imported[path] = _parse(path, folder)
            waiting.append((path, imported[path]))
    while waiting and len(imported) < MAX_MODULES:
        at, module = waiting.pop(0)
        for path in _local_imports(at, folder, module.tree):
            if path in imported or path == script:
                continue
            try:
                imported[path] = _parse(path, folder)
            except BadInput:
                continue  # a broken module beside the script shows itself when the script runs
            waiting.append((path, imported[path]))
    return Source(folder, main, tuple(imported.values()))


def _parse(path: Path, folder: Path) -> Module:
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path.name} is larger than {MAX_BYTES // 1_000_000} MB.", remedy="Is it a Python script?", field="script")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError) as problem:
        raise _not_python(path, problem) from None
    module = Module(str(path.relative_to(folder)), tree, _bound_names(tree))
    for statement in tree.body:
        target, value = assigned(statement)
        if target and value is not None:
            module.constants[target] = module.literal(value)
    for name in [name for name, value in module.constants.items() if value is UNKNOWN]:
        del module.constants[name]
    return module


def _not_python(path: Path, problem: Exception) -> BadInput:
    line = f", line {problem.lineno}" if isinstance(problem, SyntaxError) and problem.lineno else ""
    reason = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    remedy = f"Correct it; the place is shown by: python -m py_compile {path.name}"
    if "codec can't decode" in reason:
        reason, remedy = "it is not UTF-8", "Save it as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-"
    elif "null bytes" in reason:
        reason, remedy = "it is not text", "Name the script itself."
    return BadInput(f"{path.name} is not a Python script{line}: {reason}.", remedy=remedy, field="script", code="not_python")


def assigned(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    """(name, value) of `NAME = value` or `NAME: type = value`; ("", None) for anything else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
    return "", None


def _bound_names(tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}".lstrip(".")
    return names


def _local_imports(at: Path, folder: Path, tree: ast.Module) -> Iterator[Path]:
    yield from _chosen_by_name(folder, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module_file(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = folder
            if node.level:
                base = at.parent
                for _ in range(node.level - 1):
                    base = base.parent
                if not base.is_relative_to(folder):
                    continue
            if node.module:
                yield from _module_file(base, node.module)
            for alias in node.names:
                yield from _module_file(base, f"{node.module}.{alias.name}" if node.module else alias.name)


def _targets(folder: Path) -> list[Path]:
    """Modules beside the script that configuration files name: `_target_: models.Net`, `class_path: models.Net`."""
    found: dict[Path, None] = {}
    for file in [*itertools.islice(folder.rglob("*.y*ml"), 100)]:
        if file.is_file() and file.stat().st_size < 100_000:
            for name in _TARGET.findall(file.read_text(encoding="utf-8", errors="replace")):
                found |= dict.fromkeys(_module_file(folder, name.rpartition(".")[0]))
    return list(found)[:MAX_MODULES]


def _chosen_by_name(folder: Path, tree: ast.Module) -> Iterator[Path]:
    """`importlib.import_module(f"configs.{name}")`: the modules of that folder whose names the script writes, or its only one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        if called not in ("import_module", "__import__"):
            continue
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield from _module_file(folder, first.value)
        start = (
            first.values[0] if isinstance(first, ast.JoinedStr) and first.values else first.left if isinstance(first, ast.BinOp) else None
        )
        if isinstance(start, ast.Constant) and isinstance(start.value, str) and start.value.endswith("."):
            there = sorted(path for path in folder.joinpath(*start.value.strip(".").split(".")).glob("*.py") if path.stem != "__init__")
            written = {item.value for item in ast.walk(tree) if isinstance(item, ast.Constant) and isinstance(item.value, str)}
            named = [path for path in there if path.stem in written]
            yield from named or (there if len(there) == 1 else ())


def _module_file(base: Path, name: str) -> Iterator[Path]:
    path = base.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            yield candidate


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """A call's argument, given by position or by keyword."""
    if position < len(call.args) and not any(isinstance(item, ast.Starred) for item in call.args[: position + 1]):
        return call.args[position]
    return keyword(call, name)
