"""Backup and restore: all state of the platform in one file, taken while it runs, brought back while it is down.

Databases are copied first, consistently (SQLite's online backup; `pg_dump` for PostgreSQL), then the files they refer to, which are
only ever added. `python -m narf.control.backup create|restore FILE` is what the command line starts.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from narf.domain.errors import BadInput, Conflict, NarfError, Unavailable
from narf.settings import Settings, read_settings
from narf.version import VERSION

# What lives below the home folder and cannot be made anew. Environments and job folders' work can.
_FOLDERS = ("objects", "artifacts", "checkpoints", "catalogue", "data/objects", "data/iceberg", "packages")
_FILES = ("secret.key",)
_JOB_PARTS = ("job.json", "state.json", "log", "spool")


def create(settings: Settings, target: Path) -> dict[str, object]:
    """Write a backup to `target`, which appears only when it is whole."""
    if target.exists():
        raise Conflict(f"{target} exists already.", remedy="Choose another name; a backup never overwrites.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".part")
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch, tarfile.open(temporary, "w:gz", compresslevel=3) as archive:
            about = {"version": VERSION, "created_at": datetime.now(UTC).isoformat(), "databases": _dump(settings, Path(scratch))}
            (Path(scratch) / "about.json").write_text(json.dumps(about))
            for file in sorted(Path(scratch).iterdir()):
                archive.add(file, arcname=f"narf-backup/{file.name}")
            for path in _kept(settings.home):
                archive.add(path, arcname=f"narf-backup/home/{path.relative_to(settings.home)}", recursive=True)
        os.replace(temporary, target)
    except OSError as error:
        raise Unavailable(
            f"The backup {target} could not be written: {error.strerror}.", remedy="Free some space, or choose another place."
        ) from error
    return {"id": str(target), "size_bytes": target.stat().st_size, **about}


def restore(settings: Settings, source: Path) -> dict[str, object]:
    """Bring a backup back into an empty home. Nothing is touched unless the whole file is readable.

    Raises:
        Conflict: there is state already.
        BadInput: the file is no backup, or damaged.
    """
    if (settings.home / "narf.db").exists() or (settings.home / "objects").exists():
        raise Conflict(
            f"There is a platform in {settings.home} already.", remedy="Choose an empty folder with NARF_HOME, or move that one away."
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home.parent) as scratch:
        try:
            with tarfile.open(source) as archive:
                archive.extractall(scratch, filter="data")
            about: dict[str, object] = json.loads((Path(scratch) / "narf-backup" / "about.json").read_text())
        except (OSError, tarfile.TarError, ValueError, EOFError) as error:
            raise BadInput(f"{source} is no whole backup of Narf ({error}).", remedy="Take another copy of it.") from error
        root = Path(scratch) / "narf-backup"
        _load(settings, root)
        if (root / "home").exists():
            for path in (root / "home").iterdir():
                shutil.move(path, settings.home / path.name)
        key = settings.home / "secret.key"
        if key.exists():
            key.chmod(0o600)
    return {"id": str(source), **about}


def _dump(settings: Settings, scratch: Path) -> dict[str, str]:
    kinds = {}
    for name, url in (("narf", settings.database), ("mlflow", settings.mlflow_database)):
        if url.startswith("sqlite:///"):
            source = Path(url.removeprefix("sqlite:///"))
            if source.exists():
                _copy_sqlite(source, scratch / f"{name}.db")
            kinds[name] = "sqlite"
        else:
            _run_postgres(["pg_dump", "--format=custom", f"--file={scratch / f'{name}.dump'}", _plain(url)])
            kinds[name] = "postgresql"
    return kinds


def _load(settings: Settings, root: Path) -> None:
    for name, url in (("narf", settings.database), ("mlflow", settings.mlflow_database)):
        if (root / f"{name}.db").exists():
            if not url.startswith("sqlite:///"):
                raise BadInput(
                    f"The backup holds a SQLite database, and {name} is configured on PostgreSQL.",
                    remedy="Unset the database URL, and restore.",
                )
            shutil.copyfile(root / f"{name}.db", url.removeprefix("sqlite:///"))
        elif (root / f"{name}.dump").exists():
            _run_postgres(["pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={_plain(url)}", str(root / f"{name}.dump")])


def _copy_sqlite(source: Path, target: Path) -> None:
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True) as reading, sqlite3.connect(target) as writing:
        reading.backup(writing)
    reading.close()
    writing.close()


def _run_postgres(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable(
            f"{command[0]} is not installed.", remedy="Install PostgreSQL's client programs, of the server's version or newer."
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} failed: {done.stderr.strip()[-500:]}")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def _kept(home: Path) -> list[Path]:
    found = [home / name for name in (*_FILES, *_FOLDERS) if (home / name).exists()]
    for job in sorted((home / "jobs").glob("*")) if (home / "jobs").exists() else []:
        found += [job / part for part in _JOB_PARTS if (job / part).exists()]
    return found


def main() -> None:
    verb, path = sys.argv[1], Path(sys.argv[2]).absolute()
    try:
        answer = {"create": create, "restore": restore}[verb](read_settings(), path)
        sys.stdout.write(json.dumps(answer) + "\n")
    except NarfError as error:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "detail": error.sentence, "remedy": error.remedy}}) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
