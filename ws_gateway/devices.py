"""Several devices of one user: which of them is the user's live location. Pure.

A phone in the street and a tablet at home both report. Taking turns would throw the user about on the maps of
their friends, so one device is the source, and the others' fixes go to the history only. Devices on other gateways
are heard of through the user's own location channel; the last one heard of is the source, wherever it is. So the
gateways agree as soon as they have heard of each other, which takes one publish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from nearby.model import Location

D = TypeVar("D")

STICKY_MS = 120_000
"""A source not heard of for this long is none."""
FRESHER_MS = 60_000
"""A fix this much newer than the source's last one wins: the source has missed its reports."""
MORE_ACCURATE_RATIO, MORE_ACCURATE_BY_M = 0.5, 30.0
"""A fix with at most half the error, and 30 m less, wins: satellites against the address of a router."""


@dataclass(frozen=True, slots=True)
class LiveFix(Generic[D]):
    """The fix that friends see. ``source`` is the device it came from, ``None`` for one on another gateway."""

    location: Location
    source: D | None
    heard_at_ms: int


class Devices(Generic[D]):
    """The connected devices of one user, the oldest connection first."""

    __slots__ = ("connected", "live")

    def __init__(self) -> None:
        self.connected: list[D] = []
        self.live: LiveFix[D] | None = None

    def left(self, device: D) -> None:
        """Forget ``device``. If it was the source there is none now: the next fix wins.

        Its last fix is still known, or its publish, on the way back to us, would be taken for one from elsewhere.
        """
        self.connected.remove(device)
        if self.live is not None and self.live.source is device:
            self.live = LiveFix(self.live.location, None, self.live.heard_at_ms - STICKY_MS)

    def wins(self, device: D, location: Location, now_ms: int, *, first: bool) -> bool:
        """Whether a fix of ``device`` should become the user's live location.

        ``first``: the device has not reported on this connection. It has just come into somebody's hands, or has
        changed its network and is the source itself, so it wins unless the source is clearly more accurate.
        """
        live = self.live
        if live is None or live.source is device or now_ms - live.heard_at_ms >= STICKY_MS:
            return True
        if location.recorded_at_ms - live.location.recorded_at_ms >= FRESHER_MS:
            return True
        if _more_accurate(location, live.location):
            return True
        return first and not _more_accurate(live.location, location)

    def took_of_one_gone(self, location: Location, now_ms: int) -> bool:
        """Note the fix that the cache took of a device that has left meanwhile, and so is no source."""
        return self.took(None, location, now_ms - STICKY_MS)

    def took(self, device: D | None, location: Location, now_ms: int) -> bool:
        """Note the fix that the cache took, of ``device`` or ``None`` for one elsewhere; return whether it is news."""
        live = self.live
        if live is not None and location.recorded_at_ms <= live.location.recorded_at_ms:
            return False
        self.live = LiveFix(location, device, now_ms)
        return True


def _more_accurate(one: Location, other: Location) -> bool:
    if one.accuracy_m is None or other.accuracy_m is None:
        return False
    return (
        one.accuracy_m <= other.accuracy_m * MORE_ACCURATE_RATIO
        and other.accuracy_m - one.accuracy_m >= MORE_ACCURATE_BY_M
    )
