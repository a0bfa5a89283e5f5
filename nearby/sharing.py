"""How exactly an owner lets a viewer see them: the one place that decides the tier, from all there is to say. Pure.

Every part (the rule for that friend, the rule of each circle they are in, the switch for everyone, each weekly
window) sets an upper bound, and **the lowest bound holds**. So a part that is added can only narrow what is seen,
none can widen what another one narrows, and the order of the parts does not matter.

What the owner says about one friend does not depend on the time zone and changes finitely often, so
:func:`plan_of` puts it into a :class:`TierPlan` once and for all. What they say to everyone, :func:`ceiling` decides
at an instant. Gateways hold both and need nobody's clock but their own: a change is due at its instant, not when
somebody tells of it.

Instants are milliseconds since the Unix epoch. ``until_ms`` of an answer is the next instant at which it *may* be
another one, ``None`` if it holds for good.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

DAY_MS = 86_400_000
MINUTES_PER_DAY = 1440


class Tier(enum.IntEnum):
    """How exactly somebody is seen, in order: of two bounds the lower one holds."""

    OFF = 0
    APPROXIMATE = 1
    EXACT = 2

    @property
    def label(self) -> str:
        """The tier as REST and the database name it."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Tier:
        """Return the tier of ``label``; :exc:`KeyError` where there is none."""
        return cls[label.upper()]


class Reason(enum.Enum):
    """What sets the tier in force; the values are REST's. Of several equal bounds the first one listed here."""

    PAUSED = "paused"
    WINDOW = "window"
    CIRCLE = "circle"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier in force, the next instant at which another one may be, and what sets it."""

    tier: Tier
    until_ms: int | None
    reason: Reason


# ------------------------------------------------------------------------------------- towards one friend


@dataclass(frozen=True, slots=True)
class Rule:
    """What an owner says about one friend: ``standing``, but until ``until_ms`` rather ``meanwhile``.

    ``openly`` lets the friend know when it is off; otherwise it looks as if the owner had gone offline.
    """

    standing: Tier = Tier.EXACT
    meanwhile: Tier | None = None
    until_ms: int | None = None
    openly: bool = False

    def at(self, now_ms: int) -> Tier:
        """Return the bound that this rule sets at ``now_ms``."""
        if self.meanwhile is None or (self.until_ms is not None and self.until_ms <= now_ms):
            return self.standing
        return self.meanwhile


@dataclass(frozen=True, slots=True)
class CircleRule:
    """What an owner says about a circle of friends: at most ``tier`` until ``until_ms``, then nothing."""

    tier: Tier
    until_ms: int | None = None

    def at(self, now_ms: int) -> Tier:
        """Return the bound that this rule sets at ``now_ms``."""
        return Tier.EXACT if self.until_ms is not None and self.until_ms <= now_ms else self.tier


class TierPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that an owner says about one friend, over time: ``tier``, and from each instant of ``later`` on another.

    ``later`` ascends. ``openly``: when it is off, the friend may know.
    """

    tier: Tier = Tier.EXACT
    later: tuple[tuple[int, Tier], ...] = ()
    openly: bool = False

    def at(self, now_ms: int) -> Tier:
        """Return the tier at ``now_ms``."""
        tier = self.tier
        for from_ms, then in self.later:
            if from_ms > now_ms:
                break
            tier = then
        return tier

    def until_ms(self, now_ms: int) -> int | None:
        """Return the next instant after ``now_ms`` at which the tier changes."""
        return next((from_ms for from_ms, _ in self.later if from_ms > now_ms), None)


EXACT = TierPlan()
"""The plan of a friend about whom nothing special was said. Most are this very object, which costs nothing to send."""


def plan_of(rule: Rule, circles: Iterable[CircleRule], now_ms: int) -> TierPlan:
    """Return what ``rule`` and ``circles`` say together from ``now_ms`` on."""
    parts: list[Rule | CircleRule] = [rule, *circles]
    changes_ms = sorted({part.until_ms for part in parts if part.until_ms is not None and part.until_ms > now_ms})
    first = last = min(part.at(now_ms) for part in parts)
    later = []
    for change_ms in changes_ms:
        tier = min(part.at(change_ms) for part in parts)
        if tier is not last:
            later.append((change_ms, tier))
        last = tier
    openly = rule.openly and (first is Tier.OFF or any(tier is Tier.OFF for _, tier in later))
    plan = TierPlan(first, tuple(later), openly)
    return EXACT if plan == EXACT else plan


# ------------------------------------------------------------------------------------- towards everyone


class Window(msgspec.Struct, frozen=True):
    """A time of the week during which at most ``tier`` is shared, by the wall clocks of the owner's time zone.

    On each of ``days`` (0 is Monday) from ``start_minute`` after midnight, inclusive, to ``end_minute``, exclusive;
    to that minute of the next day where it is not after ``start_minute``.
    """

    days: tuple[Annotated[int, msgspec.Meta(ge=0, le=6)], ...]
    start_minute: Annotated[int, msgspec.Meta(ge=0, lt=MINUTES_PER_DAY)]
    end_minute: Annotated[int, msgspec.Meta(ge=0, le=MINUTES_PER_DAY)]
    tier: Tier

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether this wall-clock time is inside."""
        if self.start_minute < self.end_minute:
            return weekday in self.days and self.start_minute <= minute < self.end_minute
        if weekday in self.days and minute >= self.start_minute:
            return True
        return (weekday - 1) % 7 in self.days and minute < self.end_minute


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an owner says to everyone besides their switch: when a pause ends by itself, and weekly windows.

    ``paused_until_ms`` means nothing while the switch is on; ``None``: paused until resumed.
    """

    paused_until_ms: int | None = None
    windows: tuple[Window, ...] = ()
    time_zone: str = "UTC"


NO_LIMITS = Limits()
"""Most owners' limits are this very object."""


def shares(switched_on: bool, paused_until_ms: int | None, now_ms: int) -> bool:
    """Whether a switch in this state lets anything through at ``now_ms``."""
    return switched_on or (paused_until_ms is not None and paused_until_ms <= now_ms)


def ceiling(switched_on: bool, limits: Limits, now_ms: int) -> Decision:
    """Return the bound that an owner sets for everyone at ``now_ms``. Without any: exact, by the friend's rule."""
    if not shares(switched_on, limits.paused_until_ms, now_ms):
        return Decision(Tier.OFF, limits.paused_until_ms, Reason.PAUSED)
    if not limits.windows:
        return Decision(Tier.EXACT, None, Reason.RULE)
    return _within_windows(limits.windows, limits.time_zone, now_ms)


def is_time_zone(name: str) -> bool:
    """Whether ``name`` is a time zone of the IANA database that this process knows."""
    return _zone(name) is not None


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo | None:
    """Return a zone, read from a file of a few kilobytes when first asked for; more than there are are remembered."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _within_windows(windows: Sequence[Window], time_zone: str, now_ms: int) -> Decision:
    zone = _zone(time_zone)
    if zone is None:  # known where it was set, and not here: when in doubt, nothing is shared
        return Decision(Tier.OFF, None, Reason.WINDOW)
    local = _local(now_ms, zone)
    weekday, minute = local.weekday(), local.hour * 60 + local.minute
    tier = min((window.tier for window in windows if window.covers(weekday, minute)), default=Tier.EXACT)
    reason = Reason.RULE if tier is Tier.EXACT else Reason.WINDOW
    return Decision(tier, _next_boundary_ms(windows, zone, now_ms), reason)


def _local(instant_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(instant_ms // 1000, UTC).astimezone(zone)


def _next_boundary_ms(windows: Sequence[Window], zone: ZoneInfo, now_ms: int) -> int:
    """Return the next instant, at most a day ahead, at which a window may begin or end.

    Where the wall clocks are put forward or back, any window may: the clocks may skip its beginning.
    """
    until_ms = min(
        (instant_ms for instant_ms in _boundaries_ms(windows, zone, now_ms) if instant_ms > now_ms),
        default=now_ms + DAY_MS,
    )
    until_ms = min(until_ms, now_ms + DAY_MS)
    offset = _local(now_ms, zone).utcoffset()
    if _local(until_ms, zone).utcoffset() == offset:
        return until_ms
    before_ms = now_ms
    while until_ms - before_ms > 1:
        middle_ms = (before_ms + until_ms) // 2
        if _local(middle_ms, zone).utcoffset() == offset:
            before_ms = middle_ms
        else:
            until_ms = middle_ms
    return until_ms


def _boundaries_ms(windows: Sequence[Window], zone: ZoneInfo, now_ms: int) -> Iterator[int]:
    """Yield when the wall clocks show a beginning or an end, today or tomorrow; twice where an hour repeats."""
    minutes = {window.start_minute for window in windows} | {window.end_minute for window in windows}
    midnight = _local(now_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for minute in minutes:
        for day in (0, 1):
            wall = midnight + timedelta(days=day, minutes=minute)
            for fold in (0, 1):
                yield round(wall.replace(tzinfo=zone, fold=fold).timestamp()) * 1000


# --------------------------------------------------------------------------------------------- together


def decide(switched_on: bool, limits: Limits, rule: Rule, circles: Sequence[CircleRule], now_ms: int) -> Decision:
    """Return how exactly the owner of all this lets the friend see them at ``now_ms``."""
    for_all = ceiling(switched_on, limits, now_ms)
    parts: list[Rule | CircleRule] = [*circles, rule]
    ends_ms = [part.until_ms for part in parts if part.until_ms is not None and part.until_ms > now_ms]
    if for_all.until_ms is not None:
        ends_ms.append(for_all.until_ms)
    by_circle = min((circle.at(now_ms) for circle in circles), default=Tier.EXACT)
    by_rule = rule.at(now_ms)
    tier = min(for_all.tier, by_circle, by_rule)
    if tier is by_rule and tier is Tier.EXACT:
        reason = Reason.RULE
    elif tier is for_all.tier:
        reason = for_all.reason
    else:
        reason = Reason.CIRCLE if tier is by_circle else Reason.RULE
    return Decision(tier, min(ends_ms, default=None), reason)
