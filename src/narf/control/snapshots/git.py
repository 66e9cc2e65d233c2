"""Code from a git repository: fetched at one commit, its files put into the content-addressed store.

Whoever may start work names the URL, and the server is what fetches it. So git is given an address of a known form and nothing else to
follow: only http, https and ssh, no local path, no helper program, no submodule, no hook, no checkout (files are read out of the object
database), no prompt, no redirect. Which hosts it may be, `hosts.py` says. What it takes, in time and on disk, is bounded while it runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from narf.control.hosts import Hosts
from narf.domain.errors import BadInput, LimitReached, Unavailable

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_URL = re.compile(
    rf"(?P<scheme>https?|ssh)://(?:(?P<user>[A-Za-z0-9_.-]+)@)?(?P<host>{_HOST}|\[[0-9A-Fa-f:]+\])(?::(?P<port>\d{{1,5}}))?/(?P<path>[^\s\\]+)"
)
_SHORT = re.compile(rf"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>{_HOST}):(?P<path>[A-Za-z0-9_~][^\s:\\]*)")
_WITH_PASSWORD = re.compile(r"[a-z]+://[^/@\s]*:[^/@\s]*@")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,250}")
_FILE_MODES = {"100644": 0o644, "100755": 0o755}
# Nothing of this machine's git configuration counts, and no transport but these three exists.
_OPTIONS = (
    *("-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always", "-c", "protocol.ssh.allow=always"),
    *("-c", "credential.helper=", "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "core.fsmonitor=false"),
    *("-c", "transfer.fsckObjects=true", "-c", "fetch.recurseSubmodules=false", "-c", "gc.auto=0", "-c", "http.lowSpeedLimit=1000"),
    *("-c", "http.lowSpeedTime=20", "-c", "http.followRedirects=false"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    seconds: float = 120
    fetched_bytes: int = 1 << 30
    files: int = 20_000


@dataclass(frozen=True, slots=True)
class Blob:
    """One regular file of a commit; links and submodules are none."""

    path: str
    object_id: str
    size: int
    mode: int


def checked_url(url: str) -> str:
    """The address as git may have it.

    Raises:
        BadInput: it is no http, https or ssh address, or it carries a password.
    """
    text = url.strip()
    if _WITH_PASSWORD.match(text):
        raise BadInput(
            "The address carries a password, which would be kept with the run.",
            remedy="Use ssh, or a repository that needs none.", field="url", code="password_in_url",
        )  # fmt: skip
    if short := _SHORT.fullmatch(text):
        text = f"ssh://{short['user']}@{short['host']}/{short['path']}"
    match = _URL.fullmatch(text)
    if match is None or len(text) > 2000 or (match["user"] or "").startswith("-"):
        raise BadInput(
            f"{url[:200]!r} is no address of a git repository.",
            remedy="Write it as https://host/owner/name.git or ssh://git@host/owner/name.git.", field="url", code="bad_url",
        )  # fmt: skip
    return text


def checked_ref(ref: str) -> str:
    """A branch, tag or commit; "" is what the repository's own HEAD names.

    Raises:
        BadInput: git could not have such a name.
    """
    text = ref.strip()
    if text and (_REF.fullmatch(text) is None or ".." in text or "//" in text or text.endswith(("/", ".", ".lock"))):
        raise BadInput(
            f"{ref[:200]!r} is no branch, tag or commit.", remedy="Leave it empty for the default branch.", field="ref", code="bad_ref"
        )
    return text or "HEAD"


@contextmanager
def fetched(url: str, ref: str = "", limits: Limits = Limits(), hosts: Hosts = Hosts()) -> Iterator[Checkout]:
    """The repository at `ref`, in a folder that is gone afterwards.

    Raises:
        BadInput: the address or the name is wrong, the host is not allowed, or the server does not have it.
        LimitReached: it takes too long or too much room.
        Unavailable: there is no git on this machine.
    """
    address, name = checked_url(url), checked_ref(ref)
    program = shutil.which("git")
    if program is None:
        raise Unavailable("git is not installed where Narf runs.", remedy="Install it there, or choose a folder instead.")
    destination = _destination(address, hosts)
    with tempfile.TemporaryDirectory(prefix="narf-git-") as folder:
        checkout = Checkout(program, Path(folder), limits, destination)
        checkout.fetch(address, name)
        yield checkout


@dataclass(frozen=True, slots=True)
class Destination:
    """The host of a repository, and the address that it was found to have; "" leaves it to git."""

    scheme: str
    host: str
    port: int
    address: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        if not self.address or self.scheme == "ssh":
            return ()
        address = f"[{self.address}]" if ":" in self.address else self.address
        return ("-c", f"http.curloptResolve={self.host}:{self.port}:{address}")

    @property
    def ssh_options(self) -> str:
        if not self.address or self.scheme != "ssh":
            return ""
        known_as = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        return f" -o HostName={self.address} -o HostKeyAlias={known_as}"


def _destination(address: str, hosts: Hosts) -> Destination:
    match = _URL.fullmatch(address)
    assert match is not None, "checked_url has passed it"
    scheme, host = match["scheme"], match["host"]
    port = int(match["port"] or {"http": 80, "https": 443, "ssh": 22}[scheme])
    by_proxy = bool(scheme != "ssh" and os.environ.get(f"{scheme}_proxy"))
    found = hosts.checked(host, port, by_proxy=by_proxy)
    return Destination(scheme, host.strip("[]"), port, found)


class Checkout:
    """A bare repository that holds one commit."""

    def __init__(self, program: str, folder: Path, limits: Limits, destination: Destination) -> None:
        self._program, self._folder, self._limits, self._destination = program, folder, limits, destination
        self._end = time.monotonic() + limits.seconds
        self.commit = ""

    def fetch(self, address: str, name: str) -> None:
        self._run("init", "--quiet", "--bare", "--template=", str(self._folder))
        self._run(
            "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", address, f"{name}:refs/narf/code", asked=name
        )
        self.commit = self._run("rev-parse", "--verify", "refs/narf/code^{commit}").decode().strip()

    def blobs(self) -> list[Blob]:
        """The regular files of the commit, by path."""
        found = []
        for row in self._run("ls-tree", "-r", "-z", "-l", "--full-tree", self.commit).split(b"\0"):
            if not row:
                continue
            head, path = row.split(b"\t", 1)
            mode, kind, object_id, size = head.split()
            if kind == b"blob" and mode.decode() in _FILE_MODES:
                found.append(Blob(path.decode(errors="replace"), object_id.decode(), int(size), _FILE_MODES[mode.decode()]))
        if len(found) > self._limits.files or sum(blob.size for blob in found) > self._limits.fetched_bytes:
            raise _too_large(self._limits)
        return found

    def contents(self, blobs: list[Blob], take: Callable[[Blob, IO[bytes]], None]) -> None:
        """Call `take` with each file and a stream of exactly its bytes."""
        command = self._command("cat-file", "--batch")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(self._destination)
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                for blob in blobs:
                    process.stdin.write(f"{blob.object_id}\n".encode())
                    process.stdin.flush()
                    left = int(process.stdout.readline().split()[2])
                    with tempfile.SpooledTemporaryFile(max_size=1 << 20) as file:
                        while left:
                            block = process.stdout.read(min(left, 1 << 20))
                            if not block:
                                raise Unavailable("git ended while it was read.", remedy="Try again.")
                            left -= file.write(block)
                        process.stdout.read(1)
                        file.seek(0)
                        take(blob, file)
            finally:
                process.kill()

    def _command(self, *arguments: str) -> list[str]:
        return [self._program, *_OPTIONS, *self._destination.options, f"--git-dir={self._folder}", *arguments]

    def _run(self, *arguments: str, asked: str = "") -> bytes:
        """One git command, ended with all it started when it takes too long or too much."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(self._destination),
                start_new_session=True,
            )
            try:
                while True:
                    try:
                        process.wait(0.1)
                        break
                    except subprocess.TimeoutExpired:
                        if time.monotonic() > self._end:
                            raise LimitReached(
                                f"The repository did not come within {self._limits.seconds:g} seconds.", remedy="Choose a folder instead."
                            ) from None
                        if _size(self._folder) > self._limits.fetched_bytes:
                            raise _too_large(self._limits) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            out.seek(0)
            err.seek(0)
            if process.returncode == 0:
                return out.read()
            raise _refused(err.read(20_000).decode(errors="replace"), asked)


def _environment(destination: Destination) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "https_proxy", "http_proxy", "no_proxy", "SSH_AUTH_SOCK") if name in os.environ
    }
    return kept | {
        "HOME": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=15 -o ProxyCommand=none -o PermitLocalCommand=no"
        + destination.ssh_options, "GIT_SSH_VARIANT": "ssh",
        "LC_ALL": "C",
    }  # fmt: skip


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue  # git renames what it has finished
    return total


def _too_large(limits: Limits) -> LimitReached:
    return LimitReached(
        f"The repository has more than {limits.files:,} files or {limits.fetched_bytes / 1e6:,.0f} MB.",
        remedy="Keep data out of it (narf data add), or choose a folder of it.",
    )


def _refused(said: str, asked: str) -> BadInput:
    """Git's complaint in words for whoever wrote the address; never what a foreign server answered."""
    text = said.lower()
    if "couldn't find remote ref" in text or "not our ref" in text or "no such ref" in text:
        return BadInput(
            f"The repository has no {asked!r}." if asked != "HEAD" else "The repository has no commit yet.",
            remedy="Give a branch, a tag or a commit that was pushed.", field="ref", code="unknown_ref",
        )  # fmt: skip
    if any(each in text for each in ("authentication failed", "could not read username", "permission denied", "publickey", "403", "401")):
        return BadInput(
            "The repository does not let Narf in.",
            remedy="Give it as ssh address and allow the key of the account that runs Narf, or choose a folder.", field="url", code="not_let_in",
        )  # fmt: skip
    if "returned error: 30" in text:
        return BadInput("The repository's address leads to another one.", remedy="Give that one.", field="url", code="redirected")
    if "could not resolve" in text or "failed to connect" in text or "timed out" in text or "connection refused" in text:
        return BadInput(
            "The repository's host cannot be reached.", remedy="Correct the address, or try again.", field="url", code="unreachable"
        )
    return BadInput("There is no git repository at this address.", remedy="Correct it: git clone must understand it.", field="url", code="no_repository")  # fmt: skip
