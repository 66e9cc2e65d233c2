"""Parameters that a study or `--set` puts into an unchanged script, and where they go in.

`NARF_PARAMS` is a JSON object of name to value. A name finds its place in, all that match: arguments of argparse, click, typer and
Hydra (see `hooks.arguments`); module-level constants and entries of tables of settings there (`config.lr`), constructor arguments of Lightning modules, and dataclass fields of the
script and the modules beside it, which are compiled with the value in place; `FILE:KEY` is a place in a configuration file that the script opens (see `opened`). What found no place is said at the end of the run.
"""

from __future__ import annotations

import ast
import functools
import json
import os
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

# What a script may call to make a table of its settings from keywords.
TABLES = ("dict", "SimpleNamespace", "Namespace", "EasyDict", "edict", "Munch", "AttrDict", "ConfigDict", "DotDict")

# What a trial ends with of which nothing arrived; the names and what to do follow. The platform knows it by this (`tuning.outcome`).
NOTHING_ARRIVED = "narf: none of the values of this trial found a place in the script: "

_values: dict[str, Any] | None = None
_used: set[str] = set()


def values() -> dict[str, Any]:
    """The values to put in; empty in a run that is not tuned."""
    global _values
    if _values is None:
        text = os.environ.get("NARF_PARAMS", "")
        try:
            read = json.loads(text) if text else {}
        except ValueError as error:
            raise ValueError(f"NARF_PARAMS is not JSON: {error}") from None
        if not isinstance(read, dict):
            raise ValueError("NARF_PARAMS must be a JSON object of names to values")
        _values = read
    return _values


def used(name: str) -> Any:
    """The value of `name`, which has found its place. Whoever uses it records it."""
    _used.add(name)
    return values()[name]


def placed(name: str, original: Any, *, shown: str = "") -> Any:
    """The value of `name`, as what it replaces; recorded, under the name `shown` where it is another."""
    value = like(used(name), original)
    from narf.training import recorder as recorders

    recorder = recorders.current()
    if recorder is not None:
        recorder.param(shown or name, value)
    return value


def nested(places: Mapping[str, str]) -> Any:
    """A class decorator: objects of the class are given, once they are made, the values of the names at the paths below them."""

    def decorate(cls: Any) -> Any:
        original = cls.__init__

        @functools.wraps(original)
        def init(self: Any, *arguments: Any, **named: Any) -> None:
            original(self, *arguments, **named)
            for path, name in places.items():
                *parents, last = path.split(".")
                place = self
                for parent in parents:
                    place = getattr(place, parent, None)
                if place is not None and hasattr(place, last):
                    object.__setattr__(place, last, placed(name, getattr(place, last), shown=path))  # also where it is frozen

        cls.__init__ = init
        return cls

    return decorate


def unused() -> list[str]:
    """Names that found no place so far."""
    return sorted(set(values()) - _used)


def nothing_arrived() -> str:
    """A sentence if this is a trial whose every value was to be put into the script, and none found its place; "" elsewhere.

    `NARF_PARAMS_ARE_ALL` says that nothing of the trial was passed as an argument: all trials would be the same.
    """
    if not os.environ.get("NARF_PARAMS_ARE_ALL") or os.environ.get("RANK", "0") != "0" or os.environ.get("LOCAL_RANK", "0") != "0":
        return ""
    if not values() or _used:
        return ""
    return f"{NOTHING_ARRIVED}{', '.join(values())}. See what can be searched (narf tune SCRIPT --discover), and name that."


def forget() -> None:
    """Read `NARF_PARAMS` anew: for a process that is forked for each trial."""
    global _values
    _values = None
    _used.clear()


def like(value: Any, original: Any) -> Any:
    """`value` in the type of what it replaces, where that loses nothing: 64.0 is 64 where a whole number was, 1 is 1.0 for a float."""
    if isinstance(original, bool) or isinstance(value, bool) or original is None:
        return value
    if isinstance(original, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(original, float) and isinstance(value, int):
        return float(value)
    return value


def compile_script(source: bytes, filename: str) -> CodeType:
    """The code of a script or of a module beside it, with the values in place. Without values: exactly Python's own."""
    found = values()
    if not found:
        return compile(source, filename, "exec", dont_inherit=True)
    tree = ast.parse(source, filename)
    _Placer(found).visit(tree)
    return compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)


class _Placer(ast.NodeTransformer):
    """Puts values in the place of module-level literals, dataclass defaults and arguments of Lightning constructors."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found
        self._takes: dict[str, list[str]] = {}  # positional parameters of what the file defines

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self._takes = dict(_signatures(node))
        self._constants(node.body)
        for statement in node.body:
            if isinstance(statement, ast.If):  # `if __name__ == "__main__":` and its like
                self._constants(statement.body)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._defaults(statement)
                self._locals(statement)
            elif isinstance(statement, ast.ClassDef):
                self._attributes(statement)
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        is_record = any(word in ast.dump(decorator) for decorator in node.decorator_list for word in ("dataclass", "define", "frozen"))
        if is_record or any(_name(base) in ("BaseModel", "BaseSettings", "NamedTuple") for base in node.bases):
            self._constants(node.body)
            self._fields(node.body, node.name)
            self._nested(node)
        if any(_name(base).endswith("Module") for base in node.bases):
            for statement in node.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                    self._constructor(statement)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                self._defaults(statement, node.name)
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """`Ridge.alpha` finds its place in `Ridge(alpha=0.1)`, `Net.hidden` in `Net(64)` where the file defines Net."""
        self.generic_visit(node)
        owner = _name(node.func)
        for index, name in enumerate(self._takes.get(owner, ())[: len(node.args)]):
            if isinstance(node.args[index], ast.Starred):
                break
            if f"{owner}.{name}" in self.found:
                node.args[index] = self._entry(f"{owner}.{name}", node.args[index])
        for item in node.keywords if owner else ():
            if f"{owner}.{item.arg}" in self.found:
                item.value = self._entry(f"{owner}.{item.arg}", item.value)
        return node

    def _locals(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """`main.lr` finds its place in `lr = 0.1` within `def main():`."""
        for statement in ast.walk(function):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            value = getattr(statement, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.expr) and f"{function.name}.{target.id}" in self.found:
                statement.value = self._entry(f"{function.name}.{target.id}", value)  # type: ignore[attr-defined] # it has one
            self._pair(f"{function.name}.", target, value)

    def _pair(self, prefix: str, target: Any, value: Any) -> None:
        """`lr` finds its place in `lr, hidden = 0.1, 32`."""
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for index, name in enumerate(target.elts):
                if isinstance(name, ast.Name):
                    value.elts[index] = self._entry(prefix + name.id, value.elts[index])

    def _constants(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                target: ast.expr = statement.targets[0]
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                target = statement.target
            else:
                continue
            self._pair("", target, statement.value)
            if isinstance(target, ast.Name) and statement.value is not None:
                self._table(target.id, statement.value)
            if isinstance(target, ast.Name) and target.id in self.found and statement.value is not None:
                original, is_literal = _literal(statement.value)
                if is_literal:
                    statement.value = _expression(placed(target.id, original), statement.value)

    def _nested(self, node: ast.ClassDef) -> None:
        """`Settings.treatment.alpha` finds its place in each `Settings` when it is made, below its field `treatment`."""
        start = f"{node.name}."
        places = {name[len(start) :]: name for name in self.found if name.startswith(start) and name.count(".") > 1}
        if places:
            text = f"__import__({__name__!r}, fromlist=['nested']).nested({places!r})"
            decorator = ast.parse(text, mode="eval").body
            for inner in ast.walk(decorator):
                ast.copy_location(inner, node)
            node.decorator_list.insert(0, decorator)

    def _fields(self, statements: list[ast.stmt], owner: str) -> None:
        """`lr` finds its place in `lr: float = field(default=0.1)` and in `lr: float = Field(0.1, gt=0)`."""
        for statement in statements:
            call = statement.value if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) else None
            if not isinstance(call, ast.Call) or _name(call.func) not in ("field", "Field", "ib", "attrib"):
                continue
            name = statement.target.id  # type: ignore[attr-defined] # looked at above
            name = f"{owner}.{name}" if f"{owner}.{name}" in self.found else name
            if call.args:
                call.args[0] = self._entry(name, call.args[0])
            for item in call.keywords:
                if item.arg == "default":
                    item.value = self._entry(name, item.value)

    def _defaults(self, function: ast.FunctionDef | ast.AsyncFunctionDef, owner: str = "") -> None:
        """`train.lr` finds its place in `def train(lr=0.1)`, `Net.hidden` in `class Net: def __init__(self, hidden=64)`."""
        arguments, owner = function.args, owner or function.name
        positional = [*getattr(arguments, "posonlyargs", []), *arguments.args]
        first = len(positional) - len(arguments.defaults)
        for index, default in enumerate(arguments.defaults):
            arguments.defaults[index] = self._entry(f"{owner}.{positional[first + index].arg}", default)
        for index, (item, given) in enumerate(zip(arguments.kwonlyargs, arguments.kw_defaults)):
            if given is not None:
                arguments.kw_defaults[index] = self._entry(f"{owner}.{item.arg}", given)

    def _attributes(self, node: ast.ClassDef) -> None:
        """`Config.lr` finds its place in `class Config: lr = 0.1`."""
        for statement in node.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            value = getattr(statement, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.expr):
                statement.value = self._entry(f"{node.name}.{target.id}", value)  # type: ignore[attr-defined] # it has one

    def _table(self, name: str, node: ast.expr) -> None:
        """`config.model.lr` finds its place in `config = {"model": {"lr": 0.1}}` and in `config = dict(model=dict(lr=0.1))`."""
        if not any(known.startswith(name + ".") for known in self.found):
            return
        if isinstance(node, ast.Dict):
            for index, (key, value) in enumerate(zip(node.keys, node.values)):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    node.values[index] = self._entry(f"{name}.{key.value}", value)
        elif isinstance(node, ast.Call) and not node.args and _name(node.func) in TABLES:
            for item in node.keywords:
                item.value = self._entry(f"{name}.{item.arg}", item.value)

    def _entry(self, name: str, value: ast.expr) -> ast.expr:
        original, is_literal = _literal(value)
        if name in self.found and is_literal:
            return _expression(placed(name, original), value)
        self._table(name, value)
        return value

    def _constructor(self, function: ast.FunctionDef) -> None:
        """Assign the value first thing in the body, so that it holds however the constructor is called."""
        arguments = function.args
        positional = [*getattr(arguments, "posonlyargs", []), *arguments.args]
        defaults = dict(zip([argument.arg for argument in reversed(positional)], reversed(arguments.defaults)))
        defaults.update({a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if d is not None})
        inserted: list[ast.stmt] = []
        for argument in [*positional[1:], *arguments.kwonlyargs]:
            if argument.arg in self.found:
                original, _ = _literal(defaults[argument.arg]) if argument.arg in defaults else (None, False)
                value = _expression(placed(argument.arg, original), function)
                target = ast.Name(id=argument.arg, ctx=ast.Store())
                inserted.append(ast.copy_location(ast.Assign(targets=[target], value=value), function.body[0]))
        start = 1 if ast.get_docstring(function) is not None else 0
        function.body[start:start] = inserted


def _signatures(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for statement in tree.body:
        inner = [
            item
            for item in (statement.body if isinstance(statement, ast.ClassDef) else [statement])
            if isinstance(item, ast.FunctionDef) and (item is statement or item.name == "__init__")
        ]
        for function in inner:
            names = [item.arg for item in [*getattr(function.args, "posonlyargs", []), *function.args.args]]
            yield statement.name, names[1:] if function is not statement else names  # type: ignore[attr-defined] # it has one


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _literal(node: ast.expr) -> tuple[Any, bool]:
    try:
        return ast.literal_eval(node), True
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None, False


def _expression(value: Any, at: ast.AST) -> ast.expr:
    """`value` as code. Infinity and NaN have no literal."""
    text = f"float({str(value)!r})" if isinstance(value, float) and value - value != 0.0 else repr(value)
    expression = ast.parse(text, mode="eval").body
    for node in ast.walk(expression):
        ast.copy_location(node, at)
    return expression
