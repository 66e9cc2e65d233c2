"""Parameters of Hydra applications and of OmegaConf configurations that take overrides from the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import fields_of, is_dataclass, type_of_value
from narf.tuning.discovery.signature_parameters import from_fields
from narf.tuning.discovery.source import Module, Source, argument, keyword

SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def find_hydra(source: Source) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """Leaves of the composed configuration of `@hydra.main`, as overrides; and notes on what could not be read."""
    for module in source.modules:
        for function in module.functions():
            for decorator in function.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                if module.dotted(target) in ("hydra.main", "hydra.main.main"):
                    call = decorator if isinstance(decorator, ast.Call) else ast.Call(func=target, args=[], keywords=[])
                    return _of_hydra(source, module, call)
    return [], ()


def _of_hydra(source: Source, module: Module, call: ast.Call) -> tuple[list[FoundParameter], tuple[str, ...]]:
    name, path = (module.literal(keyword(call, word)) for word in ("config_name", "config_path"))
    if not isinstance(name, str):
        return [], ()
    stored = _stored_nodes(source)
    folder = source.folder / path if isinstance(path, str) else source.folder
    file = _yaml_file(folder, name)
    if file is None:
        schema = stored.get(name)
        if schema is None:
            return [], (f"The configuration {name!r} of @hydra.main was not found in {folder}.",)
        return list(_of_schema(source, schema, stored)), ()
    body, notes = read_yaml(file)
    found: dict[str, FoundParameter] = {}
    for key, value in _compose(folder, body, stored, source):
        parameter = _leaf(
            key, value, Style.HYDRA, str(file.relative_to(source.folder)) if file.is_relative_to(source.folder) else file.name
        )
        found[key] = parameter
    for group, choices, chosen in _groups(folder, body):
        found.setdefault(
            group,
            FoundParameter(
                name=group,
                type="choice",
                style=Style.HYDRA,
                passing=Passing(How.OVERRIDE, group),
                default=chosen,
                choices=choices,
                file=file.name,
            ),
        )
    for key in _link_keys(body):
        found.pop(key, None)
    return list(found.values()), notes


def _of_schema(source: Source, schema: str, stored: dict[str, str]) -> Iterator[FoundParameter]:
    """The fields of a structured configuration, and of what its defaults list chooses: `[{"optim": "adam"}, "_self_"]`."""
    home, fields = source.classes[schema][0], list(fields_of(source, schema))
    for item in fields:
        chosen = home.literal(item.default_node) if item.name == "defaults" else None
        for group, choice in (
            [pair for each in chosen if isinstance(each, dict) for pair in each.items()] if isinstance(chosen, list) else ()
        ):
            if (node := stored.get(f"{group}/{choice}")) is not None:
                place = str(group).replace("/", ".") + "."
                yield from from_fields(source, home.file, fields_of(source, node), Style.HYDRA, place, How.OVERRIDE)
    yield from from_fields(source, home.file, [item for item in fields if item.name != "defaults"], Style.HYDRA, "", How.OVERRIDE)


def _compose(folder: Path, body: dict[str, Any], stored: dict[str, str], source: Source) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of the configuration as its defaults list composes it."""
    for item in body.get("defaults", []):
        if isinstance(item, str) and item != "_self_":
            base, _, package = item.partition("@")
            inner = _yaml_file(folder, base)
            if inner is not None:
                yield from flatten(read_yaml(inner)[0], "" if "/" not in base else base.rpartition("/")[0].replace("/", ".") + ".")
            elif base in stored:
                for parameter in from_fields(source, "", fields_of(source, stored[base]), Style.HYDRA, "", How.OVERRIDE):
                    yield parameter.name, parameter.default
        elif isinstance(item, dict):
            for key, choice in item.items():
                group, _, package = str(key).removeprefix("override ").removeprefix("optional ").strip().partition("@")
                if group.startswith("hydra/") or not isinstance(choice, str):
                    continue
                inner = _yaml_file(folder / group, choice)
                place = {"": group.replace("/", ".") + ".", "_global_": ""}.get(package, package + ".")
                if inner is not None:
                    yield from _compose_inner(inner, place)
                elif f"{group}/{choice}" in stored:
                    schema = stored[f"{group}/{choice}"]
                    for parameter in from_fields(source, "", fields_of(source, schema), Style.HYDRA, place, How.OVERRIDE):
                        yield parameter.name, parameter.default
    yield from flatten({key: value for key, value in body.items() if key not in ("defaults", "hydra")}, "")


def _compose_inner(file: Path, place: str) -> Iterator[tuple[str, Any]]:
    body, _ = read_yaml(file)
    for item in body.get("defaults", []):
        if isinstance(item, str) and item != "_self_" and (sibling := _yaml_file(file.parent, item)) is not None and sibling != file:
            yield from _compose_inner(sibling, place)
    first = file.read_text(errors="replace").lstrip().splitlines()[:1]
    if first and first[0].startswith("# @package _global_"):
        place = ""
    yield from flatten({key: value for key, value in body.items() if key != "defaults"}, place)


def _groups(folder: Path, body: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for item in body.get("defaults", []):
        if not isinstance(item, dict):
            continue
        for key, chosen in item.items():
            group = str(key).partition("@")[0].strip()
            if group.startswith(("hydra/", "override ", "optional ")) or not (folder / group).is_dir():
                continue
            choices = tuple(sorted(path.stem for path in (folder / group).glob("*.y*ml")))
            if len(choices) > 1:
                yield group, choices, str(chosen)


def _link_keys(body: dict[str, Any]) -> Iterator[str]:
    for key, value in flatten(body, ""):
        if isinstance(value, str) and "${" in value:
            yield key


def find_omegaconf(source: Source) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """Leaves of OmegaConf.load/create/structured where the script merges the command line: OmegaConf.from_cli() or a list of `key=value`."""
    if not any(True for _ in source.calls(".from_cli", ".merge_with_cli", ".merge_with_dotlist", ".from_dotlist")):
        return [], ()
    found: dict[str, FoundParameter] = {}
    notes: tuple[str, ...] = ()
    for module, call, method in source.calls(".load", ".create", ".structured"):
        if not module.dotted(call.func).startswith("omegaconf.OmegaConf"):
            continue
        first = argument(call, 0, "obj")
        if method == "structured" or (isinstance(first, ast.Call) and is_dataclass(source, module.dotted(first.func))):
            name = module.dotted(first.func if isinstance(first, ast.Call) else first)
            if is_dataclass(source, name):
                home = source.classes[name.rpartition(".")[2]][0].file
                for parameter in from_fields(source, home, fields_of(source, name), Style.OMEGACONF, "", How.OVERRIDE):
                    found.setdefault(parameter.name, parameter)
            continue
        file = ""
        if method == "load":
            path = _path_text(module, first)
            target = source.folder / path if path else None
            if target is None or not target.is_file():
                notes += ("A configuration that OmegaConf.load reads was not found.",)
                continue
            body, more = read_yaml(target)
            notes, file = notes + more, path
        else:
            given = module.literal(first)
            body = given if isinstance(given, dict) else {}
            if isinstance(given, str):
                body, _ = _parse_yaml(given)
        for key, value in flatten(body, ""):
            found[key] = _leaf(key, value, Style.OMEGACONF, file or module.file)
    return list(found.values()), notes


def _path_text(module: Module, node: ast.expr | None) -> str:
    """The relative path in `"config.yaml"`, `Path(__file__).parent / "config.yaml"` or `os.path.join(..., "config.yaml")`."""
    value = module.literal(node)
    if isinstance(value, str):
        return value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        left, right = _path_text(module, node.left), _path_text(module, node.right)
        return f"{left}/{right}" if left and right else right
    if isinstance(node, ast.Call):
        parts = [text for item in node.args if isinstance(text := module.literal(item), str)]
        return "/".join(parts)
    return ""


def _leaf(key: str, value: Any, style: Style, file: str) -> FoundParameter:
    if isinstance(value, str) and SCIENTIFIC.fullmatch(value):
        value = float(value)  # YAML 1.1 reads 1e-3 as text; Hydra and OmegaConf read a number
    return FoundParameter(
        name=key, type=type_of_value(value) or "str", style=style, passing=Passing(How.OVERRIDE, key), default=value, file=file
    )


def flatten(body: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in body.items() if isinstance(body, dict) else ():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            yield f"{prefix}{key}", value


def _stored_nodes(source: Source) -> dict[str, str]:
    """Structured configs put into Hydra's ConfigStore: name or group/name to the dataclass."""
    found: dict[str, str] = {}
    for module, call, _ in source.calls(".store"):
        name = module.literal(argument(call, 1, "name") if keyword(call, "name") is None else keyword(call, "name"))
        group = module.literal(keyword(call, "group"))
        node = keyword(call, "node") or (call.args[-1] if call.args else None)
        target = module.dotted(node.func if isinstance(node, ast.Call) else node)
        if isinstance(name, str) and is_dataclass(source, target):
            found[f"{group}/{name}" if isinstance(group, str) else name] = target.rpartition(".")[2]
    return found


def _yaml_file(folder: Path, name: str) -> Path | None:
    for candidate in (folder / f"{name}.yaml", folder / f"{name}.yml", folder / name):
        if candidate.is_file():
            return candidate
    return None


def read_yaml(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    return _parse_yaml(file.read_text(encoding="utf-8", errors="replace"), file.name)


def _parse_yaml(text: str, name: str = "configuration") -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        return {}, ("Reading YAML needs PyYAML: pip install pyyaml.",)
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        return {}, (f"{name} is not YAML: {str(problem).splitlines()[0]}.",)
    return (body if isinstance(body, dict) else {}), ()
