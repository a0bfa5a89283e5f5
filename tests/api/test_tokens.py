from __future__ import annotations

import httpx
import pytest

from nearby.changes import TokensRevoked
from tests.api.stack import PASSWORD, Stack, User, assert_problem


async def _refresh(stack: Stack, token: object) -> httpx.Response:
    return await stack.public.post("/v1/tokens/refresh", json={"refresh_token": token})


async def test_logging_in_gives_tokens_that_work(stack: Stack) -> None:
    ann = await stack.user("ann")
    answer = await stack.public.post("/v1/tokens", json={"handle": "ann", "password": PASSWORD})
    body = answer.json()
    assert body.keys() == {"access_token", "refresh_token", "token_type", "expires_in_s"}
    assert (body["token_type"], body["expires_in_s"]) == ("Bearer", 3_600)
    assert answer.headers["cache-control"] == "no-store"
    assert (await stack.get("/v1/me", User(ann.user_id, "ann", body["access_token"]))).json() == ann.person


async def test_an_unknown_handle_and_a_wrong_password_get_the_same_answer(stack: Stack) -> None:
    await stack.user("ann")
    unknown = await stack.public.post("/v1/tokens", json={"handle": "nobody", "password": PASSWORD})
    wrong = await stack.public.post("/v1/tokens", json={"handle": "ann", "password": "not her password"})
    assert_problem(wrong, 401, "invalid_credentials")
    assert unknown.status_code == wrong.status_code
    assert unknown.content == wrong.content
    assert unknown.headers == wrong.headers


async def test_a_refresh_token_rotates(stack: Stack) -> None:
    ann = await stack.user("ann")
    first = await stack.log_in(ann)
    stack.clock.advance(3_601)
    assert_problem(await stack.get("/v1/me", ann), 401, "not_authenticated")
    stack.clock.advance(-10)
    second = (await _refresh(stack, first["refresh_token"])).json()
    assert second.keys() == first.keys()
    assert second["refresh_token"] != first["refresh_token"]
    stack.clock.advance(10)
    assert (await stack.get("/v1/me", User(ann.user_id, "ann", second["access_token"]))).status_code == 200
    assert (await _refresh(stack, second["refresh_token"])).status_code == 200


async def test_a_refresh_token_used_twice_revokes_its_family(stack: Stack) -> None:
    ann = await stack.user("ann")
    first = await stack.log_in(ann)
    second = (await _refresh(stack, first["refresh_token"])).json()
    assert_problem(await _refresh(stack, first["refresh_token"]), 401, "invalid_refresh_token")
    assert_problem(await _refresh(stack, second["refresh_token"]), 401, "invalid_refresh_token")


@pytest.mark.parametrize("token", ["", "made up", "é" * 10])
async def test_a_refresh_token_that_is_none_is_refused(stack: Stack, token: str) -> None:
    assert_problem(await _refresh(stack, token), 401, "invalid_refresh_token")


async def test_an_access_token_is_no_refresh_token(stack: Stack) -> None:
    ann = await stack.user("ann")
    answer = await _refresh(stack, ann.access_token)
    assert answer.status_code in {401, 422}
    assert ann.access_token not in answer.text


async def test_logging_out_ends_every_token(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    tokens = await stack.log_in(ann)
    answer = await stack.delete("/v1/tokens", ann)
    assert (answer.status_code, answer.content) == (204, b"")
    for access_token in (ann.access_token, str(tokens["access_token"])):
        assert_problem(await stack.get("/v1/me", User(ann.user_id, "ann", access_token)), 401, "not_authenticated")
    assert_problem(await _refresh(stack, tokens["refresh_token"]), 401, "invalid_refresh_token")
    assert (await stack.get("/v1/me", bob)).status_code == 200
    assert await stack.feed() == [TokensRevoked(1, ann.user_id, stack.clock() + 1)]


async def test_logging_in_again_at_once_works(stack: Stack) -> None:
    ann = await stack.user("ann")
    await stack.delete("/v1/tokens", ann)
    again = await stack.log_in(ann)
    assert (await stack.get("/v1/me", User(ann.user_id, "ann", str(again["access_token"])))).status_code == 200


async def test_a_new_password_logs_out_everywhere_and_replaces_the_old(stack: Stack) -> None:
    ann = await stack.user("ann")
    tokens = await stack.log_in(ann)
    assert (await stack.patch("/v1/me", ann, {"password": "another password"})).status_code == 204
    assert_problem(await stack.get("/v1/me", ann), 401, "not_authenticated")
    assert_problem(await _refresh(stack, tokens["refresh_token"]), 401, "invalid_refresh_token")
    old = await stack.public.post("/v1/tokens", json={"handle": "ann", "password": PASSWORD})
    assert_problem(old, 401, "invalid_credentials")
    new = await stack.public.post("/v1/tokens", json={"handle": "ann", "password": "another password"})
    assert new.status_code == 200
    assert await stack.feed() == [TokensRevoked(1, ann.user_id, stack.clock() + 1)]
