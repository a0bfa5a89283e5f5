"""A point as it stands in the stream, and on which of the streams it stands. Pure.

An entry has one field, ``p``; its value, little-endian, format 1::

    offset  size  field
         0     1  format (1)
         1     1  flags: 1 flagged, 2 retention known
         2     4  retention, seconds
         6    16  the user's id
        22    34  the location record (``nearby/record.py``)

Reading and writing entries is most of what a history writer computes, hence one field and no text.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence

import msgspec

from nearby.errors import RecordError
from nearby.model import HistoryPoint, UserId
from nearby.record import LocationRecord, pack, unpack

FIELD = b"p"
FORMAT = 1
_FLAGGED, _RETENTION = 1, 2
_HEAD = struct.Struct("<BBI16s")
assert _HEAD.size == 22

RawEntry = tuple[bytes, Sequence[bytes] | None]
"""An entry as the server gives it: its id and its fields, name, value, …; ``None`` if it was trimmed meanwhile."""


class StreamEntry(msgspec.Struct, frozen=True, gc=False):
    """One point that waits to be stored, under its id in the stream."""

    entry_id: bytes
    point: HistoryPoint


def stream_of(user_id: UserId, streams_count: int) -> int:
    """Return the number of the stream that takes the points of ``user_id``, from 0."""
    return zlib.crc32(user_id.encode()) % streams_count


def stream_key(number: int) -> str:
    """Return the key of stream ``number``."""
    return f"history:{number}"


def stored_key(number: int) -> str:
    """Return the key that counts the acknowledged entries of stream ``number``."""
    return f"history:{number}:stored"


def encode(point: HistoryPoint) -> bytes:
    """Return ``point`` as the value of an entry.

    Raises:
        RecordError: a field does not fit its place, or the user's id is no UUID in its canonical form.
    """
    flags = _FLAGGED if point.flagged else 0
    retention_s = 0
    if point.retention_s is not None:
        flags |= _RETENTION
        retention_s = point.retention_s
    try:
        head = _HEAD.pack(FORMAT, flags, retention_s, user_bytes(point.user_id))
    except (struct.error, ValueError) as error:
        raise RecordError(f"field out of range: {error}") from error
    return head + pack(LocationRecord.of(point.location))


def decode(entry_id: bytes, fields: Sequence[bytes]) -> StreamEntry | None:
    """Return the entry, ``None`` if it is none of ours, or of a format that only newer processes know."""
    if len(fields) != 2 or fields[0] != FIELD:
        return None
    value = fields[1]
    try:
        fmt, flags, retention_s, user = _HEAD.unpack_from(value)
        if fmt != FORMAT:
            return None
        location = unpack(value[22:]).location
    except (struct.error, RecordError):
        return None
    point = HistoryPoint(
        user_of(user),
        location,
        bool(flags & _FLAGGED),
        retention_s if flags & _RETENTION else None,
        instant_ms(entry_id),
    )
    return StreamEntry(entry_id, point)


def instant_ms(entry_id: bytes) -> int:
    """Return when the stream took the entry ``entry_id``, by its server's clock."""
    return int(entry_id.partition(b"-")[0])


def user_bytes(user_id: UserId) -> bytes:
    """Return the 16 bytes of ``user_id``.

    Raises:
        ValueError: it is no UUID.
    """
    return uuid.UUID(user_id).bytes


def user_of(data: bytes) -> UserId:
    """Return the user whose id is these 16 bytes. ``uuid.UUID`` does the same in five times the time."""
    digits = data.hex()
    return UserId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
