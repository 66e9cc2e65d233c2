"""What the script holds where it begins to train: its settings as objects, the words that it looks things up by, which of its classes were made."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It looks at objects of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import os
import sys
import types

from narf.tuning.discovery.probe.found import FOUND

_MOST = 3000
_DEEPEST = 4
_LONGEST_TABLE = 300
_LONGEST_TEXT = 200


def look(folder, frame, trace=None):
    """Write down what the frames below `folder`, from `frame` outwards and down to where `trace` broke, and the modules there hold.

    Never raises: what it asks of objects is code of the script's.
    """
    prefix = os.path.join(os.path.realpath(folder), "")
    seen = set()
    FOUND["held"], FOUND["words"], FOUND["options"] = [], [], []
    for function, names in _scopes(prefix, frame, trace):
        for name, value in list(names.items()):
            if name.startswith("__") or isinstance(value, types.ModuleType):
                continue
            with contextlib.suppress(Exception):
                _take(f"{function}.{name}" if function else name, value, prefix, seen, 0)
            if isinstance(value, type) and isinstance(constraints := getattr(value, "_parameter_constraints", None), dict):
                with contextlib.suppress(Exception):  # another version states them in another way
                    FOUND["options"] += _options(constraints)
    with contextlib.suppress(Exception):
        FOUND["made"] = sorted(set(_made(prefix)))


def _options(constraints):
    """[name, words, whether there may be none] of what a model of scikit-learn takes as text and by itself."""
    for name, options in constraints.items():
        for option in options if isinstance(options, list) else ():
            if type(option).__name__ == "StrOptions":
                words = sorted(
                    set(option.options) - set(getattr(option, "deprecated", ())) - {"precomputed", "passthrough", "drop", "quantile"}
                )
                yield [name, words, None in options]


def _scopes(prefix, frame, trace):
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for each in frames:
        code = each.f_code
        if code.co_name != "<module>" and _is_below(prefix, code.co_filename):
            yield getattr(code, "co_qualname", code.co_name).replace(".<locals>", ""), dict(each.f_locals)
    for module in list(sys.modules.values()):
        if _is_below(prefix, getattr(module, "__file__", None)):
            yield "", vars(module)


def _is_below(prefix, file):
    return isinstance(file, str) and os.path.realpath(file).startswith(prefix) and "site-packages" not in file


def _take(path, value, prefix, seen, depth):
    """The numbers, truths and texts that stand below names in a configuration."""
    entries = _entries(value, prefix)
    if entries is None or id(value) in seen or depth > _DEEPEST or len(FOUND["held"]) > _MOST:
        return
    seen.add(id(value))
    if _are_words(entries):
        FOUND["words"].append(list(entries))
        return
    for key, inner in entries.items():
        if isinstance(inner, enum.Enum):
            inner = inner.name
        if isinstance(inner, (bool, int, float)) or (isinstance(inner, str) and len(inner) < _LONGEST_TEXT):
            FOUND["held"].append([f"{path}.{key}", type(value).__name__, inner])
        elif inner is not None:
            _take(f"{path}.{key}", inner, prefix, seen, depth + 1)


def _entries(value, prefix):
    """What is below a configuration by name: a mapping, a record, a namespace, or an object of a class of the script's own; None of others."""
    kind = type(value)
    if isinstance(value, dict):
        entries = value
    elif dataclasses.is_dataclass(kind):
        entries = {item.name: getattr(value, item.name, None) for item in dataclasses.fields(value)}
    elif hasattr(kind, "__attrs_attrs__"):
        entries = {item.name: getattr(value, item.name, None) for item in kind.__attrs_attrs__}
    elif hasattr(kind, "model_fields"):
        entries = {name: getattr(value, name, None) for name in kind.model_fields}
    elif hasattr(kind, "_fields") and isinstance(value, tuple):
        entries = value._asdict()
    elif kind.__name__ in ("DictConfig", "ConfigDict") and hasattr(value, "items"):
        entries = dict(value.items())
    elif kind.__name__ == "ConfigParser":
        entries = {name: dict(section) for name, section in value.items()}
    elif kind.__name__ in ("Namespace", "SimpleNamespace", "Munch") or _is_own(kind, prefix):
        entries = vars(value)
    else:
        return None
    entries = {key: inner for key, inner in entries.items() if isinstance(key, str) and not key.startswith("_")}
    return entries if 0 < len(entries) <= _LONGEST_TABLE else None


def _is_own(kind, prefix):
    """A class of the script's."""
    module = sys.modules.get(kind.__module__)
    return _is_below(prefix, getattr(module, "__file__", None)) and hasattr(kind, "__dict__") and kind is not type


def _are_words(entries):
    """A table of functions or classes, from which a text chooses."""
    return len(entries) > 1 and all(
        inner is None or (callable(inner) and not isinstance(inner, type(entries))) for inner in entries.values()
    )


def _made(prefix):
    """Names of the script's own classes of which an object is there."""
    for kind in {type(item) for item in gc.get_objects()}:
        if _is_below(prefix, getattr(sys.modules.get(kind.__module__), "__file__", None)):
            yield from (base.__name__ for base in kind.__mro__)
