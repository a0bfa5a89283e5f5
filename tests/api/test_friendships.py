from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest

from api.schemas import FriendPageBody
from nearby.changes import FriendshipChanged
from tests.api.stack import Json, Stack, assert_problem

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_a_request_waits_in_both_lists_and_makes_no_friendship(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    answer = await stack.post("/v1/friend-requests", ann, {"handle": "bob"})
    request_id = answer.json()["request_id"]
    assert (answer.status_code, answer.json()) == (201, {"request_id": request_id, "to": bob.person})
    item = {"request_id": request_id, "from": ann.person, "to": bob.person, "created_ms": stack.clock()}
    whole: Json = {"items": [item], "next_cursor": None}
    empty: Json = {"items": [], "next_cursor": None}
    assert (await stack.get("/v1/friend-requests?direction=outgoing", ann)).json() == whole
    assert (await stack.get("/v1/friend-requests?direction=incoming", bob)).json() == whole
    assert (await stack.get("/v1/friend-requests?direction=incoming", ann)).json() == empty
    assert await stack.friend_ids(ann) == await stack.friend_ids(bob) == set()
    assert await stack.feed() == []


async def test_acceptance_makes_both_friends(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    request_id = await stack.ask(ann, bob)
    answer = await stack.post(f"/v1/friend-requests/{request_id}/accept", bob)
    friend = {"since_ms": stack.clock(), "sharing": "exact"}
    assert (answer.status_code, answer.json()) == (200, {**ann.person, **friend})
    assert (await stack.get("/v1/friends", bob)).json() == {"items": [{**ann.person, **friend}], "next_cursor": None}
    assert (await stack.get("/v1/friends", ann)).json() == {"items": [{**bob.person, **friend}], "next_cursor": None}
    assert (await stack.get("/v1/friend-requests?direction=incoming", bob)).json()["items"] == []
    assert await stack.feed() == [FriendshipChanged(1, bob.user_id, ann.user_id, True, True, True)]


async def test_no_friendship_without_acceptance_by_the_addressee(stack: Stack) -> None:
    ann, bob, eve = await stack.users("ann", "bob", "eve")
    request_id = await stack.ask(ann, bob)
    accept, decline = (f"/v1/friend-requests/{request_id}/{answer}" for answer in ("accept", "decline"))
    for path in (accept, decline):
        assert_problem(await stack.post(path, ann), 403, "not_addressee")
        assert_problem(await stack.post(path, eve), 404, "request_not_found")
        assert_problem(await stack.public.post(path), 401, "not_authenticated")
    assert await stack.friend_ids(ann) == await stack.friend_ids(bob) == set()
    assert await stack.feed() == []


async def test_a_declined_request_is_over(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    path = f"/v1/friend-requests/{await stack.ask(ann, bob)}"
    assert (await stack.post(f"{path}/decline", bob)).status_code == 204
    assert_problem(await stack.post(f"{path}/accept", bob), 404, "request_not_found")
    assert_problem(await stack.post(f"{path}/decline", bob), 404, "request_not_found")
    assert await stack.friend_ids(ann) == set()


async def test_only_the_sender_cancels(stack: Stack) -> None:
    ann, bob, eve = await stack.users("ann", "bob", "eve")
    path = f"/v1/friend-requests/{await stack.ask(ann, bob)}"
    assert_problem(await stack.delete(path, bob), 403, "not_sender")
    assert_problem(await stack.delete(path, eve), 404, "request_not_found")
    assert (await stack.delete(path, ann)).status_code == 204
    assert_problem(await stack.post(f"{path}/accept", bob), 404, "request_not_found")


async def test_a_page_of_friends_is_exactly_the_body_that_is_documented(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    answer = await stack.get("/v1/friends", ann)
    assert FriendPageBody.model_validate_json(answer.content, extra="forbid").model_dump() == answer.json()


async def test_friends_are_listed_alike_with_and_without_a_query(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    plain, asked = await stack.get("/v1/friends", ann), await stack.get("/v1/friends?limit=50", ann)
    assert (plain.status_code, plain.content) == (asked.status_code, asked.content)
    assert plain.headers == asked.headers
    assert plain.json()["items"] == [{**bob.person, "since_ms": stack.clock(), "sharing": "exact"}]


@pytest.mark.parametrize("query", ["", "?limit=50"])
async def test_friends_are_listed_to_nobody_without_a_good_token(stack: Stack, query: str) -> None:
    ann = await stack.user("ann")
    path = f"/v1/friends{query}"
    for authorization in (None, "Bearer", "Bearer x", f"Basic {ann.access_token}", f"Bearer {ann.access_token}x"):
        headers = {} if authorization is None else {"Authorization": authorization}
        assert_problem(await stack.public.get(path, headers=headers), 401, "not_authenticated")
    assert (await stack.get(path, ann)).status_code == 200
    assert (await stack.delete("/v1/tokens", ann)).status_code == 204
    assert_problem(await stack.get(path, ann), 401, "not_authenticated")


async def test_crossing_requests_make_a_friendship(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.ask(ann, bob)
    answer = await stack.post("/v1/friend-requests", bob, {"user_id": ann.user_id})
    assert answer.status_code == 200
    assert answer.json() == {**ann.person, "since_ms": stack.clock(), "sharing": "exact"}
    assert await stack.friend_ids(ann) == {bob.user_id}
    assert (await stack.get("/v1/friend-requests?direction=outgoing", ann)).json()["items"] == []


async def test_a_request_accepted_twice_at_once_makes_one_friendship(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    path = f"/v1/friend-requests/{await stack.ask(ann, bob)}/accept"
    answers = await asyncio.gather(*(stack.post(path, bob) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404]
    assert len(await stack.feed()) == 1


@pytest.mark.parametrize(
    ("to", "code"), [("ann", "request_to_self"), ("bob", "already_friends"), ("cat", "request_exists")]
)
async def test_a_request_that_makes_no_sense_is_a_conflict(stack: Stack, to: str, code: str) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await stack.befriend(ann, bob)
    await stack.ask(ann, cat)
    assert_problem(await stack.post("/v1/friend-requests", ann, {"handle": to}), 409, code)


@pytest.mark.parametrize("body", [{"user_id": NOBODY}, {"handle": "nobody"}], ids=str)
async def test_a_request_to_nobody_is_not_found(stack: Stack, body: Json) -> None:
    assert_problem(await stack.post("/v1/friend-requests", await stack.user("ann"), body), 404, "user_not_found")


@pytest.mark.parametrize(
    "body", [{}, {"user_id": NOBODY, "handle": "bob"}, {"user_id": "bob"}, {"user_id": 7}, {"to": "bob"}], ids=str
)
async def test_a_request_must_name_one_person(stack: Stack, body: Json) -> None:
    answer = await stack.post("/v1/friend-requests", await stack.user("ann"), body)
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("remover", [0, 1])
async def test_either_friend_ends_the_friendship_for_both(stack: Stack, remover: int) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    one, other = (ann, bob) if remover == 0 else (bob, ann)
    assert (await stack.delete(f"/v1/friends/{other.user_id}", one)).status_code == 204
    assert await stack.friend_ids(ann) == await stack.friend_ids(bob) == set()
    assert (await stack.feed())[1:] == [FriendshipChanged(2, one.user_id, other.user_id, False, True, True)]
    assert_problem(await stack.delete(f"/v1/friends/{one.user_id}", other), 404, "friend_not_found")
    assert (await stack.post("/v1/friend-requests", one, {"user_id": other.user_id})).status_code == 201


async def test_nobody_ends_the_friendship_of_others(stack: Stack) -> None:
    ann, bob, eve = await stack.users("ann", "bob", "eve")
    await stack.befriend(ann, bob)
    assert_problem(await stack.delete(f"/v1/friends/{ann.user_id}", eve), 404, "friend_not_found")
    assert await stack.friend_ids(ann) == {bob.user_id}


@pytest.mark.parametrize("path", ["/v1/friends", "/v1/friend-requests?direction=incoming"])
async def test_pages_together_are_the_whole_list_once(stack: Stack, path: str) -> None:
    ann = await stack.user("ann")
    others = await stack.users(*(f"user_{number}" for number in range(5)))
    for other in others:
        await (stack.befriend(other, ann) if path == "/v1/friends" else stack.ask(other, ann))
    separator = "&" if "?" in path else "?"
    found: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        body = (await stack.get(f"{path}{separator}{urlencode(query)}", ann)).json()
        assert len(body["items"]) == size
        found += [item["user_id"] if "user_id" in item else item["from"]["user_id"] for item in body["items"]]
        cursor = body["next_cursor"]
    assert cursor is None
    assert sorted(found) == sorted(other.user_id for other in others)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=!", "cursor=é", "cursor=eyJhIjoxfQ"])
async def test_a_wrong_page_is_refused(stack: Stack, query: str) -> None:
    ann = await stack.user("ann")
    for path in ("/v1/friends?", "/v1/friend-requests?direction=incoming&"):
        assert_problem(await stack.get(f"{path}{query}", ann), 422, "invalid_request")
