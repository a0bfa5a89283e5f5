"""How evenly a load spreads: over the shards of the real ring, and over gateway processes. Pure.

Two things make it uneven. The ring gives some shards more partitions than others. And users differ: in how often they
report, which is Zipf-distributed, and in how many friends they have, some of whom are celebrities. Of many users the
sum is drawn from a normal distribution with their mean and variance; celebrities are thrown one by one.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nearby.ring import PARTITIONS, Ring

ZIPF_EXPONENT = 1.0
BUSIEST = 15.0
"""The most active report this many times as often as the mean: every 2 s in place of every 30 s."""
_PEOPLE = 2_000
"""Whose activity stands for everybody's."""
_TRIALS = 20
_DRAWS = 10_000
"""Numbers drawn for one spread, about; three trials there are always."""
_SEED = 8


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is connected: a share are ``celebrities`` with ``celebrity_friends``, all others have ``friends``.

    ``own``: what a report costs without any friends, in multiples of what it costs for each of them.
    """

    connections: float
    friends: float
    celebrities: float
    celebrity_friends: float
    own: float

    @property
    def celebrity_count(self) -> int:
        """How many celebrities are connected."""
        return round(self.connections * self.celebrities)


@dataclass(frozen=True, slots=True)
class Spread:
    """The fullest of some servers over their mean: in the middle of some simulated days, and in the worst of them."""

    middle: float
    worst: float


@lru_cache(maxsize=32)
def partition_counts(shards: int) -> tuple[int, ...]:
    """Return how many partitions each of ``shards`` shards carries, by the ring that the system uses."""
    ring = Ring.of(1, {f"shard-{number}": "redis://127.0.0.1:6379" for number in range(1, shards + 1)})
    return tuple(ring.partition_counts().values())


def fullest_over_mean(shards: int) -> float:
    """Return how much more than the mean the fullest of ``shards`` shards carries."""
    return max(partition_counts(shards)) * shards / PARTITIONS


@lru_cache(maxsize=1)
def activity() -> tuple[float, ...]:
    """Return how often people report, in multiples of the mean, Zipf-distributed up to :data:`BUSIEST`."""
    raw = [(rank + 1) ** -ZIPF_EXPONENT for rank in range(_PEOPLE)]
    low, high = 0.0, float(_PEOPLE)
    # What is cut off at the top is given to all: find the factor at which the mean is 1.
    for _ in range(40):
        factor = (low + high) / 2
        mean = sum(min(BUSIEST, value * factor) for value in raw) / _PEOPLE
        low, high = (factor, high) if mean < 1.0 else (low, factor)
    return tuple(min(BUSIEST, value * high) for value in raw)


@lru_cache(maxsize=128)
def shard_spread(crowd: Crowd, shards: int) -> Spread:
    """Return how unevenly ``crowd`` loads ``shards`` shards of the ring."""
    return _spread(crowd, [count / PARTITIONS for count in partition_counts(shards)])


@lru_cache(maxsize=128)
def gateway_spread(crowd: Crowd, processes: int) -> Spread:
    """Return how unevenly ``crowd`` loads ``processes`` gateway processes, among which it is spread at random."""
    return _spread(crowd, [1.0 / processes] * processes)


def _spread(crowd: Crowd, shares: Sequence[float]) -> Spread:
    rng = random.Random(_SEED)  # noqa: S311 - a simulation, the same each time
    trials = max(3, min(_TRIALS, _DRAWS // (len(shares) + crowd.celebrity_count)))
    fullest = [_fullest(crowd, shares, rng) for _ in range(trials)]
    return Spread(statistics.median(fullest), max(fullest))


def _fullest(crowd: Crowd, shares: Sequence[float], rng: random.Random) -> float:
    """Return the load of the fullest bin over the mean, if each person falls into one by ``shares``.

    What a person brings is what a report costs, with all their friends, times how often there is one.
    """
    rates = activity()
    ordinary = crowd.connections - crowd.celebrity_count
    # Of a sum of a Poisson number of people, of whom each brings one of these rates.
    deviation = (sum(rate * rate for rate in rates) / len(rates)) ** 0.5
    loads = [
        max(0.0, ordinary * share + rng.gauss(0.0, deviation * (ordinary * share) ** 0.5)) * (crowd.own + crowd.friends)
        for share in shares
    ]
    for place in rng.choices(range(len(shares)), shares, k=crowd.celebrity_count):
        loads[place] += (crowd.own + crowd.celebrity_friends) * rng.choice(rates)
    mean = sum(loads) / len(loads)
    return max(loads) / mean if mean else 1.0
