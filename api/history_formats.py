"""The history as a file: GPX, GeoJSON, CSV and JSON, piece by piece, so that no file is ever held whole. Pure.

Degrees have seven decimals, the resolution of a location record, and no exponent, which GPX does not know. A file is
the head, the points in as many pieces as one likes, oldest first, and the tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from nearby.model import HistoryPoint

_encode = msgspec.json.Encoder().encode


class FileFormat(Protocol):
    """One format. ``head`` and ``tail`` enclose the pieces."""

    media_type: str
    suffix: str
    head: bytes
    tail: bytes

    def piece(self, points: Sequence[HistoryPoint], *, first: bool) -> bytes:
        """Return ``points`` as they stand in the file; ``first``: no other piece comes before."""


class Gpx:
    """GPX 1.1 (https://www.topografix.com/GPX/1/1/): one track. What GPX has no name for is in extensions."""

    media_type = "application/gpx+xml"
    suffix = "gpx"
    head = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="nearby" '
        b'xmlns="http://www.topografix.com/GPX/1/1" xmlns:nearby="urn:nearby:history:1">\n<trk><trkseg>\n'
    )
    tail = b"</trkseg></trk>\n</gpx>\n"

    def piece(self, points: Sequence[HistoryPoint], *, first: bool) -> bytes:
        """Return ``points`` as track points."""
        return "".join(_track_point(point) for point in points).encode()


def _track_point(point: HistoryPoint) -> str:
    at = point.location
    known = {"accuracy_m": at.accuracy_m, "speed_mps": at.speed_mps, "heading_deg": at.heading_deg}
    told = "".join(f"<nearby:{name}>{value!r}</nearby:{name}>" for name, value in known.items() if value is not None)
    if point.flagged:
        told += "<nearby:flagged>true</nearby:flagged>"
    extensions = f"<extensions>{told}</extensions>" if told else ""
    time = rfc3339(at.recorded_at_ms)
    return f'<trkpt lat="{at.lat_deg:.7f}" lon="{at.lon_deg:.7f}"><time>{time}</time>{extensions}</trkpt>\n'


class GeoJson:
    """GeoJSON (RFC 7946): a collection with a point for each fix."""

    media_type = "application/geo+json"
    suffix = "geojson"
    head = b'{"type":"FeatureCollection","features":[\n'
    tail = b"\n]}\n"

    def piece(self, points: Sequence[HistoryPoint], *, first: bool) -> bytes:
        """Return ``points`` as features."""
        return _joined([_encode(_feature(point)) for point in points], first=first)


def _feature(point: HistoryPoint) -> dict[str, object]:
    at = point.location
    fields = fields_of(point)
    properties = {"time": rfc3339(at.recorded_at_ms), **{n: v for n, v in fields.items() if n not in ("lat", "lon")}}
    geometry = {"type": "Point", "coordinates": [at.lon_deg, at.lat_deg]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


class Csv:
    """CSV (RFC 4180) with a header line; what the device did not say is empty."""

    media_type = "text/csv; charset=utf-8"
    suffix = "csv"
    head = b"time,recorded_at_ms,lat,lon,accuracy_m,speed_mps,heading_deg,flagged\r\n"
    tail = b""

    def piece(self, points: Sequence[HistoryPoint], *, first: bool) -> bytes:
        """Return ``points`` as lines."""
        return "".join(_line(point) for point in points).encode()


def _line(point: HistoryPoint) -> str:
    at = point.location
    known = ("" if value is None else repr(value) for value in (at.accuracy_m, at.speed_mps, at.heading_deg))
    where = f"{at.lat_deg:.7f},{at.lon_deg:.7f},{','.join(known)}"
    return f"{rfc3339(at.recorded_at_ms)},{at.recorded_at_ms},{where},{int(point.flagged)}\r\n"


class Json:
    """The points as in an answer of the API."""

    media_type = "application/json"
    suffix = "json"
    head = b'{"points":[\n'
    tail = b"\n]}\n"

    def piece(self, points: Sequence[HistoryPoint], *, first: bool) -> bytes:
        """Return ``points`` as objects."""
        return _joined([_encode(fields_of(point)) for point in points], first=first)


def _joined(items: Sequence[bytes], *, first: bool) -> bytes:
    return b"" if not items else (b"" if first else b",\n") + b",\n".join(items)


def fields_of(point: HistoryPoint) -> dict[str, object]:
    """Return ``point`` by the API's names; what the device did not say is left out."""
    at = point.location
    fields: dict[str, object] = {"lat": at.lat_deg, "lon": at.lon_deg, "recorded_at_ms": at.recorded_at_ms}
    known = {"accuracy_m": at.accuracy_m, "speed_mps": at.speed_mps, "heading_deg": at.heading_deg}
    return {**fields, **{name: value for name, value in known.items() if value is not None}, "flagged": point.flagged}


def rfc3339(instant_ms: int) -> str:
    """Return a Unix instant in milliseconds as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FORMATS: dict[str, FileFormat] = {"gpx": Gpx(), "geojson": GeoJson(), "csv": Csv()}
"""By the name that a request gives."""
EXPORTED: tuple[FileFormat, ...] = (Json(), Gpx(), GeoJson())
"""What an export holds the history in."""
