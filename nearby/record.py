"""The location record: what the cache stores and pub/sub carries, packed into 34 bytes.

Layout, little-endian, format 1::

    offset  size  field
         0     1  format (1)
         1     1  flags: 1 accuracy known, 2 speed known, 4 heading known
         2     8  version, microseconds (see below)
        10     8  recorded_at, milliseconds since the Unix epoch
        18     4  latitude, 1e-7 degrees
        22     4  longitude, 1e-7 degrees
        26     4  accuracy, metres, IEEE 754 single
        30     2  speed, centimetres per second
        32     2  heading, hundredths of a degree

The version orders the records of one user. The cache assigns it, ``max(previous + 1, server time in
microseconds)``; its script reads and writes bytes 2-17 in place, so a change of this layout changes
that script too. 1e-7 degrees is at most 1.2 cm on the ground, so packing moves a point by 6 mm at most.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from nearby.errors import RecordError
from nearby.geo import cell_centre
from nearby.model import Location

FORMAT = 1
SIZE_BYTES = 34
_DEGREE_UNITS = 10_000_000
_ACCURACY, _SPEED, _HEADING = 1, 2, 4
_STRUCT = struct.Struct("<BBqqiifHH")
assert _STRUCT.size == SIZE_BYTES


class LocationRecord(NamedTuple):
    """A location with the version that orders it among the records of its user.

    ``version`` is in microseconds and only ever compared; 0 means that the cache has not seen it yet.
    A named tuple, because the hot path makes one per received message: it costs a third of a dataclass.
    """

    version: int
    recorded_at_ms: int
    lat_deg: float
    lon_deg: float
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None

    @classmethod
    def of(cls, location: Location, version: int = 0) -> LocationRecord:
        """Return the record of ``location`` under ``version`` (microseconds)."""
        return cls(
            version,
            location.recorded_at_ms,
            location.lat_deg,
            location.lon_deg,
            location.accuracy_m,
            location.speed_mps,
            location.heading_deg,
        )

    @property
    def location(self) -> Location:
        """The fix that this record carries."""
        return Location(
            self.lat_deg, self.lon_deg, self.recorded_at_ms, self.accuracy_m, self.speed_mps, self.heading_deg
        )


def pack(record: LocationRecord) -> bytes:
    """Return ``record`` as :data:`SIZE_BYTES` bytes.

    Raises:
        RecordError: a field does not fit its place; the message layer refuses such values long before.
    """
    flags = accuracy = speed = heading = 0
    try:
        if record.accuracy_m is not None:
            flags |= _ACCURACY
            accuracy = record.accuracy_m  # type: ignore[assignment]  # the struct takes any real number
        if record.speed_mps is not None:
            flags |= _SPEED
            speed = round(record.speed_mps * 100)
        if record.heading_deg is not None:
            flags |= _HEADING
            heading = round(record.heading_deg * 100) % 36_000
        return _STRUCT.pack(
            FORMAT,
            flags,
            record.version,
            record.recorded_at_ms,
            round(record.lat_deg * _DEGREE_UNITS),
            round(record.lon_deg * _DEGREE_UNITS),
            accuracy,
            speed,
            heading,
        )
    except (struct.error, OverflowError, ValueError) as error:
        raise RecordError(f"field out of range: {error}") from error


def approximate(record: LocationRecord) -> LocationRecord:
    """Return ``record`` as those see it who may know it to a kilometre: at the centre of its cell, and no more.

    The instant stays: an order needs it, and whoever is told of a new cell sees the time by that.
    """
    return LocationRecord(record.version, record.recorded_at_ms, *cell_centre(record.lat_deg, record.lon_deg))


def unpack(data: bytes) -> LocationRecord:
    """Return the record packed in ``data``.

    Raises:
        RecordError: wrong size or an unknown format, as a newer process might write during a rolling upgrade.
    """
    try:
        fmt, flags, version, recorded_at_ms, lat, lon, accuracy, speed, heading = _STRUCT.unpack(data)
    except struct.error as error:
        raise RecordError(f"{len(data)} bytes instead of {SIZE_BYTES}") from error
    if fmt != FORMAT:
        raise RecordError(f"unknown format {fmt}")
    return LocationRecord(
        version,
        recorded_at_ms,
        lat / _DEGREE_UNITS,
        lon / _DEGREE_UNITS,
        accuracy if flags & _ACCURACY else None,
        speed / 100 if flags & _SPEED else None,
        heading / 100 if flags & _HEADING else None,
    )


def with_version(data: bytes, version: int) -> bytes:
    """Return the packed record ``data`` under another ``version`` (microseconds)."""
    return data[:2] + version.to_bytes(8, "little", signed=True) + data[10:]
