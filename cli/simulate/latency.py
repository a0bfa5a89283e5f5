"""A histogram of latencies in fixed memory."""

from __future__ import annotations

from math import ceil, log

_SMALLEST_S = 0.000_01
_GROWTH = 1.02
"""Each bucket is 2 % wider than the one before, so a percentile is at most 2 % too high."""
_BUCKETS = 1 + ceil(log(1000 / _SMALLEST_S) / log(_GROWTH))
"""Up to 1,000 s; what took longer counts as that."""
_LOG_GROWTH = log(_GROWTH)


class LatencyHistogram:
    """Counts of latencies in buckets that grow geometrically, from 10 µs to 1,000 s."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.max_s = 0.0

    def record(self, latency_s: float) -> None:
        """Count one latency, seconds; a negative one as 0."""
        bucket = 0
        if latency_s > _SMALLEST_S:
            bucket = min(_BUCKETS - 1, ceil(log(latency_s / _SMALLEST_S) / _LOG_GROWTH))
        self._counts[bucket] += 1
        self.count += 1
        self.max_s = max(self.max_s, latency_s)

    def percentile_s(self, percent: float) -> float | None:
        """Return a latency, seconds, that ``percent`` of all did not exceed; ``None`` if none was counted."""
        if not self.count:
            return None
        wanted = max(1, ceil(self.count * percent / 100))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(self.max_s, _SMALLEST_S * _GROWTH**bucket)
        raise AssertionError("the buckets hold every count")
