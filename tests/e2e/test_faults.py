"""Processes killed under load, and what must hold afterwards. Each test has a stack of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from location_cache.redis import open_cache
from nearby.geo import HYSTERESIS, distance_m
from nearby.model import UserId
from nearby_client import NearbyApi, NearbyClient
from tests.support.eventually import eventually
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack

USERS, FRIENDS, RADIUS_M = 40, 10, 3_000
REPORT_S = 0.5
HEALED_WITHIN_S = 35
LIMITS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0", "NEARBY_REPORT_INTERVAL_S": "10"}


class Crowd:
    """Connected users who jump about in one city and report twice a second."""

    def __init__(self, clients: dict[UserId, NearbyClient], rng: random.Random) -> None:
        self.clients = clients
        self._rng = rng

    async def walk(self) -> None:
        """Report until cancelled, each user from a phase of their own."""
        async with asyncio.TaskGroup() as tasks:
            for client in self.clients.values():
                tasks.create_task(self._walk(client))

    async def _walk(self, client: NearbyClient) -> None:
        await asyncio.sleep(self._rng.uniform(0, REPORT_S))
        while True:
            client.report(41.88 + self._rng.uniform(-0.03, 0.03), -87.63 + self._rng.uniform(-0.04, 0.04))
            await asyncio.sleep(REPORT_S)


@asynccontextmanager
async def crowd_on(stack: Stack, *, fixed: bool) -> AsyncIterator[Crowd]:
    """Connect the crowd, ``fixed`` half and half to the gateways or each where the API says."""
    tokens = seed(stack.data_dir, USERS, FRIENDS)
    urls = [gateway.ws_url for gateway in stack.gateways]
    async with NearbyApi(stack.api_url) as api, AsyncExitStack() as exits:
        clients = {}
        for index, (user, token) in enumerate(tokens.items()):
            client = NearbyClient(api, token, url=urls[index % len(urls)] if fixed else None, rng=random.Random(index))
            clients[user] = await exits.enter_async_context(client)
            client.set_radius(RADIUS_M)
        await eventually(lambda: all(client.connected for client in clients.values()), within_s=20)
        yield Crowd(clients, random.Random(1))


async def stale_or_wrong(stack: Stack, crowd: Crowd) -> list[str]:
    """Compare every client's map with the truth by brute force from the cache, and say what differs."""
    users = list(crowd.clients)
    async with open_cache(stack.cache_url, 600) as cache:
        truth = dict(zip(users, await cache.read_many(users), strict=True))
    problems = []
    for index, (user, client) in enumerate(crowd.clients.items()):
        mine = truth[user]
        assert mine is not None
        for step in range(-FRIENDS // 2, FRIENDS // 2 + 1):
            friend = users[(index + step) % USERS]
            theirs = truth[friend]
            if step == 0 or theirs is None:
                continue
            metres = distance_m(mine.record.lat_deg, mine.record.lon_deg, theirs.record.lat_deg, theirs.record.lon_deg)
            entry = client.friends.get(friend)
            if entry is None and metres < RADIUS_M - 1:
                problems.append(f"{friend} is not shown to {user} at {metres:.0f} m")
            elif entry is not None and (
                abs(entry.distance_m - metres) > 1 or entry.updated_at_ms != theirs.record.recorded_at_ms
            ):
                problems.append(f"{friend} is shown to {user} at {entry.distance_m} m instead of {metres:.0f} m")
            elif entry is not None and metres > RADIUS_M * HYSTERESIS + 1:
                problems.append(f"{friend} is still shown to {user} at {metres:.0f} m")
        strangers = set(client.friends) - {users[(index + step) % USERS] for step in range(-5, 6)}
        problems += [f"{stranger} is shown to {user}, a stranger" for stranger in strangers]
    return problems


async def healed(stack: Stack, crowd: Crowd) -> None:
    """Wait until every client's map equals the truth in the cache."""

    async def converged() -> bool:
        problems = await stale_or_wrong(stack, crowd)
        assert problems == [], problems[:3]
        return True

    await eventually(converged, within_s=HEALED_WITHIN_S)


async def test_F4_I1_a_shard_killed_and_restarted_under_load_is_healed(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack, crowd_on(stack, fixed=True) as crowd:
        walking = asyncio.ensure_future(crowd.walk())
        await eventually(lambda: all(client.friends for client in crowd.clients.values()), within_s=10)
        old = stack.kill("shard-1")
        await stack.restarted("shard-1", old)
        await asyncio.sleep(2)  # load on the healing shard
        walking.cancel()

        await healed(stack, crowd)
        assert all(client.refused_count == 0 for client in crowd.clients.values()), "I3: a location went backwards"


async def test_F1_clients_of_a_killed_gateway_come_back_to_the_other_by_themselves(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack, crowd_on(stack, fixed=False) as crowd:
        walking = asyncio.ensure_future(crowd.walk())
        await eventually(lambda: all(client.friends for client in crowd.clients.values()), within_s=10)
        on_first = [c for c in crowd.clients.values() if c.welcome and c.welcome.gateway_id == "gw-1"]
        assert 0 < len(on_first) < USERS
        stack.kill("gw-1")
        await eventually(lambda: all(not client.connected for client in on_first), within_s=5)
        await eventually(lambda: all(client.connected for client in crowd.clients.values()), within_s=15)
        walking.cancel()

        await healed(stack, crowd)


async def test_F9_a_flushed_cache_is_rebuilt_and_nobody_is_reported_gone(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack, crowd_on(stack, fixed=True) as crowd:
        walking = asyncio.ensure_future(crowd.walk())
        await eventually(lambda: all(client.friends for client in crowd.clients.values()), within_s=10)
        old = stack.kill("cache")
        await stack.restarted("cache", old)
        await asyncio.sleep(2)
        walking.cancel()

        await healed(stack, crowd)


async def test_a_friend_who_falls_silent_becomes_inactive_when_the_ttl_ends(tmp_path: Path) -> None:
    environ = {"NEARBY_INACTIVE_AFTER_S": "6", "NEARBY_REPORT_INTERVAL_S": "2"}
    async with running_stack(tmp_path, environ) as stack:
        (_, token), (ben, bens_token), _ = seed(stack.data_dir, 3, 2).items()
        async with NearbyApi(stack.api_url) as api, NearbyClient(api, token) as client:
            async with NearbyClient(api, bens_token) as other:
                await eventually(lambda: client.connected and other.connected)
                client.report(41.88, -87.63)
                other.report(41.88, -87.63)
                await eventually(lambda: ben in client.friends)
            updated_at_ms = client.friends[ben].updated_at_ms
            await eventually(lambda: ben not in client.friends, within_s=9)
            assert time.time_ns() // 1_000_000 - updated_at_ms >= 5_900
