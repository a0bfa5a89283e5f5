"""Recorded walks, replayed one report at a time, so that every crossing of the radius has one right answer.

A viewer's distance depends on two people, so while reports of both are on their way there is no telling which
comes first. Here the next report waits until the one before it has had all its effects: it is acknowledged, a
witness at each gateway has been shown it, and each change that the oracle expects is on its screen. The witness is
a friend of everybody with a radius that covers all tracks: a gateway takes a location once for all its clients,
so what the witness has seen there, the gateway has decided for everybody there.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cli.simulate.oracle import Change, CrossingOracle, Expected, between_m
from cli.simulate.people import Person, SimulationFailed
from cli.simulate.stage import Stage
from cli.simulate.tracks import Fix
from cli.simulate.watch import Screen
from nearby.geo import unit_vector

WITNESS_RADIUS_M = 50_000.0
"""The largest radius that the protocol allows."""
MAX_GATEWAYS = 5
"""One person may have that many connections."""
CONFIRM_TIMEOUT_S = 5.0
QUIET_S = 0.1
_LONGEST_PAUSE_S = 5.0

Pair = tuple[int, int]


class Confirmation:
    """What is still missing until a report has had its effects. Pairs are (screen or person, friend)."""

    def __init__(self) -> None:
        self._missing: set[tuple[object, ...]] = set()
        self._complete = asyncio.Event()

    def expect(self, missing: set[tuple[object, ...]]) -> None:
        """Begin to wait for other things."""
        self._missing = missing
        self._complete.clear()

    def happened(self, what: tuple[object, ...]) -> None:
        """Take notice of something, expected or not."""
        if what in self._missing:
            self._missing.discard(what)
            if not self._missing:
                self._complete.set()

    async def wait(self) -> bool:
        """Return whether everything happened within :data:`CONFIRM_TIMEOUT_S`."""
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True


class Crossings:
    """Notes each entering and leaving as the clients see it, and tells a confirmation."""

    def __init__(self, confirmation: Confirmation) -> None:
        self.seen: dict[Pair, list[Change]] = defaultdict(list)
        self._confirmation = confirmation

    def on_ack(self, person: int, recorded_at_ms: int) -> None:
        """Take an acknowledgement."""
        self._confirmation.happened(("ack", person, recorded_at_ms))

    def on_entry(self, screen: Screen, friend: int, updated_at_ms: int, *, entered: bool) -> None:
        """Take an entry."""
        if entered:
            self.seen[screen.person, friend].append("enter")
            self._confirmation.happened(("enter", screen, friend))
        self._confirmation.happened(("seen", screen, friend, updated_at_ms))

    def on_leave(self, screen: Screen, friend: int) -> None:
        """Take a leaving."""
        self.seen[screen.person, friend].append("leave")
        self._confirmation.happened(("leave", screen, friend))


@dataclass(slots=True)
class ReplayResult:
    """How a replay compared. ``pairs`` are ordered; ``mismatches`` are pairs whose sequences differ.

    ``unsure`` counts decisions closer to a threshold than rounding, where either answer was taken;
    ``behind_s`` is how late the last report was sent.
    """

    pairs: int = 0
    transitions: int = 0
    mismatches: int = 0
    unconfirmed: int = 0
    unsure: int = 0
    heartbeats: int = 0
    behind_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to replay: fixes in order, ``speedup`` times as fast, for ``seconds`` at most (0: all of them)."""

    fixes: Sequence[Fix]
    speedup: float
    seconds: float
    radius_m: float | None

    @property
    def walkers(self) -> list[str]:
        """The walkers' names, sorted."""
        return sorted({fix.walker for fix in self.fixes})

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the tracks, degrees."""
        lats, lons = [fix.lat_deg for fix in self.fixes], [fix.lon_deg for fix in self.fixes]
        return (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2

    def check(self) -> None:
        """Make sure that a witness sees it all.

        Raises:
            SimulationFailed: the tracks are too wide.
        """
        centre = unit_vector(*self.centre)
        reach_m = max(between_m(centre, unit_vector(fix.lat_deg, fix.lon_deg)) for fix in self.fixes)
        if reach_m >= WITNESS_RADIUS_M:
            raise SimulationFailed(
                f"the tracks reach {reach_m:.0f} m from their centre; {WITNESS_RADIUS_M:.0f} is the most"
            )


class Replay:
    """One replay on a stage whose last person is the witness."""

    def __init__(self, stage: Stage, plan: ReplayPlan, confirmation: Confirmation, crossings: Crossings) -> None:
        self.result = ReplayResult()
        self._stage = stage
        self._plan = plan
        self._confirmation = confirmation
        self._crossings = crossings
        self._witnesses: list[Screen] = []
        self._screens: list[Screen] = []
        self._oracle: CrossingOracle
        self._expected: dict[Pair, list[Change]] = defaultdict(list)
        self._last: dict[int, tuple[float, float, float]] = {}
        self._heartbeat_s = 0.0

    async def connect(self, people: Sequence[Person]) -> None:
        """Connect the walkers, and a witness to each of their gateways.

        Raises:
            SimulationFailed: somebody is not welcomed, or there are too many gateways.
        """
        *walkers, witness = people
        self._screens = await self._stage.connect(walkers, radius_m=self._plan.radius_m)
        urls = {screen.gateway_id: screen.url for screen in self._screens}
        if len(urls) > MAX_GATEWAYS:
            raise SimulationFailed(f"{len(urls)} gateways; a replay can watch {MAX_GATEWAYS}")
        for gateway_id, url in sorted(urls.items()):
            (screen,) = await self._stage.connect([witness], radius_m=WITNESS_RADIUS_M, url=url)
            if screen.gateway_id != gateway_id:
                raise SimulationFailed(f"{url} leads to {screen.gateway_id} now, and to {gateway_id} before")
            self._witnesses.append(screen)
        friends = [found - {witness.number} for found in self._stage.friends]
        self._oracle = CrossingOracle(friends, self._screens[0].radius_m)
        self._heartbeat_s = self._screens[0].inactive_after_s / 3
        for screen in self._witnesses:
            await self._witness_reports(screen)

    async def run(self, stop: asyncio.Event) -> None:
        """Send every fix at its time, each once the one before it has had its effects, and compare in the end."""
        numbers = {walker: number for number, walker in enumerate(self._plan.walkers)}
        began_s, first_s = time.monotonic(), self._plan.fixes[0].t_s
        for fix in self._plan.fixes:
            due_s = began_s + (fix.t_s - first_s) / self._plan.speedup
            if await self._pause_until(due_s, stop) or self._over(began_s):
                break
            self.result.behind_s = round(max(0.0, time.monotonic() - due_s), 3)
            await self._report(numbers[fix.walker], fix.lat_deg, fix.lon_deg)
        self._compare()

    def _over(self, began_s: float) -> bool:
        return bool(self._plan.seconds) and time.monotonic() - began_s > self._plan.seconds

    async def _pause_until(self, due_s: float, stop: asyncio.Event) -> bool:
        """Wait until ``due_s``, keeping those alive who stand still; return whether to stop."""
        while not stop.is_set():
            await self._heartbeats()
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(min(left_s, _LONGEST_PAUSE_S)):
                    await stop.wait()
            except TimeoutError:
                continue
        return True

    async def _heartbeats(self) -> None:
        """Report again for whoever has been silent, as a phone does that lies still: nobody becomes inactive."""
        silent_since_s = time.monotonic() - self._heartbeat_s
        for number, (sent_s, lat_deg, lon_deg) in list(self._last.items()):
            if sent_s >= silent_since_s:
                continue
            self.result.heartbeats += 1
            if number < len(self._screens):
                await self._report(number, lat_deg, lon_deg)
                continue
            for screen in self._witnesses:
                await self._witness_reports(screen)

    async def _report(self, number: int, lat_deg: float, lon_deg: float) -> None:
        screen = self._screens[number]
        expected = self._oracle.report(number, lat_deg, lon_deg)
        for viewer, friend, change in expected.changes:
            self._expected[viewer, friend].append(change)
        effects: set[tuple[object, ...]] = {
            (change, self._screens[viewer], friend) for viewer, friend, change in expected.changes
        }
        # Frames are handled between turns of the event loop, so nothing comes before the expectation is set.
        recorded_at_ms = self._stage.send(screen, lat_deg, lon_deg)
        viewers = [*self._witnesses, *(self._screens[viewer] for viewer in expected.refreshed)]
        effects |= {("seen", viewer, number, recorded_at_ms) for viewer in viewers}
        effects.add(("ack", number, recorded_at_ms))
        self._confirmation.expect(effects)
        if not await self._confirmation.wait():
            self.result.unconfirmed += 1
        self._last[number] = (time.monotonic(), lat_deg, lon_deg)
        await self._take_either(expected)

    async def _take_either(self, expected: Expected) -> None:
        """Take over what the clients show of pairs too close to a threshold to tell."""
        if not expected.unsure:
            return
        await asyncio.sleep(QUIET_S)
        for viewer, friend in expected.unsure:
            self.result.unsure += 1
            shown = friend in self._screens[viewer].shown
            if shown != self._oracle.inside(viewer, friend):
                self._expected[viewer, friend].append("enter" if shown else "leave")
                self._oracle.adopt((viewer, friend), shown=shown)

    async def _witness_reports(self, screen: Screen) -> None:
        lat_deg, lon_deg = self._plan.centre
        recorded_at_ms = self._stage.send(screen, lat_deg, lon_deg)
        self._confirmation.expect({("ack", screen.person, recorded_at_ms)})
        if not await self._confirmation.wait():
            self.result.unconfirmed += 1
        self._last[screen.person] = (time.monotonic(), lat_deg, lon_deg)

    def _compare(self) -> None:
        witness = len(self._screens)
        for viewer, friend in itertools.permutations(range(witness), 2):
            if friend not in self._stage.friends[viewer]:
                continue
            wanted, seen = self._expected[viewer, friend], self._crossings.seen[viewer, friend]
            self.result.pairs += 1
            self.result.transitions += len(wanted)
            if wanted != seen:
                self.result.mismatches += 1
                example = f"person {viewer} of friend {friend}: {_short(seen)}, and by brute force {_short(wanted)}"
                self._stage.watch.tally.violate("wrong_crossings", example)


def _short(changes: Sequence[Change]) -> str:
    return "".join("+" if change == "enter" else "-" for change in changes) or "nothing"
