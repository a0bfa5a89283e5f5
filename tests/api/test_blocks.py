"""Security S6: a block ends everything between two people, and hides that each of them exists."""

from __future__ import annotations

import statistics
import time

import httpx
import pytest

from nearby.changes import FriendshipChanged
from pubsub_router.router import Router
from tests.api.stack import Ear, Json, Stack, User, assert_problem
from tests.support.eventually import eventually

TIMED = 200
NOBODY = "00000000-0000-4000-8000-000000000000"


def _same(one: httpx.Response, other: httpx.Response) -> None:
    assert (one.status_code, one.content) == (other.status_code, other.content)
    assert one.headers == other.headers


async def _asked(stack: Stack, viewer: User, handle: str, user_id: str) -> list[httpx.Response]:
    """Everything that somebody can ask about somebody else, and one write whose answer might tell."""
    return [
        await stack.get(f"/v1/users?handle={handle}", viewer),
        await stack.post("/v1/friend-requests", viewer, {"handle": handle}),
        await stack.post("/v1/friend-requests", viewer, {"user_id": user_id}),
        await stack.delete(f"/v1/friends/{user_id}", viewer),
        await stack.delete(f"/v1/blocks/{user_id}", viewer),
        await stack.put(f"/v1/blocks/{user_id}", viewer, {}),
        await stack.delete(f"/v1/blocks/{user_id}", viewer),
    ]


async def test_S6_who_is_blocked_gets_the_answers_about_nobody(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    assert (await stack.put(f"/v1/blocks/{bob.user_id}", ann, {})).status_code == 204
    hidden = await _asked(stack, bob, "ann", ann.user_id)
    unknown = await _asked(stack, bob, "nobody", NOBODY)
    for one, other in zip(hidden, unknown, strict=True):
        _same(one, other)
    assert_problem(hidden[0], 404, "user_not_found")


async def test_S6_an_answer_about_somebody_hidden_takes_as_long_as_one_about_nobody(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.put(f"/v1/blocks/{bob.user_id}", ann, {})
    took_s: dict[str, list[float]] = {"ann": [], "nobody": []}
    for _ in range(TIMED):  # in turn, so that whatever else this machine does befalls both
        for handle, times in took_s.items():
            began_s = time.perf_counter()
            await stack.get(f"/v1/users?handle={handle}", bob)
            times.append(time.perf_counter() - began_s)
    hidden_s, unknown_s = (statistics.median(times) for times in took_s.values())
    assert 0.7 < hidden_s / unknown_s < 1.4


async def test_S6_who_blocks_finds_nobody_either(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.put(f"/v1/blocks/{bob.user_id}", ann, {})
    _same(await stack.get("/v1/users?handle=bob", ann), await stack.get("/v1/users?handle=nobody", ann))
    body: Json = {"handle": "bob"}
    assert_problem(await stack.post("/v1/friend-requests", ann, body), 404, "user_not_found")


async def test_S6_requests_and_invites_of_before_the_block_are_not_found(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    request_id = await stack.ask(ann, bob)
    token = (await stack.post("/v1/invites", ann, {})).json()["token"]
    await stack.put(f"/v1/blocks/{ann.user_id}", bob, {})
    for path in (f"/v1/friend-requests/{request_id}", f"/v1/friend-requests/{NOBODY}"):
        assert_problem(await stack.post(f"{path}/accept", bob), 404, "request_not_found")
        assert_problem(await stack.delete(path, ann), 404, "request_not_found")
    known = await stack.post("/v1/invitations/look-up", bob, {"token": token})
    _same(known, await stack.post("/v1/invitations/look-up", bob, {"token": "made-up"}))
    assert_problem(known, 404, "invite_not_found")


async def test_a_block_of_a_friend_is_told_to_both_at_once_and_enters_the_feed(
    stack: Stack, router: Router, ear: Ear
) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await ear.listen(router, [ann, bob])
    await stack.put(f"/v1/blocks/{bob.user_id}", ann, {})
    change = FriendshipChanged(2, ann.user_id, bob.user_id, False, True, True)
    assert (await stack.feed())[1:] == [change]
    await eventually(lambda: (ann.user_id, change) in ear.heard and (bob.user_id, change) in ear.heard, within_s=30)


async def test_the_list_is_ones_own_and_comes_in_pages(stack: Stack) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    for blocked in (bob.user_id, cat.user_id, NOBODY):
        await stack.put(f"/v1/blocks/{blocked}", ann, {})
    first = (await stack.get("/v1/blocks?limit=2", ann)).json()
    rest = (await stack.get(f"/v1/blocks?limit=2&cursor={first['next_cursor']}", ann)).json()
    assert rest["next_cursor"] is None
    people = {item["user_id"]: item["person"] for item in first["items"] + rest["items"]}
    assert people == {bob.user_id: bob.person, cat.user_id: cat.person, NOBODY: None}
    assert (await stack.get("/v1/blocks", bob)).json() == {"items": [], "next_cursor": None}
    assert (await stack.delete(f"/v1/blocks/{bob.user_id}", ann)).status_code == 204
    assert (await stack.post("/v1/friend-requests", ann, {"handle": "bob"})).status_code == 201


async def test_blocking_oneself_is_a_conflict(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.put(f"/v1/blocks/{ann.user_id}", ann, {}), 409, "block_self")


@pytest.mark.parametrize("cursor", ["!", "IjEi", "Ilx1MDAwMCI"])
async def test_a_cursor_that_is_none_is_refused(stack: Stack, cursor: str) -> None:
    answer = await stack.get(f"/v1/blocks?cursor={cursor}", await stack.user("ann"))
    assert_problem(answer, 422, "invalid_request")
