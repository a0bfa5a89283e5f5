"""What each person of this process is shown, and which reports are not on a screen yet. Pure.

Invariant: a report is awaited on a screen from its sending on, if its sender was on that screen then, until exactly one
of these: it or a newer one is shown, it is overdue, or it is excused (the screen went dark, the sender left it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from nearby.messages import FriendEntry, Snapshot, Update

LOST_AFTER_S = 10.0
"""A report that is not shown for so long counts as never shown."""


class Screen:
    """The map of one person, empty while they have no connection."""

    def __init__(self) -> None:
        self.shown_ms: dict[str, int] = {}
        self.awaited: dict[str, deque[tuple[int, float]]] = {}
        """By friend, ``recorded_at_ms`` and the time of sending (monotonic seconds), oldest first."""


class Screens:
    """All screens of a process; times are monotonic seconds."""

    def __init__(self) -> None:
        self._viewers: dict[str, set[Screen]] = {}

    def sent(self, user_id: str, recorded_at_ms: int, now_s: float) -> None:
        """Await a report on each screen that shows its sender."""
        for screen in self._viewers.get(user_id, ()):
            screen.awaited.setdefault(user_id, deque()).append((recorded_at_ms, now_s))

    def withdraw(self, user_id: str, recorded_at_ms: int) -> None:
        """Await a report no longer: the server did not take it as the newest."""
        for screen in self._viewers.get(user_id, ()):
            reports = screen.awaited.get(user_id, ())
            screen.awaited[user_id] = deque(report for report in reports if report[0] != recorded_at_ms)

    def take(self, screen: Screen, message: Snapshot | Update, now_s: float) -> list[float]:
        """Show what a message says; return how long each report took that is seen now, or outdone, in seconds."""
        if isinstance(message, Snapshot):
            self._leave(screen, screen.shown_ms.keys() - {entry.user_id for entry in message.friends})
        else:
            self._leave(screen, [gone.user_id for gone in message.gone])
        return [now_s - sent_s for entry in message.friends for sent_s in self._show(screen, entry)]

    def overdue(self, screen: Screen, now_s: float, after_s: float = LOST_AFTER_S) -> int:
        """Give up the reports that were sent more than ``after_s`` seconds ago; return how many."""
        count = 0
        for reports in screen.awaited.values():
            while reports and now_s - reports[0][1] > after_s:
                reports.popleft()
                count += 1
        return count

    def darken(self, screen: Screen) -> None:
        """Empty a screen whose connection has ended."""
        self._leave(screen, list(screen.shown_ms))

    def _show(self, screen: Screen, entry: FriendEntry) -> list[float]:
        self._viewers.setdefault(entry.user_id, set()).add(screen)
        screen.shown_ms[entry.user_id] = entry.updated_at_ms
        reports = screen.awaited.get(entry.user_id)
        seen = []
        while reports and reports[0][0] <= entry.updated_at_ms:
            seen.append(reports.popleft()[1])
        return seen

    def _leave(self, screen: Screen, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            screen.shown_ms.pop(user_id, None)
            screen.awaited.pop(user_id, None)
            self._viewers.get(user_id, set()).discard(screen)
