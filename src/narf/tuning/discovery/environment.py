"""Parameters that a script takes from the environment with a default of its own: `float(os.environ.get("LR", "0.1"))`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument

_KINDS = {"float": "float", "int": "int", "bool": "bool", "str2bool": "bool", "strtobool": "bool"}
_TRUTHS = {"true": "false", "1": "0", "yes": "no", "on": "off"}


def find_environment(source: Source) -> list[FoundParameter]:
    """Variables read with a literal default and made a number or a truth; the hooks set them before the script begins."""
    found: dict[str, FoundParameter] = {}
    written = _env_files(source)
    readers = _own_readers(source)
    for module in source.modules:
        for own in module.calls():
            if (reader := readers.get(module.dotted(own.func).rpartition(".")[2])) is not None:
                _add_own(found, module, own, reader, written)
        for node, call in _reads(module):
            default: Any = UNKNOWN
            if isinstance(call, ast.Subscript):
                name = module.literal(call.slice)
            else:
                name, default = module.literal(argument(call, 0, "key")), module.literal(argument(call, 1, "default"))
            default = written.get(name, default) if isinstance(name, str) else default
            if not isinstance(name, str) or default is UNKNOWN or default is None or name in found:
                continue
            kind, value, word = _kind(module, node, call, default)
            if kind:
                found[name] = FoundParameter(
                    name=name,
                    type=kind,
                    style=Style.ENVIRONMENT,
                    passing=Passing(How.INJECT, f"environment:{name}" + (f":{word}" if word and word != "true" else "")),
                    default=value,
                    line=call.lineno,
                    file=module.file,
                )
    return list(found.values())


def _own_readers(source: Source) -> dict[str, ast.FunctionDef]:
    """Functions of the script's that read the variable they are given: `def env_bool(name, default): return os.getenv(name, ...) == "1"`."""
    found = {}
    for name, (home, function) in source.defined.items():
        first = function.args.args[0].arg if function.args.args else ""
        for node in ast.walk(function):
            if isinstance(node, ast.Call | ast.Subscript) and _is_read(home, node):
                key: ast.expr | None = node.slice if isinstance(node, ast.Subscript) else argument(node, 0, "key")
                if isinstance(key, ast.Name) and key.id == first:
                    found[name] = function
    return found


def _add_own(found: dict[str, FoundParameter], module: Module, call: ast.Call, reader: ast.FunctionDef, written: dict[str, str]) -> None:
    """What `env_bool("NESTEROV", False)` reads: of the type of its default, or of the type that it is handed, `env("LR", 0.1, float)`."""
    name, default = module.literal(argument(call, 0, reader.args.args[0].arg)), UNKNOWN
    if len(reader.args.args) > 1:
        default = module.literal(argument(call, 1, reader.args.args[1].arg))
    given = {module.dotted(node).rpartition(".")[2] for node in (*call.args, *(item.value for item in call.keywords))}
    returns = {module.dotted(node.func) for node in ast.walk(reader) if isinstance(node, ast.Call)} | given
    kind = next((kind for kind in ("float", "int", "bool") if kind in given), "") or (
        "" if isinstance(default, str) else type_of_value(default)
    )
    kind = kind or next((kind for kind in ("float", "int") if kind in returns), "") or ("str" if isinstance(default, str) else "")
    if not isinstance(name, str) or not kind or name in found:
        return
    text = str(written.get(name, default))
    try:
        numbers: dict[str, Any] = {"int": lambda: int(float(text)), "float": lambda: float(text), "bool": lambda: text.lower() in _TRUTHS}
        value = numbers[kind]() if kind in numbers else text
    except ValueError:
        return
    words = {node.value.lower() for node in ast.walk(reader) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    word = next((word for word in _TRUTHS if word in words), "true") if kind == "bool" else ""
    flag = f"environment:{name}" + (f":{word}" if word and word != "true" else "")
    found[name] = FoundParameter(
        name=name, type=kind, style=Style.ENVIRONMENT, passing=Passing(How.INJECT, flag), default=value, line=call.lineno, file=module.file
    )


def _env_files(source: Source) -> dict[str, str]:
    """NAME=VALUE of the files that `load_dotenv` reads: those the script names, else `.env` beside it."""
    if not any(True for _ in source.calls(".load_dotenv", ".dotenv_values")):
        return {}
    names = {
        node.value for module in source.modules for node in module.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    files = [source.folder / name for name in sorted(names) if name.endswith(".env")] or [source.folder / ".env"]
    found: dict[str, str] = {}
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            name, equals, value = line.removeprefix("export ").partition("=")
            if equals and name.strip().isidentifier():
                found[name.strip()] = value.partition(" #")[0].strip().strip("'\"")
    return found


def _reads(module: Module) -> Iterator[tuple[ast.expr, ast.Call | ast.Subscript]]:
    """(what is made of it, what reads) for each `os.environ.get(...)`, `os.getenv(...)` and `os.environ[...]`."""
    seen: set[ast.expr] = set()
    for node in module.nodes:
        outer = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else node.left if isinstance(node, ast.Compare) else node
        if isinstance(outer, ast.Call) and isinstance(node, ast.Call) and len(outer.args) == 1 and module.dotted(outer.func) == "int":
            outer = outer.args[0]  # bool(int(...))
        while isinstance(outer, ast.Call) and isinstance(outer.func, ast.Attribute) and outer.func.attr in ("lower", "strip", "casefold"):
            outer = outer.func.value
        if isinstance(node, ast.expr) and isinstance(outer, ast.Call | ast.Subscript) and outer not in seen and _is_read(module, outer):
            seen.add(outer)
            yield node, outer


def _is_read(module: Module, node: ast.Call | ast.Subscript) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load) and module.dotted(node.value) == "os.environ"
    return module.dotted(node.func) in ("os.environ.get", "os.getenv")


def _kind(module: Module, node: ast.expr, call: ast.expr, default: Any) -> tuple[str, Any, str]:
    """(type, default as that type, the script's word for true); ("", None, "") where the script takes text."""
    if isinstance(node, ast.Compare):
        wanted = module.literal(node.comparators[0])
        words = [str(text).lower() for text in (wanted if isinstance(wanted, list) else [wanted])]
        word = next((word for word in words if word in _TRUTHS), "")
        is_truth = isinstance(node.ops[0], ast.Eq | ast.In) and bool(word)
        return ("bool", str(default).lower() in words, word) if is_truth else ("", None, "")
    if not isinstance(node, ast.Call) or node is call:
        return ("str", default, "") if isinstance(default, str) and default.isidentifier() else ("", None, "")
    name, inner = module.dotted(node.func), node.args[0]
    if name == "bool":
        # bool("false") is true: only with a number in between does the text say what it means.
        is_number = isinstance(inner, ast.Call) and inner is not call and module.dotted(inner.func) == "int"
        return ("bool", str(default).strip() not in ("", "0"), "1") if is_number else ("", None, "")
    kind = _KINDS.get(name.rpartition(".")[2], "")
    if kind == "bool":
        return kind, str(default).lower() in _TRUTHS, "true"
    try:
        return (kind, int(default) if kind == "int" else float(default), "") if kind else ("", None, "")
    except (TypeError, ValueError):
        return "", None, ""
