"""A crowd that walks about a city and reports in turn."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from dataclasses import dataclass

from cli.simulate.stage import SETTLE_S, Stage, disagreements
from cli.simulate.walk import Area, Walker
from cli.simulate.watch import Screen

_ROUND_S = 10.0
"""Every map is compared with the truth once in that time, a part of them each second."""
_PARTS = 10


@dataclass(frozen=True, slots=True)
class Walk:
    """How a crowd walks. ``seconds`` is how long they report; 0 means until stopped."""

    area: Area
    interval_s: float
    seconds: float
    seed: int


async def walk(stage: Stage, screens: list[Screen], plan: Walk, stop: asyncio.Event) -> None:
    """Have everybody report every interval, from a random point in the first one on, until the end or ``stop``."""
    rng = random.Random(plan.seed)  # noqa: S311 - the same seed makes the same walk
    walkers = [Walker(plan.area, random.Random(rng.random())) for _ in screens]  # noqa: S311
    turns = [(rng.uniform(0, plan.interval_s), number) for number in range(len(screens))]
    heapq.heapify(turns)
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        checking = tasks.create_task(_compare_forever(stage, screens))
        while not stop.is_set():
            due_s, number = turns[0]
            if plan.seconds and due_s > plan.seconds:
                await _pause(stop, began_s + plan.seconds - time.monotonic())
                break
            await _pause(stop, began_s + due_s - time.monotonic())
            stage.send(screens[number], *walkers[number].at(due_s))
            heapq.heapreplace(turns, (due_s + plan.interval_s, number))
        checking.cancel()


async def _pause(stop: asyncio.Event, delay_s: float) -> None:
    """Wait until it is time or until stopped; give others a turn in any case."""
    if delay_s <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(delay_s):
            await stop.wait()
    except TimeoutError:
        pass


async def _compare_forever(stage: Stage, screens: list[Screen]) -> None:
    """Find maps that stay wrong for longer than the system promises to need."""
    since_s: dict[tuple[int, int], float] = {}
    part = 0
    while True:
        await asyncio.sleep(_ROUND_S / _PARTS)
        for screen in screens[part::_PARTS]:
            _compare(stage, screen, since_s)
        part = (part + 1) % _PARTS


def _compare(stage: Stage, screen: Screen, since_s: dict[tuple[int, int], float]) -> None:
    now_s = time.monotonic()
    wrong = {} if screen not in stage.watch.connected else {one.friend: one for one in disagreements(stage, screen)}
    for friend in stage.friends[screen.person]:
        pair = (screen.person, friend)
        if friend not in wrong:
            since_s.pop(pair, None)
        elif now_s - since_s.setdefault(pair, now_s) > SETTLE_S:
            stage.watch.tally.violate(*wrong[friend].in_words())
            since_s[pair] = now_s
