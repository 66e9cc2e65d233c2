"""Who may call: tokens are checked with the control plane and remembered for seconds.

While the control plane is away, a token that was good keeps working for some minutes: an outage there must not
stop predictions. A token that was never seen is then refused as unavailable, not as wrong.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from narf.serving.http.message import Response, problem

FRESH_SECONDS = 5.0
STALE_SECONDS = 300.0
_MOST_KNOWN = 10_000
_ROLES = {"viewer": 0, "developer": 1, "maintainer": 2, "admin": 3}
_CALLS = _ROLES["developer"]  # the least role that may call an endpoint


@dataclass(frozen=True, slots=True)
class Caller:
    """roles: project -> role; for an admin, "" -> role for all projects."""

    user: str
    roles: dict[str, str]
    projects: tuple[str, ...] | None = None

    def role_in(self, project: str) -> int:
        if self.projects is not None and project not in self.projects:
            return -1
        return max(_ROLES.get(self.roles.get(project, ""), -1), _ROLES.get(self.roles.get("", ""), -1))


@dataclass(frozen=True, slots=True)
class Decision:
    """response: the refusal, None to go on."""

    response: Response | None = None


GO_ON = Decision()
# None: there is no such caller. Raises ConnectionError: nobody to ask.
Ask = Callable[[bytes], Awaitable[Caller | None]]


class Callers:
    """`ask` is awaited for a token that is not known, or was asked about too long ago; each only once at a time."""

    def __init__(self, ask: Ask, start: Callable[[Awaitable[None]], Any], now: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._start, self._now = ask, start, now
        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()
        self._asking: dict[bytes, list[tuple[str, Callable[[Decision], None]]]] = {}

    def check(self, authorization: bytes, project: str, decided: Callable[[Decision], None]) -> None:
        """Calls `decided`, at once where the answer is known. project "": any signed-in caller."""
        if not authorization:
            decided(
                Decision(
                    problem(
                        401,
                        "This needs a token.",
                        remedy="Send Authorization: Bearer TOKEN.",
                        code="not_signed_in",
                        headers={"www-authenticate": "Bearer"},
                    )
                )
            )
            return
        key = hashlib.sha256(authorization).digest()
        found = self._known.get(key)
        if found is not None and self._now() - found[0] < FRESH_SECONDS:
            decided(_decision(found[1], project))
            return
        waiting = self._asking.get(key)
        if waiting is not None:
            waiting.append((project, decided))
            return
        self._asking[key] = [(project, decided)]
        self._start(self._look_up(key, authorization))

    async def _look_up(self, key: bytes, authorization: bytes) -> None:
        decision: Callable[[str], Decision]
        try:
            caller = await self._ask(authorization)
        except ConnectionError:
            old = self._known.get(key)
            if old is not None and old[1] is not None and self._now() - old[0] < STALE_SECONDS:
                stale = old[1]

                def decision(project: str) -> Decision:
                    return _decision(stale, project)
            else:

                def decision(project: str) -> Decision:
                    return Decision(
                        problem(
                            503,
                            "The platform that knows tokens cannot be reached.",
                            remedy="Try again.",
                            code="unavailable",
                            headers={"retry-after": "2"},
                        )
                    )
        else:
            self._known[key] = (self._now(), caller)
            self._known.move_to_end(key)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

            def decision(project: str) -> Decision:
                return _decision(caller, project)

        for project, decided in self._asking.pop(key):
            decided(decision(project))


def _decision(caller: Caller | None, project: str) -> Decision:
    if caller is None:
        return Decision(
            problem(
                401,
                "This token is not valid.",
                remedy="Make a new one: narf token create",
                code="not_signed_in",
                headers={"www-authenticate": "Bearer"},
            )
        )
    if not project:
        return GO_ON
    role = caller.role_in(project)
    if role < 0:  # what may not be seen is not told apart from what does not exist
        return Decision(problem(404, "There is no such endpoint.", remedy="List them: narf endpoints", code="not_found"))
    if role < _CALLS:
        return Decision(
            problem(
                403,
                "Your role may see this endpoint but not call it.",
                remedy="Ask a maintainer of the project for the role developer.",
                code="not_allowed",
            )
        )
    return GO_ON
