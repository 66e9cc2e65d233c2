"""narf.toml and the requirements file beside the code, as every command reads them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from narf.domain.errors import BadInput


def read_table(folder: Path, name: str, known: Collection[str]) -> dict[str, Any]:
    """[name] of the narf.toml in `folder`; empty without one.

    Raises:
        BadInput: it is not TOML, `name` is no table, or it says something that is not `known`.
    """
    try:
        with (folder / "narf.toml").open("rb") as file:
            table = tomllib.load(file).get(name, {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"narf.toml cannot be read: {error}.", remedy="Correct it.", field="narf.toml") from error
    except OSError as error:
        raise BadInput(f"narf.toml cannot be read: {error.strerror}.", field="narf.toml") from error
    if not isinstance(table, dict):
        remedy = f"Write [{name}] on a line."
        raise BadInput(f"narf.toml has a value named {name} where a table is meant.", remedy=remedy, field="narf.toml")
    if unknown := sorted(set(table) - set(known)):
        raise BadInput(
            f"narf.toml has unknown settings under [{name}]: {', '.join(unknown)}.",
            remedy=f"Known: {', '.join(sorted(known))}.",
            field="narf.toml",
        )
    return table


def read_requirements(path: Path) -> str:
    """Raises BadInput: there is no such file, or it is not text."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadInput(f"The requirements file {path} cannot be read: {reason}.", field="requirements") from error
