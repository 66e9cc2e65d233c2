"""What a script uses a parameter for: one that only makes or loads its data sets no model.

rows = simulate(args.customers, args.noise)       load(n_loans=config.n_loans)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import replace

from narf.tuning.discovery.found import FoundParameter
from narf.tuning.discovery.names import OF_DATA, core_of, last_of, words_of
from narf.tuning.discovery.source import Module, Source

_MAKES = {
    "simulate", "simulated", "simulation", "simulator", "generate", "generated", "synth", "synthetic", "synthesize", "synthesise", "synthesis", "toy", "fake", "dummy", "fabricate",
}  # fmt: skip
_JUDGES = {"evaluate", "evaluation", "eval", "metric", "metrics", "ndcg", "recall", "precision", "hits", "hit", "report"}
_READS = {"load", "loader", "read", "fetch"}
_DATA = {
    "data",
    "dataset",
    "datasets",
    "corpus",
    "book",
    "population",
    "portfolio",
    "history",
    "records",
    "frame",
    "table",
    "panel",
    "series",
}
_SPANS = {"days", "hours", "weeks", "months", "years", "length"}
_NOISE = {"noise", "prevalence", "imbalance", "signal", "share", "fraction"}
_DRAWS = "draws"  # marks a use in a function that makes data of random numbers
_GENERATORS = {"default_rng", "RandomState", "Generator"}
_LEARNS = {"backward", "fit", "zero_grad", "forward", "partial_fit", "fit_transform"}
_NUMERIC, _ARRAYS = {"range", "int", "min", "max", "len"}, {"np", "numpy", "torch", "rng"}
_COUNT = re.compile(r"^(n|num|number|count)_|_count$")


def without_data(source: Source, parameters: Iterable[FoundParameter]) -> tuple[FoundParameter, ...]:
    """The parameters; those left alone that are handed to nothing but what makes or loads the data."""
    found = list(parameters)
    uses: dict[str, list[set[str]]] = {}
    names = {last_of(item.name) for item in found}
    for module in source.modules:
        _collect(module, names, uses)
    return tuple(
        replace(item, left_alone=OF_DATA, proposal=None) if _is_of_data(item, uses.get(last_of(item.name), [])) else item for item in found
    )


def _is_of_data(item: FoundParameter, uses: list[set[str]]) -> bool:
    if item.left_alone or item.type not in ("int", "float") or core_of(item.name):
        return False
    if {"synthetic", "simulated"} & set(re.findall(r"\w+", item.help.lower())):
        return True
    is_count = item.type == "int" and bool(_COUNT.search(last_of(item.name)) or _SPANS & set(words_of(item.name)))
    if item.type == "int" and uses and all(words & _JUDGES for words in uses):
        return True
    if item.type == "int" and _COUNT.search(last_of(item.name)) and uses and all(_DRAWS in words for words in uses):
        return True
    is_noise = bool(set(words_of(item.name)) & _NOISE)
    return bool(uses) and all(
        words & _MAKES or (is_count and words & _READS) or ((is_count or is_noise) and words & _DATA) for words in uses
    )


def _collect(module: Module, names: set[str], uses: dict[str, list[set[str]]]) -> None:
    """The words of the call that each use of a name stands in; none where it stands elsewhere."""
    handed: dict[ast.AST, set[str]] = {}
    draws = {function for function in module.functions() if _draws(function)}
    around = {id(node): function for function in module.functions() for node in ast.walk(function)}
    for call in module.calls():
        words = set(words_of(_name(call.func)))
        if isinstance(call.func, ast.Attribute):
            words |= set(words_of(_name(call.func.value)))  # corpus.make(...)
        for given in (*call.args, *(item.value for item in call.keywords)):
            handed[given] = set() if words <= _NUMERIC or words & _ARRAYS else words  # a number among numbers
    for node in module.nodes:
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name not in names or not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        function = around.get(id(node))
        own = set(words_of(function.name)) & (_MAKES | _DATA) if function else set()
        uses.setdefault(name, []).append(handed.get(node) or (own | {_DRAWS} if function in draws else own))


def _draws(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function makes data of random numbers of its own, and trains nothing."""
    called = {_name(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    return bool(called & _GENERATORS) and not called & _LEARNS


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
