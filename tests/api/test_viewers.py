"""Who can see me, how exactly and why, and when they last did."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.stack import Stack, User, assert_problem, service_headers
from tests.social_graph.clock import NOW_MS


async def note(stack: Stack, *pairs: tuple[User, User]) -> httpx.Response:
    body = {"pairs": [[owner.user_id, viewer.user_id] for owner, viewer in pairs]}
    return await stack.internal.post("/internal/v1/sightings", json=body, headers=service_headers())


async def viewers(stack: Stack, user: User, query: str = "") -> dict[str, Any]:
    answer = await stack.get(f"/v1/me/viewers{query}", user)
    assert answer.status_code == 200, answer.text
    return {item["handle"]: item for item in answer.json()["items"]}


async def test_each_friend_is_listed_with_the_tier_in_force_and_what_sets_it(stack: Stack) -> None:
    ann, bob, cat, dan = await stack.users("ann", "bob", "cat", "dan")
    for friend in (bob, cat, dan):
        await stack.befriend(ann, friend)
    until_ms = stack.clock() + 60_000
    await stack.put(f"/v1/friends/{bob.user_id}/sharing", ann, {"precision": "off", "until_ms": until_ms})
    circle = (await stack.post("/v1/circles", ann, {"name": "Work", "precision": "approximate"})).json()
    await stack.put(f"/v1/circles/{circle['circle_id']}/members/{cat.user_id}", ann, {})
    found = await viewers(stack, ann)
    assert {handle: item["in_force"] for handle, item in found.items()} == {
        "bob": {"precision": "off", "until_ms": until_ms, "reason": "rule"},
        "cat": {"precision": "approximate", "until_ms": None, "reason": "circle"},
        "dan": {"precision": "exact", "until_ms": None, "reason": "rule"},
    }
    assert found["bob"].keys() == {"user_id", "handle", "display_name", "in_force", "last_seen_ms"}
    await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    assert {item["in_force"]["reason"] for item in (await viewers(stack, ann)).values()} == {"paused"}
    assert (await viewers(stack, bob))["ann"]["in_force"]["precision"] == "exact"


async def test_what_gateways_note_is_shown_to_the_minute_to_the_owner_alone(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    assert (await viewers(stack, ann))["bob"]["last_seen_ms"] is None
    stack.clock.advance(90.5)
    assert (await note(stack, (ann, bob))).json() == {"noted": 1}
    minute_ms = (NOW_MS + 90_500) // 60_000 * 60_000
    assert (await viewers(stack, ann))["bob"]["last_seen_ms"] == minute_ms
    assert (await viewers(stack, bob))["ann"]["last_seen_ms"] is None


async def test_those_who_are_no_friends_leave_nothing_and_a_friendship_that_ends_takes_it_along(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await note(stack, (ann, bob))
    await stack.befriend(ann, bob)
    assert (await viewers(stack, ann))["bob"]["last_seen_ms"] is None
    await note(stack, (ann, bob))
    await stack.delete(f"/v1/friends/{bob.user_id}", ann)
    await stack.befriend(ann, bob)
    assert (await viewers(stack, ann))["bob"]["last_seen_ms"] is None


async def test_viewers_come_in_pages(stack: Stack) -> None:
    ann, *friends = await stack.users("ann", "bob", "cat", "dan")
    for friend in friends:
        await stack.befriend(ann, friend)
    first = (await stack.get("/v1/me/viewers?limit=2", ann)).json()
    rest = (await stack.get(f"/v1/me/viewers?limit=2&cursor={first['next_cursor']}", ann)).json()
    ids = [item["user_id"] for item in first["items"] + rest["items"]]
    assert ids == sorted(friend.user_id for friend in friends)
    assert rest["next_cursor"] is None


async def test_only_gateways_may_note_and_only_so_many_at_once(stack: Stack) -> None:
    ann = await stack.user("ann")
    answer = await stack.internal.post("/internal/v1/sightings", json={"pairs": []})
    assert_problem(answer, 401, "not_authenticated")
    assert_problem(await note(stack, *[(ann, ann)] * 501), 422, "invalid_request")
