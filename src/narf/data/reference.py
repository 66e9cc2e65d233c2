"""References to dataset versions: "digits", "digits@v3", "digits@latest", "digits@approved", "digits@1f9c0a…"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from narf.domain.errors import BadInput
from narf.domain.names import check_name

LATEST = "latest"
_NUMBER = re.compile(r"v([1-9][0-9]{0,8})")
_HASH = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`selector`: "v3", "latest", a tag, or the beginning of a version's id (at least 12 hex digits)."""

    name: str
    selector: str = LATEST

    def __str__(self) -> str:
        return f"{self.name}@{self.selector}"

    @property
    def number(self) -> int | None:
        match = _NUMBER.fullmatch(self.selector)
        return int(match[1]) if match else None

    @property
    def id_prefix(self) -> str | None:
        return self.selector if _HASH.fullmatch(self.selector) else None


def parse_reference(text: str) -> Reference:
    """Raises BadInput: `text` is not NAME or NAME@VERSION."""
    name, at, selector = text.partition("@")
    if at and not selector:
        raise BadInput(f"{text!r} has nothing after the '@'.", remedy="Write NAME@v3, NAME@latest or NAME@TAG.", field="data")
    check_name(name, kind="dataset", field="data")
    if not at or _HASH.fullmatch(selector):
        return Reference(name, selector or LATEST)
    return Reference(name, check_name(selector, kind="version", field="data"))


def check_tag(tag: str) -> str:
    """`tag`, if it can be moved by a person: not what looks like a number, a hash or "latest".

    Raises:
        BadInput: it cannot.
    """
    check_name(tag, kind="tag", field="tag")
    if tag == LATEST or _NUMBER.fullmatch(tag) or _HASH.fullmatch(tag):
        raise BadInput(
            f"{tag!r} means a version already and cannot be a tag.", remedy="Choose a word, as 'approved'.", field="tag", code="bad_name"
        )
    return tag


def variable_of(name: str) -> str:
    """The environment variable that holds the folder of dataset `name` in a program."""
    return "NARF_DATA_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
