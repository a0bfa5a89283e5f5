"""Cursors of lists: opaque to clients, a position in the list's order to us."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from api.problems import invalid_request

T = TypeVar("T")


def encode_cursor(position: object) -> str:
    """Return ``position``, anything that JSON can say, as text for a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[T]) -> T:
    """Return the position of type ``kind`` in ``cursor``.

    Raises:
        Problem: 422, it is none of ours.
    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise invalid_request("cursor: not one that a list has returned") from error
