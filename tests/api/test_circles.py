"""Circles and rules over REST: what is refused, and what is whose."""

from __future__ import annotations

import uuid

import pytest

from nearby.changes import FriendshipChanged
from nearby.sharing import Tier, TierPlan
from social_graph.circles import MAX_CIRCLES
from tests.api.stack import Json, Stack, User, assert_problem

WORK: Json = {"name": "Work", "precision": "approximate", "until_ms": None}


async def circle_of(stack: Stack, user: User, **body: object) -> str:
    answer = await stack.post("/v1/circles", user, {**WORK, **body})
    assert answer.status_code == 201, answer.text
    return f"/v1/circles/{answer.json()['circle_id']}"


async def test_a_circle_is_made_read_changed_and_deleted(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = await circle_of(stack, ann)
    assert (await stack.put(f"{path}/members/{bob.user_id}", ann, {})).status_code == 204
    assert (await stack.put(f"{path}/members/{bob.user_id}", ann, {})).status_code == 204, "again is no error"
    body = (await stack.get(path, ann)).json()
    assert body == {**WORK, "circle_id": path.rsplit("/", 1)[1], "members": [bob.user_id]}
    changed = await stack.put(path, ann, {"name": "Job", "precision": "off"})
    assert changed.json() == {**body, "name": "Job", "precision": "off"}
    assert (await stack.get("/v1/circles", ann)).json() == {"items": [changed.json()], "next_cursor": None}
    assert (await stack.delete(path, ann)).status_code == 204
    assert_problem(await stack.get(path, ann), 404, "circle_not_found")
    plans = [change.user_shows for change in await stack.feed() if isinstance(change, FriendshipChanged)]
    assert plans == [TierPlan(), TierPlan(Tier.APPROXIMATE), TierPlan(Tier.OFF), TierPlan()]


async def test_circles_come_page_by_page(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    made = sorted([await circle_of(stack, ann, name=name) for name in ("Work", "Club", "Band")])
    await stack.put(f"{made[0]}/members/{bob.user_id}", ann, {})
    first = (await stack.get("/v1/circles?limit=2", ann)).json()
    rest = (await stack.get(f"/v1/circles?limit=2&cursor={first['next_cursor']}", ann)).json()
    assert [f"/v1/circles/{circle['circle_id']}" for circle in first["items"] + rest["items"]] == made
    assert [circle["members"] for circle in first["items"] + rest["items"]] == [[bob.user_id], [], []]
    assert rest["next_cursor"] is None
    assert_problem(await stack.get("/v1/circles?cursor=bm9uc2Vuc2U", ann), 422, "invalid_request")


async def test_a_friend_who_is_removed_leaves_the_circles(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = await circle_of(stack, ann)
    await stack.put(f"{path}/members/{bob.user_id}", ann, {})
    await stack.delete(f"/v1/friends/{bob.user_id}", ann)
    assert (await stack.get(path, ann)).json()["members"] == []
    await stack.befriend(ann, bob)
    sharing = (await stack.get(f"/v1/friends/{bob.user_id}/sharing", ann)).json()
    assert sharing["in_force"] == {"precision": "exact", "until_ms": None, "reason": "rule"}


async def test_a_circle_is_its_owners_alone(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = await circle_of(stack, ann)
    for answer in (
        await stack.get(path, bob),
        await stack.put(path, bob, WORK),
        await stack.delete(path, bob),
        await stack.put(f"{path}/members/{ann.user_id}", bob, {}),
        await stack.delete(f"{path}/members/{ann.user_id}", bob),
    ):
        assert_problem(answer, 404, "circle_not_found")
    assert (await stack.get("/v1/circles", bob)).json()["items"] == []


async def test_only_friends_join_and_only_members_leave(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    path = await circle_of(stack, ann)
    member = f"{path}/members/{bob.user_id}"
    assert_problem(await stack.put(member, ann, {}), 404, "friend_not_found")
    assert_problem(await stack.delete(member, ann), 404, "friend_not_found")


async def test_names_are_unique_and_circles_not_without_number(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    path = await circle_of(stack, ann)
    await circle_of(stack, bob)
    other = await circle_of(stack, ann, name="Club")
    assert_problem(await stack.post("/v1/circles", ann, WORK), 409, "circle_exists")
    assert_problem(await stack.put(other, ann, WORK), 409, "circle_exists")
    assert (await stack.put(path, ann, WORK)).status_code == 200
    for number in range(MAX_CIRCLES - 2):
        await circle_of(stack, ann, name=f"Circle {number}")
    assert_problem(await stack.post("/v1/circles", ann, {**WORK, "name": "x"}), 409, "too_many_circles")


async def test_a_rule_with_an_end_gives_way_to_the_one_that_stands(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = f"/v1/friends/{bob.user_id}/sharing"
    until_ms = stack.clock() + 60_000
    await stack.put(path, ann, {"precision": "off"})
    answer = (await stack.put(path, ann, {"precision": "exact", "until_ms": until_ms})).json()
    assert answer == {
        "precision": "exact",
        "until_ms": until_ms,
        "then": "off",
        "openly": False,
        "in_force": {"precision": "exact", "until_ms": until_ms, "reason": "rule"},
    }
    assert (await stack.get("/v1/friends", ann)).json()["items"][0]["sharing"] == "exact"
    stack.clock.advance(60)
    ended = (await stack.get(path, ann)).json()
    assert (ended["precision"], ended["until_ms"], ended["then"]) == ("off", None, None)
    assert (await stack.get("/v1/friends", ann)).json()["items"][0]["sharing"] == "off"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"precision": "vague"},
        {"precision": "exact", "openly": True},
        {"precision": "off", "until_ms": 1},
        {"precision": "off", "until_ms": "soon"},
        {"precision": "off", "friend": "bob"},
    ],
    ids=str,
)
async def test_a_wrong_rule_is_refused_and_changes_nothing(stack: Stack, body: Json) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = f"/v1/friends/{bob.user_id}/sharing"
    assert_problem(await stack.put(path, ann, body), 422, "invalid_request")
    assert (await stack.get(path, ann)).json()["precision"] == "exact"


async def test_a_stranger_and_nobody_are_the_same_to_rules(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    for other in (bob.user_id, str(uuid.uuid4()), ann.user_id):
        path = f"/v1/friends/{other}/sharing"
        assert_problem(await stack.get(path, ann), 404, "friend_not_found")
        assert_problem(await stack.put(path, ann, {"precision": "off"}), 404, "friend_not_found")


WINDOW: Json = {"days": ["mon", "fri"], "from": "22:00", "to": "07:00", "precision": "off"}


async def test_windows_and_their_time_zone_are_kept_until_they_are_set_anew(stack: Stack) -> None:
    ann = await stack.user("ann")
    body: Json = {"state": "on", "windows": [WINDOW], "time_zone": "Asia/Seoul", "default_precision": "approximate"}
    said = {**body, "until_ms": None}
    assert (await stack.put("/v1/me/sharing", ann, body)).json() == said
    paused = {**said, "state": "paused"}
    assert (await stack.put("/v1/me/sharing", ann, {"state": "paused"})).json() == paused
    assert (await stack.get("/v1/me/sharing", ann)).json() == paused
    assert (await stack.put("/v1/me/sharing", ann, {"state": "on", "windows": []})).json()["windows"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../etc/passwd"},
        {"default_precision": "vague"},
        {"windows": [{**WINDOW, "days": []}]},
        {"windows": [{**WINDOW, "days": ["someday"]}]},
        {"windows": [{**WINDOW, "from": "24:00"}]},
        {"windows": [{**WINDOW, "to": "7:00"}]},
        {"windows": [{**WINDOW, "precision": "exact"}]},
        {"windows": [WINDOW] * 51},
    ],
    ids=lambda change: str(change)[:40],
)
async def test_wrong_windows_are_refused(stack: Stack, change: Json) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.put("/v1/me/sharing", ann, {"state": "on", **change}), 422, "invalid_request")
