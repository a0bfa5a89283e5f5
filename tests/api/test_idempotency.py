from __future__ import annotations

import asyncio
import hashlib

import httpx
import pytest

from nearby.errors import StoreUnavailable
from social_graph.requests import FriendRequests
from tests.api.stack import Json, Stack, User, assert_problem
from tests.social_graph import raw

KEY = "4c1b2f0e-0000-4000-8000-00000000beef"


async def _write(
    stack: Stack, user: User, path: str, body: Json | None = None, key: str = KEY, method: str = "POST"
) -> httpx.Response:
    headers = {**user.headers, "Idempotency-Key": key}
    return await stack.public.request(method, path, headers=headers, json=body)


async def test_a_write_sent_again_has_one_effect_and_the_same_answer(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    first = await _write(stack, ann, "/v1/friend-requests", {"handle": "bob"})
    again = await _write(stack, ann, "/v1/friend-requests", {"handle": "bob"})
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert len((await stack.get("/v1/friend-requests?direction=incoming", bob)).json()["items"]) == 1


async def test_several_at_once_have_one_effect(stack: Stack) -> None:
    ann = await stack.user("ann")
    answers = await asyncio.gather(*(_write(stack, ann, "/v1/invites", {}) for _ in range(6)))
    assert len((await stack.get("/v1/invites", ann)).json()["items"]) == 1
    done = {answer.json()["token"] for answer in answers if answer.status_code == 201}
    assert len(done) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert_problem(answer, 409, "request_in_progress")
            assert int(answer.headers["retry-after"]) > 0
    assert (await _write(stack, ann, "/v1/invites", {})).json()["token"] in done


async def test_a_key_used_for_another_request_is_refused(stack: Stack) -> None:
    ann, _, cat = await stack.users("ann", "bob", "cat")
    await _write(stack, ann, "/v1/friend-requests", {"handle": "bob"})
    for path, body in (("/v1/friend-requests", {"handle": "cat"}), ("/v1/friend-requests?x=1", {"handle": "bob"})):
        assert_problem(await _write(stack, ann, path, dict(body)), 422, "idempotency_key_reused")
    assert (await stack.get("/v1/friend-requests?direction=incoming", cat)).json()["items"] == []


async def test_an_error_of_the_clients_is_an_answer_too(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    assert_problem(await _write(stack, ann, f"/v1/friends/{bob.user_id}", method="DELETE"), 404, "friend_not_found")
    await stack.befriend(ann, bob)
    again = await _write(stack, ann, f"/v1/friends/{bob.user_id}", method="DELETE")
    assert_problem(again, 404, "friend_not_found")
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_write_that_failed_through_our_fault_may_be_sent_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, _ = await stack.users("ann", "bob")

    async def fail(*_: object) -> None:
        raise StoreUnavailable("social_graph", "away")

    async def break_down(*_: object) -> None:
        raise RuntimeError("a mistake")

    for fault, status in ((fail, 503), (break_down, 500)):
        with monkeypatch.context() as patch:
            patch.setattr(FriendRequests, "send", fault)
            assert (await _write(stack, ann, "/v1/friend-requests", {"handle": "bob"})).status_code == status
    assert (await _write(stack, ann, "/v1/friend-requests", {"handle": "bob"})).status_code == 201


async def test_an_answer_without_a_body_is_replayed(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    for _ in range(2):
        answer = await _write(stack, ann, f"/v1/blocks/{bob.user_id}", method="PUT")
        assert (answer.status_code, answer.content) == (204, b"")


async def test_a_stored_answer_is_for_its_user_with_a_token_that_is_still_good(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await _write(stack, ann, "/v1/invites", {})
    assert (await _write(stack, bob, "/v1/invites", {})).headers.get("idempotency-replayed") is None
    stack.clock.advance(1)
    await stack.delete("/v1/tokens", ann)
    assert_problem(await _write(stack, ann, "/v1/invites", {}), 401, "not_authenticated")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
async def test_a_key_that_is_none_is_refused(stack: Stack, key: str) -> None:
    ann = await stack.user("ann")
    headers = {b"Authorization": ann.headers["Authorization"].encode(), b"Idempotency-Key": key.encode("latin-1")}
    assert_problem(await stack.public.post("/v1/invites", headers=headers, json={}), 422, "invalid_request")


async def test_a_body_that_is_too_large_is_refused_with_a_key_too(stack: Stack) -> None:
    ann = await stack.user("ann")
    headers = {**ann.headers, "Idempotency-Key": KEY}
    assert_problem(await stack.public.post("/v1/invites", headers=headers, content=b" " * 70_000), 413, "too_large")


async def test_reads_and_requests_without_a_user_take_no_notice_of_a_key(stack: Stack) -> None:
    ann = await stack.user("ann")
    for _ in range(2):
        assert (await _write(stack, ann, "/v1/me", method="GET")).status_code == 200
        body = {"handle": "ann", "password": "not the password"}
        answer = await stack.public.post("/v1/tokens", headers={"Idempotency-Key": KEY}, json=body)
        assert_problem(answer, 401, "invalid_credentials")


async def test_an_export_asked_for_again_is_the_same_though_a_newer_one_replaced_it(stack: Stack) -> None:
    ann = await stack.user("ann")
    first = await _write(stack, ann, "/v1/me/exports")
    await stack.delete("/v1/me/history", ann)
    assert (await stack.post("/v1/me/exports", ann)).json()["export_id"] != first.json()["export_id"]
    again = await _write(stack, ann, "/v1/me/exports")
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_deletion_of_the_account_sent_again_finds_nobody(stack: Stack, database_url: str) -> None:
    ann = await stack.user("ann")
    assert (await _write(stack, ann, "/v1/me", method="DELETE")).status_code == 202
    assert_problem(await _write(stack, ann, "/v1/me", method="DELETE"), 401, "not_authenticated")
    assert await raw.scalar(database_url, "SELECT count(*) FROM idempotency_keys") == 0


async def test_what_is_stored_does_not_let_a_password_be_guessed(stack: Stack, database_url: str) -> None:
    """Neither the key nor the request is there, in the clear or as a hash of what can be guessed."""
    ann = await stack.user("ann")
    body = {"display_name": "Ann Again"}
    await _write(stack, ann, "/v1/me", dict(body), method="PATCH")
    [stored] = [line for line in (await raw.dump(database_url)).splitlines() if line.startswith("idempotency_keys")]
    request = b"PATCH /v1/me?\n" + httpx.Request("PATCH", "http://api", json=body).content
    assert hashlib.sha256(request).hexdigest() not in stored
    assert KEY not in stored
