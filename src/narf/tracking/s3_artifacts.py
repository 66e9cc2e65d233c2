"""Artifacts in S3, for MLflow and for us, through opendal: MLflow's own way needs another client library.

Keys are taken as every S3 program takes them, from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the machine's role; AWS_REGION and
AWS_ENDPOINT_URL (or MLFLOW_S3_ENDPOINT_URL) say where.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from narf.domain.errors import MissingExtra

_BLOCK = 8 << 20


class S3Artifacts(ArtifactRepository):  # type: ignore[misc]
    """Everything below `s3://bucket/prefix`. Paths are relative to it, as MLflow gives them (it has checked them)."""

    def __init__(self, artifact_uri: str, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(artifact_uri)
        try:
            import opendal
        except ImportError as error:
            raise MissingExtra("Keeping artifacts in S3", "data") from error
        place = urlparse(artifact_uri)
        options = {"bucket": place.netloc, "root": place.path or "/", "region": environ.get("AWS_REGION") or "us-east-1"}
        if endpoint := environ.get("AWS_ENDPOINT_URL") or environ.get("MLFLOW_S3_ENDPOINT_URL"):
            options["endpoint"] = endpoint
        for name, variable in (("access_key_id", "AWS_ACCESS_KEY_ID"), ("secret_access_key", "AWS_SECRET_ACCESS_KEY")):
            if environ.get(variable):
                options[name] = environ[variable]
        self._files: Any = opendal.Operator("s3", **options)
        self._missing = opendal.exceptions.NotFound

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        target = posixpath.join(artifact_path or "", os.path.basename(local_file))
        with open(local_file, "rb") as source:
            if os.path.getsize(local_file) == 0:
                self._files.write(target, b"")
                return
            with self._files.open(target, "wb") as stored:
                while block := source.read(_BLOCK):
                    stored.write(block)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        root = Path(local_dir)
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            folder = file.parent.relative_to(root).as_posix()
            self.log_artifact(str(file), posixpath.normpath(posixpath.join(artifact_path or "", folder)).removeprefix("."))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        folder = f"{path.strip('/')}/" if path and path.strip("/") else ""
        found = []
        for entry in self._files.list(folder):
            name = entry.path
            if name.strip("/") == folder.strip("/"):
                continue
            if name.endswith("/"):
                found.append(FileInfo(name.rstrip("/"), True, None))
            else:
                found.append(FileInfo(name, False, self._files.stat(name).content_length))
        return sorted(found, key=lambda info: str(info.path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        if not artifact_path:
            raise ValueError("the whole root is never deleted")
        self._files.delete(artifact_path)
        self._files.remove_all(artifact_path.rstrip("/") + "/")

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with self._files.open(remote_file_path, "rb") as stored, open(local_path, "wb") as target:
            while block := stored.read(_BLOCK):
                target.write(block)

    def is_file(self, path: str) -> bool:
        try:
            return not str(self._files.stat(path).mode).endswith("Dir")
        except self._missing:
            return False
