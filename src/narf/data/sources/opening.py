"""Opens a source: finds its connector in the table of kinds or among installed plug-ins, and gives it its secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from narf.data.sources.connector import Connector
from narf.data.sources.options import KINDS, Kind, secret_names
from narf.domain.errors import MissingExtra, NarfError

PLUGINS = "narf.connectors"  # entry points: kind = "module:ConnectorClass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source as it was set up. `options` name secrets, they do not hold them. `files`: the source of the table files, if that is another."""

    name: str
    kind: str
    options: Mapping[str, str] = field(default_factory=dict)
    files: Source | None = None


@cache
def all_kinds() -> dict[str, Kind]:
    """Ours, and those of installed packages that name a connector under the entry point group `narf.connectors`."""
    found = dict(KINDS)
    for point in entry_points(group=PLUGINS):
        found.setdefault(point.name, Kind(connector=point.value, required=(), anything=True, tested=False, extra=""))
    return found


def open_source(source: Source, secret: Callable[[str], str]) -> Connector:
    """A connector to `source`; the caller closes it. `secret` gives the value of a secret by name.

    Raises:
        NotFound: a secret is not set. MissingExtra: the packages of this kind are not installed.
    """
    kind = all_kinds()[source.kind]
    options, secrets = _resolve(source, secret)
    if source.files is not None:
        theirs, more = _resolve(source.files, secret)
        options |= {f"files.{name}": value for name, value in theirs.items()} | {"files.kind": source.files.kind}
        secrets |= {f"files.{name}": value for name, value in more.items()}
    module, _, attribute = kind.connector.partition(":")
    try:
        make = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "narf":
            raise
        if kind.extra:
            raise MissingExtra(f"The source {source.name!r} ({source.kind})", kind.extra) from error
        raise _missing(source, error) from error
    except AttributeError as error:
        raise NarfError(
            f"The source {source.name!r} ({source.kind}) names {kind.connector!r}, which is not there.",
            remedy="Mend the entry point of the package that brings this kind.",
            code="no_connector",
        ) from error
    try:
        connector: Connector = make(source.name, options, secrets)
    except ModuleNotFoundError as error:
        raise _missing(source, error) from error
    return connector


def _missing(source: Source, error: ModuleNotFoundError) -> NarfError:
    return NarfError(
        f"The source {source.name!r} needs the package {error.name!r}.",
        remedy=f"Install it: pip install {error.name}",
        code="missing_extra",
    )


def _resolve(source: Source, secret: Callable[[str], str]) -> tuple[dict[str, str], dict[str, str]]:
    values = {option: secret(name) for option, name in secret_names(source.options).items()}
    return {**source.options, **values}, values
