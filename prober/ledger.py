"""Which locations have been sent and not yet been seen. Pure.

A friend is shown at their newest location, so whoever sees one has seen all that were sent before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Pair(NamedTuple):
    """Who sends and who is to see it, by user id."""

    sender: str
    viewer: str


@dataclass(frozen=True, slots=True)
class _Sent:
    recorded_at_ms: int
    at_s: float


class Ledger:
    """Waits for each location at most ``lost_after_s``; times are by one clock of the caller's, seconds."""

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._waiting: dict[Pair, deque[_Sent]] = {}

    def sent(self, pair: Pair, recorded_at_ms: int, now_s: float) -> None:
        """Wait for a location, which must be newer than those before."""
        self._waiting.setdefault(pair, deque()).append(_Sent(recorded_at_ms, now_s))

    def seen(self, pair: Pair, recorded_at_ms: int, now_s: float) -> list[float]:
        """Return how long those took, seconds, that are seen by this, which none was before."""
        waiting = self._waiting.get(pair, deque[_Sent]())
        took_s = []
        while waiting and waiting[0].recorded_at_ms <= recorded_at_ms:
            took_s.append(now_s - waiting.popleft().at_s)
        return took_s

    def lost(self, now_s: float) -> Iterator[Pair]:
        """Yield the pair of each location that was not seen in time, and wait for it no longer."""
        for pair, waiting in self._waiting.items():
            while waiting and now_s - waiting[0].at_s > self._lost_after_s:
                waiting.popleft()
                yield pair
