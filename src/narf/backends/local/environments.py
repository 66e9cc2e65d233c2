"""Python environments built by uv from a requirements file or a pyproject.toml, cached by what they were made from.

Built by the job that needs one first, as a process of its own under that job's supervisor: its progress is in the
job's output, and a cancel reaches it. Others that need the same wait for it. An environment counts only once its
marker has been written, so a kill at any moment leaves nothing half-built in use.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

_MARKER = "narf.json"
_REFERS_TO_FILES = re.compile(r"^\s*(-r|-c|-e|--requirement|--constraint|--editable|\.{0,2}/|file:)|@\s*(file:|\.)", re.MULTILINE)


def environment_key(requirements: str, snapshot: str | None, python: str) -> str:
    """Names the environment of `requirements` for this interpreter and platform.

    One that refers to files beside it (`-r base.txt`, `-e .`) is another for every code snapshot.
    """
    lines = "\n".join(line.rstrip() for line in requirements.strip().splitlines())
    files = (snapshot or "") if refers_to_files(requirements) else ""
    parts = (lines, files, os.path.realpath(python), platform.python_version(), platform.machine(), sys.platform)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def refers_to_files(requirements: str) -> bool:
    """Whether it means files beside it (`-r base.txt`, `-e .`), and so can be built in its code's folder only."""
    return bool(_REFERS_TO_FILES.search(requirements))


class Environments:
    """The environments below `root`, each in the folder named by its key."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def python(self, key: str) -> Path:
        """Where the interpreter of this environment is, or will be."""
        return self.root / key / "bin" / "python"

    def is_ready(self, key: str) -> bool:
        return (self.root / key / _MARKER).exists()

    def hold(self, key: str) -> int:
        """A descriptor that keeps the environment from being collected until it is closed. Marks it as used now."""
        descriptor = self._lock_file(key)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if self.is_ready(key):
            os.utime(self.root / key / _MARKER)
        return descriptor

    def build(self, key: str, requirements: str, folder: Path, base_python: str, environ: Mapping[str, str]) -> int:
        """Build it unless it is there; uv's exit code. Says on stdout what happens.

        Args:
            folder: where files that the requirements refer to are.
        """
        lock = self._lock_file(key)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("another job is building the same environment; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if self.is_ready(key):
                return 0
            return self._build(self.root / key, requirements, folder, base_python, environ)
        finally:
            os.close(lock)

    def all(self) -> list[tuple[str, float]]:
        """The key of each environment there is, and when a job last used it (seconds since 1970)."""
        return [(marker.parent.name, marker.stat().st_mtime) for marker in sorted(self.root.glob(f"*/{_MARKER}"))]

    def remove(self, key: str) -> bool:
        """Delete it unless a job uses it now; whether it is gone."""
        lock = self._lock_file(key)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.root / key / _MARKER).unlink(missing_ok=True)  # first: what is left of a deletion that is cut short is no environment
            shutil.rmtree(self.root / key, ignore_errors=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(lock)

    def _lock_file(self, key: str) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        return os.open(self.root / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _build(self, target: Path, requirements: str, folder: Path, base_python: str, environ: Mapping[str, str]) -> int:
        shutil.rmtree(target, ignore_errors=True)  # what a kill has left
        begun = time.monotonic()
        asked = sum(1 for line in requirements.splitlines() if line.strip() and not line.lstrip().startswith("#"))
        _say(f"building the Python environment {target.name[:12]} from {asked} lines of requirements")
        uv = [find_uv(), "--no-progress", "--color", "never"]
        variables = dict(environ) | uv_environment(environ)
        code = subprocess.call([*uv, "venv", "--quiet", "--python", base_python, str(target)], env=variables, cwd=folder)
        if code == 0:
            # A requirements file stands beside the code while it is read: `-r base.txt` and `-e .` mean what they mean there.
            source = target / "pyproject.toml" if is_pyproject(requirements) else folder / f".narf-requirements-{os.getpid()}.txt"
            source.write_text(requirements)
            install = [*uv, "pip", "install", "--python", str(target / "bin" / "python"), "-r", str(source)]
            code = subprocess.call(install, env=variables, cwd=folder)
            if source.parent == folder:
                source.unlink()
        if code != 0:
            _say("the Python environment could not be built; the lines above say why")
            shutil.rmtree(target, ignore_errors=True)
            return code
        freeze = subprocess.run(
            [*uv, "pip", "freeze", "--python", str(target / "bin" / "python")], env=variables, capture_output=True, text=True
        )
        installed, seconds = freeze.stdout.splitlines(), round(time.monotonic() - begun, 1)
        content = {"requirements": requirements, "installed": installed, "seconds": seconds}
        (target / f"{_MARKER}.new").write_text(json.dumps(content, indent=1))
        os.replace(target / f"{_MARKER}.new", target / _MARKER)
        _say(f"the Python environment is ready: {len(installed)} packages in {seconds} s")
        return 0


def is_pyproject(text: str) -> bool:
    """Whether this is a pyproject.toml rather than a requirements file."""
    try:
        return "project" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False


def uv_environment(environ: Mapping[str, str], system: str = "/etc/pip.conf") -> dict[str, str]:
    """uv's words for the index, proxy and certificates that pip has been told of, by variables or configuration files.

    What is said to uv itself (UV_*) wins; HTTP_PROXY and SSL_CERT_FILE it reads by itself.
    """
    said = _pip_configuration(environ, system)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            said[name[4:].lower().replace("_", "-")] = value
    wanted = {
        "UV_DEFAULT_INDEX": said.get("index-url", ""),
        "UV_INDEX": " ".join(said.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(said.get("find-links", "").split()),
        "SSL_CERT_FILE": said.get("cert", "") or environ.get("REQUESTS_CA_BUNDLE", ""),
        "ALL_PROXY": said.get("proxy", ""),
    }
    if wanted["UV_INDEX"]:
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # all indexes together, as pip does
    if said.get("no-index", "").lower() in {"1", "true", "yes"}:
        wanted["UV_NO_INDEX"] = "1"
    taken = {
        "UV_DEFAULT_INDEX": ("UV_INDEX_URL",),
        "UV_INDEX": ("UV_EXTRA_INDEX_URL",),
        "ALL_PROXY": ("HTTPS_PROXY", "https_proxy", "all_proxy"),
    }
    return {name: value for name, value in wanted.items() if value and not any(environ.get(n) for n in (name, *taken.get(name, ())))}


def _pip_configuration(environ: Mapping[str, str], system: str) -> dict[str, str]:
    home = Path(environ.get("HOME", "/nonexistent"))
    configured = environ.get("XDG_CONFIG_HOME", str(home / ".config"))
    files: list[str | Path] = [
        system,
        home / ".pip" / "pip.conf",
        Path(configured) / "pip" / "pip.conf",
        environ.get("PIP_CONFIG_FILE", ""),
    ]
    parser = configparser.RawConfigParser()
    said: dict[str, str] = {}
    for file in files:
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError) as error:
            _say(f"the pip configuration {file} is not readable and is left out: {error}")
    for section in ("global", "install"):
        if parser.has_section(section):
            said |= dict(parser.items(section))
    return said


def find_uv() -> str:
    """The uv program: the package's own, else the one on the path.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
        if found is None:
            raise FileNotFoundError("uv is not installed; install it with: pip install 'narf[server]'") from None
        return found


def _say(text: str) -> None:
    print(f"narf: {text}", flush=True)  # noqa: T201 - this is the job's output


def main(arguments: list[str]) -> int:
    """Build one: `ROOT KEY FOLDER PYTHON REQUIREMENTS`, the last a file."""
    root, key, folder, python, requirements = arguments
    text = Path(requirements).read_text()
    try:
        return Environments(Path(root)).build(key, text, Path(folder), python, os.environ)
    except OSError as error:
        _say(f"the Python environment could not be built: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
