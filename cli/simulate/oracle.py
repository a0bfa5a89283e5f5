"""The truth by brute force, from the reports that were sent. Pure; it shares no code with the server but the geometry.

People are numbered from 0. Instants are Unix milliseconds, distances metres.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from nearby.geo import HYSTERESIS, metres_of, squared_chord, unit_vector

REPORTS_KEPT = 64
"""Reports remembered per person; an entry older than that many reports counts as unknown."""
POSITION_TOLERANCE_DEG = 2e-7
"""Positions travel in units of 1e-7 degrees."""
DISTANCE_TOLERANCE_M = 1.0
EDGE_TOLERANCE_M = 0.05
"""Closer to a threshold than this, rounding decides on which side a pair is: either answer is right."""

Vector = tuple[float, float, float]


@dataclass(slots=True)
class Report:
    """One report as it was sent. ``sent_s`` is on the monotonic clock; ``acked_s`` is ``None`` until acknowledged."""

    recorded_at_ms: int
    lat_deg: float
    lon_deg: float
    sent_s: float
    acked_s: float | None = None
    vector: Vector = field(init=False)

    def __post_init__(self) -> None:
        self.vector = unit_vector(self.lat_deg, self.lon_deg)


def between_m(a: Vector, b: Vector) -> float:
    """Return the distance between two unit vectors, metres."""
    return metres_of(squared_chord(a, b))


class Reports:
    """The newest reports of each person, in bounded memory."""

    def __init__(self, people: int) -> None:
        self._by_time: list[dict[int, Report]] = [{} for _ in range(people)]
        self._in_order: list[deque[Report]] = [deque() for _ in range(people)]
        self._last_acked: list[Report | None] = [None] * people
        self._believable: list[Sequence[Vector]] = [()] * people

    def sent(self, person: int, report: Report) -> None:
        """Remember a report, newer than those before it."""
        order = self._in_order[person]
        order.append(report)
        self._by_time[person][report.recorded_at_ms] = report
        if len(order) > REPORTS_KEPT:
            del self._by_time[person][order.popleft().recorded_at_ms]
        self._believe(person)

    def acked(self, person: int, recorded_at_ms: int, now_s: float) -> Report | None:
        """Note that a report was acknowledged and return it, or ``None`` if it is not among the remembered."""
        report = self._by_time[person].get(recorded_at_ms)
        if report is None or report.acked_s is not None:
            return report
        report.acked_s = now_s
        last = self._last_acked[person]
        if last is None or last.recorded_at_ms < recorded_at_ms:
            self._last_acked[person] = report
        self._believe(person)
        return report

    def of(self, person: int, recorded_at_ms: int) -> Report | None:
        """Return the report of that instant."""
        return self._by_time[person].get(recorded_at_ms)

    def last_acked(self, person: int) -> Report | None:
        """Return the newest acknowledged report."""
        return self._last_acked[person]

    def settled(self, person: int) -> bool:
        """Whether the newest report is acknowledged."""
        order = self._in_order[person]
        return bool(order) and order[-1] is self._last_acked[person]

    def believable(self, person: int) -> Sequence[Vector]:
        """Return the positions by which the server may be computing now.

        The newest acknowledged one, the one before it, whose last distances may still be on their way, and
        those that are not acknowledged yet.
        """
        return self._believable[person]

    def _believe(self, person: int) -> None:
        newest_first: list[Vector] = []
        acked = 0
        for report in reversed(self._in_order[person]):
            newest_first.append(report.vector)
            acked += report.acked_s is not None
            if acked == 2:
                break
        self._believable[person] = newest_first


Wrong = Literal["stranger_shown", "unknown_location", "went_back", "wrong_position", "wrong_distance"]


class EntryJudge:
    """Says what is wrong with a friend entry on somebody's screen."""

    def __init__(self, friends: Sequence[Set[int]], reports: Reports) -> None:
        self._friends = friends
        self._reports = reports

    def judge(
        self,
        viewer: int,
        friend: int | None,
        before_ms: int,
        shown: tuple[float, float, int, int],
    ) -> tuple[Wrong | None, Report | None]:
        """Judge an entry: ``shown`` is latitude, longitude, distance in metres and ``updated_at_ms``.

        ``friend`` is ``None`` for somebody who is not of the crowd, ``before_ms`` what the viewer saw of the friend
        last (0: nothing). Returns what is wrong, if anything, and the report that the entry shows, if it is known.
        """
        lat_deg, lon_deg, distance_m, updated_at_ms = shown
        if friend is None or friend not in self._friends[viewer]:
            return "stranger_shown", None
        report = self._reports.of(friend, updated_at_ms)
        if updated_at_ms < before_ms:
            return "went_back", report
        if report is None:
            return "unknown_location", None
        if max(abs(lat_deg - report.lat_deg), abs(lon_deg - report.lon_deg)) > POSITION_TOLERANCE_DEG:
            return "wrong_position", report
        for own in self._reports.believable(viewer):
            if abs(between_m(own, report.vector) - distance_m) <= DISTANCE_TOLERANCE_M:
                return None, report
        return "wrong_distance", report


def must_show(distance_m: float, radius_m: float) -> bool | None:
    """Whether a friend that far must be on the screen, must not be, or (``None``) may be, by hysteresis or rounding."""
    if distance_m <= radius_m - EDGE_TOLERANCE_M:
        return True
    if distance_m > radius_m * HYSTERESIS + EDGE_TOLERANCE_M:
        return False
    return None


Change = Literal["enter", "leave"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What one report must bring about.

    ``changes`` are (viewer, friend, change); ``refreshed`` the viewers to whom the reporter's new location is shown;
    ``unsure`` the (viewer, friend) pairs too close to a threshold to tell.
    """

    changes: tuple[tuple[int, int, Change], ...]
    refreshed: tuple[int, ...]
    unsure: tuple[tuple[int, int], ...]


class CrossingOracle:
    """Who is on whose screen, report by report, with hysteresis: in at <= radius, out at > 1.1 radius."""

    def __init__(self, friends: Sequence[Set[int]], radius_m: float) -> None:
        self._friends = friends
        self._radius_m = radius_m
        self._positions: dict[int, Vector] = {}
        self._inside: set[tuple[int, int]] = set()

    def report(self, person: int, lat_deg: float, lon_deg: float) -> Expected:
        """Move ``person`` and return what that must change; unsure pairs stay as they were (see :meth:`adopt`)."""
        here = self._positions[person] = unit_vector(lat_deg, lon_deg)
        changes: list[tuple[int, int, Change]] = []
        refreshed: list[int] = []
        unsure: list[tuple[int, int]] = []
        for other in sorted(self._friends[person]):
            there = self._positions.get(other)
            if there is None:
                continue
            distance_m = between_m(here, there)
            for pair in ((other, person), (person, other)):
                change = self._change(pair, distance_m)
                if change == "unsure":
                    unsure.append(pair)
                elif change is not None:
                    changes.append((*pair, change))
                    self.adopt(pair, shown=change == "enter")
            if (other, person) in self._inside and (other, person) not in unsure:
                refreshed.append(other)
        return Expected(tuple(changes), tuple(refreshed), tuple(unsure))

    def inside(self, viewer: int, friend: int) -> bool:
        """Whether ``friend`` must be on the screen of ``viewer`` now."""
        return (viewer, friend) in self._inside

    def adopt(self, pair: tuple[int, int], *, shown: bool) -> None:
        """Take over whether the friend of a (viewer, friend) pair is shown."""
        (self._inside.add if shown else self._inside.discard)(pair)

    def _change(self, pair: tuple[int, int], distance_m: float) -> Change | Literal["unsure"] | None:
        inside = pair in self._inside
        threshold_m = self._radius_m * HYSTERESIS if inside else self._radius_m
        if abs(distance_m - threshold_m) < EDGE_TOLERANCE_M:
            return "unsure"
        if inside == (distance_m <= threshold_m):
            return None
        return "leave" if inside else "enter"
