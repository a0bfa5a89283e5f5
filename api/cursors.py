"""Cursors of lists: opaque to clients, a position in the list's order to us."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query

from api.problems import invalid_request
from nearby.model import MAX_SEQ

T = TypeVar("T")

IdPosition = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f-]{36}\Z")]
"""A position in a list ordered by id."""
Instant = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
"""A position in a list ordered by instant, Unix milliseconds."""
InstantPosition = tuple[Instant, IdPosition]
"""A position in a list ordered by instant (Unix milliseconds) and id."""


Limit = Annotated[int, Query(ge=1, le=200)]
"""How many items a page may have; by default :data:`PAGE_COUNT`."""
PAGE_COUNT = 50
Cursor = Annotated[str | None, Query(max_length=200)]
"""What the page before gave as its ``next_cursor``; ``None`` begins the list."""


def encode_cursor(position: object) -> str | None:
    """Return ``position``, anything that JSON can say, as text for a URL; ``None``, the end of the list, as it is."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[T] | Any) -> T:
    """Return the position of type ``kind`` in ``cursor``.

    Raises:
        Problem: 422, it is none of ours.
    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise invalid_request("cursor: not one that a list has returned") from error
