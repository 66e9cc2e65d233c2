"""Who is asking: accounts, sign-in, sessions and tokens."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import argon2

from narf.control.access import store
from narf.control.access.store import Session, Token, User, hash_of
from narf.control.audit.store import record
from narf.control.database import Database
from narf.control.projects import store as projects
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, Conflict, LimitReached, NotAllowed, NotFound, NotSignedIn
from narf.domain.names import check_name, new_id

SESSION_LENGTH = timedelta(days=14)
LINK_LENGTH = timedelta(minutes=15)
_LEAST_PASSWORD = 10
_TRIES, _TRIES_WINDOW = 10, timedelta(minutes=5)
_CACHE_SECONDS = 5.0


class AccessService:
    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=32 * 1024, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_urlsafe())  # so that an unknown name takes as long as a wrong password
        self._failures: dict[str, list[datetime]] = {}
        self._known: dict[str, tuple[datetime, Principal]] = {}
        self._lock = threading.Lock()

    # -- accounts

    def create_user(self, name: str, *, by: str, password: str | None = None, is_admin: bool = False, display_name: str = "") -> User:
        check_name(name, kind="user")
        user = User(
            name=name,
            display_name=display_name or name,
            is_admin=is_admin,
            created_at=self._now(),
            password_hash=self._hash(password) if password is not None else None,
        )
        with self._database.write() as connection:
            if store.find_user(connection, name):
                raise Conflict(f"There is a user {name!r} already.", remedy="Choose another name.", field="name")
            store.add_user(connection, user)
            record(connection, user.created_at, by, "create", "user", name, is_admin=is_admin)
        return user

    def user(self, name: str) -> User:
        with self._database.read() as connection:
            user = store.find_user(connection, name)
        if user is None:
            raise NotFound("user", name)
        return user

    def users(self, *, after: str = "", limit: int = 500) -> list[User]:
        with self._database.read() as connection:
            return store.list_users(connection, after=after, limit=limit)

    def set_password(self, name: str, password: str, *, by: str) -> None:
        """Every session of the user ends."""
        with self._database.write() as connection:
            if not store.change_user(connection, name, password_hash=self._hash(password)):
                raise NotFound("user", name)
            store.remove_sessions(connection, user=name)
            record(connection, self._now(), by, "set_password", "user", name)

    def set_disabled(self, name: str, disabled: bool, *, by: str) -> None:
        if disabled and name == by:
            raise Conflict("Nobody can disable their own account.", remedy="Ask another admin.")
        with self._database.write() as connection:
            if not store.change_user(connection, name, disabled_at=self._now() if disabled else None):
                raise NotFound("user", name)
            if disabled:
                store.remove_sessions(connection, user=name)
            record(connection, self._now(), by, "disable" if disabled else "enable", "user", name)
        self._known.clear()

    def _hash(self, password: str) -> str:
        if not _LEAST_PASSWORD <= len(password) <= 1000:
            raise BadInput(f"A password has {_LEAST_PASSWORD} to 1000 characters.", field="password", code="bad_password")
        return self._hasher.hash(password)

    # -- sign-in

    def sign_in(self, name: str, password: str, *, source: str) -> tuple[Session, str]:
        """A new session and its secret.

        Raises:
            NotSignedIn: the name or the password is wrong (which of them is not said).
            LimitReached: too many wrong tries for this name or from this source.
        """
        for key in (f"user {name}", f"source {source}"):
            self._check_tries(key)
        with self._database.read() as connection:
            user = store.find_user(connection, name)
        known = user is not None and user.password_hash is not None and user.disabled_at is None
        try:
            self._hasher.verify(user.password_hash if known and user and user.password_hash else self._nobody, password)
            right = known
        except argon2.exceptions.VerificationError:
            right = False
        if not right:
            for key in (f"user {name}", f"source {source}"):
                self._failures.setdefault(key, []).append(self._now())
            raise NotSignedIn("That user name and password do not fit.", remedy="Try again, or ask an admin for a new invitation.")
        self._failures.pop(f"user {name}", None)
        return self._new_session(name)

    def sign_in_by_link(self, code: str) -> tuple[Session, str]:
        with self._database.write() as connection:
            user = store.take_login_link(connection, hash_of(code), self._now())
        if user is None:
            raise NotSignedIn("This link was used before or is too old.", remedy="Make a new one: narf open")
        return self._new_session(user)

    def new_link(self, user: str) -> str:
        """The code of a link that signs `user` in, once, within 15 minutes."""
        code = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            store.add_login_link(connection, hash_of(code), user, self._now() + LINK_LENGTH)
        return code

    def sign_out(self, secret: str) -> None:
        with self._database.write() as connection:
            store.remove_sessions(connection, id_hash=hash_of(secret))
        self._known.clear()

    def _new_session(self, user: str) -> tuple[Session, str]:
        secret, now = secrets.token_urlsafe(32), self._now()
        session = Session(
            id_hash=hash_of(secret), user=user, csrf=secrets.token_urlsafe(24), created_at=now, expires_at=now + SESSION_LENGTH
        )
        with self._database.write() as connection:
            store.add_session(connection, session)
            record(connection, now, user, "sign_in", "user", user)
        return session, secret

    def _check_tries(self, key: str) -> None:
        recent = [at for at in self._failures.get(key, ()) if at > self._now() - _TRIES_WINDOW]
        self._failures[key] = recent
        if not recent:
            del self._failures[key]
        if len(recent) >= _TRIES:
            wait = (recent[0] + _TRIES_WINDOW - self._now()).total_seconds()
            raise LimitReached(
                "Too many failed sign-ins.", remedy=f"Wait {wait / 60:.0f} minutes and try again.", retry_after_seconds=max(wait, 1)
            )

    # -- tokens

    def create_token(
        self,
        user: str,
        *,
        name: str,
        by: str,
        role_limit: Role = Role.ADMIN,
        projects_limit: tuple[str, ...] | None = None,
        expires_in: timedelta | None = timedelta(days=90),
        run_id: str | None = None,
        workload_id: str | None = None,
    ) -> tuple[Token, str]:
        """A new token and its secret, which is shown this once and never again."""
        if not 0 < len(name) <= 200:
            raise BadInput("A token has a name of 1 to 200 characters.", field="name")
        secret, now = f"narf_{secrets.token_urlsafe(32)}", self._now()
        token = Token(
            id=new_id("tok"),
            user=user,
            name=name,
            role_limit=role_limit,
            projects=projects_limit,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            run_id=run_id,
            workload_id=workload_id,
        )
        with self._database.write() as connection:
            store.add_token(connection, token, hash_of(secret))
            if workload_id is None:
                record(connection, now, by, "create", "token", token.id, user=user, role_limit=role_limit)
        return token, secret

    def list_tokens(self, user: str | None) -> list[Token]:
        with self._database.read() as connection:
            return store.list_tokens(connection, user)

    def revoke_token(self, token_id: str, *, by: Principal) -> None:
        with self._database.write() as connection:
            token = store.find_token(connection, token_id=token_id)
            if token is None or (token.user != by.user and not by.is_admin):
                raise NotFound("token", token_id)
            store.revoke_tokens(connection, self._now(), token_id=token_id)
            record(connection, self._now(), by.user, "revoke", "token", token_id)
        self._known.clear()

    def revoke_workload(self, workload_id: str) -> None:
        """The tokens that attempts of this workload hold stop working."""
        with self._database.write() as connection:
            store.revoke_tokens(connection, self._now(), workload_id=workload_id)
        self._known.clear()

    # -- who a request speaks for

    def principal_of_token(self, secret: str) -> Principal:
        """Raises NotSignedIn: unknown, revoked or expired. A revocation elsewhere counts within 5 seconds."""
        key = hash_of(secret)
        if cached := self._cached(key):
            return cached
        now = self._now()
        with self._database.read() as connection:
            token = store.find_token(connection, secret_hash=key)
            if token is None or token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
                raise NotSignedIn("This token is unknown, revoked or expired.", remedy="Make a new one: narf token create")
        # Of the same person as most tokens of the last seconds: every trial of a study has one of its own.
        known_at, owner = self._of_user(token.user, "The account of this token is disabled.")
        principal = replace(
            owner, role_limit=token.role_limit, projects_limit=token.projects, run_id=token.run_id, workload_id=token.workload_id
        )
        return self._keep(key, principal, known_at)

    def session(self, secret: str) -> Session:
        """The live session with this secret, its life extended.

        Raises:
            NotSignedIn: there is none, or it has expired.
        """
        with self._database.read() as connection:
            session = store.find_session(connection, hash_of(secret))
        now = self._now()
        if session is None or session.expires_at <= now:
            raise NotSignedIn("The session has ended.", remedy="Sign in again.")
        if session.expires_at - now < SESSION_LENGTH - timedelta(days=1):
            with self._database.write() as connection:
                store.extend_session(connection, session.id_hash, now + SESSION_LENGTH)
        return session

    def principal_of_user(self, name: str) -> Principal:
        return self._of_user(name, "This account is disabled.")[1]

    def _of_user(self, name: str, if_disabled: str) -> tuple[datetime, Principal]:
        """The principal, and when it was read."""
        key = f"user {name}"
        if (known := self._known.get(key)) is not None and self._is_fresh(known[0]):
            return known
        now = self._now()
        with self._database.read() as connection:
            user = store.find_user(connection, name)
            roles = projects.roles_of(connection, name)
        if user is None or user.disabled_at is not None:
            raise NotSignedIn(if_disabled, remedy="Ask an admin.")
        return now, self._keep(key, Principal(user=user.name, is_admin=user.is_admin, roles=roles), now)

    def forget_cached(self) -> None:
        """After a change of roles: the next request reads them anew."""
        self._known.clear()

    def _cached(self, key: str) -> Principal | None:
        found = self._known.get(key)
        return found[1] if found is not None and self._is_fresh(found[0]) else None

    def _is_fresh(self, read_at: datetime) -> bool:
        return (self._now() - read_at).total_seconds() <= _CACHE_SECONDS

    def _keep(self, key: str, principal: Principal, read_at: datetime) -> Principal:
        with self._lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = (read_at, principal)
        return principal


def require_admin(principal: Principal) -> None:
    if not principal.is_admin or principal.role_limit is not Role.ADMIN:
        raise NotAllowed("Only an admin may do this.", remedy="Ask an admin of this platform.")
