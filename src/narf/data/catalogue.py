"""The boundary to an enterprise catalogue or registry, and one that is a folder of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from narf.domain.errors import BadInput

_LONGEST = 230  # bytes of a file's name, with room for its number and ending


class Registered(StrEnum):
    DATASET = "dataset"
    FEATURES = "features"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a catalogue is told. `key` is the same however often it is told; `name` is "project/digits"."""

    key: str
    kind: Registered
    name: str
    version: str
    body: Mapping[str, Any] = field(default_factory=dict)


class Catalogue(Protocol):
    """An enterprise's own list of datasets, feature views and models.

    Called by the platform's outbox, one registration at a time, in the order of events. After a crash the last
    registration may be told again: an implementation tells by `key` that it has it, so that it arrives once. It may block
    for some seconds; any exception means "not now", and it is told again later.
    """

    def register(self, registration: Registration) -> None: ...

    def resolve(self, kind: Registered, name: str) -> Registration | None:
        """The newest registration of that name, None if there is none."""
        ...


def open_catalogue(name: str, folder: Path) -> Catalogue:
    """The catalogue that a setting names: "module:Class" of an installed package, made without arguments; "" is files in `folder`.

    Raises:
        BadInput: there is no such class, or what it makes is no catalogue.
    """
    if not name:
        return FileCatalogue(folder)
    module, _, attribute = name.partition(":")
    try:
        made = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"The catalogue {name!r} cannot be loaded: {error}.",
            remedy='Install its package where the platform runs, and write NARF_CATALOGUE as "module:Class".',
        ) from error
    if not callable(getattr(made, "register", None)) or not callable(getattr(made, "resolve", None)):
        raise BadInput(f"{name!r} is no catalogue: it lacks register or resolve.", remedy="See narf.data.catalogue.Catalogue.")
    catalogue: Catalogue = made
    return catalogue


class FileCatalogue:
    """Registrations as JSON files, `<folder>/<kind>/<name>/<order>-<key>.json`, for other programs to pick up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def register(self, registration: Registration) -> None:
        folder = self._folder_of(registration.kind, registration.name)
        folder.mkdir(parents=True, exist_ok=True)
        known = _registrations(folder)
        if any(_key_of(path) == _safe(registration.key) for path in known):
            return
        order = max((int(path.name.split("-", 1)[0]) for path in known), default=0) + 1
        temporary = folder / f".{secrets.token_hex(8)}"
        body = {
            "key": registration.key,
            "kind": registration.kind.value,
            "name": registration.name,
            "version": registration.version,
            "body": dict(registration.body),
        }
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(body, file, ensure_ascii=False, indent=1, default=str)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / f"{order:08d}-{_safe(registration.key)}.json")

    def resolve(self, kind: Registered, name: str) -> Registration | None:
        known = _registrations(self._folder_of(kind, name))
        if not known:
            return None
        body = json.loads(known[-1].read_text(encoding="utf-8"))
        return Registration(key=body["key"], kind=Registered(body["kind"]), name=body["name"], version=body["version"], body=body["body"])

    def _folder_of(self, kind: Registered, name: str) -> Path:
        return self._folder / kind.value / _safe(name)


def _registrations(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))


def _key_of(path: Path) -> str:
    return path.stem.split("-", 1)[1]


def _safe(text: str) -> str:
    """`text` as a file name, another for each: what is not a letter, digit, '.', '_', '-' or '@' is written %XX; a long one ends in its hash."""
    safe = re.sub(r"[^A-Za-z0-9._@-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text) or "%"
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 65]}~{hashlib.sha256(text.encode()).hexdigest()}"
