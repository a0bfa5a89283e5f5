"""Cassandra dead, frozen and slow under load: nobody on the map notices, and no acknowledged point is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from nearby.messages import Ack
from nearby.model import UserId
from nearby_client import Event, NearbyApi
from tests.support import cassandra
from tests.support.cassandra import CassandraNode, migrate
from tests.support.eventually import eventually
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack
from tests.support.steady import SETTINGS, SteadyCrowd

pytestmark = pytest.mark.serial

USERS, FRIENDS, REPORTS_PER_S = 100, 8, 100
OUTAGE_S = float(os.environ.get("NEARBY_TEST_OUTAGE_S", "4"))
"""Of each kind. Two minutes are what docs/history.md tells of."""
LATENCY_BOUND_S = 1.0
"""Of the 99th percentile, on a machine that does other things besides. A gateway that waited would add seconds."""
STORED_WITHIN_S = 180.0
ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0,0", "--shards", "2", "--ephemeral")

Points = set[tuple[UserId, int]]


class AcknowledgedCrowd(SteadyCrowd):
    """A crowd that remembers which of its reports were acknowledged."""

    def __init__(self, users: list[UserId], friends: int) -> None:
        super().__init__(users, friends)
        self.acknowledged: Points = set()

    def take(self, watcher: UserId, event: Event) -> None:
        if isinstance(event, Ack) and event.recorded_at_ms is not None:
            self.acknowledged.add((watcher, event.recorded_at_ms))
        super().take(watcher, event)


@pytest.fixture
def node() -> Iterator[CassandraNode]:
    with closing(CassandraNode()) as own:
        own.start()
        yield own


@asynccontextmanager
async def reporting(stack: Stack) -> AsyncIterator[AcknowledgedCrowd]:
    """Yield a crowd that reports all the time."""
    tokens = seed(stack.data_dir, USERS, FRIENDS)
    crowd = AcknowledgedCrowd(list(tokens), FRIENDS)
    async with NearbyApi(stack.api_url) as api, AsyncExitStack() as exits:
        await crowd.gather(api, stack, tokens, exits)
        reports = asyncio.ensure_future(crowd.report(REPORTS_PER_S))
        try:
            yield crowd
        finally:
            reports.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reports


async def stored(node: CassandraNode, url: str) -> Points:
    """Every point in Cassandra; the key says that none is there twice."""
    statement = f"SELECT user_id, toUnixTimestamp(recorded_at) FROM {url.rpartition('/')[2]}.history"
    rows = await asyncio.to_thread(node.query, statement)
    found = {(UserId(str(user_id)), int(str(at_ms))) for user_id, at_ms in rows}
    assert len(found) == len(rows)
    return found


async def all_are_stored(node: CassandraNode, url: str, acknowledged: Points) -> None:
    async def check() -> bool:
        await asyncio.sleep(0.5)  # asking as often as we can would be a load of its own
        try:
            missing = acknowledged - await stored(node, url)
        except Exception as error:
            raise AssertionError("Cassandra is not back yet") from error
        assert not missing, f"{len(missing)} of {len(acknowledged)} are missing"
        return True

    await eventually(check, STORED_WITHIN_S)


async def history_answers(stack: Stack, token: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=30) as http:
        return await http.get("/v1/me/history", headers={"Authorization": f"Bearer {token}"})


async def is_unnoticed(crowd: AcknowledgedCrowd, seconds: float) -> None:
    """Let ``seconds`` pass; friends see each other as before, and reports are acknowledged."""
    loop = asyncio.get_running_loop()
    began_s, before = loop.time(), len(crowd.acknowledged)
    await asyncio.sleep(seconds)
    p99_s, acknowledged_count = crowd.p99_s(began_s, loop.time() - LATENCY_BOUND_S), len(crowd.acknowledged) - before
    sys.stdout.write(
        f"{seconds:g} s: {acknowledged_count} acknowledged, p99 from report to friend {p99_s * 1000:.1f} ms\n"
    )
    assert p99_s < LATENCY_BOUND_S
    assert acknowledged_count > seconds * REPORTS_PER_S / 2


@asynccontextmanager
async def slow(node: CassandraNode) -> AsyncIterator[None]:
    """Let ``node`` work a fifth of the time."""

    async def slow_down() -> None:
        while True:
            node.freeze()
            await asyncio.sleep(0.4)
            node.thaw()
            await asyncio.sleep(0.1)

    slowing = asyncio.ensure_future(slow_down())
    try:
        yield
    finally:
        slowing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slowing
        node.thaw()


async def test_F10_cassandra_dead_frozen_and_slow_is_not_noticed_and_nothing_acknowledged_is_lost(
    node: CassandraNode, tmp_path: Path
) -> None:
    url = node.fresh_url()
    migrate(url, cassandra.SETTINGS)
    environ = {**SETTINGS, **cassandra.SETTINGS, "NEARBY_HISTORY_URL": url}
    async with running_stack(tmp_path, environ, ARGUMENTS) as stack, reporting(stack) as crowd:
        token = next(iter(seed(stack.data_dir, 3, 2).values()))
        assert (await history_answers(stack, token)).status_code == 200
        await is_unnoticed(crowd, 3)

        node.kill()
        await is_unnoticed(crowd, OUTAGE_S)
        answer = await history_answers(stack, token)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        node.start(wait=False)
        await all_are_stored(node, url, set(crowd.acknowledged))

        node.freeze()
        await is_unnoticed(crowd, OUTAGE_S)
        answer = await history_answers(stack, token)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        node.thaw()
        await all_are_stored(node, url, set(crowd.acknowledged))

        async with slow(node):
            await is_unnoticed(crowd, OUTAGE_S)
        await all_are_stored(node, url, set(crowd.acknowledged))

        # What is acknowledged does not depend on the gateway any more.
        stack.kill("gw-1", signal.SIGKILL)
        await asyncio.sleep(1)
        await all_are_stored(node, url, set(crowd.acknowledged))
        assert (await history_answers(stack, token)).status_code == 200
