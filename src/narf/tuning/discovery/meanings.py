"""What names, tables and fields of a script stand for where an expression is written out, and what a loop over them goes through."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

from narf.tuning.discovery.simplify import FIELD, Known, Simplifier, last_name, signature
from narf.tuning.discovery.source import UNKNOWN, Module, Source, assigned

_MOST_ROUNDS = 200


class Meanings:
    """The scope of a simplifier: one file of a source, within a class (`owner`) or outside of one. Nothing is executed."""

    def __init__(self, source: Source, module: Module) -> None:
        self.source, self.module, self.owner = source, module, ""

    def returned(self, call: ast.Call, known: Known) -> ast.expr | None:
        """What a function of the script's own returns, where somebody knows."""
        return None

    def rounds(self, target: ast.expr, iterated: ast.expr, known: Known) -> list[Known] | None:
        items = self._items(iterated, known)
        if items is None or len(items) > _MOST_ROUNDS:
            return None
        rounds = []
        for item in items:
            bound = _unpacked(target, item)
            if bound is None:
                return None
            rounds.append(bound)
        return rounds

    def _items(self, node: ast.expr, known: Known) -> list[ast.expr] | None:
        """What a loop goes over, one expression each."""
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            if name in ("reversed", "sorted", "list", "tuple", "iter") and len(node.args) == 1:
                return self._items(node.args[0], known)
            if name == "enumerate" and node.args:
                items = self._items(node.args[0], known)
                return None if items is None else [_pair(ast.Constant(index), item) for index, item in enumerate(items)]
            if name == "zip":
                columns = [self._items(item, known) for item in node.args]
                if any(column is None for column in columns):
                    return None
                return [ast.Tuple(elts=list(row), ctx=ast.Load()) for row in zip(*(column or [] for column in columns), strict=False)]
            if name == "range" and isinstance(numbers := self.module.literal(node), list):
                return [ast.Constant(number) for number in numbers]
            if name == "fields" and node.args:
                return self.fields(node.args[0], known)
            if isinstance(node.func, ast.Attribute) and name in ("items", "keys", "values"):
                return self._entries(node.func.value, name, known)
            return None
        place = self.resolved(node, known)
        if isinstance(place, ast.List | ast.Tuple | ast.Set):
            return [self.resolved(item, known) if isinstance(item, ast.Name) else item for item in place.elts]
        if isinstance(place, ast.Dict):
            return [key for key in place.keys if key is not None]
        return None

    def _entries(self, node: ast.expr, which: str, known: Known) -> list[ast.expr] | None:
        pairs: list[tuple[ast.expr, ast.expr]] | None = None
        if isinstance(node, ast.Attribute) and node.attr == "__dataclass_fields__":
            fields = self.fields(node.value, known)
            pairs = None if fields is None else [(self.attribute(item, "name") or item, item) for item in fields]
        elif (isinstance(node, ast.Attribute) and node.attr == "__annotations__") or (
            isinstance(node, ast.Call) and last_name(node.func) == "get_type_hints" and node.args
        ):
            owner = node.value if isinstance(node, ast.Attribute) else node.args[0]
            fields = self.fields(owner, known)
            pairs = (
                None
                if fields is None
                else [(self.attribute(item, "name") or item, self.attribute(item, "type") or item) for item in fields]
            )
        else:
            place = self.simple(self.resolved(node, known), known)
            if isinstance(place, ast.Dict) and all(key is not None for key in place.keys):
                pairs = [(key, value) for key, value in zip(place.keys, place.values, strict=True) if key is not None]
        if pairs is None:
            return None
        return [_pair(key, value) if which == "items" else key if which == "keys" else value for key, value in pairs]

    def fields(self, node: ast.expr, known: Known) -> list[ast.expr] | None:
        """The fields of a dataclass, or of each that the script hands to a function or class where the name is a parameter's."""
        node = self.resolved(node, known)
        name = self.module.dotted(node).rpartition(".")[2]
        if name in ("cls", "self") and self.owner:
            name = self.owner
        classes = [name] if self.source.class_of(name) is not None else list(self._handed_over())
        found = [field for each in classes for field in self.class_fields(each)]
        return found or None

    def _handed_over(self) -> Iterator[str]:
        """Classes with annotated fields that stand as values in a call's arguments or a parameter's default."""
        seen: set[str] = set()
        for module in self.source.modules:
            for node in module.nodes:
                values: list[ast.expr | None] = []
                if isinstance(node, ast.Call):
                    values = [*node.args, *(item.value for item in node.keywords)]
                elif isinstance(node, ast.arguments):
                    values = [*node.defaults, *node.kw_defaults]
                for value in values:
                    for item in value.elts if isinstance(value, ast.Tuple | ast.List) else [value]:
                        if isinstance(item, ast.Name) and item.id not in seen and (known := self.source.class_of(item.id)) is not None:
                            seen.add(item.id)
                            if any(isinstance(statement, ast.AnnAssign) for statement in known[1].body):
                                yield item.id

    def class_fields(self, name: str, depth: int = 6) -> Iterator[ast.expr]:
        known = self.source.class_of(name)
        if known is None or depth == 0:
            return
        module, node = known
        for base in node.bases:
            yield from self.class_fields(module.dotted(base).rpartition(".")[2], depth - 1)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and not statement.target.id.startswith("_"):
                yield ast.copy_location(_field_of(statement, statement.target.id), statement)

    # -- expressions --------------------------------------------------------------------------------------------------------------------

    def resolved(self, node: ast.expr, known: Known) -> ast.expr:
        """What a name stands for: known here, or assigned once at the top of this file or of the one it comes from."""
        node = self.simple(node, known)
        for _ in range(4):
            if not isinstance(node, ast.Name | ast.Attribute):
                break
            module_name, _, last = self.module.dotted(node).rpartition(".")
            places = (
                [module for module in self.source.modules if module.file.removesuffix(".py").replace("/", ".") == module_name]
                if module_name
                else [self.module]
            )
            value = next(
                (
                    value
                    for place in places
                    for statement in place.tree.body
                    for name, value in [assigned(statement)]
                    if name == last and value
                ),
                None,
            )
            if value is None:
                break
            node = value
        return node

    def simple(self, node: ast.expr, known: Known) -> ast.expr:
        simplifier = Simplifier(self, known)
        result = simplifier.visit(copy.deepcopy(node))
        assert isinstance(result, ast.expr)
        return result

    def spread(self, call: ast.Call, known: Known) -> ast.Call:
        """`add_argument("--lr", **options)` with the options written out."""
        keywords: list[ast.keyword] = []
        for item in call.keywords:
            place = self.simple(self.resolved(item.value, known), known) if item.arg is None else None
            if isinstance(place, ast.Dict) and all(isinstance(key, ast.Constant) for key in place.keys):
                given = {
                    str(key.value): value for key, value in zip(place.keys, place.values, strict=True) if isinstance(key, ast.Constant)
                }
                keywords += [ast.keyword(arg=name, value=value) for name, value in given.items()]
            else:
                keywords.append(item)
        call.keywords = list({item.arg if item.arg is not None else id(item): item for item in keywords}.values())
        return call

    def attribute(self, node: ast.expr, name: str) -> ast.expr | None:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == FIELD:
            return next((item.value for item in node.keywords if item.arg == name), None)
        return None

    def item(self, place: ast.expr, key: ast.expr) -> ast.expr | None:
        if isinstance(place, ast.Dict):
            wanted = signature(key)
            pairs = list(zip(place.keys, place.values, strict=True))
            return next((value for known, value in reversed(pairs) if known is not None and wanted and signature(known) == wanted), None)
        if isinstance(place, ast.List | ast.Tuple) and isinstance(key, ast.Constant) and isinstance(key.value, int):
            return place.elts[key.value] if -len(place.elts) <= key.value < len(place.elts) else None
        return None

    def decide(self, node: ast.expr) -> bool | None:
        value = self.module.literal(node)
        return None if value is UNKNOWN else bool(value)


def _pair(key: ast.expr, value: ast.expr) -> ast.Tuple:
    return ast.Tuple(elts=[key, value], ctx=ast.Load())


def _unpacked(target: ast.expr, item: ast.expr) -> Known | None:
    """Names of a loop's target with what they are bound to."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if isinstance(target, ast.Tuple | ast.List) and isinstance(item, ast.Tuple | ast.List) and len(target.elts) == len(item.elts):
        found: Known = {}
        for inner, value in zip(target.elts, item.elts, strict=True):
            bound = _unpacked(inner, value)
            if bound is None:
                return None
            found |= bound
        return found
    return None


def _field_of(statement: ast.AnnAssign, name: str) -> ast.Call:
    """The call that stands for a field: its name, type, default and metadata by keyword."""
    annotation: ast.expr = statement.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    default, metadata = statement.value, None
    if isinstance(default, ast.Call) and last_name(default.func) in ("field", "Field", "ib", "attrib"):
        given = {item.arg: item.value for item in default.keywords}
        metadata = given.get("metadata")
        default = given.get("default", default.args[0] if default.args else None)
    keywords = [ast.keyword(arg="name", value=ast.Constant(name)), ast.keyword(arg="type", value=annotation)]
    keywords.append(ast.keyword(arg="default", value=default if default is not None else ast.Name(id="MISSING", ctx=ast.Load())))
    keywords.append(ast.keyword(arg="metadata", value=metadata if metadata is not None else ast.Dict(keys=[], values=[])))
    return ast.Call(func=ast.Name(id=FIELD, ctx=ast.Load()), args=[], keywords=keywords)
