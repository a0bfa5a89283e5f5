"""One simulation from the first sign-up to the summary."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from cli.simulate.crowd import Walk, walk
from cli.simulate.graph import regular_graph
from cli.simulate.people import Person, befriend, sign_up
from cli.simulate.replay import Confirmation, Crossings, Replay, ReplayPlan
from cli.simulate.stage import Stage
from cli.simulate.summary import Summary, summarise
from cli.simulate.terminal import Terminal
from cli.simulate.walk import Area
from nearby_client import NearbyApi

CROWD_REACH = 0.6
"""The area's radius in radii of the crowd: most friends are near, and some come and go."""


class Stop(asyncio.Event):
    """Set to end a run with its summary; only once it is ``heeded`` does anybody look at it."""

    heeded = False


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """A crowd of ``people`` with ``friends`` each. ``radius_m``: ``None`` keeps the server's default.

    ``area_m`` is the radius of the area they walk in; ``None`` follows from theirs. ``seconds`` 0: until stopped.
    """

    people: int
    friends: int
    seconds: float
    interval_s: float
    centre: tuple[float, float]
    radius_m: float | None
    area_m: float | None


Edges = list[tuple[int, int]]


async def run_crowd(api_url: str, plan: CrowdPlan, seed: int, stop: Stop, terminal: Terminal) -> Summary:
    """Let a crowd walk until its time is over or until ``stop``; then wait for every map to be right.

    Raises:
        SimulationFailed: it cannot begin.
    """
    edges = regular_graph(plan.people, plan.friends, random.Random(seed))  # noqa: S311 - to be repeatable
    async with NearbyApi(api_url) as api:
        people = await _make(api, plan.people, edges, terminal)
        async with Stage(api, people, edges) as stage:
            screens = await stage.connect(people, radius_m=plan.radius_m)
            area = Area(*plan.centre, plan.area_m or CROWD_REACH * screens[0].radius_m)
            began_s = time.monotonic()
            stop.heeded = True
            async with terminal.table(stage.watch, plan.people):
                await walk(stage, screens, Walk(area, plan.interval_s, plan.seconds, seed), stop)
                seconds = time.monotonic() - began_s
                if not stop.is_set():
                    await stage.settle(stop)
            return summarise(
                stage.watch.tally,
                people=plan.people,
                friendships=len(edges),
                connected=len(stage.watch.connected),
                seconds=seconds,
                replay=None,
            )


async def run_replay(
    api_url: str, plan: ReplayPlan, friends: int, seed: int, stop: Stop, terminal: Terminal
) -> Summary:
    """Replay tracks until their end or until ``stop``; compare every crossing with brute force.

    Raises:
        SimulationFailed: it cannot begin.
    """
    plan.check()
    count = len(plan.walkers)
    edges = regular_graph(count, friends, random.Random(seed))  # noqa: S311 - to be repeatable
    with_witness = edges + [(number, count) for number in range(count)]
    confirmation = Confirmation()
    crossings = Crossings(confirmation)
    async with NearbyApi(api_url) as api:
        people = await _make(api, count + 1, with_witness, terminal)
        async with Stage(api, people, with_witness, crossings) as stage:
            replay = Replay(stage, plan, confirmation, crossings)
            await replay.connect(people)
            began_s = time.monotonic()
            stop.heeded = True
            async with terminal.table(stage.watch, count):
                await replay.run(stop)
            return summarise(
                stage.watch.tally,
                people=count,
                friendships=len(edges),
                connected=sum(screen.person < count for screen in stage.watch.connected),
                seconds=time.monotonic() - began_s,
                replay=replay.result,
            )


async def _make(api: NearbyApi, count: int, edges: Edges, terminal: Terminal) -> list[Person]:
    with terminal.bar("signing up", count) as advance:
        people = await sign_up(api, count, advance)
    with terminal.bar("making friends", len(edges)) as advance:
        await befriend(people, edges, advance)
    return people
