"""What each person of this process is shown, and which reports are not on a screen yet. Pure.

Invariant: a report is awaited on a screen from its sending on, if its sender was on that screen then, until exactly one
of these: it or a newer one is shown, it is overdue, or it is excused (the screen went dark, the sender left it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nearby.messages import FriendEntry, Snapshot, Update

LOST_AFTER_S = 10.0
"""A report that is not shown for so long counts as never shown."""


class Sender:
    """Somebody whom screens show; one object for all of them, since a screen has many and there are many screens."""

    __slots__ = ("viewers",)

    def __init__(self) -> None:
        self.viewers: set[Screen] = set()


class Screen:
    """The map of one person, empty while they have no connection."""

    __slots__ = ("awaited", "shown")

    def __init__(self) -> None:
        self.shown: set[Sender] = set()
        self.awaited: dict[Sender, list[tuple[int, float]]] = {}
        """``recorded_at_ms`` and the time of sending (monotonic seconds), oldest first; no empty lists."""


class Screens:
    """All screens of a process; times are monotonic seconds."""

    def __init__(self) -> None:
        self._senders: dict[str, Sender] = {}

    def sent(self, user_id: str, recorded_at_ms: int, now_s: float) -> None:
        """Await a report on each screen that shows its sender."""
        sender = self._sender(user_id)
        report = (recorded_at_ms, now_s)
        for screen in sender.viewers:
            reports = screen.awaited.get(sender)
            if reports is None:
                screen.awaited[sender] = [report]
            else:
                reports.append(report)

    def withdraw(self, user_id: str, recorded_at_ms: int) -> None:
        """Await a report no longer: the server did not take it as the newest."""
        sender = self._sender(user_id)
        for screen in sender.viewers:
            reports = [report for report in screen.awaited.pop(sender, ()) if report[0] != recorded_at_ms]
            if reports:
                screen.awaited[sender] = reports

    def take(self, screen: Screen, message: Snapshot | Update, now_s: float) -> list[float]:
        """Show what a message says; return how long each report took that is seen now, or outdone, in seconds."""
        if isinstance(message, Snapshot):
            self._leave(screen, screen.shown - {self._sender(entry.user_id) for entry in message.friends})
        elif message.gone:
            self._leave(screen, [self._sender(gone.user_id) for gone in message.gone])
        return [now_s - sent_s for entry in message.friends for _, sent_s in self._show(screen, entry)]

    def overdue(self, screen: Screen, now_s: float, after_s: float = LOST_AFTER_S) -> int:
        """Give up the reports that were sent more than ``after_s`` seconds ago; return how many."""
        count = 0
        for sender, reports in list(screen.awaited.items()):
            late = sum(now_s - sent_s > after_s for _, sent_s in reports)
            count += late
            _forget(screen, sender, reports, late)
        return count

    def darken(self, screen: Screen) -> None:
        """Empty a screen whose connection has ended."""
        self._leave(screen, list(screen.shown))

    def _sender(self, user_id: str) -> Sender:
        sender = self._senders.get(user_id)
        if sender is None:
            sender = self._senders[user_id] = Sender()
        return sender

    def _show(self, screen: Screen, entry: FriendEntry) -> Sequence[tuple[int, float]]:
        sender = self._sender(entry.user_id)
        if sender not in screen.shown:
            screen.shown.add(sender)
            sender.viewers.add(screen)
        reports = screen.awaited.get(sender)
        if reports is None:
            return ()
        seen = [report for report in reports if report[0] <= entry.updated_at_ms]
        _forget(screen, sender, reports, len(seen))
        return seen

    def _leave(self, screen: Screen, senders: Iterable[Sender]) -> None:
        for sender in senders:
            screen.shown.discard(sender)
            screen.awaited.pop(sender, None)
            sender.viewers.discard(screen)


def _forget(screen: Screen, sender: Sender, reports: list[tuple[int, float]], count: int) -> None:
    """Await the oldest ``count`` reports no longer."""
    if count == len(reports):
        del screen.awaited[sender]
    else:
        del reports[:count]
