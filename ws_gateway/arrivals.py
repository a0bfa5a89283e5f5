"""What becomes of clients who have shown a good token: the connect success that operators promise. Pure."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from ws_gateway.histogram import Histogram

PATIENCE_S = 10.0
"""Whoever has gone after longer than this may have gone for it, so that is our fault, too."""
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class ArrivalEnd(StrEnum):
    """``SERVED``: friends are loaded. ``UNAVAILABLE`` and ``FAILED`` are our fault, the others are not."""

    SERVED = "served"
    LEFT = "left"
    NOT_ALLOWED = "not_allowed"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class Arrivals:
    """Counts the ends, and how long those took who were served, seconds."""

    def __init__(self) -> None:
        self.counts: Counter[ArrivalEnd] = Counter()
        self.seconds = Histogram(_BOUNDS_S)

    def ended(self, end: ArrivalEnd, took_s: float) -> None:
        """Count one arrival, which took ``took_s`` seconds."""
        if end is ArrivalEnd.LEFT and took_s > PATIENCE_S:
            end = ArrivalEnd.UNAVAILABLE
        self.counts[end] += 1
        if end is ArrivalEnd.SERVED:
            self.seconds.observe(took_s)
