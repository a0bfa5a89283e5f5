"""When which client is sent away from a gateway that is drained. Pure.

Clients are told to reconnect one after another, over ``count / rate`` seconds with random gaps, and each may take
up to ``after_s`` until it is back elsewhere. Telling all of them at once, each with its own delay, would come to the
same load elsewhere, but a client closes when it is told (protocol §3): the last would be offline for the whole drain.
Who has not left ``grace_s`` later is closed.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

CLOSING_S = 1.0
"""Kept free at the end of the deadline, for close frames to be answered."""
LONGEST_AFTER_S = 1.0
AFTER_SHARE = 0.1
"""``after_s`` is at most this share of the time over which clients are told, so that short drains stay short."""
NOTICE_SHARE = 0.25
GRACE_SHARE = 1 / 3
"""What notice and grace may take of a deadline too short for all that was asked for."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What an operator asked for, by whom and why.

    ``rate_per_s``: clients sent away per second; more where the deadline asks for it.
    ``deadline_s``: from the start to the end of everything. ``notice_s``: from the failing readiness to the first
    client. ``grace_s``: how long a client may take to leave by itself.
    """

    rate_per_s: float
    deadline_s: float
    grace_s: float
    notice_s: float
    actor: str
    reason: str

    def notice_within_deadline_s(self) -> float:
        """Return ``notice_s``, or less where the deadline is too short for it."""
        return min(self.notice_s, NOTICE_SHARE * self.deadline_s)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How ``count`` clients leave; all in seconds, from the first one told."""

    count: int
    spread_s: float
    after_s: float
    grace_s: float

    @property
    def rate_per_s(self) -> float:
        """Clients told per second; 0 where all are told at once."""
        return self.count / self.spread_s if self.spread_s else 0.0

    def eta_s(self, elapsed_s: float) -> float:
        """Return how much longer it will take: until the last client has left by itself, then until it is closed."""
        by_themselves_s = self.spread_s + self.after_s
        end_s = by_themselves_s if elapsed_s < by_themselves_s else by_themselves_s + self.grace_s
        return max(0.0, end_s - elapsed_s)


def schedule(count: int, orders: Orders, left_s: float) -> Schedule:
    """Return how ``count`` clients leave when ``left_s`` seconds are left of the deadline.

    Where that is too short, the grace shrinks to a third of it and the rate rises.
    """
    room_s = max(0.0, left_s - CLOSING_S)
    grace_s = min(orders.grace_s, GRACE_SHARE * room_s)
    spread_s = min(count / orders.rate_per_s, (room_s - grace_s) / (1 + AFTER_SHARE))
    return Schedule(count, spread_s, min(LONGEST_AFTER_S, AFTER_SHARE * spread_s), grace_s)


class Act(enum.Enum):
    """What is done about a client."""

    TELL = "tell"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Step:
    """Do ``act`` about client number ``index``, ``at_s`` seconds after the beginning."""

    at_s: float
    act: Act
    index: int


def steps(plan: Schedule, rng: random.Random) -> list[Step]:
    """Return every step in order of time.

    The clients share the spread evenly, each at a random moment of its own slot: the rate is steady, the gaps are not.
    """
    slot_s = plan.spread_s / max(1, plan.count)
    told = [Step((index + rng.random()) * slot_s, Act.TELL, index) for index in range(plan.count)]
    closed = [Step(step.at_s + plan.after_s + plan.grace_s, Act.CLOSE, step.index) for step in told]
    return sorted(told + closed, key=lambda step: step.at_s)
