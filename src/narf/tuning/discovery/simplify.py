"""Expressions worked out as far as they consist of constants, with known names put in. Nothing is executed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Protocol

from narf.tuning.discovery.source import UNKNOWN, Module

DECLARING = {"add_argument", "add_option", "option", "Option"}
FIELD = "<field>"  # the name of the call that stands for a dataclasses.Field
_TEXT_METHODS = {"replace", "lower", "upper", "strip", "lstrip", "rstrip", "title", "removeprefix", "removesuffix"}
_NAMES_OF_TYPES = {"int", "float", "str", "bool"}

Known = dict[str, ast.expr]


class Scope(Protocol):
    """What names, fields and functions of the script are, where an expression stands."""

    module: Module
    owner: str  # the class around it, "" outside of one

    def resolved(self, node: ast.expr, known: Known) -> ast.expr: ...
    def item(self, place: ast.expr, key: ast.expr) -> ast.expr | None: ...
    def attribute(self, node: ast.expr, name: str) -> ast.expr | None: ...
    def fields(self, node: ast.expr, known: Known) -> list[ast.expr] | None: ...
    def class_fields(self, name: str) -> Iterator[ast.expr]: ...
    def decide(self, node: ast.expr) -> bool | None: ...
    def returned(self, call: ast.Call, known: Known) -> ast.expr | None: ...
    def spread(self, call: ast.Call, known: Known) -> ast.Call: ...


class Simplifier(ast.NodeTransformer):
    """Puts known names in and works out what then consists of constants."""

    def __init__(self, scope: Scope, known: Known) -> None:
        self.scope, self.known = scope, known

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id in self.known:
            return ast.copy_location(copy.deepcopy(self.known[node.id]), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        found = self.scope.attribute(node.value, node.attr)
        if found is not None:
            return copy.deepcopy(found)
        if node.attr == "__name__" and isinstance(node.value, ast.Name) and node.value.id in _NAMES_OF_TYPES:
            return ast.copy_location(ast.Constant(node.value.id), node)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        parts = []
        for piece in node.values:
            inner = piece.value if isinstance(piece, ast.FormattedValue) and piece.format_spec is None else piece
            value = self.scope.module.literal(inner)
            if not isinstance(value, str | int | float):
                return node
            parts.append(str(value))
        return ast.copy_location(ast.Constant("".join(parts)), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = self.scope.module.literal(node.left), self.scope.module.literal(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return ast.copy_location(ast.Constant(left + right), node)
        if isinstance(node.op, ast.Mod) and isinstance(left, str) and isinstance(right, str) and left.count("%") == 1:
            return ast.copy_location(ast.Constant(left.replace("%s", right)), node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        place = self.scope.resolved(node.value, {}) if isinstance(node.value, ast.Name) else node.value
        found = self.scope.item(place, node.slice) or self._hint(place, node.slice)
        return node if found is None else copy.deepcopy(found)

    def _hint(self, place: ast.expr, key: ast.expr) -> ast.expr | None:
        """`get_type_hints(cls)["lr"]` and `cls.__annotations__["lr"]`."""
        if isinstance(place, ast.Call) and last_name(place.func) == "get_type_hints" and place.args:
            owner: ast.expr = place.args[0]
        elif isinstance(place, ast.Attribute) and place.attr == "__annotations__":
            owner = place.value
        else:
            return None
        for field in self.scope.fields(owner, {}) or ():
            name = self.scope.attribute(field, "name")
            if name is not None and signature(name) == signature(key):
                return self.scope.attribute(field, "type")
        return None

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        decided = self.scope.decide(node.test)
        return node if decided is None else node.body if decided else node.orelse

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        left, right = signature(node.left), signature(node.comparators[0])
        other = node.comparators[0]
        if last_name(other) == "MISSING" and isinstance(node.ops[0], ast.Eq | ast.Is | ast.NotEq | ast.IsNot):
            return ast.copy_location(ast.Constant((last_name(node.left) == "MISSING") == isinstance(node.ops[0], ast.Eq | ast.Is)), node)
        if isinstance(node.ops[0], ast.In | ast.NotIn) and isinstance(other, ast.Tuple | ast.List | ast.Set) and left:
            is_in = left in [signature(item) for item in other.elts]
            return ast.copy_location(ast.Constant(is_in if isinstance(node.ops[0], ast.In) else not is_in), node)
        if not left or not right or not isinstance(node.ops[0], ast.Eq | ast.Is | ast.NotEq | ast.IsNot):
            return node
        return ast.copy_location(ast.Constant((left == right) == isinstance(node.ops[0], ast.Eq | ast.Is)), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == FIELD:
            return node
        self.generic_visit(node)
        name = last_name(node.func)
        if name in DECLARING:
            return self.scope.spread(node, self.known)
        if isinstance(node.func, ast.Attribute) and name in _TEXT_METHODS:
            text = self.scope.module.literal(node.func.value)
            given = [self.scope.module.literal(item) for item in node.args]
            if isinstance(text, str) and all(isinstance(item, str) for item in given):
                return ast.copy_location(ast.Constant(getattr(text, name)(*given)), node)
        if isinstance(node.func, ast.Attribute) and name == "get" and node.args:
            place = self.scope.resolved(node.func.value, {}) if isinstance(node.func.value, ast.Name) else node.func.value
            found = self.scope.item(place, node.args[0])
            if found is not None:
                return copy.deepcopy(found)
            if isinstance(place, ast.Dict):
                return copy.deepcopy(node.args[1]) if len(node.args) > 1 else ast.copy_location(ast.Constant(None), node)
        if isinstance(node.func, ast.Name):
            return self._built_in(node, node.func.id)
        returned = self.scope.returned(node, self.known)
        return node if returned is None else returned

    def _built_in(self, node: ast.Call, name: str) -> ast.AST:
        first = node.args[0] if node.args else None
        if name == "dict" and len(node.args) <= 1 and all(item.arg for item in node.keywords):
            start = self.scope.resolved(first, {}) if isinstance(first, ast.Name) else first
            if start is None or isinstance(start, ast.Dict):
                keys = [*(start.keys if start is not None else []), *(ast.Constant(item.arg) for item in node.keywords)]
                values = [*(start.values if start is not None else []), *(item.value for item in node.keywords)]
                return ast.copy_location(ast.Dict(keys=keys, values=values), node)
        if name == "type" and len(node.args) == 1 and first is not None:
            value = self.scope.module.literal(first)
            kind = type(value).__name__
            return ast.copy_location(ast.Name(id=kind, ctx=ast.Load()), node) if kind in _NAMES_OF_TYPES else node
        if name == "isinstance" and len(node.args) == 2 and first is not None:
            value = self.scope.module.literal(first)
            kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            names = {last_name(kind) for kind in kinds}
            if value is not UNKNOWN and names <= {*_NAMES_OF_TYPES, "list", "dict", "tuple"}:
                is_one = type(value).__name__ in names or (isinstance(value, bool) and "int" in names)
                return ast.copy_location(ast.Constant(is_one), node)
        if name == "getattr" and len(node.args) >= 2 and first is not None:
            attribute = self.scope.module.literal(node.args[1])
            owner = last_name(first) if last_name(first) not in ("cls", "self") else self.scope.owner
            for field in self.scope.class_fields(owner) if isinstance(attribute, str) else ():
                given = self.scope.attribute(field, "name")
                if isinstance(given, ast.Constant) and given.value == attribute and (default := self.scope.attribute(field, "default")):
                    return copy.deepcopy(default)
        returned = self.scope.returned(node, self.known)
        return node if returned is None else returned


def signature(node: ast.expr) -> str:
    """What two expressions share that are the same: a constant's value or a type's name, also where it is written as text."""
    if isinstance(node, ast.Constant):
        return f"{node.value}" if isinstance(node.value, str) else repr(node.value)
    return node.id if isinstance(node, ast.Name) and node.id in _NAMES_OF_TYPES else ""


def last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
