"""Artifacts of runs: files below one root, a local folder or a place in S3.

A path never leaves the folder of its run: it is checked as text, and on a local disk also after links are followed.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from narf.domain.errors import BadInput, NotFound

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """`path` is relative to the run's artifacts; a folder has no size."""

    path: str
    is_folder: bool
    size: int | None


class Artifacts:
    def __init__(self, root: str) -> None:
        self._root = root
        self._local = Path(root).resolve() if "://" not in root else None

    def list(self, run_uri: str, path: str = "") -> list[Artifact]:
        """What lies directly in a folder of the run's artifacts, in order of name; nothing if there is no such folder."""
        place = _below(run_uri, path)
        if self._local is not None:
            folder = self._inside(place)
            if not folder.is_dir():
                return []
            base = self._inside(_below(run_uri, ""))
            entries = sorted(folder.iterdir())
            return [
                Artifact(
                    path=entry.relative_to(base).as_posix(), is_folder=entry.is_dir(), size=None if entry.is_dir() else entry.stat().st_size
                )
                for entry in entries
                if not entry.name.startswith(".narf-") and not entry.is_symlink()
            ]
        top = _below(run_uri, "")
        return [
            Artifact(path=posixpath.relpath(info.path, top), is_folder=info.is_dir, size=info.file_size)
            for info in self._repository.list_artifacts(place)
        ]

    @contextmanager
    def open(self, run_uri: str, path: str) -> Iterator[Path]:
        """The file as a local one, as long as the block lasts."""
        place = _below(run_uri, _required(path))
        if self._local is not None:
            file = self._inside(place)
            if not file.is_file():
                raise NotFound("artifact", path)
            yield file
            return
        if not self._repository.is_file(place):
            raise NotFound("artifact", path)
        with tempfile.TemporaryDirectory(prefix="narf-artifact-") as folder:
            yield Path(self._repository.download_artifacts(place, folder))

    def put(self, run_uri: str, path: str, stream: IO[bytes]) -> int:
        """Store what `stream` yields, replacing what was there; its size. The file appears whole or not at all."""
        place = _below(run_uri, _required(path))
        if self._local is None:
            with tempfile.TemporaryDirectory(prefix="narf-artifact-") as folder:
                file = Path(folder) / posixpath.basename(place)
                with file.open("wb") as target:
                    shutil.copyfileobj(stream, target, _BLOCK)
                self._repository.log_artifact(str(file), posixpath.dirname(place))
                return file.stat().st_size
        file = self._inside(place)
        if file.is_dir():
            raise BadInput(f"{path!r} is a folder of this run.", field="path")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadInput(f"A part of {path!r} is a file of this run, not a folder.", field="path") from None
        descriptor, temporary = tempfile.mkstemp(prefix=".narf-", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(stream, target, _BLOCK)
                size = target.tell()
            os.chmod(temporary, 0o644)
            os.replace(temporary, file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return size

    def delete(self, run_uri: str, path: str) -> None:
        place = _below(run_uri, _required(path))
        if self._local is None:
            self._repository.delete_artifacts(place)
            return
        file = self._inside(place)
        if file.is_dir():
            shutil.rmtree(file)
        elif file.exists():
            file.unlink()
        else:
            raise NotFound("artifact", path)

    def _inside(self, place: str) -> Path:
        assert self._local is not None
        base = self._local.joinpath(*place.split("/")[:-1]) if "/" in place else self._local
        file = base / place.rsplit("/", 1)[-1]
        if not file.resolve().is_relative_to(self._local):
            raise BadInput("The path leaves the artifacts.", field="path", code="bad_path")
        return file

    @cached_property
    def _repository(self) -> Any:
        from narf.tracking.s3_artifacts import S3Artifacts

        return S3Artifacts(self._root)


def _required(path: str) -> str:
    if not path:
        raise BadInput("Name the artifact.", field="path")
    return path


def _below(run_uri: str, path: str) -> str:
    """The place of `path` among a run's artifacts, relative to the root."""
    if not run_uri.startswith("mlflow-artifacts:/"):
        raise BadInput(
            "The artifacts of this run do not lie with the platform.", remedy=f"They are at {run_uri}.", code="foreign_artifacts"
        )
    base = run_uri.removeprefix("mlflow-artifacts:").lstrip("/").rstrip("/")
    if not path:
        return base
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.startswith(".narf-") for part in parts) or "\0" in path or "\\" in path or len(path) > 1000:
        raise BadInput(
            f"{path[:200]!r} is no path of an artifact.", remedy="Use names with '/' between them.", field="path", code="bad_path"
        )
    return f"{base}/{path}"
