"""Types and defaults as annotations, dataclass fields and function signatures state them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, assigned, keyword

_PLAIN = {
    "float": "float",
    "int": "int",
    "bool": "bool",
    "str": "str",
    "PositiveInt": "int",
    "NonNegativeInt": "int",
    "PositiveFloat": "float",
    "NonNegativeFloat": "float",
    "OpenUnitInterval": "float",
    "ClosedUnitInterval": "float",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter of a function or field of a dataclass. `default` is UNKNOWN where there is none that can be read."""

    name: str
    type: str  # float, int, bool, choice, str, list, class or "" (unknown)
    default: Any
    choices: tuple[Any, ...]
    has_default: bool
    line: int
    class_name: str = ""  # of type "class": a nested dataclass
    help: str = ""
    keyword_only: bool = False
    annotation: ast.expr | None = None
    default_node: ast.expr | None = None
    least: float | None = None  # ends that pydantic enforces
    most: float | None = None


def type_of(source: Source, module: Module, annotation: ast.expr | None) -> tuple[str, tuple[Any, ...], str]:
    """(type, choices, class name) that an annotation names; ("", (), "") where it is not one we know."""
    match annotation:
        case None:
            return "", (), ""
        case ast.Constant(value=str(text)):
            try:
                return type_of(source, module, ast.parse(text, mode="eval").body)
            except SyntaxError:
                return "", (), ""
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [part for part in (left, right) if not (isinstance(part, ast.Constant) and part.value is None)]
            return _union(source, module, parts)
        case ast.Subscript(value=value, slice=inner):
            outer = module.dotted(value).rpartition(".")[2]
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if outer == "Literal":
                return "choice", tuple(module.literal(item) for item in items), ""
            if outer in ("Optional", "Final", "ClassVar"):
                return type_of(source, module, items[0])
            if outer == "Annotated":
                return type_of(source, module, items[0])
            if outer == "Union":
                return _union(source, module, [i for i in items if not (isinstance(i, ast.Constant) and i.value is None)])
            if outer.lower() in ("list", "tuple", "sequence", "set", "dict", "iterable"):
                return "list", (), ""
            return "", (), ""
    name = module.dotted(annotation)
    last = name.rpartition(".")[2]
    if last in _PLAIN:
        return _PLAIN[last], (), ""
    if members := source.enum_choices(name):
        return "choice", tuple(members), last
    if source.class_of(name) is not None:
        return "class", (), last
    if last in ("list", "tuple", "dict", "set"):
        return "list", (), ""
    return ("str", (), "") if last in ("Path", "PathLike", "FilePath", "DirectoryPath") else ("", (), "")


def _meant(module: Module, annotation: ast.expr | None) -> ast.expr | None:
    """What `Rate` stands for after `Rate = Annotated[float, ...]` at module level."""
    if isinstance(annotation, ast.Name):
        for statement in module.tree.body:
            name, value = assigned(statement)
            if name == annotation.id and isinstance(value, ast.Subscript):
                return value
    return annotation


def _union(source: Source, module: Module, parts: list[ast.expr]) -> tuple[str, tuple[Any, ...], str]:
    found = [type_of(source, module, part) for part in parts]
    plain = {kind for kind, _, _ in found}
    if plain == {"int", "float"}:
        return "float", (), ""
    return found[0] if len(found) == 1 else ("", (), "")


def type_of_value(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "str"
    return "list" if isinstance(value, list | dict) else ""


def make_field(source: Source, module: Module, name: str, annotation: ast.expr | None, default: ast.expr | None, line: int) -> Field:
    annotation = _meant(module, annotation)
    kind, choices, class_name = type_of(source, module, annotation)
    value = module.literal(default)
    if class_name and kind == "choice":  # an Enum: the default is Class.member
        member = default.attr if isinstance(default, ast.Attribute) else None
        value = next((m for m in choices if m[0] == member), value)
    if not kind and value is not UNKNOWN:
        kind = type_of_value(value)
    return Field(
        name,
        kind,
        value,
        choices,
        default is not None,
        line,
        class_name if kind in ("class", "choice") else "",
        "",
        False,
        annotation,
        default,
    )


def parameters_of(source: Source, module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Field]:
    """The parameters of a function or method (without self and cls), with help read from its docstring."""
    helps = argument_docs(ast.get_docstring(function) or "")
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for index, (item, default) in enumerate(zip(positional, defaults, strict=True)):
        if index == 0 and item.arg in ("self", "cls"):
            continue
        yield _with_help(make_field(source, module, item.arg, item.annotation, default, item.lineno), helps)
    for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _with_help(make_field(source, module, item.arg, item.annotation, default, item.lineno), helps)


def constructor_of(source: Source, class_name: str, depth: int = 6) -> list[Field]:
    """Fields of a class's `__init__`, its own or inherited from a class defined here; of a dataclass, its fields."""
    found = source.class_of(class_name)
    if found is None or depth == 0:
        return []
    module, node = found
    if is_dataclass(source, class_name):
        return list(fields_of(source, class_name))
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            helps = argument_docs(ast.get_docstring(node) or "")
            own = [_with_help(item, helps) for item in parameters_of(source, module, statement)]
            names = {item.name for item in own}
            handed_on = node.bases if statement.args.kwarg is not None else []  # **kwargs, which a base takes
            inherited = [item for base in handed_on for item in constructor_of(source, module.dotted(base), depth - 1)]
            return own + [item for item in inherited if item.name not in names]
    for base in node.bases:
        if of_base := constructor_of(source, module.dotted(base), depth - 1):
            return of_base
    return []


def is_dataclass(source: Source, class_name: str) -> bool:
    found = source.class_of(class_name)
    if found is None:
        return False
    module, node = found
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if module.dotted(target) in ("dataclasses.dataclass", "dataclass", "pydantic.dataclasses.dataclass", "attr.dataclass"):
            return True
        if module.dotted(target).rpartition(".")[2] in ("dataclass", "define", "frozen"):
            return True
    return source.descends(class_name, "BaseModel", "BaseSettings", "NamedTuple")


def fields_of(source: Source, class_name: str, depth: int = 6) -> Iterator[Field]:
    """Fields of a dataclass, inherited ones first."""
    found = source.class_of(class_name)
    if found is None or depth == 0:
        return
    module, node = found
    own = {
        statement.target.id for statement in node.body if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    for base in node.bases:
        yield from (item for item in fields_of(source, module.dotted(base), depth - 1) if item.name not in own)
    helps = argument_docs(ast.get_docstring(node) or "")
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if module.dotted(statement.annotation).rpartition(".")[2] == "ClassVar" or statement.target.id.startswith("_"):
            continue
        default, text = _field_default(module, statement.value)
        item = make_field(source, module, statement.target.id, statement.annotation, default, statement.lineno)
        least, most = _ends(module, statement, item.type)
        item = replace(item, least=least, most=most)
        yield _with_help(item, {item.name: text} if text else helps)


def _field_default(module: Module, value: ast.expr | None) -> tuple[ast.expr | None, str]:
    """The default within `field(default=..., metadata={"help": ...})`, or the value itself."""
    if not isinstance(value, ast.Call) or module.dotted(value.func).rpartition(".")[2] not in ("field", "Field", "arg", "ib", "attrib"):
        return value, ""
    metadata = module.literal(keyword(value, "metadata"))
    text = metadata.get("help", "") if isinstance(metadata, dict) else ""
    for name in ("help", "description"):
        given = module.literal(keyword(value, name))
        text = given if isinstance(given, str) else text
    factory = keyword(value, "default_factory")
    if isinstance(factory, ast.Lambda):
        return factory.body, text
    if factory is not None:
        return ast.Call(func=factory, args=[], keywords=[], lineno=value.lineno, col_offset=0), text
    return argument(value, 0, "default"), text


def _ends(module: Module, statement: ast.AnnAssign, kind: str) -> tuple[float | None, float | None]:
    """The ends that `Field(4, ge=2, lt=20)` states, as the value or within Annotated."""
    step = 1 if kind == "int" else 1e-6
    ends: dict[str, float] = {}
    for part in (statement.annotation, statement.value):
        for node in ast.walk(part) if part is not None else ():
            if isinstance(node, ast.Call) and module.dotted(node.func).rpartition(".")[2] == "Field":
                given = {item.arg: module.literal(item.value) for item in node.keywords if item.arg in ("ge", "gt", "le", "lt")}
                ends |= {str(name): value for name, value in given.items() if isinstance(value, int | float)}
    least = ends.get("ge", ends["gt"] + step if "gt" in ends else None)
    return least, ends.get("le", ends["lt"] - step if "lt" in ends else None)


def argument_docs(docstring: str) -> dict[str, str]:
    """What a docstring says of each argument: `name: text`, `name (type): text` or `:param name: text`."""
    found: dict[str, str] = {}
    for raw in docstring.splitlines():
        line = raw.strip().removeprefix(":param ").removeprefix(":arg ")
        name, colon, text = line.partition(":")
        name = name.partition("(")[0].strip()
        if colon and text.strip() and name.isidentifier() and name not in found:
            found[name] = text.strip()
    return found


def _with_help(item: Field, helps: dict[str, str]) -> Field:
    return replace(item, help=helps[item.name]) if item.name in helps and not item.help else item
