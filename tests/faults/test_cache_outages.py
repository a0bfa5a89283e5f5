"""The whole stack on a cache whose primary dies under load, is flushed, and restarts empty (F8, F9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from location_cache.redis import open_cache
from nearby.errors import StoreUnavailable
from tests.e2e.test_faults import LIMITS, Crowd, crowd_on, healed
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.stack import ANY_PORTS, Stack, running_stack
from tests.support.steady import HERE, SETTINGS, SteadyCrowd, steady_crowd
from tests.support.valkey_topologies import NEVER_MS, ClusterValkey, SentinelValkey, TcpServer

RESUMED_WITHIN_S = float(os.environ.get("NEARBY_TEST_FAILOVER_S", "30"))
"""10 on a machine of one's own, where 3 was measured; a loaded one may need a second election."""
MAX_FAILURES_PER_S = 4
"""Of one gateway: writes pause for a second after each failure, reads for half a second."""
REPORTS_PER_S = 20
FRIENDS = 10


async def recorded_since(stack: Stack, crowd: Crowd, since_ms: int) -> bool:
    """Whether the cache has a location of everybody in the crowd that is younger than ``since_ms``."""
    async with open_cache(stack.cache_url, 600) as cache:
        try:
            found = await cache.read_many(list(crowd.clients))
        except StoreUnavailable:
            return False
    return all(one is not None and one.record.recorded_at_ms > since_ms for one in found)


async def failures(stack: Stack) -> float:
    """Return how many calls to the cache have failed, of all gateways."""
    total = 0.0
    for gateway in stack.gateways:
        samples = await metrics(gateway)
        total += samples['store_failures_total{store="location_cache"}']
        total += samples['store_failures_total{store="location_cache_read"}']
    return total


def log_lines(stack: Stack) -> int:
    return sum(stack.log(gateway.id).count("\n") for gateway in stack.gateways)


async def seen_since(crowd: Crowd, since_ms: int) -> bool:
    """Whether everybody who sees friends has been shown one from after ``since_ms``."""
    maps = [client.friends.values() for client in crowd.clients.values() if client.friends]
    return all(any(entry.updated_at_ms > since_ms for entry in entries) for entries in maps)


@pytest.mark.parametrize(("topology", "fault"), [("sentinel", "killed"), ("sentinel", "frozen"), ("cluster", "killed")])
async def test_F8_I1_I3_a_standby_is_promoted_under_load_and_nobody_sees_a_friend_go_back(
    tmp_path: Path, request: pytest.FixtureRequest, topology: str, fault: str
) -> None:
    servers: SentinelValkey | ClusterValkey = request.getfixturevalue(f"{topology}_valkey")
    arguments = (*ANY_PORTS, "--cache", servers.url)
    async with running_stack(tmp_path, LIMITS, arguments) as stack, crowd_on(stack, fixed=True) as crowd:
        walking = asyncio.ensure_future(crowd.walk())
        await eventually(lambda: all(client.friends for client in crowd.clients.values()), within_s=20)
        failures_before, lines_before = await failures(stack), log_lines(stack)
        began_s, began_ms = time.monotonic(), time.time_ns() // 1_000_000

        primary = servers.primary() if isinstance(servers, SentinelValkey) else servers.primaries()[0]
        (primary.kill if fault == "killed" else primary.freeze)()
        # Friends go on being seen, though nobody can store where they are.
        await eventually(lambda: seen_since(crowd, began_ms + 1_000), within_s=30)
        await eventually(lambda: recorded_since(stack, crowd, began_ms + 2_000), within_s=RESUMED_WITHIN_S)
        took_s = time.monotonic() - began_s
        assert await failures(stack) > failures_before
        allowed = MAX_FAILURES_PER_S * len(stack.gateways) * (took_s + 1)
        assert await failures(stack) - failures_before < allowed, "an error storm"
        assert log_lines(stack) - lines_before < allowed, "a storm in the logs"

        primary.thaw()
        # What was shown while it could not be stored is stored with the next report of each.
        now_ms = time.time_ns() // 1_000_000
        await eventually(lambda: recorded_since(stack, crowd, now_ms + 1_000), within_s=30)
        walking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await walking
        async with at_the_report_interval(crowd):
            await healed(stack, crowd)
        assert all(client.refused_count == 0 for client in crowd.clients.values()), "I3: a location went backwards"


@asynccontextmanager
async def at_the_report_interval(crowd: Crowd) -> AsyncIterator[None]:
    """Let everybody report as seldom as phones do, until the end of the context.

    A write that a busy machine did not answer in time is shown to friends and not stored until the next one.
    """

    async def report() -> None:
        rng = random.Random(2)
        while True:
            await asyncio.sleep(float(LIMITS["NEARBY_REPORT_INTERVAL_S"]))
            for client in crowd.clients.values():
                client.report(HERE[0] + rng.uniform(-0.03, 0.03), HERE[1] + rng.uniform(-0.04, 0.04))

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(report())
        yield
        task.cancel()


async def test_F9_a_cache_that_is_flushed_or_restarts_empty_makes_nobody_vanish_and_is_whole_after_one_report_of_each(
    tmp_path: Path,
) -> None:
    with contextlib.closing(SentinelValkey(noticed_after_ms=NEVER_MS)) as servers:
        servers.start()
        primary, standby = servers.servers
        arguments = (*ANY_PORTS, "--cache", servers.url)
        async with (
            running_stack(tmp_path, SETTINGS, arguments) as stack,
            steady_crowd(stack, 2 * FRIENDS, FRIENDS) as crowd,
            open_cache(stack.cache_url, 600) as cache,
        ):
            async with crowd.reporting(REPORTS_PER_S):
                primary.flush()
                await everybody_stays(crowd)
                # Started again by a machine's service manager before anybody noticed: its standby follows it, and has
                # nothing either.
                await eventually(lambda: stored(standby) > 0)
                primary.kill()
                primary.start()
                await everybody_stays(crowd)
                await eventually(lambda: standby.in_sync, within_s=20)
            silent = set(crowd.users) - set(crowd.reporters)
            assert set(await cache.read_many(list(silent))) == {None}
            assert stored(standby) <= len(crowd.reporters)

            for client in crowd.clients.values():
                client.report(*HERE)

            async def whole() -> bool:
                return None not in await cache.read_many(crowd.users)

            await eventually(whole, within_s=30)
            await everybody_stays(crowd, for_s=0.5)


async def everybody_stays(crowd: SteadyCrowd, for_s: float = 3.0) -> None:
    """Watch that nobody loses a friend from the map; one who is silent would not come back to it."""
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        assert [len(client.friends) for client in crowd.clients.values()] == [FRIENDS] * len(crowd.users)
        await asyncio.sleep(0.05)


def stored(server: TcpServer) -> int:
    """Return how many locations a server holds."""
    return int(server.command("DBSIZE")[1:])
