"""What is on everybody's screen, checked entry by entry as it comes, and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

from cli.simulate.latency import LatencyHistogram
from cli.simulate.oracle import EntryJudge, Report, Reports
from nearby.messages import Ack, Error, FriendEntry, Snapshot, Update
from nearby_client import Connected, Disconnected, Event, NearbyClient

EXAMPLES_KEPT = 20


class Screen:
    """One client as its owner sees it: ``shown`` are the friends on the map, by number."""

    def __init__(self, person: int) -> None:
        self.person = person
        self.client: NearbyClient
        self.url = ""
        self.gateway_id = ""
        self.wanted_radius_m: float | None = None
        self.radius_m = 0.0
        self.inactive_after_s = 0.0
        self.shown: set[int] = set()
        self.seen_ms: dict[int, int] = {}


class Observer(Protocol):
    """Who wants to hear of each change on a screen."""

    def on_ack(self, person: int, recorded_at_ms: int) -> None:
        """A report was acknowledged."""

    def on_entry(self, screen: Screen, friend: int, updated_at_ms: int, *, entered: bool) -> None:
        """A friend is shown as of an instant; ``entered`` if they were not shown before."""

    def on_leave(self, screen: Screen, friend: int) -> None:
        """A friend who was shown no longer is."""


class Tally:
    """The counters of a run. ``violations`` are by kind; only they make a run fail."""

    def __init__(self) -> None:
        self.reports = 0
        self.acks = 0
        self.acks_not_live = 0
        self.entries = 0
        self.news = 0
        self.reconnects = 0
        self.errors: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.examples: list[str] = []
        self.latency = LatencyHistogram()

    def violate(self, kind: str, example: str) -> None:
        """Count a violation and keep the first few in words."""
        self.violations[kind] += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append(f"{kind}: {example}")


class Watch:
    """Takes the events of all clients."""

    def __init__(
        self,
        numbers: Mapping[str, int],
        friends: Sequence[Set[int]],
        reports: Reports,
        clock_s: Callable[[], float],
        observer: Observer | None = None,
    ) -> None:
        self.tally = Tally()
        self.connected: set[Screen] = set()
        self.changed = asyncio.Event()
        """Set whenever somebody connects, or will never."""
        self.observer = observer
        self._numbers = numbers
        self._reports = reports
        self._judge = EntryJudge(friends, reports)
        self._clock_s = clock_s

    def listener(self, screen: Screen) -> Callable[[Event], None]:
        """Return what a client is to call with its events."""
        return lambda event: self.on_event(screen, event)

    def on_event(self, screen: Screen, event: Event) -> None:
        """Take one event."""
        match event:
            case Update():
                self._on_update(screen, event)
            case Snapshot():
                self._on_snapshot(screen, event)
            case Ack():
                self._on_ack(screen, event)
            case Error():
                self.tally.errors[event.code] += 1
            case Connected():
                self._on_connected(screen, event)
            case Disconnected():
                self._on_disconnected(screen, event)

    def _on_update(self, screen: Screen, update: Update) -> None:
        now_s = self._clock_s()
        for entry in update.friends:
            friend = self._numbers.get(entry.user_id)
            was_shown, before_ms = friend in screen.shown, screen.seen_ms.get(friend or 0, 0)
            report = self._check(screen, friend, entry)
            if report is not None and was_shown and entry.updated_at_ms > before_ms:
                # An older location that comes into view has waited for that, not for us: only news are timed.
                self.tally.news += 1
                self.tally.latency.record(now_s - report.sent_s)
        for gone in update.gone:
            self._leave(screen, self._numbers.get(gone.user_id))

    def _on_snapshot(self, screen: Screen, snapshot: Snapshot) -> None:
        present = {self._numbers.get(entry.user_id) for entry in snapshot.friends}
        for friend in screen.shown - present:
            self._leave(screen, friend)
        for entry in snapshot.friends:
            self._check(screen, self._numbers.get(entry.user_id), entry)

    def _check(self, screen: Screen, friend: int | None, entry: FriendEntry) -> Report | None:
        """Count and judge an entry, put it on the screen, and return the report that it shows."""
        self.tally.entries += 1
        before_ms = 0 if friend is None else screen.seen_ms.get(friend, 0)
        shown = entry.lat, entry.lon, entry.distance_m, entry.updated_at_ms
        wrong, report = self._judge.judge(screen.person, friend, before_ms, shown)
        if wrong is not None:
            example = f"person {screen.person} was shown {entry.user_id if friend is None else friend}"
            self.tally.violate(wrong, f"{example} at {entry.distance_m} m as of {entry.updated_at_ms}")
        if friend is None:
            return None
        screen.seen_ms[friend] = max(before_ms, entry.updated_at_ms)
        entered = friend not in screen.shown
        screen.shown.add(friend)
        if self.observer is not None:
            self.observer.on_entry(screen, friend, entry.updated_at_ms, entered=entered)
        return report

    def _leave(self, screen: Screen, friend: int | None) -> None:
        if friend is None or friend not in screen.shown:
            return
        screen.shown.discard(friend)
        if self.observer is not None:
            self.observer.on_leave(screen, friend)

    def _on_ack(self, screen: Screen, ack: Ack) -> None:
        self.tally.acks += 1
        if ack.live is False:
            self.tally.acks_not_live += 1
        if ack.recorded_at_ms is None:
            return
        self._reports.acked(screen.person, ack.recorded_at_ms, self._clock_s())
        if self.observer is not None:
            self.observer.on_ack(screen.person, ack.recorded_at_ms)

    def _on_connected(self, screen: Screen, event: Connected) -> None:
        if screen.url:
            self.tally.reconnects += 1
        screen.url = event.url
        screen.gateway_id = event.welcome.gateway_id
        screen.radius_m = screen.wanted_radius_m or event.welcome.radius_m
        screen.inactive_after_s = event.welcome.inactive_after_s
        self.connected.add(screen)
        self.changed.set()

    def _on_disconnected(self, screen: Screen, event: Disconnected) -> None:
        self.connected.discard(screen)
        self.tally.ends[str(event.code or "unreachable")] += 1
        if event.retry_in_s is None:
            self.tally.violate("session_ended", f"person {screen.person}: {event.code} {event.reason}")
        self.changed.set()
