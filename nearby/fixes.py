"""When a reported fix was taken, and how fast one must have been to get there (protocol §4). Pure."""

from __future__ import annotations

from nearby.geo import distance_m
from nearby.messages import InvalidMessage, LocationMessage, LocationPoint
from nearby.model import Location

MAX_AHEAD_MS = 60_000
MAX_AGE_MS = 7 * 86_400_000
MAX_CLOCK_ERROR_MS = 300_000


def recorded_at(point: LocationMessage | LocationPoint, now_ms: int, seq: int | None = None) -> int:
    """Return when the fix was taken by the server's clock, Unix milliseconds.

    Raises:
        InvalidMessage: ``too_old``, with ``seq``.
    """
    recorded_at_ms = point.recorded_at_ms
    if recorded_at_ms is None:
        return now_ms
    if point.sent_at_ms is not None and abs(now_ms - point.sent_at_ms) > MAX_CLOCK_ERROR_MS:
        recorded_at_ms += now_ms - point.sent_at_ms
    if recorded_at_ms > now_ms + MAX_AHEAD_MS:
        return now_ms
    if recorded_at_ms < now_ms - MAX_AGE_MS:
        raise InvalidMessage("too_old", "recorded more than 7 days ago", seq)
    return recorded_at_ms


def speed_mps(a: Location, b: Location) -> float:
    """Return the least speed in metres per second that leads from ``a`` to ``b``.

    What the two accuracies explain is not counted, and times closer than a second count as a second.
    """
    metres = distance_m(a.lat_deg, a.lon_deg, b.lat_deg, b.lon_deg)
    slack = (a.accuracy_m or 0) + (b.accuracy_m or 0)
    seconds = max(1.0, abs(b.recorded_at_ms - a.recorded_at_ms) / 1000)
    return max(0.0, metres - slack) / seconds
