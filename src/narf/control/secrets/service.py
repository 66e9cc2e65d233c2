"""Secrets of a project: set by people, read only by workloads, encrypted at rest (AES-256-GCM)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from narf.control.audit.store import record
from narf.control.database import Database
from narf.control.secrets import store
from narf.control.secrets.store import Secret
from narf.domain.access import Principal
from narf.domain.errors import BadInput, NotFound, Unavailable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def read_key(path: Path) -> bytes:
    """The key that secrets are encrypted with, made on first use, readable by its owner alone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = AESGCM.generate_key(256)
        temporary = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
        try:
            os.link(temporary, path)  # fails if another process was first: then its key counts
        except FileExistsError:
            key = path.read_bytes()
        temporary.unlink()
        return key


class SecretService:
    def __init__(self, database: Database, key: bytes, now: Callable[[], datetime]) -> None:
        self._database, self._cipher, self._now = database, AESGCM(key), now

    def set(self, project: str, name: str, value: str, *, by: Principal) -> Secret:
        """Raises BadInput: the name could not be that of an environment variable."""
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"{name[:60]!r} cannot name a secret.", remedy="Use letters, digits and '_', at most 63, as for a variable.", field="name"
            )
        secret = Secret(project=project, name=name, created_by=by.user, created_at=self._now())
        nonce = os.urandom(12)
        ciphertext = nonce + self._cipher.encrypt(nonce, value.encode(), _context(project, name))
        with self._database.write() as connection:
            store.set_secret(connection, secret, ciphertext)
            record(connection, secret.created_at, by.user, "set", "secret", name, project=project)
        return secret

    def value(self, project: str, name: str) -> str:
        """For workloads and connectors; no route returns it."""
        with self._database.read() as connection:
            ciphertext = store.ciphertext_of(connection, project, name)
        if ciphertext is None:
            raise NotFound("secret", name, remedy=f"Set it: narf secret set {name} --project {project}")
        try:
            return self._cipher.decrypt(ciphertext[:12], ciphertext[12:], _context(project, name)).decode()
        except InvalidTag as error:
            raise Unavailable(
                f"The secret {name!r} was encrypted with another key.", remedy="Restore secret.key from the backup, or set it again."
            ) from error

    def of_project(self, project: str) -> list[Secret]:
        with self._database.read() as connection:
            return store.list_secrets(connection, project)

    def remove(self, project: str, name: str, *, by: Principal) -> None:
        with self._database.write() as connection:
            if not store.remove_secret(connection, project, name):
                raise NotFound("secret", name)
            record(connection, self._now(), by.user, "remove", "secret", name, project=project)


def _context(project: str, name: str) -> bytes:
    """Bound into the encryption, so that a row copied to another name does not decrypt."""
    return f"{project}/{name}".encode()
