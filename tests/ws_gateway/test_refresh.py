"""The refresher reads the real cache into a hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from location_cache.redis import RedisLocationCache, open_cache
from nearby.channels import location_channel
from nearby.model import UserId
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, NOW_MS, SEOUL, TTL_MS, Screen, at, friends_of
from ws_gateway.freshness import Age, stale_after_ms
from ws_gateway.hub import Hub
from ws_gateway.refresh import Refresher
from ws_gateway.viewer import Viewer

INTERVAL_S = 0.4


@pytest_asyncio.fixture
async def cache(valkey: ValkeyServer) -> AsyncIterator[RedisLocationCache]:
    async with open_cache(valkey.url, TTL_MS / 1000) as opened:
        yield opened


class Here:
    """A refresher over a hub in which Anna watches Ben and Cleo, with a clock that the test moves."""

    def __init__(self, cache: RedisLocationCache) -> None:
        self.now_ms = NOW_MS
        self.hub = Hub(TTL_MS)
        self.viewer = Viewer(ANNA, 1_000, Screen())
        self.hub.attach(self.viewer, friends_of(ANNA, BEN, CLEO))
        self.refreshed_count = 0
        self.reachable = True
        self.refresher = Refresher(self.hub, cache, lambda: self.now_ms, self._refreshed)

    def _refreshed(self) -> None:
        self.refreshed_count += 1

    def known(self, user_id: UserId) -> int | None:
        record = self.hub.entries[location_channel(user_id)].record
        return None if record is None else record.recorded_at_ms

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.refresher.run()),
                tasks.create_task(self.refresher.patrol(lambda _: self.reachable, INTERVAL_S)),
            ]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()


async def test_an_arriving_viewer_learns_of_friends_and_of_their_own_last_location(cache: RedisLocationCache) -> None:
    here = Here(cache)
    await cache.write_many([(ANNA, at(*SEOUL)), (BEN, at(37.57, 126.98))])
    own = await here.refresher.arrive(here.viewer)
    assert own is not None
    assert own.record.lat_deg == SEOUL[0]
    assert (here.known(BEN), here.known(CLEO)) == (NOW_MS, None)


async def test_a_friend_somebody_here_watches_already_is_not_read_again(cache: RedisLocationCache) -> None:
    here = Here(cache)
    await here.refresher.arrive(here.viewer)
    await cache.write_many([(BEN, at(*SEOUL))])
    await here.refresher.arrive(here.viewer)
    assert here.known(BEN) is None, "what is published now is heard; the cache need not be asked"


async def test_a_channel_that_may_have_missed_messages_is_read_again(cache: RedisLocationCache) -> None:
    here = Here(cache)
    await here.refresher.arrive(here.viewer)
    await cache.write_many([(BEN, at(*SEOUL))])
    async with here.running():
        here.refresher.later([location_channel(BEN)])
        await eventually(lambda: here.known(BEN) == NOW_MS)
        assert here.refreshed_count >= 1


async def test_friends_on_a_shard_that_does_not_answer_are_read_round_after_round(cache: RedisLocationCache) -> None:
    here = Here(cache)
    await here.refresher.arrive(here.viewer)
    here.reachable = False
    async with here.running():
        for step in range(1, 4):
            await cache.write_many([(BEN, at(*SEOUL, recorded_at_ms=NOW_MS + step))])
            await eventually(lambda step=step: here.known(BEN) == NOW_MS + step, within_s=3)  # type: ignore[misc]


async def test_a_friend_overdue_by_half_an_interval_is_read_again_though_the_shard_answers(
    cache: RedisLocationCache,
) -> None:
    here = Here(cache)
    here.hub.observe(location_channel(BEN), at(*SEOUL), NOW_MS)
    await cache.write_many([(BEN, at(*SEOUL, recorded_at_ms=NOW_MS + 1))])
    async with here.running():
        await asyncio.sleep(2 * INTERVAL_S)
        assert here.known(BEN) == NOW_MS, "nothing is overdue by the clock of the test"
        here.now_ms += round(1.6 * INTERVAL_S * 1000)
        await eventually(lambda: here.known(BEN) == NOW_MS + 1, within_s=3)


async def test_a_cache_that_does_not_answer_leaves_friends_unknown_and_is_asked_again(
    valkey_servers: Callable[[], ValkeyServer],
) -> None:
    server = valkey_servers()
    async with open_cache(server.url, TTL_MS / 1000) as cache:
        here = Here(cache)
        await cache.write_many([(BEN, at(*SEOUL))])
        server.kill()
        assert await here.refresher.arrive(here.viewer) is None
        assert here.refresher.failures_count == 1
        server.start()
        await cache.write_many([(BEN, at(*SEOUL))])
        async with here.running():
            await eventually(lambda: here.known(BEN) == NOW_MS, within_s=5)


async def test_F8_arrivals_while_the_cache_is_dead_do_not_storm_the_log(
    valkey_servers: ValkeyServers, caplog: pytest.LogCaptureFixture
) -> None:
    server = valkey_servers()
    async with open_cache(server.url, TTL_MS / 1000) as cache:
        here = Here(cache)
        server.kill()
        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(here.refresher.arrive(here.viewer) for _ in range(200)))
        took_s = asyncio.get_running_loop().time() - began_s
    assert here.refresher.failures_count == 200
    assert len(caplog.records) <= 1 + took_s


async def test_a_friend_unheard_of_counts_as_silent_while_the_cache_says_so_and_as_stale_while_it_does_not_answer(
    valkey_servers: ValkeyServers,
) -> None:
    server = valkey_servers()
    async with open_cache(server.url, TTL_MS / 1000) as cache:
        here = Here(cache)
        await cache.write_many([(BEN, at(*SEOUL))])
        await here.refresher.arrive(here.viewer)
        here.hub.move(here.viewer, *SEOUL)
        here.viewer.live = True
        here.viewer.snapshot()
        counts = here.refresher.freshness.counts
        async with here.running():
            await eventually(lambda: counts[Age.FRESH] > 0)
            here.now_ms += stale_after_ms(INTERVAL_S) + 1
            await eventually(lambda: counts[Age.SILENT] > 0)
            server.kill()
            before = counts[Age.STALE]  # none, unless this machine was slow
            await eventually(lambda: counts[Age.STALE] > before + 3)
