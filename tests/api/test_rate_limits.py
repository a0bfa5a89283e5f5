"""Rate limits as clients meet them, and security S9 for log-in and sign-up."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from api.rates import Rates
from nearby.settings import RateSettings, load, networks
from rate_limits.policy import Policy
from tests.api.stack import PASSWORD, Stack, assert_problem


def limit(stack: Stack, **quotas: int) -> None:
    """Set these policies, by name, to so many an hour, and leave the others without limit."""
    present = stack.services.rates
    policies = {name: replace(getattr(present, name), quota=quota, window_s=3_600) for name, quota in quotas.items()}
    stack.use(replace(stack.services, rates=replace(present, **policies)))


def _assert_limited(answer: httpx.Response, policy: str) -> None:
    assert_problem(answer, 429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 3_600
    assert answer.headers["ratelimit"].startswith(f'"{policy}";r=0;t=')


async def test_every_answer_tells_the_policy_and_what_is_left_of_it(stack: Stack) -> None:
    ann = await stack.user("ann")
    limit(stack, reads=3)
    answer = await stack.get("/v1/me", ann)
    assert answer.headers["ratelimit-policy"] == '"reads";q=3;w=3600'
    assert answer.headers["ratelimit"] == '"reads";r=2;t=1200'
    assert (await stack.get("/v1/friends/nothing", ann)).headers["ratelimit"].startswith('"reads";r=1;')


async def test_reads_and_writes_of_one_user_are_limited_apart_from_each_other_and_from_other_users(
    stack: Stack,
) -> None:
    ann, bob = await stack.users("ann", "bob")
    limit(stack, reads=2, writes=1)
    for _ in range(2):
        assert (await stack.get("/v1/me", ann)).status_code == 200
    _assert_limited(await stack.get("/v1/me", ann), "reads")
    assert (await stack.patch("/v1/me", ann, {"display_name": "Anna"})).status_code == 204
    _assert_limited(await stack.patch("/v1/me", ann, {"display_name": "Anna"}), "writes")
    assert (await stack.get("/v1/me", bob)).status_code == 200


async def test_requests_without_a_good_token_are_limited_by_address(stack: Stack) -> None:
    limit(stack, anonymous=2)
    for _ in range(2):
        answer = await stack.public.get("/v1/me", headers={"Authorization": "Bearer forged"})
        assert_problem(answer, 401, "not_authenticated")
    _assert_limited(await stack.public.get("/v1/me", headers={"Authorization": "Bearer forged"}), "anonymous")
    _assert_limited(await stack.public.get("/openapi.json"), "anonymous")


@pytest.mark.parametrize("handle", ["ann", "nobody"])
async def test_S9_log_ins_are_limited_by_address(stack: Stack, handle: str) -> None:
    await stack.user("ann")
    limit(stack, log_ins=2)
    wrong = {"handle": handle, "password": "not the password"}
    for _ in range(2):
        assert_problem(await stack.public.post("/v1/tokens", json=wrong), 401, "invalid_credentials")
    _assert_limited(await stack.public.post("/v1/tokens", json=wrong), "log-ins")


async def test_S9_log_ins_are_limited_by_handle_from_wherever_they_come(stack: Stack) -> None:
    await stack.users("ann", "bob")
    stack.use(replace(stack.services, trusted_proxies=networks("127.0.0.1")))
    limit(stack, log_ins=2, log_ins_per_handle=3)

    async def attempt(address: str, handle: str) -> httpx.Response:
        body = {"handle": handle, "password": PASSWORD + "x"}
        return await stack.public.post("/v1/tokens", json=body, headers={"X-Forwarded-For": address})

    for number in range(3):
        assert (await attempt(f"192.0.2.{number}", "ann")).status_code == 401
    answer = await attempt("192.0.2.9", "ann")
    assert_problem(answer, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0
    assert (await attempt("192.0.2.9", "bob")).status_code == 401


async def test_S9_a_password_cannot_be_guessed_by_deleting_the_account(stack: Stack) -> None:
    ann = await stack.user("ann")
    wrong = {"password": "not the password"}
    limit(stack, log_ins=2)
    for _ in range(2):
        assert_problem(await stack.delete("/v1/me", ann, dict(wrong)), 403, "wrong_password")
    _assert_limited(await stack.delete("/v1/me", ann, dict(wrong)), "log-ins")
    limit(stack, log_ins=0, log_ins_per_handle=3)
    for _ in range(2):
        assert_problem(await stack.delete("/v1/me", ann, dict(wrong)), 403, "wrong_password")
    log_in = {"handle": "ann", "password": "not the password"}
    assert_problem(await stack.public.post("/v1/tokens", json=log_in), 401, "invalid_credentials")
    assert_problem(await stack.delete("/v1/me", ann, {"password": PASSWORD}), 429, "rate_limited")
    assert_problem(await stack.public.post("/v1/tokens", json=log_in), 429, "rate_limited")
    assert (await stack.delete("/v1/me", ann)).status_code == 202, "without a password there is nothing to guess"


async def test_S9_sign_ups_are_limited_by_address_and_a_client_cannot_invent_one(stack: Stack) -> None:
    limit(stack, sign_ups=1)

    async def sign_up(handle: str, **headers: str) -> httpx.Response:
        body = {"handle": handle, "password": PASSWORD, "display_name": "X"}
        return await stack.public.post("/v1/users", json=body, headers=headers)

    assert (await sign_up("ann")).status_code == 201
    _assert_limited(await sign_up("bob"), "sign-ups")
    _assert_limited(await sign_up("bob", **{"X-Forwarded-For": "192.0.2.1"}), "sign-ups")
    stack.use(replace(stack.services, trusted_proxies=networks("127.0.0.0/8")))
    limit(stack, sign_ups=1)
    assert (await sign_up("bob", **{"X-Forwarded-For": "192.0.2.1"})).status_code == 201
    assert (await sign_up("cat", **{"X-Forwarded-For": "2001:db8::1"})).status_code == 201
    _assert_limited(await sign_up("dan", **{"X-Forwarded-For": "2001:db8::2"}), "sign-ups")


async def test_friend_requests_a_day_are_told_like_a_rate(stack: Stack) -> None:
    users = await stack.users(*(f"user_{number}" for number in range(4)))
    ann, *others = users
    stack.services.graph.requests._limits = replace(stack.services.graph.requests._limits, requests_per_day=2)
    for other in others[:2]:
        await stack.ask(ann, other)
    answer = await stack.post("/v1/friend-requests", ann, {"handle": others[2].handle})
    assert_problem(answer, 429, "too_many_requests_today")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400


def test_the_settings_make_the_policies_and_zero_is_no_limit() -> None:
    rates = Rates.of(load(RateSettings, {"NEARBY_READS_PER_MINUTE": "7", "NEARBY_SIGN_UPS_PER_HOUR": "0"}))
    assert rates.reads == Policy("reads", 7, 60)
    assert rates.sign_ups.quota == 0
