"""Metrics that a script prints: its texts with a number in each gap, read by what will read its output (`narf.training.printed`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from narf.training.printed import metrics_in
from narf.tuning.discovery.source import Module, Source

_GAP = "0.50917"  # a number that nobody writes: a name with it in it is not known
_PERCENT = re.compile(r"%(?:\(\w+\))?[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")
_BRACES = re.compile(r"\{[^{}]*\}")
_MOST_TEXTS = 32
_MOST_CHARACTERS = 2000

Strings = Callable[[Module, ast.expr, ast.Call], list[str]]


def printed_metrics(source: Source, keys: Strings, names: Strings) -> Iterator[tuple[str, int]]:
    """(name, line) of each. `keys` knows the keys of the dictionary that an expression is, `names` the texts that a name stands for."""
    for module, call, method in source.calls("print", ".echo", ".secho", ".info", ".warning", ".write", ".print"):
        reader = _Reader(module, call, keys, names)
        if method in ("info", "warning"):
            texts = reader.filled(call.args[0], _PERCENT, call.args[1:]) if call.args and _is_logger(module, call) else []
        else:
            texts = [" ".join(parts) for parts in _each([reader.texts(item) for item in call.args])]
        for text in texts:
            for line in text[:_MOST_CHARACTERS].split("\n"):
                yield from ((one.name, call.lineno) for one in metrics_in(line) if _GAP not in one.name)


def _is_logger(module: Module, call: ast.Call) -> bool:
    place = call.func.value if isinstance(call.func, ast.Attribute) else None
    last = module.dotted(place).rpartition(".")[2].lower()
    return last in ("logging", "accelerator") or last.endswith(("logger", "log")) or isinstance(place, ast.Call)


class _Reader:
    """What the expressions of one call print, as far as the text says; a number for the rest."""

    def __init__(self, module: Module, call: ast.Call, keys: Strings, names: Strings) -> None:
        self._module, self._call, self._keys, self._names = module, call, keys, names

    def texts(self, node: ast.expr) -> list[str]:
        value = self._module.literal(node)
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return [str(value)]
        match node:
            case ast.JoinedStr(values=pieces):
                return ["".join(parts) for parts in _each([self.texts(piece) for piece in pieces])]
            case ast.FormattedValue(value=inner):
                return self.texts(inner)
            case ast.BinOp(op=ast.Mod(), left=left, right=right):
                return self.filled(left, _PERCENT, right.elts if isinstance(right, ast.Tuple) else [right])
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return ["".join(parts) for parts in _each([self.texts(left), self.texts(right)])]
            case ast.Call(func=ast.Attribute(attr="format", value=template), args=given):
                return self.filled(template, _BRACES, given)
            case ast.Call(func=ast.Attribute(attr="dumps"), args=[first, *_]):
                return self.texts(first)
        if keys := self._keys(self._module, node, self._call):
            return [", ".join(f"{key}: {_GAP}" for key in keys)]
        return self._names(self._module, node, self._call) or [_GAP]

    def filled(self, template: ast.expr, gaps: re.Pattern[str], given: Sequence[ast.expr]) -> list[str]:
        """The template with what is given in its gaps, in their order."""
        found = []
        for text, *values in _each([self.texts(template), *(self.texts(item) for item in given)]):
            left = iter(values)
            found.append(gaps.sub(lambda gap, left=left: next(left, _GAP) if gap[0] != "%%" else "%", text))  # type: ignore[misc]
        return found


def _each(parts: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return list(islice(product(*parts), _MOST_TEXTS))
