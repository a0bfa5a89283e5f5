"""Whether the run met its goals, from the statistics of all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

EXIT_MISSED = 3
"""Locust itself ends with 1 or 2."""

SOCKET = "WS"
SCREEN = "report to screen"
ACK = "report to ack"
CONNECT = "connect"
RECONNECT = "reconnect"
ATTEMPT = "connect attempt"
CLIENT = "LOAD"
LATENESS = "report sent late"
SESSION = "session"
NEVER = "never shown"
"""What is wrong with a report that nobody was shown."""
_APART = {(SCREEN, SOCKET), (CONNECT, SOCKET), (RECONNECT, SOCKET), (ATTEMPT, SOCKET), (LATENESS, CLIENT)}
"""Rows with a goal of their own, or none; all others count as requests that should not fail."""
_TOO_LATE_MS = 100
"""Beyond that the clients wait for a processor themselves, and what they measure is partly their own."""


class Row(Protocol):
    """What was measured of one kind of thing; Locust's, or the dense fleet's."""

    @property
    def num_requests(self) -> int:
        """Return how many there were."""
        ...

    @property
    def num_failures(self) -> int:
        """Return how many of them were bad."""
        ...

    @property
    def max_response_time(self) -> float:
        """Return the worst, milliseconds."""
        ...

    def get_response_time_percentile(self, percent: float) -> float:
        """Return what ``percent`` (0 to 1) of them did not exceed, milliseconds."""
        ...


class Rows(Protocol):
    """All that was measured."""

    @property
    def entries(self) -> Mapping[tuple[str, str], Row]:
        """Return the rows by name and kind."""
        ...


@dataclass(frozen=True, slots=True)
class Goal:
    """At least ``wanted_percent`` of ``count`` must be good. Nothing measured is a goal missed."""

    what: str
    count: int
    good: int
    wanted_percent: float

    @property
    def met(self) -> bool:
        """Whether it was reached; compared as counts, so that rounding hides nothing."""
        return self.count > 0 and self.good * 100 >= self.wanted_percent * self.count

    def __str__(self) -> str:
        measured = f"{100 * self.good / self.count:.3f} % of {self.count}" if self.count else "nothing was measured"
        return f"{'met   ' if self.met else 'MISSED'} {self.what}: {measured}, wanted {self.wanted_percent:g} %"


@dataclass(frozen=True, slots=True)
class Slo:
    """The goals as the command line has them."""

    screen_ms: float
    screen_percent: float
    connect_ms: float
    connect_percent: float
    error_percent: float


def goals(stats: Rows, slo: Slo) -> list[Goal]:
    """Compare the statistics with ``slo``."""
    others = [key for key in stats.entries if key not in _APART]
    return [
        _goal(stats, f"on a friend's screen within {slo.screen_ms:g} ms", [(SCREEN, SOCKET)], slo.screen_percent),
        _goal(
            stats,
            f"connected within {slo.connect_ms:g} ms",
            [(CONNECT, SOCKET), (RECONNECT, SOCKET)],
            slo.connect_percent,
        ),
        _goal(stats, "requests and reports without an error", others, 100 - slo.error_percent),
    ]


def lines(stats: Rows, judged: Iterable[Goal]) -> list[str]:
    """Return the verdict in words."""
    rows = stats.entries  # asking the statistics for a row makes one
    screen, back, lateness = rows.get((SCREEN, SOCKET)), rows.get((RECONNECT, SOCKET)), rows.get((LATENESS, CLIENT))
    said = [str(goal) for goal in judged]
    if screen is not None:
        p50, p99 = (screen.get_response_time_percentile(part) for part in (0.5, 0.99))
        said.append(f"from report to screen: p50 {p50:g} ms, p99 {p99:g} ms, worst {screen.max_response_time:.1f} ms")
    said.append(f"reconnected: {back.num_requests if back is not None else 0} times")
    late_ms = lateness.get_response_time_percentile(0.99) if lateness is not None else 0
    if late_ms > _TOO_LATE_MS:
        said.append(f"the clients were too busy: 1 % of the reports left more than {late_ms:g} ms late; add processes")
    return said


def _goal(stats: Rows, what: str, rows: Iterable[tuple[str, str]], wanted_percent: float) -> Goal:
    entries = [stats.entries[row] for row in rows if row in stats.entries]
    count = sum(entry.num_requests for entry in entries)
    return Goal(what, count, count - sum(entry.num_failures for entry in entries), wanted_percent)
