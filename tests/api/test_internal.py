from __future__ import annotations

import httpx
import msgspec
import pytest

from nearby.model import FriendEdge, FriendList
from tests.api.stack import Json, Stack, assert_problem, service_headers

NOBODY = "00000000-0000-4000-8000-000000000000"


async def _lists(stack: Stack, body: object) -> httpx.Response:
    return await stack.internal.post("/internal/v1/friend-lists", headers=service_headers(), json=body)


async def _changes(stack: Stack, query: str) -> Json:
    answer = await stack.internal.get(f"/internal/v1/changes?{query}", headers=service_headers())
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def test_friend_lists_have_exactly_their_fields_in_the_order_asked_for(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await stack.put("/v1/me/sharing", bob, {"state": "paused"})
    answer = await _lists(stack, {"user_ids": [bob.user_id, NOBODY, ann.user_id]})
    assert answer.json() == {
        "lists": [
            {
                "user_id": bob.user_id,
                "sequence": 2,
                "sharing": False,
                "tokens_valid_from_ms": 0,
                "history_retention_s": None,
                "friends": [{"user_id": ann.user_id}],
                "limits": {},
            },
            None,
            {
                "user_id": ann.user_id,
                "sequence": 2,
                "sharing": True,
                "tokens_valid_from_ms": 0,
                "history_retention_s": None,
                "friends": [{"user_id": bob.user_id, "sharing": False, "switch_sequence": 2}],
                "limits": {},
            },
        ]
    }
    raw = msgspec.json.encode(answer.json()["lists"][2])
    assert msgspec.json.decode(raw, type=FriendList) == FriendList(
        ann.user_id, 2, True, 0, (FriendEdge(bob.user_id, False, 2),)
    )


async def test_a_thousand_lists_are_allowed_and_one_more_is_not(stack: Stack) -> None:
    answer = await _lists(stack, {"user_ids": [NOBODY] * 1_000})
    assert answer.json() == {"lists": [None] * 1_000}
    assert_problem(await _lists(stack, {"user_ids": [NOBODY] * 1_001}), 422, "invalid_request")


@pytest.mark.parametrize("body", [[], {}, {"user_ids": "x"}, {"user_ids": [1]}, {"user_ids": [], "more": 1}], ids=str)
async def test_a_wrong_request_for_lists_is_refused(stack: Stack, body: object) -> None:
    assert_problem(await _lists(stack, body), 422, "invalid_request")


async def test_the_feed_is_in_order_and_continues_after_any_row(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    assert await _changes(stack, "after=0") == {"changes": [], "latest": 0, "pruned_to": 0}
    await stack.befriend(ann, bob)
    await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    await stack.delete("/v1/tokens", bob)
    friendship = {
        "kind": "friendship",
        "sequence": 1,
        "user_id": bob.user_id,
        "friend_id": ann.user_id,
        "friends": True,
        "user_sharing": True,
        "friend_sharing": True,
    }
    paused = {"kind": "sharing", "sequence": 2, "user_id": ann.user_id, "sharing": False}
    revoked = {
        "kind": "tokens_revoked",
        "sequence": 3,
        "user_id": bob.user_id,
        "valid_from_ms": stack.clock() + 1,
    }
    assert await _changes(stack, "") == {"changes": [friendship, paused, revoked], "latest": 3, "pruned_to": 0}
    assert await _changes(stack, "after=1&limit=1") == {"changes": [paused], "latest": 3, "pruned_to": 0}
    assert await _changes(stack, "after=2&limit=1000") == {"changes": [revoked], "latest": 3, "pruned_to": 0}
    assert await _changes(stack, "after=3") == {"changes": [], "latest": 3, "pruned_to": 0}


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=1.5", "limit=", "after=٣", "after=99999999999999999999"]
)
async def test_a_wrong_place_in_the_feed_is_refused(stack: Stack, query: str) -> None:
    answer = await stack.internal.get(f"/internal/v1/changes?{query}", headers=service_headers())
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong-service-token", "Basic service-token-of-tests", "Bearer é"]
)
@pytest.mark.parametrize("path", ["/internal/v1/changes", "/internal/v1/friend-lists", "/internal/v1/nothing"])
async def test_the_internal_port_opens_only_to_the_service_token(
    stack: Stack, authorization: str | None, path: str
) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    assert_problem(await stack.internal.get(path, headers=headers), 401, "not_authenticated")


async def test_a_users_token_does_not_open_the_internal_port(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.internal.get("/internal/v1/changes", headers=ann.headers), 401, "not_authenticated")


async def test_the_public_port_has_nothing_internal(stack: Stack) -> None:
    for path in ("/internal/v1/changes", "/metrics", "/healthz", "/docs", "/redoc"):
        assert_problem(await stack.public.get(path, headers=service_headers()), 404, "not_found")


async def test_errors_of_the_internal_port_are_problems(stack: Stack) -> None:
    nothing = await stack.internal.get("/internal/v1/nothing", headers=service_headers())
    assert_problem(nothing, 404, "not_found")
    wrong_method = await stack.internal.get("/internal/v1/friend-lists", headers=service_headers())
    assert_problem(wrong_method, 405, "method_not_allowed")
    large = await _lists(stack, {"user_ids": ["x" * 70_000]})
    assert_problem(large, 413, "too_large")
