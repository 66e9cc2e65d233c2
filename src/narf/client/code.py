"""Sends the user's code: the folder becomes a content-addressed snapshot, and only what is new travels."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from narf.client.connection import Connection
from narf.domain.errors import BadInput, LimitReached

_ALWAYS_IGNORED = (
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *(".ipynb_checkpoints", "lightning_logs", "mlruns", "wandb", "*.egg-info", ".DS_Store", ".idea", ".vscode"),
)
_MOST_FILES, _MOST_BYTES = 20_000, 1 << 30


def send_folder(connection: Connection, project: str, folder: Path, progress: Callable[[int, int], None] = lambda _done, _all: None) -> str:
    """Snapshot `folder` and send what the platform does not have; the snapshot's id.

    Files named in `.narfignore` (patterns as in .gitignore, without negation) and the usual litter stay behind. Symbolic links
    are followed inside the folder and left out when they lead out of it.

    Raises:
        LimitReached: the folder is larger than code should be; the sentence names its largest parts.
    """
    rows, places = [], {}
    for path, relative in list_files(folder):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        rows.append({"path": relative, "sha256": digest, "size": len(data), "mode": path.stat().st_mode & 0o777})
        places[digest] = path
    body: dict[str, Any] = {"files": rows}
    missing = connection.post(f"/api/v1/projects/{project}/snapshots/check", body)["missing"]
    for number, digest in enumerate(missing, 1):
        connection.put(f"/api/v1/projects/{project}/objects/{digest}", content=places[digest].read_bytes())
        progress(number, len(missing))
    snapshot: str = connection.post(f"/api/v1/projects/{project}/snapshots", body)["id"]
    return snapshot


def list_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of a snapshot of `folder`, (path, relative path with '/'), in order."""
    patterns = [*_ALWAYS_IGNORED, *_read_ignore(folder / ".narfignore")]
    root = folder.resolve()
    count, total = 0, 0
    sizes: dict[str, int] = {}
    for current, folders, files in os.walk(folder):
        here = Path(current)
        prefix = "" if here == folder else here.relative_to(folder).as_posix() + "/"
        folders[:] = sorted(name for name in folders if not is_ignored(prefix + name, patterns, folder=True))
        for name in sorted(files):
            path, relative = here / name, prefix + name
            if is_ignored(relative, patterns) or not path.is_file() or not path.resolve().is_relative_to(root):
                continue
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise BadInput(f"The file name {relative!a} is not UTF-8.", remedy="Rename it, or name it in .narfignore.") from None
            size = path.stat().st_size
            count, total = count + 1, total + size
            sizes[relative.split("/", 1)[0]] = sizes.get(relative.split("/", 1)[0], 0) + size
            if count > _MOST_FILES or total > _MOST_BYTES:
                largest = ", ".join(f"{part} ({size / 1e6:,.0f} MB)" for part, size in sorted(sizes.items(), key=lambda i: -i[1])[:3])
                raise LimitReached(
                    f"The folder {folder} is too large for a code snapshot (over {_MOST_FILES:,} files or {_MOST_BYTES >> 20:,} MiB); most is in {largest}.",
                    remedy="Name what is not code in a .narfignore file, and give data with --data.",
                )
            yield path, relative


def is_ignored(relative: str, patterns: list[str], *, folder: bool = False) -> bool:
    """Whether a pattern names this path: one without '/' matches any part's name, one with '/' from the top."""
    name = relative.rsplit("/", 1)[-1]
    for pattern in patterns:
        bare = pattern.strip("/")
        if pattern.endswith("/") and not folder:
            continue
        if "/" in bare:
            if fnmatch(relative, bare) or relative.startswith(bare + "/"):
                return True
        elif fnmatch(name, bare):
            return True
    return False


def _read_ignore(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def describe_code(folder: Path) -> dict[str, str]:
    """Where the code came from, as git says it: commit, branch, remote, and the uncommitted difference."""

    def git(*arguments: str) -> str:
        try:
            answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return answer.stdout.decode(errors="replace").strip() if answer.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    diff = git("diff", "HEAD", "--", ".")
    found = {
        "commit": commit,
        "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
        "remote": _without_password(git("remote", "get-url", "origin")),
    }
    if diff:
        found["diff"] = diff[:15_000]
    return {name: value for name, value in found.items() if value}


def _without_password(remote: str) -> str:
    scheme, separator, rest = remote.partition("://")
    if separator and "@" in rest.split("/", 1)[0]:
        return f"{scheme}://{rest.split('@', 1)[1]}"
    return remote
