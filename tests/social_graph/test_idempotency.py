from __future__ import annotations

import asyncio

import pytest

from nearby.model import UserId
from social_graph.graph import SocialGraph
from social_graph.idempotency import LEASE_S, Begun, Different, Done, UnderWay
from social_graph.limits import Limits
from tests.social_graph import raw
from tests.social_graph.clock import HeldClock
from tests.social_graph.people import person

KEY, ANSWER = "3f8e0c1a", b'{"token":"only here"}'


@pytest.fixture
async def ann(graph: SocialGraph) -> UserId:
    return await person(graph, "ann")


async def test_of_several_at_once_one_begins_and_later_ones_get_its_answer(graph: SocialGraph, ann: UserId) -> None:
    keys = graph.idempotency_keys
    claims = await asyncio.gather(*(keys.claim(ann, KEY, "f") for _ in range(5)))
    assert sorted(type(claim).__name__ for claim in claims) == ["Begun", *["UnderWay"] * 4]
    await keys.finish(ann, KEY, 201, ANSWER)
    assert await keys.claim(ann, KEY, "f") == Done(201, ANSWER)
    assert await keys.claim(ann, KEY, "another request") == Different()


async def test_a_key_is_its_users_own(graph: SocialGraph, ann: UserId) -> None:
    bob = await person(graph, "bob")
    keys = graph.idempotency_keys
    assert await keys.claim(ann, KEY, "f") == Begun()
    assert await keys.claim(bob, KEY, "f") == Begun()


async def test_a_released_key_and_one_whose_process_died_begin_anew(
    graph: SocialGraph, ann: UserId, clock: HeldClock
) -> None:
    keys = graph.idempotency_keys
    await keys.claim(ann, KEY, "f")
    await keys.release(ann, KEY)
    assert await keys.claim(ann, KEY, "f") == Begun()
    clock.advance(LEASE_S - 1)
    assert await keys.claim(ann, KEY, "f") == UnderWay()
    clock.advance(1)
    assert await keys.claim(ann, KEY, "f") == Begun()


async def test_answers_are_kept_for_their_time_and_then_deleted(
    graph: SocialGraph, ann: UserId, clock: HeldClock
) -> None:
    keys = graph.idempotency_keys
    for key in (KEY, "other"):
        await keys.claim(ann, key, "f")
        await keys.finish(ann, key, 201, ANSWER)
    clock.advance(Limits().idempotency_lifetime_s - 1)
    assert await keys.delete_expired() == 0
    assert await keys.claim(ann, KEY, "f") == Done(201, ANSWER)
    clock.advance(1)
    assert await keys.claim(ann, KEY, "f") == Begun()
    assert (await keys.delete_expired(), await keys.delete_expired()) == (1, 0)


async def test_neither_key_nor_answer_can_be_read_from_the_database(
    graph: SocialGraph, ann: UserId, database_url: str
) -> None:
    await graph.idempotency_keys.claim(ann, KEY, "f")
    await graph.idempotency_keys.finish(ann, KEY, 201, ANSWER)
    stored = await raw.dump(database_url)
    assert "idempotency_keys" in stored
    assert KEY not in stored
    assert "only here" not in stored
