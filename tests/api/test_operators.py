"""Calls of operators on the admin port: who may, what they do, and what they leave behind in the log."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from api.erasures import erasure_route
from api.operators import Operators
from api.revocations import revocation_route
from http_port.admin import admin_app
from nearby.changes import TokensRevoked
from nearby.settings import Secret
from tests.api.stack import PASSWORD, Stack

TOKEN = "admin-token-of-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-Reason": "incident 4711", "X-Actor": "op"}
REVOCATIONS = "/admin/v1/revocations"


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    operators = Operators(Secret(TOKEN))
    operators.services = stack.services
    routes = [route(operators) for route in (revocation_route, erasure_route)]
    transport = httpx.ASGITransport(admin_app(CollectorRegistry(), lambda: None, routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin", headers=HEADERS) as client:
        yield client


async def test_those_named_lose_their_tokens_and_others_do_not(stack: Stack, admin: httpx.AsyncClient) -> None:
    ann, ben, cleo = await stack.users("ann", "ben", "cleo")
    grant = await stack.log_in(ann)
    answer = await admin.post(REVOCATIONS, json={"users": ["ann", ben.user_id, "nobody", str(uuid.uuid4())]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["revoked"], len(answer.json()["unknown"]), answer.json()["next"]) == (2, 2, None)
    assert [(await stack.get("/v1/me", user)).status_code for user in (ann, ben, cleo)] == [401, 401, 200]
    refused = await stack.public.post("/v1/tokens/refresh", json={"refresh_token": grant["refresh_token"]})
    assert refused.status_code == 401
    stack.clock.advance(1)
    assert (await stack.log_in(ann))["access_token"]
    revoked = [change for change in await stack.feed() if isinstance(change, TokensRevoked)]
    assert {change.user_id for change in revoked} == {ann.user_id, ben.user_id}


async def test_everybody_is_gone_through_page_by_page(stack: Stack, admin: httpx.AsyncClient) -> None:
    people = await stack.users("ann", "ben", "cleo")
    after: str | None = ""
    revoked_count = pages_count = 0
    while after is not None:
        page = (await admin.post(REVOCATIONS, json={"after": after, "count": 2})).json()
        after, revoked_count, pages_count = page["next"], revoked_count + page["revoked"], pages_count + 1
    assert (revoked_count, pages_count) == (3, 2)
    assert {(await stack.get("/v1/me", user)).status_code for user in people} == {401}


async def test_who_is_banned_stays_so(stack: Stack, admin: httpx.AsyncClient) -> None:
    ann = await stack.user("ann")
    await stack.services.graph.credentials.ban(ann.user_id)
    assert (await admin.post(REVOCATIONS, json={"users": ["ann"]})).json()["revoked"] == 0
    answer = await stack.public.post("/v1/tokens", json={"handle": "ann", "password": PASSWORD})
    assert answer.status_code == 403


async def test_a_token_issued_by_a_server_whose_clock_is_ahead_is_revoked_too(
    stack: Stack, admin: httpx.AsyncClient
) -> None:
    ann = await stack.user("ann")
    ahead_ms = stack.clock() + 60_000
    await stack.services.graph.credentials.revoke_tokens(ann.user_id, ahead_ms - 1)
    valid_from_ms = await stack.services.graph.credentials.valid_from_ms(ann.user_id)
    assert valid_from_ms == ahead_ms
    await admin.post(REVOCATIONS, json={"users": ["ann"]})
    assert await stack.services.graph.credentials.valid_from_ms(ann.user_id) == ahead_ms + 1


async def test_an_account_is_erased_by_handle_and_its_end_is_told_by_id(stack: Stack, admin: httpx.AsyncClient) -> None:
    ann = await stack.user("ann")
    before = (await admin.get("/admin/v1/users/ann/erasure")).json()
    assert before == {"user_id": ann.user_id, "exists": True, "pending": []}
    answer = await admin.post("/admin/v1/users/ann/erasure")
    assert (answer.status_code, answer.json()["exists"]) == (202, False)
    assert (await stack.get("/v1/me", ann)).status_code == 401
    assert (await admin.get("/admin/v1/users/ann/erasure")).status_code == 404
    assert (await admin.post("/admin/v1/users/ann/erasure")).status_code == 404
    after = (await admin.get(f"/admin/v1/users/{ann.user_id}/erasure")).json()
    assert after == {"user_id": ann.user_id, "exists": False, "pending": []}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Authorization": "Bearer wrong-token-of-tests"}, {"users": ["ann"]}, 401),
        ({"X-Reason": ""}, {"users": ["ann"]}, 422),
        ({}, {"users": []}, 422),
        ({}, {"users": ["ann"] * 501}, 422),
        ({}, {"count": 0}, 422),
        ({}, {"everyone": True}, 422),
    ],
)
async def test_a_call_without_the_token_a_reason_or_a_good_body_does_nothing(
    stack: Stack, admin: httpx.AsyncClient, headers: dict[str, str], body: dict[str, object], status: int
) -> None:
    ann = await stack.user("ann")
    answer = await admin.post(REVOCATIONS, json=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await stack.get("/v1/me", ann)).status_code == 200


async def test_every_call_leaves_a_line_that_says_who_and_why(
    stack: Stack, admin: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await stack.user("ann")
    await admin.post(REVOCATIONS, json={"users": ["ann"]})
    await admin.post(REVOCATIONS, json={"users": ["ann"]}, headers={"Authorization": ""})
    lines = [
        json.loads(record.getMessage().removeprefix("audit ")) for record in caplog.records if record.name == "audit"
    ]
    assert [(line["status"], line["outcome"]) for line in lines] == [(200, "revoked 1"), (401, "unauthorized")]
    assert {(line["actor"], line["reason"]) for line in lines} == {("op", "incident 4711")}
