"""Where the people of a benchmark are: all within a radius of each other, but for a few who come and go."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from nearby.channels import location_channel
from nearby.model import UserId
from nearby.record import LocationRecord, pack

CENTRE_DEG = (41.88, -87.63)
HALF_WIDTH_DEG = 0.02
"""Of the square in which they live: 2.2 km to the north, 1.7 km to the east."""
STEP_DEG = 0.002
FAR_DEG = 0.5
"""Where a comer and goer is every other time: 55 km to the north."""


@dataclass(slots=True)
class Town:
    """``users`` and where each of them lives. Every ``comers_every``-th comes and goes; 0 for none.

    ``log`` remembers, if it is a list, whatever was published: user, instant in milliseconds, latitude, longitude.
    """

    users: Sequence[UserId]
    comers_every: int = 0
    log: list[tuple[int, int, float, float]] | None = None
    homes: list[tuple[float, float]] = field(init=False)
    _told_ms: list[int] = field(init=False)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(11)
        lat, lon = CENTRE_DEG
        self.homes = [(lat + self._jitter(HALF_WIDTH_DEG), lon + self._jitter(HALF_WIDTH_DEG)) for _ in self.users]
        self._told_ms = [0] * len(self.users)

    def _jitter(self, width: float) -> float:
        return self._random.uniform(-width, width)

    def report(self, user: int) -> bytes:
        """Return the message by which ``user`` reports being at home."""
        lat, lon = self.homes[user]
        return b'{"type":"location","lat":%.6f,"lon":%.6f}' % (lat, lon)

    def record(self, user: int) -> tuple[bytes, bytes]:
        """Return the channel of ``user`` and a record that they are near home, as of now."""
        told_ms = self._told_ms[user]
        now_ms = self._told_ms[user] = max(time.time_ns() // 1_000_000, told_ms + 1)
        lat, lon = self.homes[user]
        lat, lon = round(lat + self._jitter(STEP_DEG), 7), round(lon + self._jitter(STEP_DEG), 7)
        if self.comers_every and user % self.comers_every == 0 and self._random.random() < 0.5:
            lat += FAR_DEG
        if self.log is not None:
            self.log.append((user, now_ms, lat, lon))
        record = LocationRecord(now_ms * 1000, now_ms, lat, lon)
        return location_channel(self.users[user]), pack(record)
