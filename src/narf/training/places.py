"""Where values stand in a file of Python, and the names under which a trial's are put in their place.

lr = 0.1                                lr              config = {"model": {"lr": 0.1}}         config.model.lr
def train(lr=0.1): ...                  train.lr        class Config: lr = 0.1                  Config.lr
class Net: def __init__(self, h=8)      Net.h           @dataclass class Config: lr: float = 1  lr, Config.lr
def main(): lr = 0.1                    main.lr         def main(): config = dict(lr=0.1)       main.config.lr
def settings(): return {"lr": 0.1}      settings.lr     config.lr = 0.1; config["lr"] = 0.1     config.lr
Ridge(alpha=0.1), Net(8)                Ridge.alpha     options.get("lr", 0.1)                  options.lr
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

# What a script may call to make a table of its settings from keywords.
TABLES = ("dict", "SimpleNamespace", "Namespace", "EasyDict", "edict", "Munch", "AttrDict", "ConfigDict", "DotDict")
FIELDS = ("field", "Field", "ib", "attrib")
RECORDS = ("BaseModel", "BaseSettings", "NamedTuple")

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_ASKS = ("get", "pop", "setdefault")
_ARITHMETIC: dict[Any, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip


class Place(NamedTuple):
    """An expression that can be replaced. `names`: those it goes by. `kind`: what it is there."""

    names: tuple[str, ...]
    kind: str  # constant, table, field, attribute, default, argument, local or asked
    holder: Any  # the node or list that holds the expression, under the key `at`
    at: Any

    @property
    def value(self) -> ast.expr:
        found: ast.expr = self.holder[self.at] if isinstance(self.holder, list) else getattr(self.holder, self.at)
        return found

    def put(self, value: ast.expr) -> None:
        if isinstance(self.holder, list):
            self.holder[self.at] = value
        else:
            setattr(self.holder, self.at, value)


def places(tree: ast.Module) -> Iterator[Place]:
    """All places of the file in which a constant stands, or what is made of constants and names alone."""
    for place in _Reader(tree).block(tree.body, "", ""):
        is_known = worked_out(place.value)[1]
        if is_known or (place.kind in ("table", "constant", "attribute") and _is_of_names(place.value)):
            yield place


def worked_out(node: ast.expr) -> tuple[Any, bool]:
    """The value of an expression of constants, and whether it is one."""
    try:
        return ast.literal_eval(node), True
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return _number(node), True
    except (ValueError, TypeError, ZeroDivisionError, OverflowError, RecursionError):
        return None, False


def _number(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _number(node.left), _number(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > 64:
            raise ValueError("too large")
        return _ARITHMETIC[type(node.op)](left, right)
    if (
        isinstance(node, ast.Call)
        and name_of(node.func) in ("float", "int")
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
    ):
        return (float if name_of(node.func) == "float" else int)(node.args[0].value)  # type: ignore[arg-type] # or it raises
    raise ValueError("not a number")


def _is_of_names(node: ast.expr) -> bool:
    """`WIDTH`, `2 * WIDTH`: what another constant says, here said by itself."""
    if isinstance(node, ast.BinOp):
        return _is_of_names(node.left) and _is_of_names(node.right)
    return isinstance(node, (ast.Name, ast.Constant))


def name_of(node: Any) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_record(node: ast.ClassDef) -> bool:
    """A dataclass, or what attrs, pydantic or a named tuple make of annotated fields."""
    decorators = [name_of(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list]
    made = any(word in name for name in decorators for word in ("dataclass", "define", "frozen", "attrs"))
    return made or decorators == ["s"] or any(name_of(base) in RECORDS for base in node.bases)


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.takes = dict(_signatures(tree))  # positional parameters of what the file defines

    def block(self, statements: list[ast.stmt], scope: str, owner: str) -> Iterator[Place]:
        """`scope`: what names bound here begin with. `owner`: the class around it."""
        for statement in statements:
            if isinstance(statement, _Function):
                yield from self._function(statement, scope, owner)
                continue
            if isinstance(statement, ast.ClassDef):
                yield from self._class(statement, f"{owner}." if owner and not scope else "")
                continue
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                yield from self._assigned(statement, scope, owner)
            elif isinstance(statement, ast.Return) and statement.value is not None and scope:
                yield from self._table(scope[:-1], statement, "value")
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, (ast.expr, ast.withitem)):
                    yield from self._expressions(child, scope)
            for inner in _blocks(statement):
                yield from self.block(inner, scope, owner)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: str, owner: str) -> Iterator[Place]:
        name = node.name if not owner or scope else owner if node.name == "__init__" else f"{owner}.{node.name}"
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        first = len(positional) - len(arguments.defaults)
        for index in range(len(arguments.defaults)):
            yield from self._entry(f"{name}.{positional[first + index].arg}", arguments.defaults, index, "default")
        for index, item in enumerate(arguments.kwonlyargs):
            if arguments.kw_defaults[index] is not None:
                yield from self._entry(f"{name}.{item.arg}", arguments.kw_defaults, index, "default")
        for child in (*arguments.defaults, *(item for item in arguments.kw_defaults if item is not None)):
            yield from self._expressions(child, scope)
        yield from self.block(node.body, scope or f"{name}.", owner)

    def _class(self, node: ast.ClassDef, outer: str) -> Iterator[Place]:
        name = f"{outer}{node.name}"
        if is_record(node):
            for statement in node.body:
                yield from self._field(statement, node.name)
        for statement in node.body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None and not is_record(node):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                yield from self._bound(f"{name}.", target, statement, "attribute")
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                yield from self._expressions(statement.value, "")
            elif isinstance(statement, (*_Function, ast.ClassDef)):
                yield from self.block([statement], "", name if isinstance(statement, ast.ClassDef) else node.name)

    def _field(self, statement: ast.stmt, owner: str) -> Iterator[Place]:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        value = getattr(statement, "value", None)
        if not isinstance(target, ast.Name) or value is None:
            return
        names = (f"{owner}.{target.id}", target.id)
        if not isinstance(value, ast.Call) or name_of(value.func) not in FIELDS:
            yield Place(names, "field", statement, "value")
            for name in names:
                yield from self._table(name, statement, "value")
            return
        if value.args:
            yield Place(names, "field", value.args, 0)
        for item in value.keywords:
            if item.arg == "default":
                yield Place(names, "field", item, "value")
            elif item.arg in ("default_factory", "factory") and isinstance(item.value, ast.Lambda):
                yield Place(names, "field", item.value, "body")
                for name in names:
                    yield from self._table(name, item.value, "body")

    def _assigned(self, statement: ast.Assign | ast.AnnAssign, scope: str, owner: str) -> Iterator[Place]:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        place = path_of(target)
        if place.startswith("self.") and owner:
            yield from self._entry(f"{owner}.{place[5:]}", statement, "value", "attribute")
        else:
            yield from self._bound(scope, target, statement, "local" if scope else "constant")

    def _bound(self, scope: str, target: ast.expr, statement: Any, kind: str) -> Iterator[Place]:
        value = statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for index, item in enumerate(target.elts):
                if place := path_of(item):
                    yield from self._entry(f"{scope}{place}", value.elts, index, kind)
        elif place := path_of(target):
            yield from self._entry(f"{scope}{place}", statement, "value", "table" if "." in place else kind)

    def _entry(self, name: str, holder: Any, at: Any, kind: str) -> Iterator[Place]:
        place = Place((name,), kind, holder, at)
        yield place
        if isinstance(place.value, ast.IfExp):  # float(sys.argv[1]) if len(sys.argv) > 1 else 0.1
            yield Place((name,), kind, place.value, "body")
            yield Place((name,), kind, place.value, "orelse")
        elif isinstance(place.value, ast.BoolOp) and isinstance(place.value.op, ast.Or):  # os.environ.get("LR") or 0.1
            yield Place((name,), kind, place.value.values, len(place.value.values) - 1)
        yield from self._table(name, holder, at)

    def _table(self, name: str, holder: Any, at: Any) -> Iterator[Place]:
        """The entries of a table that is written out here, or handed to what makes settings of it."""
        node = Place((name,), "", holder, at).value
        if isinstance(node, ast.Dict):
            for index, key in enumerate(node.keys):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield from self._entry(f"{name}.{key.value}", node.values, index, "table")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            yield from self._table(name, node, "left")
            yield from self._table(name, node, "right")
        elif isinstance(node, ast.Call):
            if name_of(node.func) in TABLES:
                for item in node.keywords:
                    if item.arg is not None:
                        yield from self._entry(f"{name}.{item.arg}", item, "value", "table")
            for index, inner in enumerate(node.args):
                if isinstance(inner, ast.Dict):
                    yield from self._table(name, node.args, index)

    def _expressions(self, node: ast.AST, scope: str) -> Iterator[Place]:
        for call in ast.walk(node):
            if not isinstance(call, ast.Call):
                continue
            owner, first = name_of(call.func), 0
            if owner == "partial" and call.args:
                owner, first = name_of(call.args[0]), 1
            if not owner or owner in TABLES:
                continue
            if owner == "update" and isinstance(call.func, ast.Attribute) and (table := path_of(call.func.value)):
                yield from self._updated(f"{scope}{table}", call)
                continue
            takes = self.takes.get(owner, [])
            for index in range(first, len(call.args)):
                if isinstance(call.args[index], ast.Starred):
                    break
                if index - first < len(takes):
                    yield from self._entry(f"{owner}.{takes[index - first]}", call.args, index, "argument")
                else:
                    yield from self._table(owner, call.args, index)
            for item in call.keywords:
                if item.arg is None:
                    yield from self._table(owner, item, "value")
                else:
                    yield from self._entry(f"{owner}.{item.arg}", item, "value", "argument")
            if asked := _asked(call):
                yield Place((f"{scope}{asked}", asked), "asked", call.args, len(call.args) - 1)

    def _updated(self, name: str, call: ast.Call) -> Iterator[Place]:
        """`config.update({"lr": 0.1})` and `config.update(lr=0.1)`."""
        for index in range(len(call.args)):
            yield from self._table(name, call.args, index)
        for item in call.keywords:
            if item.arg is not None:
                yield from self._entry(f"{name}.{item.arg}", item, "value", "table")


def _asked(call: ast.Call) -> str:
    """`options.lr` for `options.get("lr", 0.1)` and `getattr(options, "lr", 0.1)`."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _ASKS and len(call.args) == 2:
        place, key = path_of(call.func.value), call.args[0]
    elif isinstance(call.func, ast.Name) and call.func.id == "getattr" and len(call.args) == 3:
        place, key = path_of(call.args[0]), call.args[1]
    else:
        return ""
    is_name = isinstance(key, ast.Constant) and isinstance(key.value, str)
    return f"{place}.{key.value}" if place and is_name else ""  # type: ignore[attr-defined] # looked at above


def path_of(node: ast.expr) -> str:
    """`config.optim.lr` for that, for `config["optim"]["lr"]` and for `config.get("optim", {})["lr"]`; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base, last = path_of(node.value), node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        base, last = path_of(node.value), node.slice.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ASKS and node.args:
        key = node.args[0]
        base, last = path_of(node.func.value), key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""
    else:
        return ""
    return f"{base}.{last}" if base and last else ""


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        inner = getattr(statement, name, None)
        if isinstance(inner, list):
            yield inner
    for holder in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield holder.body


def _signatures(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for statement in tree.body:
        if isinstance(statement, _Function):
            yield statement.name, [item.arg for item in (*statement.args.posonlyargs, *statement.args.args)]
        elif isinstance(statement, ast.ClassDef):
            for item in statement.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    yield statement.name, [argument.arg for argument in (*item.args.posonlyargs, *item.args.args)][1:]
