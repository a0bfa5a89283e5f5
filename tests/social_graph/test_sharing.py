from __future__ import annotations

import asyncio

import pytest

from nearby.changes import SharingChanged
from nearby.errors import NotFound
from nearby.model import UserId
from nearby.sharing import Limits
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.sharing import Switch
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import person

ON = Switch(True, None)


async def test_a_new_user_shares(graph: SocialGraph) -> None:
    assert await graph.sharing.get(await person(graph, "ann")) == ON


async def test_pausing_and_resuming_enter_the_feed_once_each(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    assert await graph.sharing.pause(ann, None) == [SharingChanged(1, ann, False)]
    assert await graph.sharing.get(ann) == Switch(False, None)
    assert await graph.sharing.pause(ann, None) == []
    assert await graph.sharing.resume(ann) == [SharingChanged(2, ann, True)]
    assert await graph.sharing.resume(ann) == []
    assert await graph.sharing.get(ann) == ON
    assert await graph.changes.latest_sequence() == 2


async def test_a_pause_ends_by_itself_at_its_instant(graph: SocialGraph, clock: HeldClock) -> None:
    ann = await person(graph, "ann")
    await graph.sharing.pause(ann, NOW_MS + 1_000)
    clock.advance(0.999)
    assert await graph.sharing.get(ann) == Switch(False, NOW_MS + 1_000)
    assert await graph.sharing.resume_due() == []
    clock.advance(0.001)
    assert await graph.sharing.get(ann) == ON
    assert await graph.sharing.resume_due() == [SharingChanged(2, ann, True)]
    assert await graph.sharing.resume_due() == []


async def test_several_processes_end_a_pause_once(graph: SocialGraph, database_url: str, clock: HeldClock) -> None:
    people = [await person(graph, f"user_{number}") for number in range(3)]
    for user_id in people:
        await graph.sharing.pause(user_id, NOW_MS + 1)
    clock.advance(1)
    async with open_social_graph(database_url, clock, 60) as other_process:
        outcomes = await asyncio.gather(graph.sharing.resume_due(), other_process.sharing.resume_due())
    ended = [change for outcome in outcomes for change in outcome]
    assert {change.user_id for change in ended if isinstance(change, SharingChanged)} == set(people)
    assert sorted(change.sequence for change in ended) == [4, 5, 6]


async def test_a_pause_until_resumed_is_never_due(graph: SocialGraph, clock: HeldClock) -> None:
    await graph.sharing.pause(await person(graph, "ann"), None)
    clock.advance(10**9)
    assert await graph.sharing.resume_due() == []


async def test_pausing_again_moves_the_end(graph: SocialGraph, clock: HeldClock) -> None:
    ann = await person(graph, "ann")
    await graph.sharing.pause(ann, NOW_MS + 1_000)
    until_later = SharingChanged(2, ann, False, Limits(paused_until_ms=NOW_MS + 5_000))
    assert await graph.sharing.pause(ann, NOW_MS + 5_000) == [until_later], "gateways end a pause by their own clocks"
    assert await graph.sharing.pause(ann, NOW_MS + 5_000) == []
    clock.advance(2)
    assert await graph.sharing.resume_due() == []
    assert await graph.sharing.get(ann) == Switch(False, NOW_MS + 5_000)


async def test_pausing_when_the_last_pause_is_over_but_not_yet_written_is_a_change(
    graph: SocialGraph, clock: HeldClock
) -> None:
    ann = await person(graph, "ann")
    await graph.sharing.pause(ann, NOW_MS + 1)
    clock.advance(1)
    assert await graph.sharing.pause(ann, None) == [SharingChanged(2, ann, False)]
    assert await graph.sharing.resume_due() == []


async def test_nobody_has_no_switch(graph: SocialGraph) -> None:
    with pytest.raises(NotFound):
        await graph.sharing.get(UserId("00000000-0000-4000-8000-000000000000"))
