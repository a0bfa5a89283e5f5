"""Fault F16: the user database dies or hangs. Answers are 503 with Retry-After and nothing more, and it heals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import httpx
import pytest

from social_graph.graph import SocialGraph, open_social_graph
from social_graph.upgrade import upgrade
from tests.api.stack import PASSWORD, Stack, User, assert_problem, service_headers
from tests.social_graph.clock import HeldClock
from tests.support.eventually import eventually
from tests.support.postgresql import PostgresServer

POOL_SIZE = 3
TIMEOUT_S = 1.0
HEALED_WITHIN_S = 60
ANSWERED_WITHIN_S = 60


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with closing(PostgresServer()) as started:
        started.start()
        yield started


@pytest.fixture
def database_url(server: PostgresServer) -> str:
    url = server.url(server.create_database())
    upgrade(url)
    return url


@pytest.fixture
async def graph(database_url: str, clock: HeldClock) -> AsyncIterator[SocialGraph]:
    async with open_social_graph(database_url, clock, 60, pool_size=POOL_SIZE, timeout_s=TIMEOUT_S) as opened:
        yield opened


async def _answers(stack: Stack, user: User) -> list[httpx.Response]:
    """Several requests at once, more than there are connections to the database."""
    lists = {"user_ids": [user.user_id]}
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        return await asyncio.gather(
            *(stack.get(path, user) for path in ("/v1/me", "/v1/friends", "/v1/me/sharing") * 2),
            stack.put("/v1/me/sharing", user, {"state": "paused"}),
            stack.put("/v1/me/history-settings", user, {"retention": "1_day"}),
            stack.post("/v1/me/exports", user),
            stack.post("/v1/locations", user, {"location": {"lat": 1, "lon": 2}}),
            stack.delete("/v1/me/history", user),
            stack.delete("/v1/me", user),
            stack.public.post("/v1/users", json={"handle": "eve", "password": PASSWORD, "display_name": "Eve"}),
            stack.public.post("/v1/tokens", json={"handle": user.handle, "password": PASSWORD}),
            stack.internal.post("/internal/v1/friend-lists", headers=service_headers(), json=lists),
            stack.internal.get("/internal/v1/changes", headers=service_headers()),
        )


async def _all_unavailable(stack: Stack, user: User) -> None:
    for answer in await _answers(stack, user):
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "Traceback" not in answer.text
        assert "asyncpg" not in answer.text


async def _healed(stack: Stack, user: User) -> None:
    async def works() -> bool:
        answer = await stack.get("/v1/friends", user)
        pause = await stack.put("/v1/me/sharing", user, {"state": "on"})
        return (answer.status_code, pause.status_code) == (200, 200)

    await eventually(works, within_s=HEALED_WITHIN_S)


async def test_F16_a_dead_database_is_503_and_its_return_is_enough(stack: Stack, server: PostgresServer) -> None:
    ann = await stack.user("ann")
    server.kill()
    await _all_unavailable(stack, ann)
    server.start()
    await _healed(stack, ann)


async def test_F16_a_frozen_database_is_503_in_bounded_time_and_connections(
    stack: Stack, server: PostgresServer
) -> None:
    ann = await stack.user("ann")
    server.freeze()
    try:
        await _all_unavailable(stack, ann)
        await _all_unavailable(stack, ann)
    finally:
        server.thaw()
    await _healed(stack, ann)

    async def bounded() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nearby'"
        return await server.number(query) <= POOL_SIZE

    await eventually(bounded, within_s=HEALED_WITHIN_S)
