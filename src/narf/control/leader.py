"""One leader among several API processes: only it runs the reconcilers.

On PostgreSQL the leader holds an advisory lock in a connection of its own; on SQLite, where all processes share one machine,
a lock on a file. Both end with the process, so a killed leader is followed by another within seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from narf.control.database import Database

_LOCK_NUMBER = 0x6E617266  # "narf"
_CHECK_SECONDS = 5.0


class Leadership:
    """`is_leader()` is cheap and may be asked before every pass; it tries to become leader, and notices when it no longer is."""

    def __init__(self, database: Database, run_folder: Path) -> None:
        self._database, self._path = database, run_folder / "leader.lock"
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._descriptor: int | None = None
        self._checked_at = float("-inf")
        self._leads = False

    def is_leader(self) -> bool:
        with self._lock:
            if time.monotonic() - self._checked_at < (_CHECK_SECONDS if self._leads else 0.5):
                return self._leads
            self._checked_at = time.monotonic()
            self._leads = self._try_file() if self._database.is_sqlite else self._try_advisory()
            return self._leads

    def resign(self) -> None:
        with self._lock:
            self._leads = False
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            if self._connection is not None:
                # Said, because the server takes a moment to notice that a connection is gone.
                with contextlib.suppress(SQLAlchemyError):
                    self._connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": _LOCK_NUMBER})
                self._connection.invalidate()  # the lock is the session's: back in the pool, the connection would go on holding it
                self._connection.close()
                self._connection = None

    def _try_file(self) -> bool:
        if self._descriptor is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def _try_advisory(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                query = text("SELECT pg_try_advisory_lock(:number)")
                if not self._connection.execute(query, {"number": _LOCK_NUMBER}).scalar():
                    self._connection.close()
                    self._connection = None
                    return False
                return True
            self._connection.execute(text("SELECT 1"))  # fails if the connection, and with it the lock, is gone
            return True
        except SQLAlchemyError:
            if self._connection is not None:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
            return False
