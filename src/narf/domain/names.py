"""Names and identifiers: what a person may call a thing, and how we name what nobody named."""

from __future__ import annotations

import re
import secrets
import time

from narf.domain.errors import BadInput

# The intersection of what URLs, Kubernetes labels and file names accept without quoting.
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: no i, l, o, u


def check_name(value: str, *, kind: str, field: str = "name") -> str:
    """`value`, if it can name a `kind` (project, dataset, endpoint, ...).

    Raises:
        BadInput: it is empty, longer than 63 characters, or has other characters than a-z 0-9 . _ -
    """
    if not _NAME.fullmatch(value) or ".." in value:
        shown = value if len(value) <= 60 else value[:60] + "…"
        raise BadInput(
            f"{shown!r} cannot name a {kind}.",
            remedy="Use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit.",
            field=field,
            code="bad_name",
        )
    return value


def new_id(prefix: str) -> str:
    """A new identifier: `prefix`-<16 characters>, sortable by time of creation to the millisecond."""
    number = (time.time_ns() // 1_000_000) << 35 | secrets.randbits(35)
    digits = []
    for _ in range(16):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{prefix}-{''.join(reversed(digits))}"
