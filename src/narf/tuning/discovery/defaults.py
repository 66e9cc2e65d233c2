"""What functions and classes of the script's own are given: the defaults that their callers leave, and the numbers written into the call.

def train(model, lr=0.1): ...       train(model)             train.lr
class Net(nn.Module): ...           Net(hidden=64)           Net.hidden
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.lightning import MODULES
from narf.tuning.discovery.names import core_of, words_of
from narf.tuning.discovery.signature import Field, constructor_of, is_dataclass, parameters_of, type_of_value
from narf.tuning.discovery.source import UNKNOWN, Module, Source, Unknown

# Functions that make data or look at what came out of the training.
_BESIDE_THE_MODEL = {
    "data", "dataset", "datasets", "load", "read", "fetch", "generate", "simulate", "synth", "synthetic", "sample", "plot", "draw", "show", "save", "write", "dump", "export", "log", "logger", "report",
    "print", "seed", "eval", "evaluate", "evaluation", "test", "validate", "metric", "metrics", "score", "accuracy", "bootstrap", "setup", "split", "parse", "download", "benchmark", "time",
}  # fmt: skip


_OF_CLASSES = {"log", "time", "sample", "score", "split", "test"}  # in names of classes, part of what a model is called


def find_defaults(source: Source) -> list[FoundParameter]:
    """Numbers, truths and texts that all callers leave as they are, or all write alike."""
    found: dict[str, FoundParameter] = {}
    differs: set[str] = set()
    for module, call, owner, home, fields, is_at_top in _calls(source):
        if any(isinstance(item, ast.Starred) for item in call.args) or any(_hands_on(item) for item in call.keywords):
            differs |= {f"{owner}.{item.name}" for item in fields}  # what a table hands on is the table's to say
            continue
        given = {item.name: node if home is module else None for item, node in zip(fields, call.args, strict=False)}
        given |= {item.arg: item.value for item in call.keywords if item.arg}
        for item in fields:
            name = f"{owner}.{item.name}"
            written = given.get(item.name)
            value: Any = item.default if item.name not in given else UNKNOWN
            if isinstance(written, ast.Constant | ast.UnaryOp):
                value = module.literal(written)
            kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
            if (name in found and found[name].default != value) or kind not in ("int", "float", "bool", "str"):
                differs.add(name)
            elif (
                is_at_top
                or core_of(item.name)
                or not _BESIDE_THE_MODEL & set(words_of(owner)) - (_OF_CLASSES if owner in source.classes else set())
            ):
                style, passing = Style.CONSTANT, Passing(How.INJECT, name)
                kind = item.type if item.type in ("int", "float", "bool", "choice") else kind
                choices = item.choices if kind == "choice" and not item.class_name else ()
                found[name] = FoundParameter(
                    name=name,
                    type=kind,
                    style=style,
                    passing=passing,
                    default=value,
                    choices=choices,
                    help=item.help,
                    line=item.line,
                    file=home.file,
                )
    return [item for name, item in found.items() if name not in differs]


def _hands_on(item: ast.keyword) -> bool:
    """`**TREES`; what is read from the command line, `**parse(sys.argv)`, is the user's to give."""
    return item.arg is None and not isinstance(item.value, ast.Call)


def _calls(source: Source) -> Iterator[tuple[Module, ast.Call, str, Module, list[Field], bool]]:
    """(module, call, what it calls, where that is defined, its parameters, whether the script calls it at its top level)."""
    top = {statement.value for statement in _at_top(source.main.tree) if isinstance(statement, ast.Expr | ast.Assign)}
    for module in source.modules:
        for call in module.calls():
            if not isinstance(call.func, ast.Name | ast.Attribute):
                continue
            full = module.dotted(call.func)
            last = full.rpartition(".")[2]
            is_own = isinstance(call.func, ast.Name) or any(
                other.file.removesuffix(".py").replace("/", ".") == full.rpartition(".")[0] for other in source.imported
            )
            if not is_own:
                continue
            if (known := source.defined.get(last)) is not None and not known[1].decorator_list:
                yield module, call, last, known[0], list(parameters_of(source, *known)), call in top and known[0] is source.main
                continue
            owner = source.class_of(last)
            fields = [] if owner is None or is_dataclass(source, last) or source.descends(last, *MODULES) else constructor_of(source, last)
            if owner is not None and fields:
                yield module, call, last, owner[0], fields, False


def _at_top(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        yield from statement.body if isinstance(statement, ast.If) else [statement]
