"""Where a script states nothing by name at its top: numbers written into the call that makes the model, and into its main function.

RandomForestClassifier(n_estimators=200)     RandomForestClassifier.n_estimators
def main(): lr = 0.1                         main.lr
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from narf.tuning.discovery.constants import bindings, fallback
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.names import sounds_like_a_setting
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Module, Source

_LIBRARIES = ("sklearn", "xgboost", "lightgbm", "catboost", "imblearn", "torch.optim", "torch.nn", "torch.utils.data")
_OF_THE_SHAPE = (
    "padding",
    "stride",
    "dilation",
    "groups",
    "bias",
    "batch_first",
    "dim",
    "eps",
    "probability",
    "copy",
    "inplace",
    "affine",
    "total_iters",
    "enable_nested_tensor",
)
_NOT_MODELS = ("sklearn.model_selection", "sklearn.datasets", "sklearn.metrics", "sklearn.utils")


def find_literals(source: Source) -> list[FoundParameter]:
    """Keyword arguments of models and optimisers, and local settings of functions of the script, each written once or the same each time."""
    found: dict[str, FoundParameter] = {}
    again: set[str] = set()
    for module in source.modules:
        for name, value, line in (*_of_calls(source, module), *(_of_functions(module) if module is source.main else ())):
            kind = type_of_value(value)
            if kind not in ("int", "float", "bool") or name in again:
                continue
            if name == "DataLoader.batch_size" and name in found:
                continue  # the loader that evaluates may have another, and takes this one as well
            if name in found and found[name].default != value:
                again.add(name)  # one value cannot stand for both
                del found[name]
                continue
            found[name] = FoundParameter(
                name=name, type=kind, style=Style.CONSTANT, passing=Passing(How.INJECT, name), default=value, line=line, file=module.file
            )
    return list(found.values())


def _of_calls(source: Source, module: Module) -> Iterator[tuple[str, Any, int]]:
    for call in module.calls():
        is_partial = module.dotted(call.func) in ("functools.partial", "partial") and bool(call.args)
        full = module.dotted(call.args[0] if is_partial else call.func)
        last = full.rpartition(".")[2]
        if not last[:1].isupper() or source.class_of(last) is not None or not full.startswith(_LIBRARIES) or full.startswith(_NOT_MODELS):
            continue
        for item in call.keywords:
            if item.arg is not None and isinstance(item.value, ast.Constant | ast.UnaryOp | ast.BinOp):
                value = module.literal(item.value)
                if item.arg not in _OF_THE_SHAPE and (last != "DataLoader" or item.arg == "batch_size"):
                    yield f"{last}.{item.arg}", value, call.lineno


def _of_functions(module: Module) -> Iterator[tuple[str, Any, int]]:
    """Names that a function of the top level binds once, to a number that sounds like a setting."""
    for function in module.tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        bound = [item.id for item in ast.walk(function) if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load)]
        for statement in function.body:
            for name, node in bindings(statement):
                node = fallback(node)
                if isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp) and bound.count(name) == 1 and sounds_like_a_setting(name):
                    yield f"{function.name}.{name}", module.literal(node), statement.lineno
