"""The location cache on a real server that dies, freezes and holds odd values."""

from __future__ import annotations

import asyncio
import time

import pytest

from location_cache.redis import RedisLocationCache, open_cache
from nearby.errors import RecordError, StoreUnavailable
from nearby.model import UserId
from nearby.record import LocationRecord, pack
from redis_topology.answering import CALL_TIMEOUT_S
from redis_topology.servers import Command
from tests.conftest import ValkeyServers
from tests.support.valkey import ValkeyServer

ALICE = UserId("00000000-0000-4000-8000-000000000001")
SLACK_S = 1.0


def record(recorded_at_ms: int) -> LocationRecord:
    return LocationRecord(0, recorded_at_ms, 1.0, 2.0)


async def stored(cache: RedisLocationCache) -> LocationRecord:
    [cached] = await cache.read_many([ALICE])
    assert cached is not None
    return cached.record


async def put(cache: RedisLocationCache, value: bytes) -> None:
    """Store ``value`` as somebody else would."""
    key = b"loc:" + ALICE.encode()
    await cache._servers.execute([Command(key, (b"SET", key, value))])


async def let_the_loop_see_closed_sockets() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_dead_server_is_told_at_once(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_cache(server.url, 600) as cache:
        await cache.write_many([(ALICE, record(1))])
        server.kill()
        for call in (cache.read_many([ALICE]), cache.write_many([(ALICE, record(2))])):
            started_s = time.monotonic()
            with pytest.raises(StoreUnavailable, match="location_cache"):
                await call
            assert time.monotonic() - started_s < SLACK_S


async def test_a_frozen_server_is_told_within_the_bound(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_cache(server.url, 600) as cache:
        await cache.write_many([(ALICE, record(1))])
        server.freeze()
        started_s = time.monotonic()
        # One connection is open, the other two have to be made.
        calls = cache.read_many([ALICE]), cache.write_many([(ALICE, record(2))]), cache.read_many([ALICE])
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - started_s < CALL_TIMEOUT_S + SLACK_S
        assert [type(result) for result in results] == [StoreUnavailable] * 3
        server.thaw()
        assert (await cache.write_many([(ALICE, record(3))]))[0].accepted


async def test_a_restarted_server_is_used_again_without_an_error(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_cache(server.url, 600) as cache:
        [before] = await cache.write_many([(ALICE, record(2))])
        server.kill()
        await let_the_loop_see_closed_sockets()
        server.start()
        assert await cache.read_many([ALICE]) == [None]
        [after] = await cache.write_many([(ALICE, record(1))])
        assert after.accepted
        assert after.version > before.version


async def test_a_server_that_forgot_the_script_is_taught_it_again(valkey: ValkeyServer) -> None:
    async with open_cache(valkey.url, 600) as cache:
        await cache.write_many([(ALICE, record(1))])
        valkey.command("SCRIPT", "FLUSH")
        results = await cache.write_many([(ALICE, record(instant)) for instant in range(2, 302)])
        assert all(result.accepted for result in results)


@pytest.mark.parametrize("value", ["", "x", "x" * 34, "\x01" * 33, "\x01" * 35])
async def test_a_value_that_is_no_record_is_counted_and_overwritten(valkey: ValkeyServer, value: str) -> None:
    valkey.command("SET", f"loc:{ALICE}", value)
    async with open_cache(valkey.url, 600) as cache:
        assert await cache.read_many([ALICE]) == [None]
        assert cache.unreadable_count == 1
        [result] = await cache.write_many([(ALICE, record(1))])
        assert result.accepted
        assert await stored(cache) == record(1)._replace(version=result.version)


async def test_a_value_of_another_type_is_an_unavailable_cache(valkey: ValkeyServer) -> None:
    valkey.command("LPUSH", f"loc:{ALICE}", "x")
    async with open_cache(valkey.url, 600) as cache:
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            await cache.write_many([(ALICE, record(1))])


async def test_a_record_stored_without_a_ttl_counts_as_just_renewed(valkey: ValkeyServer) -> None:
    async with open_cache(valkey.url, 600) as cache:
        await put(cache, pack(record(1)))
        [cached] = await cache.read_many([ALICE])
        assert cached is not None
        assert cached.remaining_ms == 600_000


async def test_versions_grow_even_if_the_server_clock_went_back(valkey: ValkeyServer) -> None:
    tomorrow_us = (time.time_ns() + 86_400 * 10**9) // 1_000
    stored = pack(record(1)._replace(version=tomorrow_us))
    async with open_cache(valkey.url, 600) as cache:
        await put(cache, stored)
        assert (await cache.write_many([(ALICE, record(2))]))[0].version == tomorrow_us + 1


async def test_the_version_is_the_time_of_the_server(valkey: ValkeyServer) -> None:
    async with open_cache(valkey.url, 600) as cache:
        [result] = await cache.write_many([(ALICE, record(1))])
        assert abs(result.version - time.time_ns() // 1_000) < 5_000_000


async def test_the_rest_of_a_record_is_stored_untouched(valkey: ValkeyServer) -> None:
    full = LocationRecord(0, 2**53 - 1, -90.0, 180.0, 12.5, 500.0, 359.99)
    async with open_cache(valkey.url, 600) as cache:
        [result] = await cache.write_many([(ALICE, full)])
        assert await stored(cache) == full._replace(version=result.version)


async def test_a_record_that_cannot_be_packed_leaves_nothing_written(valkey: ValkeyServer) -> None:
    async with open_cache(valkey.url, 600) as cache:
        with pytest.raises(RecordError):
            await cache.write_many([(ALICE, record(1)), (ALICE, record(2**63))])
        assert await cache.read_many([ALICE]) == [None]


async def test_a_cancelled_call_does_not_spoil_the_next_answer(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_cache(server.url, 600) as cache:
        await cache.write_many([(ALICE, record(1))])
        server.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cache.write_many([(ALICE, record(2))]), 0.05)
        server.thaw()
        [found] = await cache.read_many([ALICE])
        assert found is not None
        # The cancelled write may have happened or not.
        assert found.record.recorded_at_ms in (1, 2)


async def test_a_cancellation_is_never_lost(valkey: ValkeyServer) -> None:
    async with open_cache(valkey.url, 600) as cache:
        await cache.read_many([ALICE])
        for turns in range(40):
            call = asyncio.ensure_future(cache.read_many([ALICE]))
            for _ in range(turns):
                await asyncio.sleep(0)
            if call.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await call
            else:
                await call
