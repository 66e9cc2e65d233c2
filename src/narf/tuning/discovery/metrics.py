"""Metrics that a script will report, read from its logging calls, or else from what it prints, with the direction their names and callbacks
tell."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from narf.training.metric_names import direction_of
from narf.tuning.discovery.found import FoundMetric
from narf.tuning.discovery.printed import printed_metrics
from narf.tuning.discovery.source import Module, Source, argument, keyword

_IGNORED = {"lr", "epoch", "step", "global_step", "learning_rate"}
_SPLIT = re.compile(r"[^a-z0-9]+")


def find_metrics(source: Source) -> tuple[FoundMetric, ...]:
    """Every metric name that can be read, the likeliest objective first."""
    found: dict[str, FoundMetric] = {}
    for name, line in _logged(source):
        if name and name.lower() not in _IGNORED:
            found.setdefault(name, FoundMetric(name=name, direction=direction_of(name), line=line))
    if not found:  # a script with a logger is taken at its word; what it prints besides is recorded all the same
        for name, line in printed_metrics(source, functools.partial(_keys, source), functools.partial(_strings, source)):
            found.setdefault(name, FoundMetric(name=name, direction=direction_of(name), line=line))
    for name, mode, line in _monitored(source):
        known = found.get(name, FoundMetric(name=name, direction=direction_of(name), line=line))
        direction = {"min": "minimize", "max": "maximize"}.get(mode, known.direction)
        found[name] = replace(known, monitored=True, direction=direction)
    if (line := _plain_loop(source)) and not any(source.descends(name, "LightningModule") for name in source.classes):
        found.setdefault("loss", FoundMetric(name="loss", direction="minimize", line=line))  # the hooks record it
    return tuple(sorted(found.values(), key=lambda metric: (_rank(metric), _is_summary(metric), list(found).index(metric.name))))


def _keys(source: Source, module: Module, node: ast.expr, call: ast.Call) -> list[str]:
    """The keys of the dictionary that an expression is; empty where it is none, or none that can be seen."""
    if isinstance(node, ast.Dict):
        return list(_dict_names(source, module, node, call))
    if isinstance(node, ast.Name):
        return list(_variable_dict(source, module, node, call))
    return list(_returned(source, module, node)) if isinstance(node, ast.Call) else []


def _strings(source: Source, module: Module, node: ast.expr, call: ast.Call) -> list[str]:
    """The texts that a name stands for: what a loop gives it, or a caller."""
    return _names(source, module, _function_around(module, call), node, call)


def _plain_loop(source: Source) -> int:
    """The line of the first `loss.backward()` of a script with torch; 0 without one."""
    if not any(name.partition(".")[0] == "torch" for module in source.modules for name in module.names.values()):
        return 0
    return next((call.lineno for _, call, _ in source.calls(".backward") if not isinstance(call.func, ast.Name)), 0)


def _is_summary(metric: FoundMetric) -> bool:
    """Said once at the end: what is said on the way can stop a trial early, and ends at the same."""
    return "best" in _SPLIT.split(metric.name.lower())


def _rank(metric: FoundMetric) -> int:
    if metric.monitored:
        return 0
    words = set(_SPLIT.split(metric.name.lower()))
    is_held_out = bool(words & {"val", "valid", "validation", "eval", "dev", "cv"})
    if is_held_out and metric.direction:
        return 1 if metric.direction == "minimize" and "loss" in words else 2
    if is_held_out:
        return 3
    if "test" in words:
        return 4
    return 6 if "train" in words else 5 if metric.direction else 7


def _logged(source: Source) -> Iterator[tuple[str, int]]:
    for module, call, method in source.calls(".log", ".log_metric", ".add_scalar", ".log_scalar", ".report_scalar"):
        if module.dotted(call.func).startswith(("math.", "np.", "numpy.", "torch.log", "logging.", "tf.math")):
            continue
        if module.dotted(call.func) == "narf.log":  # narf.log(loss=..., step=...)
            yield from ((item.arg, call.lineno) for item in call.keywords if item.arg and item.arg != "step")
        first = argument(call, 0, {"log_metric": "key", "add_scalar": "tag"}.get(method, "name"))
        if isinstance(first, ast.Dict):
            yield from ((name, call.lineno) for name in _dict_names(source, module, first, call))
        elif method == "log" and len(call.args) + len(call.keywords) < 2 and not isinstance(first, ast.Name):
            continue
        elif isinstance(first, ast.Name) and method == "log":
            yield from (
                (name, call.lineno) for name in (*_variable_dict(source, module, first, call), *_texts(source, module, first, call))
            )
        else:
            yield from ((name, call.lineno) for name in _texts(source, module, first, call))
    for module, call, _ in source.calls(".add_scalars"):  # each below the tag
        for tag in _texts(source, module, argument(call, 0, "main_tag"), call):
            inner = argument(call, 1, "tag_scalar_dict")
            names = _dict_names(source, module, inner, call) if isinstance(inner, ast.Dict) else ()
            yield from ((f"{tag}/{name}", call.lineno) for name in names)
    for module, call, _ in source.calls(".log_dict", ".log_metrics", ".report"):
        for node in [*call.args[:2], *(item.value for item in call.keywords if item.arg in ("metrics", "dictionary", "_metric"))]:
            if isinstance(node, ast.Dict):
                yield from ((name, call.lineno) for name in _dict_names(source, module, node, call))
            elif isinstance(node, ast.Name):
                yield from ((name, call.lineno) for name in _variable_dict(source, module, node, call))
            elif isinstance(node, ast.Call):
                yield from ((name, call.lineno) for name in _returned(source, module, node))
        if module.dotted(call.func).endswith("tune.report"):
            yield from ((item.arg, call.lineno) for item in call.keywords if item.arg and item.arg not in ("metrics", "checkpoint"))


def _monitored(source: Source) -> Iterator[tuple[str, str, int]]:
    for module, call, _ in source.calls(".EarlyStopping", ".ModelCheckpoint", ".ReduceLROnPlateau", ".LearningRateFinder"):
        monitor = module.literal(keyword(call, "monitor"))
        mode = module.literal(keyword(call, "mode"))
        if isinstance(monitor, str):
            yield monitor, mode if isinstance(mode, str) else "", call.lineno
        elif module.dotted(call.func).endswith("EarlyStopping") and call.args and isinstance(first := module.literal(call.args[0]), str):
            yield first, mode if isinstance(mode, str) else "", call.lineno
    for module in source.modules:  # configure_optimizers returns {"lr_scheduler": {..., "monitor": "val_loss"}}
        for node in module.nodes:
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if key is not None and module.literal(key) == "monitor" and isinstance(name := module.literal(value), str):
                        yield name, "", node.lineno


def _dict_names(source: Source, module: Module, node: ast.Dict, call: ast.Call) -> Iterator[str]:
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None and isinstance(value, ast.Name):
            yield from _variable_dict(source, module, value, call)
        elif key is not None:
            yield from _texts(source, module, key, call)


def _variable_dict(source: Source, module: Module, name: ast.Name, call: ast.Call) -> Iterator[str]:
    """Keys of a dict bound to a local name in the function that makes the call."""
    function = _function_around(module, call)
    for node in ast.walk(function or module.tree):
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets):
            if isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if key is not None:
                        yield from _texts(source, module, key, call)
            elif isinstance(node.value, ast.Call):
                yield from _returned(source, module, node.value)
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == name.id
        ):
            yield from _texts(source, module, node.slice, call)


def _returned(source: Source, module: Module, call: ast.Call) -> Iterator[str]:
    """Keys of the dict that a function of the script's own returns."""
    known = source.defined.get(module.dotted(call.func).rpartition(".")[2])
    for node in ast.walk(known[1]) if known else ():
        if known and isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            yield from (key for item in node.value.keys if item is not None and isinstance(key := known[0].literal(item), str))


def _texts(source: Source, module: Module, node: ast.expr | None, call: ast.Call) -> list[str]:
    """The texts an expression can be: a constant, or an f-string over names whose constants are known from the callers."""
    value = module.literal(node)
    if isinstance(value, str):
        return [value]
    function = _function_around(module, call)
    if isinstance(node, ast.JoinedStr):
        parts: list[list[str]] = []
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                parts.append([str(piece.value)])
            elif isinstance(piece, ast.FormattedValue):
                parts.append(_names(source, module, function, piece.value, call))
        return ["".join(choice) for choice in product(*parts)][:32] if all(parts) else []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _texts(source, module, node.left, call), _texts(source, module, node.right, call)
        return [a + b for a in left for b in right][:32]
    return _names(source, module, function, node, call) if isinstance(node, ast.Name) else []


def _names(source: Source, module: Module, function: ast.FunctionDef | None, node: ast.expr | None, call: ast.Call) -> list[str]:
    value = module.literal(node)
    if isinstance(value, str):
        return [value]
    if not isinstance(node, ast.Name):
        return []
    if function is None:
        return [*_loop_values(source, module, module.tree, node.id, call)]
    names = [item.arg for item in function.args.args]
    if node.id not in names:
        return [*_loop_values(source, module, function, node.id, call)]
    position = names.index(node.id) - (1 if names and names[0] == "self" else 0)
    found: list[str] = []
    for home, outer, _ in source.calls(f".{function.name}", function.name):
        given: Any = home.literal(argument(outer, position, node.id))
        if isinstance(given, str) and given not in found:
            found.append(given)
    return found


def _loop_values(source: Source, module: Module, function: ast.AST, name: str, call: ast.Call) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and _is_items(node.iter):
            first, place = node.target.elts[0], node.iter.func.value  # type: ignore[attr-defined] # it is a method's call
            if isinstance(first, ast.Name) and first.id == name and isinstance(place, ast.Name):
                yield from _variable_dict(source, module, place, call)
            elif isinstance(first, ast.Name) and first.id == name and isinstance(place, ast.Dict):
                yield from _dict_names(source, module, place, call)
            elif isinstance(first, ast.Name) and first.id == name and isinstance(place, ast.Call):
                yield from _returned(source, module, place)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and node.target.id == name:
            values = module.literal(node.iter)
            yield from (value for value in values if isinstance(value, str)) if isinstance(values, list) else ()


def _is_items(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "items"


def _function_around(module: Module, call: ast.Call) -> ast.FunctionDef | None:
    best: ast.FunctionDef | None = None
    for function in module.functions():
        inside = function.lineno <= call.lineno <= (function.end_lineno or function.lineno)
        if isinstance(function, ast.FunctionDef) and inside and (best is None or function.lineno > best.lineno):
            best = function
    return best
