"""Declarations made by a loop or by a function of the script's own, written out: what the finders read is then one call each.

    for name, value in DEFAULTS.items():                 parser.add_argument("--lr", type=float, default=0.1)
        parser.add_argument(f"--{name}", ...)     ->     parser.add_argument("--hidden", type=int, default=64)

Loops over literal tables, over the fields of a dataclass and over annotations; functions that declare what they are given. Nothing is
executed: expressions are simplified as far as they consist of constants, and what is not simple stays as it was.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

from narf.tuning.discovery.simplify import DECLARING, FIELD, Known, Simplifier, last_name, signature
from narf.tuning.discovery.source import UNKNOWN, Module, Source, assigned

_BY_CLASS = {"add_optimizer_args", "add_lr_scheduler_args", "add_subclass_arguments"}  # of classes that are a library's
_MOST_ROUNDS, _DEEPEST = 200, 4


def unrolled(source: Source) -> Source:
    """The same files, with such loops and calls written out. The original where there are none."""
    source = _without_aliases(source)
    if not any(last_name(call.func) in DECLARING for module in source.modules for call in module.calls()):
        return source
    declaring = {
        function
        for module in source.modules
        for function in module.functions()
        if any(_is_open(module, inner) for inner in ast.walk(function))
    }
    modules = []
    for module in source.modules:
        calls = list(module.calls())
        is_concerned = any(last_name(call.func) in DECLARING for call in calls) or any(
            (known := _home(source, module, call)) is not None and known[1] in declaring for call in calls
        )
        tree = _Unroller(source, module, declaring).visit(copy.deepcopy(module.tree)) if is_concerned else module.tree
        modules.append(replace(module, tree=ast.fix_missing_locations(tree)))
    return Source(source.folder, modules[0], tuple(modules[1:]))


def _without_aliases(source: Source) -> Source:
    """`add = parser.add_argument` and `add("--lr")` as `parser.add_argument("--lr")`."""
    modules = []
    for module in source.modules:
        aliases = {
            target.id: node.value
            for node in module.nodes
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr in DECLARING
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if aliases:
            tree = copy.deepcopy(module.tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in aliases:
                    node.func = ast.copy_location(copy.deepcopy(aliases[node.func.id]), node.func)
            module = replace(module, tree=tree)
        modules.append(module)
    return Source(source.folder, modules[0], tuple(modules[1:]))


def _declares(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call) and last_name(inner.func) in DECLARING for inner in ast.walk(node))


def _home(source: Source, module: Module, call: ast.Call) -> tuple[Module, ast.FunctionDef] | None:
    """The function of the script's own that a call runs; of a method, the only one of its name."""
    if not isinstance(call.func, ast.Name | ast.Attribute):
        return None
    if _is_of_a_library(source, module, call.func):
        return None  # typer.run is no function `run` of the script's
    if known := source.defined.get(module.dotted(call.func).rpartition(".")[2]):
        return known
    if not isinstance(call.func, ast.Attribute):
        return None
    name = call.func.attr
    methods = source.methods.get(name, [])
    return methods[0] if len(methods) == 1 and name not in DECLARING else None


def _is_of_a_library(source: Source, module: Module, node: ast.expr) -> bool:
    """Whether a dotted name begins with something imported that none of these files is."""
    while isinstance(node, ast.Attribute):
        node = node.value
    imported = module.names.get(node.id, "") if isinstance(node, ast.Name) else ""
    files = {part.removesuffix(".py") for other in source.modules for part in other.file.split("/")}
    return bool(imported) and not files & set(imported.split("."))


def is_open(source: Source) -> bool:
    """Whether an unrolled source still declares something whose name is not written out, other than in a function of its own whose
    calls are written out."""
    for module in source.modules:
        if any(last_name(call.func) in _BY_CLASS for call in module.calls()):
            return True
        called = {call.func for call in module.calls()}
        if any(isinstance(node, ast.Attribute) and node.attr == "add_argument" and node not in called for node in _bound(module)):
            return True  # handed on: `partial(parser.add_argument, type=float)`
        if any(last_name(call.func) == "set_defaults" and _hands_on(module, call) for call in module.calls()):
            return True
        declared = [call for call in module.calls() if _of_a_parser(call) and _is_open(module, call)]
        if not declared:
            continue
        helpers = {
            inner
            for function in module.functions()
            for names in [{item.arg for item in ast.walk(function.args) if isinstance(item, ast.arg)} - {"self", "cls", "parser"}]
            for inner in ast.walk(function)
            if isinstance(inner, ast.Call)
            and any(isinstance(name, ast.Name) and name.id in names for item in inner.args for name in ast.walk(item))
        }
        if any(call not in helpers for call in declared):
            return True
    return False


def _bound(module: Module) -> list[ast.AST]:
    """All but what is only a name for something else, `add = parser.add_argument`, whose calls are written out."""
    named = {node.value for node in module.nodes if isinstance(node, ast.Assign)}
    return [node for node in module.nodes if node not in named]


def _hands_on(module: Module, call: ast.Call) -> bool:
    """`parser.set_defaults(**read(path))`: what it says is known when it has run."""
    return any(item.arg is None and module.literal(item.value) is UNKNOWN for item in call.keywords)


def _of_a_parser(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in DECLARING and bool(call.args)


def _is_open(module: Module, node: ast.AST) -> bool:
    """A declaration whose name is not written out."""
    if not isinstance(node, ast.Call) or last_name(node.func) not in DECLARING or module.dotted(node.func).startswith("typer."):
        return False  # an option of Typer has the name of the parameter that it belongs to
    return not any(isinstance(module.literal(item), str) for item in node.args)


class _Unroller(ast.NodeTransformer):
    def __init__(self, source: Source, module: Module, declaring: set[ast.FunctionDef | ast.AsyncFunctionDef], depth: int = 0) -> None:
        self.source, self.module, self.declaring, self.depth = source, module, declaring, depth
        self.owner = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer, self.owner = self.owner, node.name
        self.generic_visit(node)
        self.owner = outer
        return node

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        if _declares(node) and (rounds := self._rounds(node.target, node.iter, {})) is not None:
            return [statement for known in rounds for statement in self._run(node.body, known)]
        return self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        inner = node.generators[0]
        if len(node.generators) == 1 and not inner.ifs and _declares(node):
            rounds = self._rounds(inner.target, inner.iter, {})
            if rounds is not None:
                return ast.copy_location(ast.List(elts=[self._simple(node.elt, known) for known in rounds], ctx=ast.Load()), node)
        return self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        listed = ast.copy_location(ast.ListComp(elt=node.elt, generators=node.generators), node)
        changed = self.visit_ListComp(listed)
        return node if changed is listed else changed

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        call = node.value
        if isinstance(call, ast.Call) and (body := self._inlined(call, {})) is not None:
            return body
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if last_name(node.func) in DECLARING:
            return self.spread(node, {})
        returned = self.returned(node, {})
        return node if returned is None else ast.copy_location(returned, node)

    # -- functions of the script's own ---------------------------------------------------------------------------------------------

    def _function(self, call: ast.Call) -> tuple[Module, ast.FunctionDef] | None:
        """The function that a call runs, if it declares something by what it is given."""
        if self.depth >= _DEEPEST:
            return None
        known = _home(self.source, self.module, call)
        return known if known is not None and known[1] in self.declaring else None

    def _bound(self, function: ast.FunctionDef, call: ast.Call, known: Known) -> Known:
        names = [item.arg for item in (*function.args.posonlyargs, *function.args.args)]
        names = names[1:] if names[:1] in (["self"], ["cls"]) else names
        bound: Known = {}
        for name, default in zip(reversed(names), reversed(function.args.defaults), strict=False):
            bound[name] = default
        for parameter, given in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
            if given is not None:
                bound[parameter.arg] = given
        more: list[tuple[str, ast.expr]] = []
        for name, value in zip(names, call.args, strict=False):
            bound[name] = self._simple(value, known)
        for item in call.keywords:
            value = self._simple(item.value, known)
            if item.arg in names or any(item.arg == extra.arg for extra in function.args.kwonlyargs):
                bound[str(item.arg)] = value
            elif item.arg is not None:
                more.append((item.arg, value))
        if function.args.kwarg is not None:
            bound[function.args.kwarg.arg] = ast.Dict(keys=[ast.Constant(name) for name, _ in more], values=[value for _, value in more])
        return bound

    def _inside(self, module: Module) -> _Unroller:
        inner = _Unroller(self.source, module, self.declaring, self.depth + 1)
        inner.owner = self.owner
        return inner

    def _inlined(self, call: ast.Call, known: Known) -> list[ast.stmt] | None:
        found = self._function(call)
        if found is None:
            return None
        module, function = found
        return list(self._inside(module)._run(function.body, self._bound(function, call, known)))

    def returned(self, call: ast.Call, known: Known) -> ast.expr | None:
        """What a function returns, where that is a declaration: `hyper("depth", 4)` that returns `click.option(...)`."""
        found = self._function(call)
        if found is None:
            return None
        module, function = found
        for statement in self._inside(module)._run(function.body, self._bound(function, call, known)):
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call) and last_name(statement.value.func) in DECLARING:
                return statement.value
        return None

    # -- statements with names bound to expressions ----------------------------------------------------------------------------------

    def _run(self, body: Sequence[ast.stmt], known: Known) -> Iterator[ast.stmt]:
        """The statements with what is known put in; `known` grows with what they assign."""
        for statement in body:
            name, value = assigned(statement)
            if name and value is not None:
                known[name] = self._simple(value, known)
                if _declares(known[name]):
                    yield ast.copy_location(ast.Expr(known[name]), statement)
            elif isinstance(statement, ast.If):
                decided = self.decide(self._simple(statement.test, known))
                for branch in (
                    [statement.body] if decided else [statement.orelse] if decided is False else [statement.body, statement.orelse]
                ):
                    yield from self._run(branch, known if decided is not None else dict(known))
            elif isinstance(statement, ast.For):
                rounds = self._rounds(statement.target, statement.iter, known)
                for each in rounds or []:
                    yield from self._run(statement.body, known | each)
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
                self._put(statement.targets[0], self._simple(statement.value, known), known)
            elif isinstance(statement, ast.With | ast.Try):
                yield from self._run(statement.body, known)
            elif isinstance(statement, ast.Expr | ast.Return) and statement.value is not None:
                if isinstance(statement.value, ast.Call) and (inner := self._inlined(statement.value, known)) is not None:
                    yield from inner
                    continue
                self._update(statement.value, known)
                yield ast.copy_location(type(statement)(value=self._simple(statement.value, known)), statement)

    def _put(self, target: ast.Subscript, value: ast.expr, known: Known) -> None:
        """`options["type"] = float`."""
        place = known.get(target.value.id) if isinstance(target.value, ast.Name) else None
        if isinstance(place, ast.Dict) and isinstance(target.value, ast.Name):
            known[target.value.id] = ast.Dict(keys=[*place.keys, self._simple(target.slice, known)], values=[*place.values, value])

    def _update(self, node: ast.expr, known: Known) -> None:
        """`options.setdefault("type", float)` and `options.update(type=float)`."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            place = known.get(node.func.value.id)
            if not isinstance(place, ast.Dict):
                return
            if node.func.attr == "setdefault" and len(node.args) == 2 and self.item(place, self._simple(node.args[0], known)) is None:
                known[node.func.value.id] = ast.Dict(
                    keys=[*place.keys, node.args[0]], values=[*place.values, self._simple(node.args[1], known)]
                )
            elif node.func.attr == "update" and not node.args:
                keys = [ast.Constant(item.arg) for item in node.keywords]
                values = [self._simple(item.value, known) for item in node.keywords]
                known[node.func.value.id] = ast.Dict(keys=[*place.keys, *keys], values=[*place.values, *values])

    # -- loops -------------------------------------------------------------------------------------------------------------------------

    def _rounds(self, target: ast.expr, iterated: ast.expr, known: Known) -> list[Known] | None:
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
            place = self._simple(self.resolved(node, known), known)
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
        node = self._simple(node, known)
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

    def _simple(self, node: ast.expr, known: Known) -> ast.expr:
        simplifier = Simplifier(self, known)
        result = simplifier.visit(copy.deepcopy(node))
        assert isinstance(result, ast.expr)
        return result

    def spread(self, call: ast.Call, known: Known) -> ast.Call:
        """`add_argument("--lr", **options)` with the options written out."""
        keywords: list[ast.keyword] = []
        for item in call.keywords:
            place = self._simple(self.resolved(item.value, known), known) if item.arg is None else None
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
