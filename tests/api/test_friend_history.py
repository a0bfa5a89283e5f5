"""Where a friend was: only what they let me see, from when they did until they do not."""

from __future__ import annotations

import pytest

from nearby.model import HistoryPoint, Location
from tests.api.stack import Json, Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

NOBODY = "00000000-0000-4000-8000-000000000000"


async def record(stack: Stack, user: User, *recorded_at_ms: int, flagged: bool = False) -> None:
    moving = [Location(1.5, 2.5, at_ms, 8.0, 1.25, 90.0) for at_ms in recorded_at_ms]
    await stack.services.history.write_many([HistoryPoint(user.user_id, at, flagged) for at in moving])


async def grant(stack: Stack, owner: User, viewer: User, until_ms: int | None = None) -> Json:
    answer = await stack.put(f"/v1/friends/{viewer.user_id}/history-grant", owner, {"until_ms": until_ms})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def seen(stack: Stack, viewer: User, owner: User, query: str = "") -> list[int]:
    answer = await stack.get(f"/v1/friends/{owner.user_id}/history{query}", viewer)
    assert answer.status_code == 200, answer.text
    return [item["recorded_at_ms"] for item in answer.json()["items"]]


async def hidden(stack: Stack, viewer: User, owner_id: str) -> None:
    answer = await stack.get(f"/v1/friends/{owner_id}/history", viewer)
    nobodys = await stack.get(f"/v1/friends/{NOBODY}/history", viewer)
    assert_problem(answer, 404, "friend_not_found")
    assert (answer.content, answer.headers) == (nobodys.content, nobodys.headers)


async def test_a_friend_sees_what_was_recorded_since_the_grant_and_no_more_than_they_need(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await record(stack, ann, NOW_MS - 1_000, NOW_MS)
    assert await grant(stack, ann, bob) == {"from_ms": NOW_MS, "until_ms": None}
    stack.clock.advance(10)
    await record(stack, ann, NOW_MS + 5_000)
    await record(stack, ann, NOW_MS + 6_000, flagged=True)
    answer = await stack.get(f"/v1/friends/{ann.user_id}/history", bob)
    assert answer.json() == {
        "items": [
            {"lat": 1.5, "lon": 2.5, "recorded_at_ms": NOW_MS + 5_000, "accuracy_m": 8.0},
            {"lat": 1.5, "lon": 2.5, "recorded_at_ms": NOW_MS, "accuracy_m": 8.0},
        ],
        "next_cursor": None,
    }
    assert await seen(stack, bob, ann, f"?from_ms=0&to_ms={NOW_MS + 1}") == [NOW_MS]


async def test_pages_stay_within_the_grant(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await record(stack, ann, *range(NOW_MS - 3, NOW_MS + 3))
    await grant(stack, ann, bob)
    stack.clock.advance(1)
    body = (await stack.get(f"/v1/friends/{ann.user_id}/history?limit=2", bob)).json()
    assert [item["recorded_at_ms"] for item in body["items"]] == [NOW_MS + 2, NOW_MS + 1]
    assert await seen(stack, bob, ann, f"?limit=2&cursor={body['next_cursor']}") == [NOW_MS]


async def test_it_ends_at_its_end(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await grant(stack, ann, bob, NOW_MS + 5_000)
    await record(stack, ann, NOW_MS + 1_000, NOW_MS + 5_000)
    stack.clock.advance(4)
    assert await seen(stack, bob, ann) == [NOW_MS + 1_000]
    stack.clock.advance(1)
    await hidden(stack, bob, ann.user_id)
    assert_problem(await stack.get(f"/v1/friends/{bob.user_id}/history-grant", ann), 404, "grant_not_found")


async def test_a_new_grant_does_not_open_what_lay_between(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await grant(stack, ann, bob, NOW_MS + 5_000)
    stack.clock.advance(10)
    await record(stack, ann, NOW_MS + 1_000, NOW_MS + 7_000)
    assert await grant(stack, ann, bob) == {"from_ms": NOW_MS + 10_000, "until_ms": None}
    assert await seen(stack, bob, ann) == []


async def test_prolonging_a_grant_keeps_its_begin(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await grant(stack, ann, bob, NOW_MS + 5_000)
    stack.clock.advance(1)
    longer = {"from_ms": NOW_MS, "until_ms": NOW_MS + 60_000}
    assert await grant(stack, ann, bob, NOW_MS + 60_000) == longer
    assert (await stack.get(f"/v1/friends/{bob.user_id}/history-grant", ann)).json() == longer


async def test_withdrawing_ends_it_at_once(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await grant(stack, ann, bob)
    await record(stack, ann, NOW_MS)
    for _ in range(2):
        assert (await stack.delete(f"/v1/friends/{bob.user_id}/history-grant", ann)).status_code == 204
        await hidden(stack, bob, ann.user_id)


@pytest.mark.parametrize("who", ["owner", "viewer"])
async def test_it_ends_with_the_friendship_and_does_not_come_back_with_another(stack: Stack, who: str) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await grant(stack, ann, bob)
    await record(stack, ann, NOW_MS)
    remover, removed = (ann, bob) if who == "owner" else (bob, ann)
    await stack.delete(f"/v1/friends/{removed.user_id}", remover)
    await hidden(stack, bob, ann.user_id)
    await stack.befriend(ann, bob)
    await hidden(stack, bob, ann.user_id)


async def test_everybody_else_is_told_the_same_as_of_nobody(stack: Stack) -> None:
    ann, bob, cleo, dan = await stack.users("ann", "bob", "cleo", "dan")
    await stack.befriend(ann, bob)
    await stack.befriend(ann, cleo)
    await record(stack, ann, NOW_MS)
    await grant(stack, ann, bob)
    assert await seen(stack, bob, ann) == [NOW_MS]
    for viewer in (cleo, dan, ann):
        await hidden(stack, viewer, ann.user_id)
    # What ann lets bob see does not let her see his.
    await hidden(stack, ann, bob.user_id)
    await stack.delete("/v1/me", ann)
    await hidden(stack, bob, ann.user_id)


async def test_who_pauses_shows_nothing_of_before_either(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await record(stack, ann, NOW_MS)
    await grant(stack, ann, bob)
    await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    await hidden(stack, bob, ann.user_id)
    await stack.put("/v1/me/sharing", ann, {"state": "on"})
    assert await seen(stack, bob, ann) == [NOW_MS]


async def test_a_friend_sees_no_further_back_than_the_owner(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await record(stack, ann, NOW_MS)
    await grant(stack, ann, bob)
    await stack.put("/v1/me/history-settings", ann, {"retention": "live_only"})
    assert await seen(stack, bob, ann) == []


async def test_only_friends_get_a_grant(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    for other in (bob.user_id, ann.user_id, NOBODY):
        answer = await stack.put(f"/v1/friends/{other}/history-grant", ann, {"until_ms": None})
        assert_problem(answer, 404, "friend_not_found")


@pytest.mark.parametrize("body", [{"until_ms": NOW_MS}, {"until_ms": "x"}, {"until_ms": None, "from_ms": 0}])
async def test_a_wrong_grant_is_refused(stack: Stack, body: Json) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    answer = await stack.put(f"/v1/friends/{bob.user_id}/history-grant", ann, body)
    assert_problem(answer, 422, "invalid_request")
