"""`narf.dataset("digits@v3")`: a dataset version by name, and the run's note that it read it. `narf.add_dataset`: a version of a frame."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from narf.client.connection import Connection, connect, default_project
from narf.client.data import add_folder, add_table, cache_home, place
from narf.data.handle import Dataset
from narf.data.reference import LATEST, parse_reference, variable_of
from narf.domain.errors import NarfError


def dataset(reference: str, *, project: str | None = None) -> Dataset:
    """The version that `reference` ("digits", "digits@v3", "digits@approved") means.

    In a job that was started with `--data digits`, plain "digits" is the version the job was given. Elsewhere the platform
    is asked, and the files are fetched once if they are not on this machine. A run notes which versions it read.

    Raises:
        NotFound: there is no such dataset or version. Unavailable: the platform does not answer.
    """
    wanted = parse_reference(reference)
    given = os.environ.get(variable_of(wanted.name))
    if given and wanted.selector == LATEST and project is None:
        folder = Path(given)
        found = Dataset(wanted.name, "", folder.parent.name + folder.name, folder, _cache())
        _note(found.name, found.version or found.id[:12], found.id)
        return found
    project = project or default_project()
    with connect() as connection:
        version = connection.get(f"/api/v1/projects/{project}/datasets/{wanted.name}/versions/{wanted.selector}")
        folder = Path(given) if given and _is_of(Path(given), version["id"]) else place(connection, project, version)
        _tell(connection, project, version)
    _note(wanted.name, version["version"], version["id"])
    return Dataset(wanted.name, version["version"], version["id"], folder, _cache())


def add_dataset(
    name: str,
    data: Any,
    *,
    tags: Sequence[str] = (),
    checks: Sequence[Mapping[str, Any]] = (),
    description: str | None = None,
    project: str | None = None,
) -> Dataset:
    """A new version of dataset `name`: a pandas or Polars frame, an Arrow table or reader, a dict of columns, or a folder's path.

    The same content as the latest version gives that version. In a run, lineage says that the run wrote it. `checks` must hold
    (see the guide), or there is no version.

    Raises:
        BadInput: `data` is no table and no folder, or a check failed. Unavailable: the platform does not answer.
    """
    project = project or default_project()
    more: dict[str, Any] = {"tags": tags, "checks": [dict(check) for check in checks], "description": description}
    more["run_id"] = os.environ.get("NARF_RUN_ID")
    with connect() as connection:
        if isinstance(data, str | os.PathLike):
            version = add_folder(connection, project, name, Path(data), **more)
        else:
            from narf.data.frames import batches_of

            told = {"frame": f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}"}
            version = add_table(connection, project, name, *batches_of(data), provenance=told, **more)
        folder = place(connection, project, version)
    return Dataset(name, version["version"], version["id"], folder, _cache())


def _cache() -> Path:
    return cache_home() / "training"


def _is_of(folder: Path, id: str) -> bool:
    return folder.is_dir() and folder.parent.name + folder.name == id


def _tell(connection: Connection, project: str, version: dict[str, Any]) -> None:
    """Lineage: this run read this version. Training does not depend on it."""
    run = os.environ.get("NARF_RUN_ID")
    if not run:
        return
    path = f"/api/v1/projects/{project}/datasets/{version['dataset']}/versions/{version['version']}/reads"
    try:
        connection.post(path, {"run_id": run})
    except NarfError as error:
        sys.stderr.write(f"narf: the lineage of this run lacks {version['dataset']}@{version['version']}: {error.sentence}\n")


def _note(name: str, version: str, id: str) -> None:
    """A tag of the run, through the spool: it survives a platform that is down."""
    spool = os.environ.get("NARF_SPOOL")
    if not spool:
        return
    event = {"type": "tag", "time": time.time(), "name": f"narf.data.{name}", "value": f"{version} {id}"}
    path = Path(spool) / f"{secrets.token_hex(8)}.events"
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
