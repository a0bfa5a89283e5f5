"""What crowd and replay have in common: everybody connected, reports sent and remembered, everything watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from cli.simulate.graph import Edge, friends_of
from cli.simulate.oracle import Report, Reports, between_m, must_show
from cli.simulate.people import Person, SimulationFailed, each
from cli.simulate.watch import Observer, Screen, Watch
from nearby_client import NearbyApi, NearbyClient

CONNECT_AT_ONCE = 50
CONNECT_TIMEOUT_S = 60.0
CLOSE_AT_ONCE = 200
SETTLE_S = 35.0
"""The promise: that long after whatever broke has healed, every map is right."""
_TRY_AGAIN_S = 0.25


class Stage:
    """People and their screens; a person may have several. An async context manager that closes every client."""

    def __init__(
        self, api: NearbyApi, people: Sequence[Person], edges: Iterable[Edge], observer: Observer | None = None
    ) -> None:
        self._api = api
        self.friends = friends_of(len(people), list(edges))
        self.reports = Reports(len(people))
        numbers = {person.user_id: person.number for person in people}
        self.watch = Watch(numbers, self.friends, self.reports, time.monotonic, observer)
        self.screens: list[Screen] = []
        self._clients = AsyncExitStack()
        self._last_ms = [0] * len(people)

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await each(CLOSE_AT_ONCE, self.screens, lambda screen: screen.client.aclose())
        finally:
            await self._clients.__aexit__(kind, error, traceback)

    async def connect(
        self, people: Sequence[Person], *, radius_m: float | None = None, url: str | None = None
    ) -> list[Screen]:
        """Connect each of ``people``, some at a time, to the gateway at ``url`` or to those that the API names.

        Raises:
            SimulationFailed: not all were welcomed within :data:`CONNECT_TIMEOUT_S`.
        """
        added = []
        for start in range(0, len(people), CONNECT_AT_ONCE):
            batch = [await self._open(person, radius_m, url) for person in people[start : start + CONNECT_AT_ONCE]]
            await self._welcomed(batch)
            added += batch
        return added

    async def _open(self, person: Person, radius_m: float | None, url: str | None) -> Screen:
        screen = Screen(person.number)
        client = NearbyClient(self._api, person.account.token, url=url, on_event=self.watch.listener(screen))
        screen.client = client
        screen.wanted_radius_m = radius_m
        if radius_m is not None:
            client.set_radius(radius_m)
        await self._clients.enter_async_context(client)
        self.screens.append(screen)
        return screen

    async def _welcomed(self, screens: Sequence[Screen]) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while not self.watch.connected.issuperset(screens):
                    self.watch.changed.clear()
                    await self.watch.changed.wait()
        except TimeoutError as error:
            ends = ", ".join(f"{count} × {code}" for code, count in self.watch.tally.ends.most_common())
            missing = len(set(screens) - self.watch.connected)
            raise SimulationFailed(f"{missing} of {len(screens)} were not welcomed; ends so far: {ends}") from error

    def send(self, screen: Screen, lat_deg: float, lon_deg: float) -> int:
        """Report a position, degrees, of a screen's owner; return its ``recorded_at_ms``, which grows strictly."""
        person = screen.person
        recorded_at_ms = max(time.time_ns() // 1_000_000, self._last_ms[person] + 1)
        self._last_ms[person] = recorded_at_ms
        self.reports.sent(person, Report(recorded_at_ms, lat_deg, lon_deg, time.monotonic()))
        self.watch.tally.reports += 1
        screen.client.report(lat_deg, lon_deg, recorded_at_ms=recorded_at_ms)
        return recorded_at_ms

    async def settle(self, stop: asyncio.Event) -> None:
        """Wait until every map is right by the last reports, or ``stop``; those that stay wrong are violations."""
        deadline_s = time.monotonic() + SETTLE_S
        while True:
            wrong = []
            for screen in self.screens:
                wrong += list(disagreements(self, screen))
                await asyncio.sleep(0)
            unanswered = [person for person in range(len(self._last_ms)) if not self.reports.settled(person)]
            if stop.is_set() or not (wrong or unanswered):
                return
            if time.monotonic() > deadline_s:
                break
            # Nothing tells that the last update has come; it is computed again from all positions.
            await asyncio.sleep(_TRY_AGAIN_S)
        for disagreement in wrong:
            self.watch.tally.violate(*disagreement.in_words())
        for person in unanswered:
            self.watch.tally.violate("never_acknowledged", f"the last report of person {person}")


class Disagreement:
    """A friend who is not on a screen and must be, or the reverse."""

    def __init__(self, screen: Screen, friend: int, distance_m: float, *, shown: bool) -> None:
        self.screen = screen
        self.friend = friend
        self.distance_m = distance_m
        self.shown = shown

    def in_words(self) -> tuple[str, str]:
        """Return the kind of violation, and an example."""
        kind = "shown_out_of_range" if self.shown else "never_shown"
        return kind, f"friend {self.friend} of person {self.screen.person}, {self.distance_m:.0f} m away"


def disagreements(stage: Stage, screen: Screen) -> Iterator[Disagreement]:
    """Compare a screen with the distances between the last acknowledged positions."""
    own = stage.reports.last_acked(screen.person)
    if own is None:
        return
    for friend in stage.friends[screen.person]:
        theirs = stage.reports.last_acked(friend)
        if theirs is None:
            continue
        distance_m = between_m(own.vector, theirs.vector)
        wanted = must_show(distance_m, screen.radius_m)
        shown = friend in screen.shown
        if wanted is not None and wanted != shown:
            yield Disagreement(screen, friend, distance_m, shown=shown)
