"""Pages of lists: every list of the API is one of these."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field

from narf.domain.errors import BadInput

Item = TypeVar("Item")
Limit = Annotated[int, Field(ge=1, le=500)]


class Page(BaseModel, Generic[Item]):
    """`next`: the cursor of the following page, null on the last."""

    items: list[Item]
    next: str | None = None


def encode_cursor(*key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """The key that `encode_cursor` was given, of `length` parts.

    Raises:
        BadInput: it is not a cursor of ours.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        key = None
    if not isinstance(key, list) or len(key) != length:
        raise BadInput("The cursor is not one that this list gave.", remedy="Start again without a cursor.", field="cursor")
    return key
