"""Choices of a parameter that is text, from what the script does with it.

{"relu": nn.ReLU, "gelu": nn.GELU}[args.activation]      if optimizer == "adam": ... elif optimizer == "sgd": ...
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace

from narf.tuning.discovery.found import FoundParameter
from narf.tuning.discovery.propose import last_of
from narf.tuning.discovery.signature import type_of
from narf.tuning.discovery.source import Module, Source


def with_choices(source: Source, parameters: Iterable[FoundParameter]) -> list[FoundParameter]:
    """The parameters; those that are text, and whose text the script looks up or compares, with what it knows."""
    found = list(parameters)
    if not any(_is_text(item) for item in found):
        return found
    known = _choices(source)
    return [_chosen(item, known.get(last_of(item.name).replace("-", "_"), [])) if _is_text(item) else item for item in found]


def _is_text(item: FoundParameter) -> bool:
    return item.type == "str" and isinstance(item.default, str) and not item.choices


def _chosen(item: FoundParameter, tables: list[tuple[str, ...]]) -> FoundParameter:
    fitting = [table for table in tables if item.default in table and len(table) > 1]
    if not fitting:
        return item
    common = [word for word in fitting[0] if all(word in table for table in fitting)]
    if len(common) < 2:
        return item
    return replace(item, type="choice", choices=tuple(common), proposal=None, left_alone="")


def _choices(source: Source) -> dict[str, list[tuple[str, ...]]]:
    """Name -> the sets of words that it is looked up in, or compared with."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for module in source.modules:
        for name, words in (*_looked_up(source, module), *_matched(module), *_annotated(source, module)):
            found.setdefault(name, []).append(words)
        compared: dict[str, list[str]] = {}
        for name, word in _compared(module):
            if word not in compared.setdefault(name, []):
                compared[name].append(word)
        for name, words_seen in compared.items():
            found.setdefault(name, []).append(tuple(words_seen))
    return found


def _key(node: ast.AST) -> str:
    """The name under which a text is known: `activation`, `args.activation` or `cfg["activation"]`, also lowered or stripped."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "upper", "strip"):
        node = node.func.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _looked_up(source: Source, module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in module.nodes:
        table: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            table, key = node.value, _key(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            table, key = node.func.value, _key(node.args[0])
        if table is not None and key:
            for words in _tables(source, table):
                yield key, words


def _tables(source: Source, node: ast.expr) -> Iterator[tuple[str, ...]]:
    """The words of a table of functions or classes, written here or bound to this name somewhere."""
    places: list[ast.AST] = [node]
    if (name := _key(node)) and isinstance(node, ast.Name | ast.Attribute):
        places = [
            statement.value
            for module in source.modules
            for statement in module.nodes
            if isinstance(statement, ast.Assign) and any(_key(target) == name for target in statement.targets)
        ]
    for place in places:
        pairs: list[tuple[object, ast.expr]] = []
        if isinstance(place, ast.Dict):
            pairs = [
                (key.value if isinstance(key, ast.Constant) else None, value) for key, value in zip(place.keys, place.values, strict=True)
            ]
        elif isinstance(place, ast.Call) and isinstance(place.func, ast.Name) and place.func.id == "dict":
            pairs = [(item.arg, item.value) for item in place.keywords]
        words = [word for word, _ in pairs if isinstance(word, str)]
        if len(words) == len(pairs) > 1 and not any(isinstance(value, ast.Constant) and value.value is not None for _, value in pairs):
            yield tuple(words)


def _compared(module: Module) -> Iterator[tuple[str, str]]:
    for node in module.nodes:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and (name := _key(node.left)):
            value = module.literal(node.comparators[0])
            if isinstance(node.ops[0], ast.Eq) and isinstance(value, str):
                yield name, value
            elif isinstance(node.ops[0], ast.In) and isinstance(value, list):
                yield from ((name, word) for word in value if isinstance(word, str))


def _annotated(source: Source, module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`kernel: Literal["rbf", "linear"]`, `activation: Activation`: a field or argument that a text of that name becomes."""
    for node in module.nodes:
        name = node.arg if isinstance(node, ast.arg) else _key(node.target) if isinstance(node, ast.AnnAssign) else ""
        if not name:
            continue
        kind, choices, of_enum = type_of(source, module, node.annotation)  # type: ignore[attr-defined] # both have one
        words = [choice[1] if of_enum else choice for choice in choices] if kind == "choice" else []
        if len(words) > 1 and all(isinstance(word, str) for word in words):
            yield name, tuple(words)


def _matched(module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in module.nodes:
        if isinstance(node, ast.Match) and (name := _key(node.subject)):
            values = [
                inner.value.value
                for case in node.cases
                for inner in ast.walk(case.pattern)
                if isinstance(inner, ast.MatchValue) and isinstance(inner.value, ast.Constant)
            ]
            yield name, tuple(value for value in values if isinstance(value, str))
