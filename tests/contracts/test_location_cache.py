"""What every location cache promises."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from location_cache.redis import open_cache
from nearby.model import UserId
from nearby.ports import LocationCache
from nearby.record import LocationRecord
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer
from tests.support.valkey_topologies import ClusterValkey, SentinelValkey

ALICE, BOB, CAROL = (UserId(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "123")

OpenCache = Callable[[str, float], AbstractAsyncContextManager[LocationCache]]


@pytest.fixture(params=[open_cache])
def open_(request: pytest.FixtureRequest) -> OpenCache:
    opened: OpenCache = request.param
    return opened


@pytest.fixture(params=["valkey", "shared_sentinel_valkey", "shared_cluster_valkey"])
def url(request: pytest.FixtureRequest) -> str:
    """The address of empty servers, of each topology."""
    servers: ValkeyServer | SentinelValkey | ClusterValkey = request.getfixturevalue(request.param)
    servers.flush()
    return servers.url


@pytest.fixture
async def cache(open_: OpenCache, url: str) -> AsyncIterator[LocationCache]:
    async with open_(url, 600) as opened:
        yield opened


def record(recorded_at_ms: int, lat_deg: float = 1.0, version: int = 0) -> LocationRecord:
    return LocationRecord(version, recorded_at_ms, lat_deg, 2.0, 8.0, 1.25, 90.0)


async def records(cache: LocationCache, *user_ids: UserId) -> list[LocationRecord | None]:
    return [cached.record if cached is not None else None for cached in await cache.read_many(user_ids)]


async def remaining_ms(cache: LocationCache, user_id: UserId) -> int:
    [cached] = await cache.read_many([user_id])
    assert cached is not None
    return cached.remaining_ms


async def test_a_written_location_is_read_back_under_its_version(cache: LocationCache) -> None:
    [result] = await cache.write_many([(ALICE, record(1_000))])
    assert result.accepted
    assert await records(cache, ALICE) == [record(1_000, version=result.version)]


async def test_answers_come_in_the_order_asked(cache: LocationCache) -> None:
    await cache.write_many([(ALICE, record(1_000, 11)), (BOB, record(1_000, 22))])
    bob, nobody, alice, again = await records(cache, BOB, CAROL, ALICE, BOB)
    assert nobody is None
    assert bob is not None
    assert alice is not None
    assert (bob.lat_deg, alice.lat_deg, again) == (22, 11, bob)


async def test_an_older_location_never_replaces_a_newer_one(cache: LocationCache) -> None:
    [first] = await cache.write_many([(ALICE, record(2_000, 20))])
    [late] = await cache.write_many([(ALICE, record(1_999, 10))])
    assert (late.accepted, late.version) == (False, first.version)
    assert await records(cache, ALICE) == [record(2_000, 20, first.version)]


async def test_a_location_of_the_same_instant_is_refused(cache: LocationCache) -> None:
    await cache.write_many([(ALICE, record(2_000, 20))])
    [again] = await cache.write_many([(ALICE, record(2_000, 10))])
    assert not again.accepted


async def test_versions_of_a_user_grow_strictly_even_in_one_call(cache: LocationCache) -> None:
    results = await cache.write_many([(ALICE, record(instant)) for instant in range(1, 301)])
    versions = [result.version for result in results]
    assert all(result.accepted for result in results)
    assert versions == sorted(set(versions))


async def test_entries_of_a_user_in_one_call_are_taken_in_their_order(cache: LocationCache) -> None:
    entries = [(ALICE, record(3)), (BOB, record(1)), (ALICE, record(2)), (ALICE, record(4)), (BOB, record(2))]
    results = await cache.write_many(entries)
    assert [result.accepted for result in results] == [True, True, False, True, True]
    assert results[2].version == results[0].version


async def test_a_version_exceeds_the_one_that_its_writer_has_heard_of(cache: LocationCache) -> None:
    far = 2**52
    [ahead] = await cache.write_many([(ALICE, record(1, version=far))])
    [next_one] = await cache.write_many([(ALICE, record(2, version=1_000))])
    [other] = await cache.write_many([(BOB, record(1))])
    assert (ahead.version, next_one.version) == (far + 1, far + 2)
    assert other.version < far


async def test_many_entries_are_written_and_read_at_once(cache: LocationCache) -> None:
    users = [UserId(f"user-{number}") for number in range(1_500)]
    results = await cache.write_many([(user, record(number + 1)) for number, user in enumerate(users)])
    found = await records(cache, *users)
    assert [one.recorded_at_ms for one in found if one is not None] == list(range(1, 1_501))
    assert [one.version for one in found if one is not None] == [result.version for result in results]


async def test_nothing_asked_is_nothing_answered(cache: LocationCache) -> None:
    assert await cache.write_many([]) == []
    assert await cache.read_many([]) == []


async def test_an_entry_tells_how_long_it_has_left(cache: LocationCache) -> None:
    await cache.write_many([(ALICE, record(1))])
    assert 590_000 < await remaining_ms(cache, ALICE) <= 600_000


async def test_an_entry_ends_by_itself(open_: OpenCache, url: str) -> None:
    async with open_(url, 0.2) as cache:
        await cache.write_many([(ALICE, record(1))])

        async def gone() -> bool:
            return await cache.read_many([ALICE]) == [None]

        await eventually(gone)


async def test_only_an_accepted_write_renews_an_entry(open_: OpenCache, cache: LocationCache, url: str) -> None:
    async with open_(url, 60) as short:
        await short.write_many([(ALICE, record(10))])
    await cache.write_many([(ALICE, record(9))])
    assert await remaining_ms(cache, ALICE) <= 60_000
    await cache.write_many([(ALICE, record(11))])
    assert await remaining_ms(cache, ALICE) > 590_000


async def test_two_writers_agree_on_the_newest(open_: OpenCache, cache: LocationCache, url: str) -> None:
    async with open_(url, 600) as other:
        [first] = await cache.write_many([(ALICE, record(1))])
        [second] = await other.write_many([(ALICE, record(2))])
        [stale] = await cache.write_many([(ALICE, record(1))])
    assert second.version > first.version
    assert (stale.accepted, stale.version) == (False, second.version)


async def test_an_erased_user_is_forgotten_and_nothing_is_written_of_them(
    open_: OpenCache, cache: LocationCache, url: str
) -> None:
    await cache.write_many([(ALICE, record(1)), (BOB, record(1))])
    await cache.erase(ALICE, 60)
    async with open_(url, 600) as other:
        results = await other.write_many([(ALICE, record(2)), (BOB, record(2)), (ALICE, record(3))])
    assert [result.accepted for result in results] == [False, True, False]
    assert [found is None for found in await records(cache, ALICE, BOB)] == [True, False]


async def test_erasing_somebody_unknown_or_again_is_fine(cache: LocationCache) -> None:
    await cache.erase(ALICE, 60)
    await cache.erase(ALICE, 60)
    assert await records(cache, ALICE) == [None]


async def test_an_erasure_ends_by_itself(cache: LocationCache) -> None:
    await cache.write_many([(ALICE, record(1))])
    await cache.erase(ALICE, 0.2)

    async def taken_again() -> bool:
        [result] = await cache.write_many([(ALICE, record(1))])
        return result.accepted

    await eventually(taken_again)


async def test_it_tells_its_clock(cache: LocationCache) -> None:
    before_ms = time.time_ns() // 1_000_000
    now_ms = await cache.now_ms()
    assert before_ms <= now_ms <= time.time_ns() // 1_000_000


async def test_closing_twice_is_fine(open_: OpenCache, url: str) -> None:
    async with open_(url, 600) as cache:
        await cache.read_many([ALICE])
        await cache.aclose()
        await cache.aclose()
