"""What one phone does and sees, and what of that counts, for phones of any kind. Pure: phones bring sockets and clocks.

Times are monotonic seconds unless their names say otherwise.
"""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from cli.simulate.walk import Area, Walker
from loadtest import verdict
from loadtest.arguments import area_of
from loadtest.person import Person
from loadtest.screens import LOST_AFTER_S, Screen, Screens
from nearby.close_codes import AfterClose
from nearby.messages import Ack, ClientMessage, Error, LocationMessage, SettingsMessage, Snapshot, Update, Welcome
from nearby_client.backoff import Backoff

CONNECT_TIMEOUT_S = 10.0
_SILENCE_S = 20.0
_RATE_LIMIT_PAUSE_S = 60.0
_LONGEST_RETRY_AFTER_S = 60.0

Count = Callable[[str, str, float, str | None], None]
"""Counts something in a row: its kind and its name, seconds, and what was wrong, if anything."""


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended. ``after`` says what the protocol asks for, ``pause_s`` what the server asked for."""

    code: int
    after: AfterClose = AfterClose.RECONNECT
    pause_s: float | None = None


def retry_after_s(header: str | None) -> float:
    """Read ``Retry-After`` in seconds (RFC 9110 §10.2.3); its date form counts as absent."""
    return min(_LONGEST_RETRY_AFTER_S, float(header)) if header and header.isdigit() else 0.0


def silence_s(options: Namespace) -> float:
    """Return after how long without a message a connection is dead: every report is acknowledged."""
    return 3 * float(options.interval) + _SILENCE_S


class Journal:
    """One phone's, from its being switched on, over all of its connections.

    ``due_s`` is when it reports next, if it is connected then.
    """

    __slots__ = (
        "_away_since_s",
        "_backoff",
        "_count",
        "_options",
        "_reported_ms",
        "_rng",
        "_screen",
        "_screens",
        "_was_connected",
        "due_s",
        "person",
    )

    def __init__(
        self, person: Person, options: Namespace, screens: Screens, count: Count, rng: random.Random, now_s: float
    ) -> None:
        self.person = person
        self.due_s = now_s + rng.uniform(0, options.interval)
        self._options = options
        self._screens = screens
        self._screen = Screen()
        self._count = count
        self._rng = rng
        self._backoff = Backoff(rng)
        self._away_since_s: float | None = now_s
        self._was_connected = False
        self._reported_ms = 0

    # ------------------------------------------------------------------------------------- connection

    def welcome(self, welcome: Welcome, now_s: float) -> ClientMessage | None:
        """A connection is welcomed; return what to say first, if anything, before the first report."""
        self._count_connected(now_s)
        self._away_since_s, self._was_connected = None, True
        self._backoff.reset()
        radius_m = self._options.radius
        if self.person.walker is None:
            self.person.walker = Walker(Area(*area_of(self._options, radius_m or welcome.radius_m)), self._rng, now_s)
        return SettingsMessage(radius_m) if radius_m else None

    def lose(self, now_s: float) -> None:
        """A connection has ended, welcomed or not."""
        if self._away_since_s is None:
            self._away_since_s = now_s
        # What has missed its goal already counts, although the connection has ended; the rest is excused.
        self._give_up_overdue(self._options.slo_screen_ms / 1000, now_s)
        self._screens.darken(self._screen)

    def give_up(self, end: End) -> bool:
        """Return, and count, whether this is the end of the phone's session, too."""
        over = end.after is AfterClose.STOP or (end.after is AfterClose.RENEW_TOKEN and not self.person.password)
        if over:
            self._count(verdict.SOCKET, verdict.SESSION, 0.0, f"ended with {end.code}")
        return over

    def pause_s(self, end: End | None = None) -> float:
        """Return how long to wait before the next connection; without an ``end`` there was none."""
        if end is None:
            return self._backoff.next_s()
        if end.pause_s is not None:
            return end.pause_s
        return self._backoff.next_s() + (_RATE_LIMIT_PAUSE_S if end.after is AfterClose.WAIT_A_MINUTE else 0.0)

    def put_away(self, now_s: float) -> None:
        """The phone is switched off: count it if it could not connect for too long."""
        if self._away_since_s is not None and (now_s - self._away_since_s) * 1000 > self._options.slo_connect_ms:
            self._count_connected(now_s)

    # --------------------------------------------------------------------------------------- messages

    def show(self, message: Update | Snapshot, now_s: float) -> None:
        """Put a message on the screen."""
        slo_ms = self._options.slo_screen_ms
        for took_s in self._screens.take(self._screen, message, now_s):
            late = f"later than {slo_ms:g} ms" if took_s * 1000 > slo_ms else None
            self._count(verdict.SOCKET, verdict.SCREEN, took_s, late)

    def hear_back(self, answer: Ack | Error, unix_s: float) -> None:
        """Take an answer to a report; its ``seq`` is the report's time."""
        refused = answer.code if isinstance(answer, Error) else None
        took_s = 0.0 if answer.seq is None else unix_s - answer.seq / 1000
        self._count(verdict.SOCKET, verdict.ACK, took_s, refused)
        if answer.seq is not None and (refused or (isinstance(answer, Ack) and answer.live is False)):
            self._screens.withdraw(self.person.user_id, answer.seq)

    # ---------------------------------------------------------------------------------------- reports

    def report(self, now_s: float, unix_ms: int) -> LocationMessage:
        """Return a report to be sent at once, and see to it that the next one is due later."""
        assert self.person.walker is not None
        lat_deg, lon_deg = self.person.walker.at(now_s)
        self._reported_ms = max(unix_ms, self._reported_ms + 1)
        self._screens.sent(self.person.user_id, self._reported_ms, now_s)
        self._give_up_overdue(max(LOST_AFTER_S, self._options.slo_screen_ms / 1000), now_s)
        self._leave_out_the_past(now_s)
        return LocationMessage(
            lat=lat_deg, lon=lon_deg, accuracy_m=8, recorded_at_ms=self._reported_ms, seq=self._reported_ms
        )

    def report_due(self, now_s: float, unix_ms: int) -> LocationMessage:
        """Return a report that was due, and count how late it is."""
        self._count(verdict.CLIENT, verdict.LATENESS, max(0.0, now_s - self.due_s), None)
        self.due_s += self._options.interval  # even if a timer rings a little early
        return self.report(now_s, unix_ms)

    def _leave_out_the_past(self, now_s: float) -> None:
        """Choose this phone's next moment to come, and none of those that have passed, as without a connection."""
        behind_s = now_s - self.due_s
        if behind_s >= 0:
            self.due_s += (1 + int(behind_s / self._options.interval)) * self._options.interval

    # --------------------------------------------------------------------------------------- counting

    def _give_up_overdue(self, after_s: float, now_s: float) -> None:
        for _ in range(self._screens.overdue(self._screen, now_s, after_s)):
            self._count(verdict.SOCKET, verdict.SCREEN, after_s, verdict.NEVER)

    def _count_connected(self, now_s: float) -> None:
        took_s = 0.0 if self._away_since_s is None else now_s - self._away_since_s
        slo_ms = self._options.slo_connect_ms
        late = f"later than {slo_ms:g} ms" if took_s * 1000 > slo_ms else None
        self._count(verdict.SOCKET, verdict.RECONNECT if self._was_connected else verdict.CONNECT, took_s, late)
