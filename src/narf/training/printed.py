"""Metrics in what a program prints: `Epoch 3/10 - val loss: 0.42, acc=0.91` says `val_loss` and `acc`, at step 3.

A number is taken where words that name a metric stand before it (`metric_names`), with a colon or an equals sign between them, or
right before it. All else that programs print (times, counts, sizes, settings) has no such word and is passed over.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from narf.training.metric_names import HIGH, LOW, words_of

_LONGEST_LINE = 2000
# `time: 5.2` is how long it took; the others are words of English or of programs, and name a metric only where a sign says so.
_NEVER = {"time", "seconds", "latency", "throughput", "bits"}
_ONLY_WITH_SIGN = {"map", "em", "ap", "return", "returns", "win", "hits", "gain", "cost", "distance", "score", "correct", "energy", "error", "err", "lift", "profit", "ks", "entropy"}  # fmt: skip
_METRICS = (LOW | HIGH | {"losses", "roc", "pr"}) - _NEVER
_HINTS = _METRICS | {"index"}  # of the c-index
_AFTER = {"macro", "micro", "weighted", "roc", "pr", "score", "avg", "average", "mean", "train", "training", "val", "valid", "validation", "test", "eval", "dev", "d", "g", "rate", "top"}  # fmt: skip
_PREPOSITIONS = {"of", "on", "for", "in", "over", "at", "after", "with", "per"}
_FILLERS = {"the", "a", "an", "set", "data", "average", "avg", "mean", "final", "overall", "current", "total", "epoch", "step", "iter", "iteration", "batch", "fold", "results", "result", "and", "end"}  # fmt: skip
_PHASES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "eval", "evaluation": "eval", "test": "test", "testing": "test", "holdout": "test"}  # fmt: skip
_STEPS = {"epoch", "step", "iter", "iteration", "round", "episode", "update"}
_SIGNS = {"=", ":", "is", "was"}
_TOKEN = re.compile(r"[=:]|[^\s=:,;|\[\](){}<>│┃!]+|[^\s]")
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf))(?:/(\d+\.?\d*))?%?\.?$", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]*[a-z]+\d*|[A-Z]+\d*")
_WORD = re.compile(r"[A-Za-z_]")
_QUALIFIES = re.compile(r"[A-Za-z_]+\.?$")  # `weekly-demand` and `resnet50` say of what, not which metric
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# `np.float64(0.5)` and `tensor(0.5, grad_fn=...)` are how numbers of NumPy and torch show in dictionaries and when printed as they are.
_WRAPPED = re.compile(r"\b(?:(?:np|numpy)\.float\d+|tensor)\(([-+.\deEnaif]+)[^()]*\)")
_IN_BRACKETS = re.compile(r"\(([A-Za-z][A-Za-z_ \-]{0,20})\)")


class Printed(NamedTuple):
    name: str
    value: float
    step: int | None  # the epoch or step that the line names


def metrics_in(line: str) -> list[Printed]:
    """The metrics that a line of output says, in its order; the first value of a name counts."""
    if len(line) > _LONGEST_LINE or _HINTS.isdisjoint(map(str.lower, _WORDS.findall(line))):  # most lines: some microseconds each
        return []
    found: dict[str, Printed] = {}
    phrase: list[str] = []
    context: list[str] = []
    step, sign = None, False
    text = _WRAPPED.sub(r"\1", _COLOURS.sub("", line.rpartition("\r")[2]))
    for token in _TOKEN.findall(_IN_BRACKETS.sub(r" \1 ", text)):
        token = token.strip("'\"*`")
        number = _NUMBER.match(token)
        if number:
            value = float(number[1])
            name = _name(phrase, context, sign) if phrase else ""
            if name:
                # 350/397 is a share; 3/10 after `epoch` is no metric and does not come here.
                whole = float(number[2] or 0)
                share = value / whole if 0 < whole >= value else value
                found.setdefault(name, Printed(name, share, step))
            elif phrase and phrase[-1].lower() in _STEPS and value >= 0 and math.isfinite(value):
                step = int(value)
            elif phrase and not sign and len(phrase) > 3:
                phrase.append(token)  # `accuracy of the network on the 10000 test images: 96`
                continue
            context += phrase
            phrase, sign = [], False
        elif token in _SIGNS and phrase:
            sign = True
        elif not token or not _WORD.match(token):
            context += phrase
            phrase, sign = [], False
        else:
            if sign:  # `Test set: Average loss: 0.3`: the words before the sign say where
                context += phrase
                phrase, sign = [], False
            phrase.append(token)
    return [one if one.step is not None else one._replace(step=step) for one in found.values()]


def _name(phrase: list[str], context: list[str], sign: bool) -> str:
    """The metric's name, as it is written but in one piece; "" where the words name none."""
    at = next((index for index in range(len(phrase) - 1, -1, -1) if _is_metric(phrase[index], sign)), None)
    if at is None:
        return ""
    before, after = phrase[: at + 1], [word.lower() for word in phrase[at + 1 :]]
    if after and after[0] in _PREPOSITIONS:
        if not sign:
            return ""
        context, after = [*context, *after], []
    if any(word not in _AFTER for word in after) or (not sign and len(phrase) > 4):
        return ""
    words = [word.lower() for word in before[:-1] if _QUALIFIES.match(word) and word.lower() not in _FILLERS][-2:]
    words += [before[-1].lower(), *after]
    known = {part for word in words for part in words_of(word)}
    if not known & set(_PHASES):
        where = next((_PHASES[part] for word in reversed(context) for part in reversed(words_of(word)) if part in _PHASES), "")
        words = [where, *words] if where else words
    return "_".join(re.sub(r"[^\w\-./]", "_", word).strip("_.-/") for word in words)


def _is_metric(word: str, sign: bool) -> bool:
    """Whether a word names a metric, as its last part or before how it is counted: `val_acc`, `acc@1`, `accuracy_top-5`."""
    parts = words_of(word)
    at = next((index for index in range(len(parts) - 1, -1, -1) if parts[index] in _METRICS), None)
    if at is None or any(part not in _AFTER and not part.isdigit() for part in parts[at + 1 :]):
        return False
    return sign or len(parts) > 1 or parts[at] not in _ONLY_WITH_SIGN
