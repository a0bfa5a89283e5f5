from __future__ import annotations

import asyncio

from sqlalchemy import select, update

from nearby.model import UserId
from social_graph.database import open_database
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.schema import friendships
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import befriend, person

MINUTE_MS = NOW_MS // 60_000 * 60_000


async def _seen(graph: SocialGraph, owner: UserId) -> dict[UserId, int | None]:
    page = await graph.viewers.page(owner, 200)
    return {viewer.person.user_id: viewer.last_seen_ms for viewer in page.viewers}


async def test_sightings_noted_by_many_at_once_are_there(
    graph: SocialGraph, database_url: str, clock: HeldClock
) -> None:
    ann, *others = [await person(graph, f"user_{number}") for number in range(6)]
    for other in others:
        await befriend(graph, ann, other)
    pairs = [(ann, other) for other in others] + [(other, ann) for other in others]
    # Two pools, as in two processes, and either order of the pairs.
    async with open_social_graph(database_url, clock, 60) as same:
        await asyncio.gather(*(noting.viewers.note(pairs[::step]) for noting in (graph, same) * 5 for step in (1, -1)))
    assert await _seen(graph, ann) == dict.fromkeys(others, MINUTE_MS)
    assert await _seen(graph, others[0]) == {ann: MINUTE_MS}


async def test_a_sighting_does_not_go_back(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await befriend(graph, ann, bob)
    clock.advance(120)
    await graph.viewers.note([(ann, bob)])
    clock.advance(-120)
    await graph.viewers.note([(ann, bob)])
    assert await _seen(graph, ann) == {bob: MINUTE_MS + 120_000}


async def test_on_postgresql_a_sighting_waits_for_nobody_who_holds_its_friendship(
    postgresql_url: str, clock: HeldClock
) -> None:
    async with open_social_graph(postgresql_url, clock, 60) as graph, open_database(postgresql_url) as database:
        ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
        await befriend(graph, ann, bob)
        await befriend(graph, ann, cat)
        between = (friendships.c.user_id == ann) & (friendships.c.friend_id == bob)
        async with database.write() as connection:
            await connection.execute(update(friendships).where(between).values(seen_ms=1))
            await graph.viewers.note([(ann, bob), (ann, cat)])
            assert await database.scalar(select(friendships.c.seen_ms).where(between)) is None
        assert await _seen(graph, ann) == {bob: 1, cat: MINUTE_MS}
        await graph.viewers.note([(ann, bob)])
        assert await _seen(graph, ann) == {bob: MINUTE_MS, cat: MINUTE_MS}
