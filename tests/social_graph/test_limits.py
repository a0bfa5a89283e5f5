"""How much one user may have and do, and when a friend request is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from nearby.errors import Conflict, NotFound, QuotaSpent
from nearby.model import UserId
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.limits import Limits
from social_graph.requests import Befriended
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import ask, befriend, person

LIMITS = Limits(max_friends=2, requests_per_day=3, request_lifetime_s=86_400, idempotency_lifetime_s=60)


@pytest.fixture
async def graph(database_url: str, clock: HeldClock) -> AsyncIterator[SocialGraph]:
    async with open_social_graph(database_url, clock, 60, limits=LIMITS) as opened:
        yield opened


async def _people(graph: SocialGraph, count: int) -> list[UserId]:
    return [await person(graph, f"person_{number}") for number in range(count)]


async def test_nobody_gets_more_friends_than_allowed_by_any_way(graph: SocialGraph) -> None:
    ann, *others = await _people(graph, 5)
    link = await graph.invites.create(ann, 5, 3_600)
    waiting = await ask(graph, others[2], ann)
    for other in others[:2]:
        await befriend(graph, ann, other)
    with pytest.raises(Conflict, match="too_many_friends"):
        await graph.requests.accept(ann, waiting)
    with pytest.raises(Conflict, match="too_many_friends"):
        await graph.requests.send(ann, others[3])
    with pytest.raises(Conflict, match="too_many_friends"):
        await graph.invites.accept(others[3], link.token)
    await graph.friendships.remove(ann, others[0])
    assert await graph.requests.accept(ann, waiting)


async def test_the_last_place_is_taken_once_by_requests_accepted_at_once(graph: SocialGraph) -> None:
    ann, *others = await _people(graph, 4)
    requests = [await ask(graph, other, ann) for other in others]
    outcomes = await asyncio.gather(
        *(graph.requests.accept(ann, request_id) for request_id in requests), return_exceptions=True
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, Befriended)]) == 2
    assert len(await graph.friendships.friend_ids(ann)) == 2


async def test_requests_are_counted_by_day_whatever_becomes_of_them(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, *_ = await _people(graph, 2)
    for _ in range(3):
        await graph.requests.cancel(ann, await ask(graph, ann, bob))
    with pytest.raises(QuotaSpent) as caught:
        await ask(graph, ann, bob)
    assert caught.value.code == "too_many_requests_today"
    assert 0 < caught.value.retry_after_s <= 86_400
    assert await ask(graph, bob, ann), "others may"
    clock.advance(caught.value.retry_after_s)
    assert isinstance(await graph.requests.send(ann, bob), Befriended)


async def test_a_request_that_was_refused_is_not_counted(graph: SocialGraph) -> None:
    ann, bob = await _people(graph, 2)
    for _ in range(4):
        with pytest.raises(NotFound):
            await graph.requests.send(ann, UserId("00000000-0000-4000-8000-000000000000"))
    await ask(graph, ann, bob)
    for _ in range(4):
        with pytest.raises(Conflict, match="request_exists"):
            await ask(graph, ann, bob)


async def test_a_request_expires_and_is_then_as_if_it_had_never_been(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, cat = await _people(graph, 3)
    request_id = await ask(graph, ann, bob)
    clock.now_ms = NOW_MS + LIMITS.request_lifetime_s * 1000 - 1
    assert len((await graph.requests.page(bob, "incoming", 10)).requests) == 1
    clock.advance(0.001)
    assert (await graph.requests.page(bob, "incoming", 10)).requests == ()
    for attempt in (graph.requests.accept(bob, request_id), graph.requests.cancel(ann, request_id)):
        with pytest.raises(NotFound, match="request_not_found"):
            await attempt
    await ask(graph, bob, ann), "crosses nothing"
    await ask(graph, ann, cat)
    assert await graph.requests.delete_expired() == 0, "asking anew has removed it"


async def test_expired_requests_are_deleted(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, cat = await _people(graph, 3)
    await ask(graph, ann, bob)
    clock.advance(LIMITS.request_lifetime_s)
    young = await ask(graph, ann, cat)
    assert (await graph.requests.delete_expired(), await graph.requests.delete_expired()) == (1, 0)
    assert await graph.requests.accept(cat, young)
