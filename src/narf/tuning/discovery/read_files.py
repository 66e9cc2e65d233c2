"""Parameters in a configuration file that the script reads: its leaves, which the hooks replace as the file is opened.

The name of such a parameter is its dotted key; its place is `FILE:KEY`, FILE relative to the folder of the script.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from narf.training.opened import number_or_text
from narf.training.places import Place, places, worked_out
from narf.tuning.discovery.config_files import SCIENTIFIC, flatten, read_yaml
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Source

SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".py")
_READERS = {
    "load", "loads", "safe_load", "full_load", "unsafe_load", "safe_load_all", "read", "read_file", "read_string", "open", "read_text", "read_bytes", "model_validate_json", "parse_raw",
    "parse_file", "from_yaml", "from_json", "from_file", "load_config", "read_config", "get_config",
}  # fmt: skip
_NOT_THE_SCRIPTS = (
    "narf.toml",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
    "pytest.ini",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "mypy.ini",
)
_LARGEST, _MOST_LEAVES = 200_000, 300


def named_files(source: Source, arguments: Sequence[str] = ()) -> tuple[str, ...]:
    """The configuration files beside the script that it names and that some reader is there for; the user's own arguments first."""
    given = [word.rpartition("=")[2] for word in arguments]
    own = [name for text in given if (name := _beside(source.folder, text))]
    if own:
        return tuple(dict.fromkeys(own))
    if not any(True for _ in source.calls(*(f".{reader}" for reader in _READERS))):
        return ()
    runs_files = any(True for _ in source.calls("runpy.run_path", "exec"))
    found: list[str] = []
    for module in source.modules:
        written = _written(module.tree)
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in written:
                found += [name for name in [_beside(source.folder, node.value)] if name]
    modules = {module.file for module in source.modules}
    return tuple(name for name in dict.fromkeys(found) if not name.endswith(".py") or (runs_files and name not in modules))


def _written(tree: ast.Module) -> set[ast.AST]:
    """What stands in a call that writes: `open("metrics.json", "w")`, `Path("metrics.json").write_text(...)`."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        modes = [
            item.value for item in [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")] if isinstance(item, ast.Constant)
        ]
        if method.startswith(("write", "dump", "to_", "save")) or any(
            isinstance(mode, str) and set(mode) & set("wax") and len(mode) < 4 for mode in modes
        ):
            found.update(ast.walk(node))
    return found


def _beside(folder: Path, text: str) -> str:
    """`text` as the path of a configuration file below the folder, also where only the last part of the path is written out."""
    if not text.lower().endswith(SUFFIXES) or "\n" in text or len(text) > 300 or PurePosixPath(text).name in _NOT_THE_SCRIPTS:
        return ""
    root = folder.resolve()
    places = [folder / text]
    if not places[0].is_file() and "/" not in text:
        places = [path for depth in ("*/", "*/*/") for path in sorted(folder.glob(depth + text))][:1]
    for path in places:
        try:
            if path.is_file() and path.resolve().is_relative_to(root):
                return path.resolve().relative_to(root).as_posix()
        except OSError:
            continue
    return ""


def find_in_files(folder: Path, names: Sequence[str]) -> list[FoundParameter]:
    """The leaves of these files that are numbers, truths or text."""
    found: dict[str, FoundParameter] = {}
    twice: set[str] = set()
    for file in names:
        if PurePosixPath(file).name in _NOT_THE_SCRIPTS:
            continue
        leaves = list(_leaves(folder / file))
        merged = _only_merged(folder / file) if file.endswith((".yaml", ".yml")) else set()
        leaves = [(key, value) for key, value in leaves if key.partition(".")[0] not in merged]
        for key, value in leaves if len(leaves) <= _MOST_LEAVES else ():
            if isinstance(value, str) and SCIENTIFIC.fullmatch(value):
                value = float(value)  # YAML 1.1 reads 1e-3 as text, which the script then makes a number
            kind = type_of_value(value)
            if kind not in ("int", "float", "bool", "str"):
                continue
            name = key
            if key in found or key in twice:
                twice.add(key)
                name = f"{PurePosixPath(file).stem}.{key}"
            found[name] = FoundParameter(
                name=name,
                type=kind,
                style=Style.CONFIG_FILE,
                passing=Passing(How.INJECT, f"{file}:{key}"),
                default=value,
                file=file,
            )
    return list(found.values())


_ANCHOR = re.compile(r"^([\w-]+):[ \t]*&([\w-]+)", re.MULTILINE)


def _only_merged(path: Path) -> set[str]:
    """Keys of a YAML file whose entries are kept to be merged into others: `defaults: &defaults`, and then only `<<: *defaults`."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    found = set()
    for key, anchor in _ANCHOR.findall(text):
        uses = re.findall(rf"^.*\*{re.escape(anchor)}\b.*$", text, re.MULTILINE)
        if uses and all(use.strip().startswith("<<") for use in uses):
            found.add(key)
    return found


def _leaves(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        if path.stat().st_size > _LARGEST:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        body = _parse(path.suffix.lower(), text, path)
    except (OSError, ValueError, SyntaxError, configparser.Error, RecursionError):
        return
    yield from flatten(body, "")


def _parse(suffix: str, text: str, path: Path) -> Any:
    if suffix in (".yaml", ".yml"):
        return read_yaml(path)[0]
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".py":
        return {place.names[0]: value for place, value in _settings(text)}
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep the case of names
    parser.read_string(text)
    return {
        section: {key: _ini_value(value) for key, value in parser.items(section) if key not in parser.defaults()}
        for section in parser.sections()
    }


def _settings(text: str) -> Iterator[tuple[Place, Any]]:
    """Constants and entries of tables at the top level of a file of Python, none of which is private."""
    tree = ast.parse(text)
    scopes = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for place in places(tree):
        parts = place.names[0].split(".")
        value, is_known = worked_out(place.value)
        if is_known and place.kind in ("constant", "table") and parts[0] not in scopes and not any(part.startswith("_") for part in parts):
            yield place, value


def _ini_value(text: str) -> Any:
    """A text of an INI file as the script will read it: a number, a truth, or the text itself."""
    if text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return text.lower() in ("true", "yes", "on")
    return number_or_text(text)
