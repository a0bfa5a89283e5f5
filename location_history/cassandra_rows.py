"""What the history's table takes and gives: days, rows, and the values of statements as bytes. Pure.

The driver could make the bytes from Python's values, at three times the price: it asks every value of every row for its
type. The formats are those of the native protocol (version 5, §6): big-endian, a date as days since the epoch plus
2^31, and a value of a user-defined type as its fields, each with its length before it, -1 for null.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from location_history.entries import user_bytes
from nearby.model import HistoryPoint, Location, UserId

DAY_MS = 86_400_000
BATCH_SIZES = (50, 20, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)
"""How many rows of one partition a prepared statement may take, greatest first."""

_LONG = struct.Struct(">q")
_INT = struct.Struct(">i")
_DATE = struct.Struct(">I")
_ACCURACY, _SPEED, _HEADING = 1, 2, 4


def _fix_format(known: int) -> struct.Struct:
    optional = "".join("id" if known & flag else "i" for flag in (_ACCURACY, _SPEED, _HEADING))
    return struct.Struct(f">idid{optional}i?")


_FIX = tuple(_fix_format(known) for known in range(8))


class StoredFix(NamedTuple):
    """The columns of one row, in the order in which they are read."""

    recorded_at_ms: int
    lat_deg: float
    lon_deg: float
    accuracy_m: float | None
    speed_mps: float | None
    heading_deg: float | None
    flagged: bool


@dataclass(frozen=True, slots=True)
class Insert:
    """One prepared statement of ``count`` rows, and their values."""

    count: int
    values: list[bytes]


def day_of(instant_ms: int) -> int:
    """Return the day, from 1970 on, in UTC."""
    return instant_ms // DAY_MS


def days(from_ms: int, to_ms: int) -> list[int]:
    """Return the days of [``from_ms``, ``to_ms``), newest first."""
    return list(range(day_of(to_ms - 1), day_of(from_ms) - 1, -1)) if from_ms < to_ms else []


def inserts(points: Sequence[HistoryPoint], retention_ms: int, now_ms: int) -> Iterator[Insert]:
    """Yield the statements that store ``points``; those that have ended by ``now_ms`` are left out."""
    partitions: dict[tuple[UserId, int], list[HistoryPoint]] = {}
    for point in points:
        partitions.setdefault((point.user_id, point.location.recorded_at_ms // DAY_MS), []).append(point)
    for (user_id, day), group in partitions.items():
        key = partition_key(user_id, day)
        rows = [row for point in group if (row := _row(key, point, retention_ms, now_ms)) is not None]
        start = 0
        while start < len(rows):
            count = next(size for size in BATCH_SIZES if size <= len(rows) - start)
            yield Insert(count, [value for row in rows[start : start + count] for value in row])
            start += count


def partition_key(user_id: UserId, day: int) -> tuple[bytes, bytes]:
    """Return the values of ``user_id`` and ``day``.

    Raises:
        ValueError: the user's id is no UUID.
    """
    return user_bytes(user_id), _DATE.pack(day + 2**31)


def bigint(value: int) -> bytes:
    """Return a ``bigint``, or a ``timestamp`` of milliseconds."""
    return _LONG.pack(value)


def integer(value: int) -> bytes:
    """Return an ``int``."""
    return _INT.pack(value)


def point_of(user_id: UserId, row: StoredFix) -> HistoryPoint:
    """Return the point that ``row`` keeps."""
    at = Location(row.lat_deg, row.lon_deg, row.recorded_at_ms, row.accuracy_m, row.speed_mps, row.heading_deg)
    return HistoryPoint(user_id, at, row.flagged)


def _row(key: tuple[bytes, bytes], point: HistoryPoint, retention_ms: int, now_ms: int) -> tuple[bytes, ...] | None:
    """Return user, day, instant, fix, write timestamp and TTL; ``None`` if the point has ended."""
    at = point.location
    if point.retention_s is not None:
        retention_ms = min(retention_ms, point.retention_s * 1000)
    remaining_ms = at.recorded_at_ms + retention_ms - now_ms
    if remaining_ms <= 0:
        return None
    # The stream's instant, in microseconds: whatever writes a point late writes it with the same one.
    written_at_us = _LONG.pack(point.accepted_at_ms * 1000)
    return *key, _LONG.pack(at.recorded_at_ms), _fix(point), written_at_us, _INT.pack(-(-remaining_ms // 1000))


def _fix(point: HistoryPoint) -> bytes:
    at = point.location
    if at.accuracy_m is not None and at.speed_mps is not None and at.heading_deg is not None:  # as most phones send
        return _FIX[7].pack(
            8, at.lat_deg, 8, at.lon_deg, 8, at.accuracy_m, 8, at.speed_mps, 8, at.heading_deg, 1, point.flagged
        )
    known = 0
    fields: list[float] = [8, at.lat_deg, 8, at.lon_deg]
    for flag, value in ((_ACCURACY, at.accuracy_m), (_SPEED, at.speed_mps), (_HEADING, at.heading_deg)):
        if value is None:
            fields.append(-1)
        else:
            known |= flag
            fields += (8, value)
    return _FIX[known].pack(*fields, 1, point.flagged)
