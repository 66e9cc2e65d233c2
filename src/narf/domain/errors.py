"""Every error a person can meet, in one tree.

NarfError
├── BadInput            the request itself is wrong; nothing was changed
│   ├── NotFound        the object named does not exist (or may not be seen)
│   └── Conflict        it exists already, or its state does not allow this
├── NotAllowed          signed in, but the role does not reach this far
├── NotSignedIn         no valid session or token
├── LimitReached        a quota, rate or size limit; says which and how much
├── Unavailable         a part the request needs cannot be reached now; try again
├── IllegalTransition   a state change that the life cycle does not have (our mistake)
└── MissingExtra        an optional package is not installed; says how to install it
"""

from __future__ import annotations


class NarfError(Exception):
    """An error with a stable `code` for programs, a sentence for people and a `remedy`: what to do now.

    `field` names the input that caused it, where one did, as a dotted path ("resources.gpu").
    """

    code = "error"

    def __init__(self, sentence: str, *, remedy: str = "", code: str | None = None, field: str | None = None) -> None:
        self.sentence, self.remedy, self.field = sentence, remedy, field
        if code is not None:
            self.code = code
        super().__init__(f"{sentence} {remedy}".strip())


class BadInput(NarfError):
    code = "bad_input"


# How to find the one that was meant.
_LISTS = {
    "workload": "Workloads go by their ids. List them: narf ps",
    "run": "Runs go by their ids. List them: narf runs",
    "study": "List them: narf tune --list",
    "endpoint": "List them: narf endpoints",
    "model": "List them: narf models",
    "dataset": "List them: narf data list",
    "source": "List them: narf sources list",
    "experiment": "List them: narf experiments",
    "project": "List them: narf project list",
    "cluster": "List them: narf cluster list",
}


class NotFound(BadInput):
    """`kind` is the noun ("workload"), `name` what was asked for. Without a `remedy` of its own it says how to list such."""

    code = "not_found"

    def __init__(self, kind: str, name: str, *, remedy: str = "") -> None:
        self.kind, self.name = kind, name
        shown = name if len(name) <= 100 else name[:100] + "…"
        super().__init__(f"There is no {kind} {shown!r}.", remedy=remedy or _LISTS.get(kind, ""))


class Conflict(BadInput):
    code = "conflict"


class NotAllowed(NarfError):
    code = "not_allowed"


class NotSignedIn(NarfError):
    code = "not_signed_in"


class LimitReached(NarfError):
    """`retry_after_seconds` is set where waiting helps."""

    code = "limit_reached"

    def __init__(self, sentence: str, *, remedy: str = "", retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(sentence, remedy=remedy)


class Unavailable(NarfError):
    code = "unavailable"


class IllegalTransition(NarfError):
    code = "illegal_transition"

    def __init__(self, subject: str, old: str, new: str) -> None:
        super().__init__(f"{subject} is {old} and cannot become {new}.")


class MissingExtra(NarfError):
    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed.", remedy=f"Install them: pip install 'narf[{extra}]'")
