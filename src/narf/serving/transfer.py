"""A package on its way between machines: one tar stream, unpacked into a folder that appears whole."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from narf.domain.errors import BadInput, Unavailable
from narf.serving.package import read_manifest


def pack(folder: Path, stream: BinaryIO) -> None:
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, arcname=str(path.relative_to(folder)), recursive=False)


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    pack(folder, buffer)
    return buffer.getvalue()


def unpack(stream: BinaryIO, folder: Path) -> Path:
    """Files below `folder`, which must not exist; nothing is there unless all of it is.

    Raises:
        BadInput: it is no tar, a name points outside, or it holds no package.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(temporary, filter="data")
        read_manifest(temporary)
        os.replace(temporary, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadInput(f"This is not a packed model: {error}.", code="bad_package") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def download_package(url: str, folder: Path, token: str) -> Path:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return unpack(response, folder)
    except urllib.error.URLError as error:
        raise Unavailable(f"The package at {url} cannot be fetched: {error}.") from error
