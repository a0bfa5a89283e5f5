from __future__ import annotations

import asyncio

import pytest

from nearby.changes import Change, FriendshipChanged
from nearby.errors import Conflict, NotAllowed, NotFound
from nearby.model import UserId
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.requests import Befriended, FriendRequest
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import ask, befriend, person

NOBODY = UserId("00000000-0000-4000-8000-000000000000")


async def _friends(graph: SocialGraph, user_id: UserId) -> set[UserId]:
    return set(await graph.friendships.friend_ids(user_id))


async def test_a_request_alone_makes_no_friendship(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await ask(graph, ann, bob)
    assert await _friends(graph, ann) == await _friends(graph, bob) == set()
    assert await graph.changes.latest_sequence() == 0


async def test_acceptance_makes_a_friendship_of_both_sides_and_enters_the_feed(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    befriended = await befriend(graph, ann, bob)
    assert befriended.friend.user_id == ann
    assert (befriended.friend.since_ms, befriended.friend.sharing) == (NOW_MS, "exact")
    assert befriended.changes == [FriendshipChanged(1, bob, ann, True, True, True)]
    assert await graph.changes.changes_after(0, 10) == befriended.changes
    assert await _friends(graph, ann) == {bob}
    assert await _friends(graph, bob) == {ann}


async def test_only_the_addressee_may_accept_or_decline(graph: SocialGraph) -> None:
    ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    request_id = await ask(graph, ann, bob)
    for answer in (graph.requests.accept, graph.requests.decline):
        with pytest.raises(NotAllowed, match="not_addressee"):
            await answer(ann, request_id)
        with pytest.raises(NotFound, match="request_not_found"):
            await answer(cat, request_id)
    assert await _friends(graph, ann) == set()
    assert await graph.requests.accept(bob, request_id)


async def test_only_the_sender_may_cancel(graph: SocialGraph) -> None:
    ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    request_id = await ask(graph, ann, bob)
    with pytest.raises(NotAllowed, match="not_sender"):
        await graph.requests.cancel(bob, request_id)
    with pytest.raises(NotFound):
        await graph.requests.cancel(cat, request_id)
    await graph.requests.cancel(ann, request_id)
    with pytest.raises(NotFound):
        await graph.requests.accept(bob, request_id)


async def test_a_declined_request_is_over_and_may_be_made_again(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    request_id = await ask(graph, ann, bob)
    await graph.requests.decline(bob, request_id)
    with pytest.raises(NotFound):
        await graph.requests.accept(bob, request_id)
    assert await ask(graph, ann, bob) != request_id


async def test_crossing_requests_make_a_friendship_and_leave_no_request(graph: SocialGraph) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await ask(graph, ann, bob)
    outcome = await graph.requests.send(bob, ann)
    assert isinstance(outcome, Befriended)
    assert outcome.friend.user_id == ann
    assert await _friends(graph, ann) == {bob}
    for user_id in (ann, bob):
        for direction in ("incoming", "outgoing"):
            assert (await graph.requests.page(user_id, direction, 10)).requests == ()


async def test_requests_that_cross_at_the_same_moment_make_one_friendship(
    graph: SocialGraph, database_url: str, clock: HeldClock
) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    async with open_social_graph(database_url, clock, 60) as other_process:
        outcomes = await asyncio.gather(graph.requests.send(ann, bob), other_process.requests.send(bob, ann))
    assert {type(outcome) for outcome in outcomes} == {FriendRequest, Befriended}
    assert await graph.changes.latest_sequence() == 1


@pytest.mark.parametrize(
    ("addressee", "code"), [("ann", "request_to_self"), ("bob", "already_friends"), ("cat", "request_exists")]
)
async def test_a_request_that_makes_no_sense_is_a_conflict(graph: SocialGraph, addressee: str, code: str) -> None:
    people = {handle: await person(graph, handle) for handle in ("ann", "bob", "cat")}
    await befriend(graph, people["ann"], people["bob"])
    await ask(graph, people["ann"], people["cat"])
    with pytest.raises(Conflict) as caught:
        await graph.requests.send(people["ann"], people[addressee])
    assert caught.value.code == code


async def test_a_request_to_nobody_is_not_found(graph: SocialGraph) -> None:
    with pytest.raises(NotFound, match="user_not_found"):
        await graph.requests.send(await person(graph, "ann"), NOBODY)


@pytest.mark.parametrize("remover", ["ann", "bob"])
async def test_either_friend_ends_the_friendship_for_both(graph: SocialGraph, remover: str) -> None:
    people = {handle: await person(graph, handle) for handle in ("ann", "bob", "cat")}
    await befriend(graph, people["ann"], people["bob"])
    await befriend(graph, people["ann"], people["cat"])
    other = {"ann": "bob", "bob": "ann"}[remover]
    changes = await graph.friendships.remove(people[remover], people[other])
    assert changes == [FriendshipChanged(3, people[remover], people[other], False, True, True)]
    assert await _friends(graph, people["ann"]) == {people["cat"]}
    assert await _friends(graph, people["bob"]) == set()
    with pytest.raises(NotFound, match="friend_not_found"):
        await graph.friendships.remove(people[other], people[remover])


async def test_a_change_of_friendship_tells_both_switches_of_that_moment(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    await graph.sharing.pause(ann, None)
    await graph.sharing.pause(cat, NOW_MS + 1_000)

    def switches(changes: list[Change]) -> list[tuple[bool, bool]]:
        return [(c.user_sharing, c.friend_sharing) for c in changes if isinstance(c, FriendshipChanged)]

    assert switches(list((await befriend(graph, ann, bob)).changes)) == [(True, False)]
    assert switches(list((await befriend(graph, bob, cat)).changes)) == [(False, True)]
    clock.advance(1)
    assert switches(await graph.friendships.remove(bob, cat)) == [(True, True)], "the pause is over by itself"


async def test_pages_of_friends_together_are_all_of_them_once(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    others = [await person(graph, f"friend_{number}") for number in range(5)]
    for other in others:
        await befriend(graph, ann, other)
    found: list[UserId] = []
    after: UserId | None = None
    for size in (2, 2, 1):
        page = await graph.friendships.page(ann, 2, after)
        assert len(page.friends) == size
        found += [friend.user_id for friend in page.friends]
        after = page.next_after
    assert after is None
    assert found == sorted(others)


async def test_pages_of_requests_are_newest_first_even_within_a_millisecond(
    graph: SocialGraph, clock: HeldClock
) -> None:
    ann = await person(graph, "ann")
    for number in range(5):
        if number == 3:
            clock.advance(1)
        await ask(graph, await person(graph, f"asker_{number}"), ann)
    first = await graph.requests.page(ann, "incoming", 3)
    second = await graph.requests.page(ann, "incoming", 3, first.next_after)
    requests = [*first.requests, *second.requests]
    assert second.next_after is None
    assert {request.sender.handle for request in requests} == {f"asker_{number}" for number in range(5)}
    assert {request.sender.handle for request in requests[:2]} == {"asker_3", "asker_4"}
    assert {request.addressee.user_id for request in requests} == {ann}
    assert (await graph.requests.page(ann, "outgoing", 3)).requests == ()
