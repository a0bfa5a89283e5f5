from __future__ import annotations

from dataclasses import replace

import pytest

from nearby.model import FriendEdge, FriendList, UserId
from nearby.sharing import Limits
from social_graph.database import open_database
from social_graph.friend_lists import FriendLists
from social_graph.graph import SocialGraph
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import befriend, person
from tests.social_graph.statements import recorded

NOBODY = UserId("00000000-0000-4000-8000-000000000000")


async def _list(graph: SocialGraph, user_id: UserId) -> FriendList:
    (found,) = await graph.friend_lists.read([user_id])
    assert found is not None
    return replace(found, friends=tuple(sorted(found.friends, key=lambda edge: edge.user_id)))


async def test_lists_come_in_the_order_asked_for_with_none_for_nobody(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await befriend(graph, ann, bob)
    assert await graph.friend_lists.read([bob, NOBODY, ann, bob]) == [
        FriendList(bob, 1, True, 0, (FriendEdge(ann),)),
        None,
        FriendList(ann, 1, True, 0, (FriendEdge(bob),)),
        FriendList(bob, 1, True, 0, (FriendEdge(ann),)),
    ]
    assert await graph.friend_lists.read([]) == []


async def test_a_list_tells_the_switches_and_what_set_them(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    await befriend(graph, ann, bob)
    await befriend(graph, ann, cat)
    await graph.sharing.pause(bob, NOW_MS + 1_000)
    await graph.sharing.pause(ann, None)
    await graph.credentials.revoke_tokens(ann, NOW_MS)
    limits = Limits(paused_until_ms=NOW_MS + 1_000)
    edges = {bob: FriendEdge(bob, False, 3, limits), cat: FriendEdge(cat, True, 0)}
    expected = FriendList(ann, 5, False, NOW_MS + 1, tuple(edges[user_id] for user_id in sorted(edges)))
    assert await _list(graph, ann) == expected
    clock.advance(1)
    assert FriendEdge(bob, True, 3) in (await _list(graph, ann)).friends, "the pause is over by itself"


async def test_a_list_has_nobody_removed_and_a_later_position(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await befriend(graph, ann, bob)
    (change,) = await graph.friendships.remove(ann, bob)
    assert await _list(graph, ann) == FriendList(ann, change.sequence, True, 0, ())


async def test_any_number_of_lists_takes_three_queries(graph: SocialGraph, database_url: str, clock: HeldClock) -> None:
    people = [await person(graph, f"user_{number}") for number in range(4)]
    for other in people[1:]:
        await befriend(graph, people[0], other)
    async with open_database(database_url, pool_size=1) as database, recorded(database) as asked:
        await FriendLists(database, clock).read([*people, *(UserId(f"{number:036}") for number in range(996))])
    assert len(asked) == 3


async def test_more_lists_than_allowed_are_a_mistake_of_ours(graph: SocialGraph) -> None:
    with pytest.raises(AssertionError):
        await graph.friend_lists.read([NOBODY] * 1001)


async def test_the_feed_is_read_in_order_and_in_parts(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    for _ in range(3):
        await graph.sharing.pause(ann, None)
        await graph.sharing.resume(ann)
    assert [change.sequence for change in await graph.changes.changes_after(0, 4)] == [1, 2, 3, 4]
    assert [change.sequence for change in await graph.changes.changes_after(4, 4)] == [5, 6]
    assert await graph.changes.changes_after(6, 4) == []
    assert await graph.changes.latest_sequence() == 6
