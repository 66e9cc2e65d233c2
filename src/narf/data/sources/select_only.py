"""Whether a text is one SQL statement that reads, as far as its words tell.

The databases are asked to refuse writes as well (a read-only transaction); this is to say so early and in words.
"""

from __future__ import annotations

import re

from narf.domain.errors import BadInput

_READS = {"select", "with", "values", "table", "from"}
_WRITES = {"insert", "update", "delete", "merge"}  # inside WITH x AS (...)
_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*) | (?P<block>/\*.*?\*/) | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$)
    | (?P<text>'(?:[^']|'')*') | (?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]) | (?P<word>[A-Za-z_][A-Za-z_0-9$]*)
    | (?P<end>;) | (?P<other>\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


def check_select(query: str) -> str:
    """`query` without a closing semicolon, if it is one statement that reads.

    Raises:
        BadInput: it is not.
    """
    words: list[str] = []
    ended = False
    opening = ""  # the last token that was no space, to tell "AS (INSERT" from a column named insert
    for token in _TOKEN.finditer(query):
        kind = token.lastgroup if token.lastgroup != "tag" else "dollar"
        if kind in ("line", "block") or (kind == "other" and token.group().isspace()):
            continue
        if ended:
            raise _no_select(query, "it is more than one statement")
        ended = kind == "end"
        if kind == "word":
            word = token.group().lower()
            if (not words and word not in _READS) or (word in _WRITES and opening == "(") or word == "into":
                raise _no_select(query, f"it says {word.upper()}")
            words.append(word)
        opening = token.group()
    if not words:
        raise _no_select(query, "it is empty")
    return query.strip().rstrip(";").strip()


def _no_select(query: str, why: str) -> BadInput:
    shown = " ".join(query.split())[:80]
    return BadInput(
        f"The query {shown!r} does not only read: {why}.",
        remedy="Write one SELECT. Narf changes nothing at a source.",
        field="query",
        code="not_select",
    )
