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

from narf.tuning.discovery.meanings import Meanings
from narf.tuning.discovery.simplify import DECLARING, Known, last_name
from narf.tuning.discovery.source import UNKNOWN, Module, Source, assigned

_BY_CLASS = {"add_optimizer_args", "add_lr_scheduler_args", "add_subclass_arguments"}  # of classes that are a library's
_DEEPEST = 4


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
        if any(last_name(call.func) in _BY_CLASS or _is_computed(module, call) for call in module.calls()):
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


def _is_computed(module: Module, call: ast.Call) -> bool:
    """A module, a variable of the environment or the choices of an option under a name that is put together; a file of Python that is run."""
    name = module.dotted(call.func)
    if name in ("importlib.import_module", "__import__", "os.getenv", "os.environ.get") and call.args:
        key, inside = call.args[0], {item.arg for function in module.functions() for item in function.args.args}
        is_given = isinstance(key, ast.Name) and key.id in inside and name.startswith("os.")  # its callers say which
        is_followed = isinstance(key, ast.JoinedStr) and name.startswith("importlib")  # read_source looks for these
        return module.literal(key) is UNKNOWN and not is_given and not is_followed
    if last_name(call.func) in DECLARING:
        choices = next((item.value for item in call.keywords if item.arg == "choices"), None)
        kind = next((item.value for item in call.keywords if item.arg == "type"), None)
        if isinstance(kind, ast.Call) and last_name(kind.func) == "Choice" and kind.args:
            choices = kind.args[0]
        return choices is not None and module.options(choices) is UNKNOWN
    return name in ("runpy.run_path", "exec")


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


class _Unroller(Meanings, ast.NodeTransformer):
    def __init__(self, source: Source, module: Module, declaring: set[ast.FunctionDef | ast.AsyncFunctionDef], depth: int = 0) -> None:
        super().__init__(source, module)
        self.declaring, self.depth = declaring, depth

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer, self.owner = self.owner, node.name
        self.generic_visit(node)
        self.owner = outer
        return node

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        if _declares(node) and (rounds := self.rounds(node.target, node.iter, {})) is not None:
            return [statement for known in rounds for statement in self._run(node.body, known)]
        return self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        inner = node.generators[0]
        if len(node.generators) == 1 and not inner.ifs and _declares(node):
            rounds = self.rounds(inner.target, inner.iter, {})
            if rounds is not None:
                return ast.copy_location(ast.List(elts=[self.simple(node.elt, known) for known in rounds], ctx=ast.Load()), node)
        return self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        listed = ast.copy_location(ast.ListComp(elt=node.elt, generators=node.generators), node)
        changed = self.visit_ListComp(listed)
        return node if changed is listed else changed

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        links = list(self._chain(node.value)) if isinstance(node.value, ast.Call) else []
        bodies = [self._inlined(call, {}) for call in links]
        if links and all(body is not None for body in bodies):
            return [statement for body in bodies for statement in body or []]
        return self.generic_visit(node)

    def _chain(self, call: ast.Call) -> Iterator[ast.Call]:
        """`p.number("lr", 0.1).number("decay", 0.9)`, methods that return what they were called on, one after the other."""
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call) and self._function(call.func.value) is not None:
            first = list(self._chain(call.func.value))
            place = first[0].func
            assert isinstance(place, ast.Attribute)
            yield from first
            method = ast.copy_location(ast.Attribute(value=place.value, attr=call.func.attr, ctx=ast.Load()), call.func)
            yield ast.copy_location(ast.Call(func=method, args=call.args, keywords=call.keywords), call)
        else:
            yield call

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
            bound[name] = self.simple(value, known)
        for item in call.keywords:
            value = self.simple(item.value, known)
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
                known[name] = self.simple(value, known)
                if _declares(known[name]):
                    yield ast.copy_location(ast.Expr(known[name]), statement)
            elif isinstance(statement, ast.If):
                decided = self.decide(self.simple(statement.test, known))
                for branch in (
                    [statement.body] if decided else [statement.orelse] if decided is False else [statement.body, statement.orelse]
                ):
                    yield from self._run(branch, known if decided is not None else dict(known))
            elif isinstance(statement, ast.For):
                rounds = self.rounds(statement.target, statement.iter, known)
                for each in rounds or []:
                    yield from self._run(statement.body, known | each)
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
                self._put(statement.targets[0], self.simple(statement.value, known), known)
            elif isinstance(statement, ast.With | ast.Try):
                yield from self._run(statement.body, known)
            elif isinstance(statement, ast.Expr | ast.Return) and statement.value is not None:
                if isinstance(statement.value, ast.Call) and (inner := self._inlined(statement.value, known)) is not None:
                    yield from inner
                    continue
                self._update(statement.value, known)
                yield ast.copy_location(type(statement)(value=self.simple(statement.value, known)), statement)

    def _put(self, target: ast.Subscript, value: ast.expr, known: Known) -> None:
        """`options["type"] = float`."""
        place = known.get(target.value.id) if isinstance(target.value, ast.Name) else None
        if isinstance(place, ast.Dict) and isinstance(target.value, ast.Name):
            known[target.value.id] = ast.Dict(keys=[*place.keys, self.simple(target.slice, known)], values=[*place.values, value])

    def _update(self, node: ast.expr, known: Known) -> None:
        """`options.setdefault("type", float)` and `options.update(type=float)`."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            place = known.get(node.func.value.id)
            if not isinstance(place, ast.Dict):
                return
            if node.func.attr == "setdefault" and len(node.args) == 2 and self.item(place, self.simple(node.args[0], known)) is None:
                known[node.func.value.id] = ast.Dict(
                    keys=[*place.keys, node.args[0]], values=[*place.values, self.simple(node.args[1], known)]
                )
            elif node.func.attr == "update" and not node.args:
                keys = [ast.Constant(item.arg) for item in node.keywords]
                values = [self.simple(item.value, known) for item in node.keywords]
                known[node.func.value.id] = ast.Dict(keys=[*place.keys, *keys], values=[*place.values, *values])
