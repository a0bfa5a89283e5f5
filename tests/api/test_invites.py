from __future__ import annotations

import logging

import pytest

from nearby.changes import FriendshipChanged
from tests.api.stack import Json, Stack, assert_problem
from tests.social_graph.clock import NOW_MS

WEEK_MS = 7 * 86_400_000


async def test_an_invite_has_its_token_in_the_link_behind_the_hash_and_only_once(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ann = await stack.user("ann")
    answer = await stack.post("/v1/invites", ann, {})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert made["link"] == f"nearby://invite#{made['token']}"
    shown = {key: value for key, value in made.items() if key not in {"token", "link"}}
    assert shown == {
        "invite_id": made["invite_id"],
        "uses_left": 1,
        "max_uses": 1,
        "created_ms": NOW_MS,
        "expires_ms": NOW_MS + WEEK_MS,
    }
    assert (await stack.get(f"/v1/invites/{made['invite_id']}", ann)).json() == shown
    assert (await stack.get("/v1/invites", ann)).json() == {"items": [shown], "next_cursor": None}
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not [record for record in ours if made["token"] in record.getMessage()]


async def test_whoever_accepts_is_a_friend_at_once_and_the_feed_says_so(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    token = (await stack.post("/v1/invites", ann, {"max_uses": 1, "expires_in_s": 60})).json()["token"]
    invitation = (await stack.post("/v1/invitations/look-up", bob, {"token": token})).json()
    assert invitation == {"inviter": ann.person, "expires_ms": NOW_MS + 60_000}
    answer = await stack.post("/v1/invitations/accept", bob, {"token": token})
    assert (answer.status_code, answer.json()["user_id"]) == (200, ann.user_id)
    assert await stack.friend_ids(ann) == {bob.user_id}
    assert await stack.feed() == [FriendshipChanged(1, bob.user_id, ann.user_id, True, True, True)]
    assert_problem(await stack.post("/v1/invitations/accept", bob, {"token": token}), 404, "invite_not_found")


async def test_a_revoked_invite_is_over_and_only_its_maker_revokes(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    made = (await stack.post("/v1/invites", ann, {})).json()
    path = f"/v1/invites/{made['invite_id']}"
    assert_problem(await stack.delete(path, bob), 404, "invite_not_found")
    assert_problem(await stack.get(path, bob), 404, "invite_not_found")
    assert (await stack.delete(path, ann)).status_code == 204
    assert_problem(await stack.post("/v1/invitations/accept", bob, {"token": made["token"]}), 404, "invite_not_found")


@pytest.mark.parametrize(
    "body", [{"max_uses": 0}, {"max_uses": 101}, {"expires_in_s": 59}, {"expires_in_s": 1e9}, {"token": "x"}], ids=str
)
async def test_a_wrong_wish_is_refused(stack: Stack, body: Json) -> None:
    assert_problem(await stack.post("/v1/invites", await stack.user("ann"), body), 422, "invalid_request")
