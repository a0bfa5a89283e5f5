from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from nearby.changes import FriendshipChanged
from nearby.errors import Conflict, NotFound
from nearby.model import UserId
from social_graph import blocks
from social_graph.graph import SocialGraph
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS
from tests.social_graph.people import ask, befriend, person

NOBODY = UserId("00000000-0000-4000-8000-000000000000")


@pytest.fixture
async def people(graph: SocialGraph) -> tuple[UserId, UserId]:
    return await person(graph, "ann"), await person(graph, "bob")


async def test_a_block_ends_the_friendship_in_the_feed_too(graph: SocialGraph, people: tuple[UserId, UserId]) -> None:
    ann, bob = people
    await befriend(graph, ann, bob)
    changes = await graph.blocks.block(ann, bob)
    assert changes == [FriendshipChanged(2, ann, bob, False, True, True)]
    assert (await graph.changes.changes_after(1, 10)) == changes
    assert await graph.friendships.friend_ids(ann) == await graph.friendships.friend_ids(bob) == []
    assert await graph.blocks.block(ann, bob) == [], "again changes nothing"


@pytest.mark.parametrize("blocker", [0, 1])
async def test_a_block_ends_requests_in_both_directions(
    graph: SocialGraph, people: tuple[UserId, UserId], blocker: int
) -> None:
    ann, bob = people
    request_id = await ask(graph, ann, bob)
    await graph.blocks.block(people[blocker], people[1 - blocker])
    with pytest.raises(NotFound, match="request_not_found"):
        await graph.requests.accept(bob, request_id)
    assert (await graph.requests.page(ann, "outgoing", 10)).requests == ()


@pytest.mark.parametrize("blocker", [0, 1])
async def test_neither_finds_the_other_whoever_blocked(
    graph: SocialGraph, people: tuple[UserId, UserId], blocker: int
) -> None:
    await graph.blocks.block(people[blocker], people[1 - blocker])
    handles = ("ann", "bob")
    for viewer in (0, 1):
        with pytest.raises(NotFound, match="user_not_found"):
            await graph.users.by_handle(handles[1 - viewer], people[viewer])
        with pytest.raises(NotFound, match="user_not_found"):
            await graph.requests.send(people[viewer], people[1 - viewer])
        assert (await graph.users.by_handle(handles[viewer], people[viewer])).user_id == people[viewer]


async def test_somebody_hidden_and_somebody_unknown_cost_the_same_queries(
    graph: SocialGraph, people: tuple[UserId, UserId]
) -> None:
    ann, bob = people
    await graph.blocks.block(bob, ann)
    statements: list[str] = []

    def record(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    async def asked(handle: str, user_id: UserId) -> list[str]:
        statements.clear()
        with pytest.raises(NotFound):
            await graph.users.by_handle(handle, ann)
        with pytest.raises(NotFound):
            await graph.requests.send(ann, user_id)
        await graph.blocks.block(ann, user_id)
        return list(statements)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        hidden, unknown = await asked("bob", bob), await asked("nobody", NOBODY)
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    assert hidden == unknown


async def test_after_unblocking_they_find_each_other_and_are_no_friends(
    graph: SocialGraph, people: tuple[UserId, UserId]
) -> None:
    ann, bob = people
    await befriend(graph, ann, bob)
    await graph.blocks.block(ann, bob)
    await graph.blocks.unblock(ann, bob)
    assert (await graph.users.by_handle("ann", bob)).user_id == ann
    assert await graph.friendships.friend_ids(ann) == []
    assert await ask(graph, bob, ann)
    with pytest.raises(NotFound, match="block_not_found"):
        await graph.blocks.unblock(ann, bob)


async def test_when_both_block_one_unblocking_is_not_enough(graph: SocialGraph, people: tuple[UserId, UserId]) -> None:
    ann, bob = people
    await graph.blocks.block(ann, bob)
    await graph.blocks.block(bob, ann)
    await graph.blocks.unblock(ann, bob)
    with pytest.raises(NotFound):
        await graph.users.by_handle("bob", ann)


async def test_the_list_names_whom_i_block_but_not_who_blocks_me_too(
    graph: SocialGraph, people: tuple[UserId, UserId]
) -> None:
    ann, bob = people
    cat = await person(graph, "cat")
    for blocked in (bob, cat, NOBODY):
        await graph.blocks.block(ann, blocked)
    await graph.blocks.block(cat, ann)
    page = await graph.blocks.page(ann, 2)
    rest = await graph.blocks.page(ann, 2, page.next_after)
    assert rest.next_after is None
    found = {block.user_id: block.person and block.person.handle for block in page.blocks + rest.blocks}
    assert found == {bob: "bob", cat: None, NOBODY: None}
    assert {block.since_ms for block in page.blocks} == {NOW_MS}


async def test_nobody_blocks_themselves_or_without_end(
    graph: SocialGraph, people: tuple[UserId, UserId], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = people
    with pytest.raises(Conflict, match="block_self"):
        await graph.blocks.block(ann, ann)
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 1)
    await graph.blocks.block(ann, raw.user_id("7"))
    with pytest.raises(Conflict, match="too_many_blocks"):
        await graph.blocks.block(ann, bob)
    await graph.blocks.block(ann, raw.user_id("7"))
