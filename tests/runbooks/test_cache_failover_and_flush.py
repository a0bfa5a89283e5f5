"""docs/runbooks/cache-failover-and-flush.md, followed with real Sentinels: killed, moved, flushed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from location_cache.redis import open_cache
from nearby.model import UserId
from nearby.ports import LocationCache
from tests.support.eventually import eventually
from tests.support.runbook import following
from tests.support.stack import ANY_PORTS, running_stack
from tests.support.steady import SETTINGS, steady_crowd
from tests.support.valkey_topologies import SERVICE, SentinelValkey, TcpServer

FRIENDS, REPORTS_PER_S = 6, 20


async def test_the_primary_dies_and_is_moved_and_all_locations_are_flushed_and_nobody_leaves_a_map(
    tmp_path: Path,
) -> None:
    with closing(SentinelValkey()) as servers:
        servers.start()
        arguments = (*ANY_PORTS, "--cache", servers.url)
        values = {"SENTINEL": str(servers.sentinels[0].address), "SERVICE": SERVICE}
        async with (
            running_stack(tmp_path, SETTINGS, arguments) as stack,
            steady_crowd(stack, 2 * FRIENDS, FRIENDS) as crowd,
            following("cache-failover-and-flush.md", stack, **values) as reader,
            open_cache(stack.cache_url, 600) as cache,
            crowd.reporting(REPORTS_PER_S),
        ):
            await reader.follow("")
            await reader.follow("Check")

            dead = servers.primary()
            dead.kill()
            await eventually(lambda: servers.primary() is not dead, within_s=30)
            assert str(servers.primary().address) in await reader.follow("Act: the primary is dead")
            dead.start()
            await reader.follow_until_true("Verify", within_s=30)

            before = servers.primary()
            await reader.follow_until_true("Act: move the primary", within_s=30)
            await eventually(lambda: is_moved(servers, before), within_s=30)
            await reader.follow_until_true("Verify", within_s=30)

            await reader.follow("Act: flush")
            silent = [user for user in crowd.users if user not in crowd.reporters]
            assert set(await cache.read_many(silent)) == {None}
            await eventually(lambda: are_stored(cache, crowd.reporters), within_s=30)
            assert [len(client.friends) for client in crowd.clients.values()] == [FRIENDS] * len(crowd.users)


def is_moved(servers: SentinelValkey, before: TcpServer) -> bool:
    return servers.primary() is not before and servers.primary().is_primary


async def are_stored(cache: LocationCache, users: list[UserId]) -> bool:
    return None not in await cache.read_many(users)
